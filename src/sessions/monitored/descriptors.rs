//! The part of an encoded `google.protobuf.FileDescriptorSet` that tells which methods are marked.
//!
//! `prost_types` has all of a descriptor but its custom options. So the few messages on the way to the mark
//! are written down here again; prost skips every field that they leave out, whatever its wire type (the
//! TypeScript SDK takes each for length-delimited, and stumbles over `deprecated`, a varint).

use prost::Message;

/// `google.protobuf.FileDescriptorSet`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FileSet {
    #[prost(message, repeated, tag = "1")]
    pub(super) file: Vec<File>,
}

/// `google.protobuf.FileDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct File {
    #[prost(string, tag = "2")]
    pub(super) package: String,
    #[prost(message, repeated, tag = "6")]
    pub(super) service: Vec<Service>,
}

/// `google.protobuf.ServiceDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Service {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) method: Vec<Method>,
}

/// `google.protobuf.MethodDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Method {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "4")]
    pub(super) options: Option<Options>,
}

/// `google.protobuf.MethodOptions`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Options {
    #[prost(bool, optional, tag = "84260")]
    pub(super) safety_heartbeat_monitored: Option<bool>,
}

impl File {
    /// The full name of a service of this file.
    pub(super) fn full_name(&self, service: &Service) -> String {
        match self.package.as_str() {
            "" => service.name.clone(),
            package => format!("{package}.{}", service.name),
        }
    }
}

impl Method {
    /// What the descriptor says; `None` when it says nothing.
    pub(super) fn mark(&self) -> Option<bool> {
        self.options.as_ref()?.safety_heartbeat_monitored
    }
}
