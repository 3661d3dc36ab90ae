//! What a robot knows about its methods: which of them take one message.
//!
//! Viam's TypeScript SDK never half-closes a unary call: its robots know from the descriptors that the request
//! is whole. tonic's services read a unary request to its end and would wait for ever.
//!
//! Contract: goutils `rpc/wrtc_server_stream.go` dispatches a unary call on its first message.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::proto::METHODS;
use crate::proto::webrtc::RequestHeaders;

/// Which methods take exactly one message. Clones share it.
///
/// By default the services of [`proto`](crate::proto) are known. Of an unknown method nothing is assumed:
/// its request ends when the caller says so. But for callers that say in `viam_client` that they are the
/// TypeScript SDK: their unknown methods are taken to be unary, as nearly all are, since otherwise every
/// unary call of theirs would wait for its deadline. Tell the robot about methods that take a stream.
#[derive(Clone)]
pub struct Methods {
    one_message: Arc<HashMap<String, bool>>,
}

impl Default for Methods {
    fn default() -> Self {
        let known = METHODS.iter().map(|(path, one)| ((*path).to_owned(), *one));
        Self { one_message: Arc::new(known.collect()) }
    }
}

impl Methods {
    /// The services of [`proto`](crate::proto).
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds all services of an encoded `google.protobuf.FileDescriptorSet`, as `tonic-prost-build` writes it
    /// with `file_descriptor_set_path`, and `protoc` with `--descriptor_set_out`.
    ///
    /// # Errors
    /// [`prost::DecodeError`] when it is not one.
    pub fn with_descriptors(mut self, encoded: impl AsRef<[u8]>) -> Result<Self, prost::DecodeError> {
        let set = FileDescriptorSet::decode(encoded.as_ref())?;
        let known = Arc::make_mut(&mut self.one_message);
        for file in &set.file {
            for service in &file.service {
                let name = match file.package() {
                    "" => service.name().to_owned(),
                    package => format!("{package}.{}", service.name()),
                };
                let methods = service.method.iter();
                known.extend(
                    methods.map(|method| (format!("/{name}/{}", method.name()), !method.client_streaming())),
                );
            }
        }
        Ok(self)
    }

    /// Adds one method, `/package.Service/Method`, and whether it takes exactly one message.
    #[must_use]
    pub fn with_method(mut self, path: impl Into<String>, one_message: bool) -> Self {
        Arc::make_mut(&mut self.one_message).insert(path.into(), one_message);
        self
    }

    /// Whether the method takes exactly one message; `None` when it is not known.
    pub fn takes_one_message(&self, path: &str) -> Option<bool> {
        self.one_message.get(path).copied()
    }

    /// Whether a request ends with its first message, whatever its caller says about the end.
    pub(super) fn ends_with_first_message(&self, headers: &RequestHeaders) -> bool {
        self.takes_one_message(&headers.method).unwrap_or_else(|| {
            let metadata = headers.metadata.as_ref();
            let client = metadata.and_then(|metadata| metadata.md.get("viam_client"));
            client.is_some_and(|client| client.values.iter().any(|name| name.starts_with("typescript")))
        })
    }
}

impl fmt::Debug for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Methods").field("one_message", &self.one_message.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto};

    use super::*;
    use crate::proto::webrtc::{Metadata, Strings};

    #[test]
    fn descriptors_tell_which_methods_take_one_message() {
        let method = |name: &str, client_streaming| MethodDescriptorProto {
            name: Some(name.to_owned()),
            client_streaming: Some(client_streaming),
            ..Default::default()
        };
        let service = ServiceDescriptorProto {
            name: Some("Arm".to_owned()),
            method: vec![method("Stop", false), method("Drive", true)],
            ..Default::default()
        };
        let file = |package: Option<&str>| FileDescriptorProto {
            package: package.map(str::to_owned),
            service: vec![service.clone()],
            ..Default::default()
        };
        let set = FileDescriptorSet { file: vec![file(Some("viam.arm.v1")), file(None)] };
        let methods = Methods::new().with_descriptors(set.encode_to_vec()).unwrap();
        assert_eq!(methods.takes_one_message("/viam.arm.v1.Arm/Stop"), Some(true));
        assert_eq!(methods.takes_one_message("/Arm/Stop"), Some(true));
        assert_eq!(methods.takes_one_message("/viam.arm.v1.Arm/Drive"), Some(false));
        assert_eq!(methods.takes_one_message("/viam.arm.v1.Arm/Other"), None);
        assert!(Methods::new().with_descriptors(b"\xff").is_err());
    }

    #[test]
    fn the_services_of_the_house_are_known() {
        let methods = Methods::new();
        let echo = |method| format!("/proto.rpc.examples.echo.v1.EchoService/{method}");
        assert_eq!(methods.takes_one_message(&echo("Echo")), Some(true));
        assert_eq!(methods.takes_one_message(&echo("EchoMultiple")), Some(true));
        assert_eq!(methods.takes_one_message(&echo("EchoBiDi")), Some(false));
        assert_eq!(methods.takes_one_message("/viam.robot.v1.RobotService/StopAll"), Some(true));
    }

    #[test]
    fn an_unknown_method_is_unary_for_the_typescript_sdk_only() {
        let call = |method: &str, client: &str| {
            let client = Strings { values: vec![client.to_owned()] };
            let metadata = Some(Metadata { md: [("viam_client".to_owned(), client)].into() });
            let headers = RequestHeaders { method: method.to_owned(), metadata, timeout: None };
            Methods::new().with_method("/a.B/Stream", false).ends_with_first_message(&headers)
        };
        assert!(call("/a.B/Unknown", "typescript;v0.74.2;v0.1.400"));
        assert!(!call("/a.B/Unknown", "go;v0.10.1"));
        assert!(!call("/a.B/Stream", "typescript;v0.74.2;v0.1.400"));
    }
}
