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
    file: Vec<File>,
}

/// `google.protobuf.FileDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    service: Vec<Service>,
}

/// `google.protobuf.ServiceDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<Method>,
}

/// `google.protobuf.MethodDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    options: Option<Options>,
}

/// `google.protobuf.MethodOptions`.
#[derive(Clone, PartialEq, Message)]
struct Options {
    #[prost(bool, optional, tag = "84260")]
    safety_heartbeat_monitored: Option<bool>,
}

impl FileSet {
    /// Hands over the path of every method, and what its mark says; `None` when it has none.
    pub(super) fn for_each_method(&self, mut take: impl FnMut(&str, Option<bool>)) {
        for file in &self.file {
            let dot = if file.package.is_empty() { "" } else { "." };
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}{dot}{}/{}", file.package, service.name, method.name);
                    let options = method.options.as_ref();
                    take(&path, options.and_then(|options| options.safety_heartbeat_monitored));
                }
            }
        }
    }
}
