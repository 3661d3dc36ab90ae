//! What a robot knows about its methods: which of them take one message.
//!
//! Viam's TypeScript SDK never half-closes a unary call: its robots know from the descriptors that the request
//! is whole. tonic's services read a unary request to its end and would wait for ever.
//!
//! Contract: goutils `rpc/wrtc_server_stream.go` dispatches a unary call on its first message.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// Which methods take exactly one message. Clones share it.
///
/// Of a method that is not in it, nothing is assumed: its request ends when the caller says so.
#[derive(Clone, Default)]
pub struct Methods {
    one_message: Arc<HashSet<String>>,
}

impl Methods {
    /// Nothing is known.
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
                let unary = service.method.iter().filter(|method| !method.client_streaming());
                known.extend(unary.map(|method| format!("/{name}/{}", method.name())));
            }
        }
        Ok(self)
    }

    /// Adds one method, `/package.Service/Method`, that takes one message.
    #[must_use]
    pub fn with_one_message(mut self, path: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.one_message).insert(path.into());
        self
    }

    /// Whether the method takes exactly one message, as far as is known.
    pub fn takes_one_message(&self, path: &str) -> bool {
        self.one_message.contains(path)
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
        assert!(methods.takes_one_message("/viam.arm.v1.Arm/Stop"));
        assert!(methods.takes_one_message("/Arm/Stop"));
        assert!(!methods.takes_one_message("/viam.arm.v1.Arm/Drive"));
        assert!(!methods.takes_one_message("/viam.arm.v1.Arm/Other"));
        assert!(Methods::new().with_descriptors(b"\xff").is_err());
    }
}
