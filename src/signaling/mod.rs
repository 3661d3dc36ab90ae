//! How caller and answerer find each other: one offer, one answer, and candidates both ways.
//!
//! Floor 3. [`caller`] and [`answerer`] are the two roles; [`service`] and [`queue`] are what runs between
//! them, in the signaling server and on the robot's own listener. Above sit `dial` and `server`, which decide whom to call and what to do with the open channel;
//! below sits [`peer`](crate::peer), which makes descriptions and takes them. Signaling itself is an
//! ordinary gRPC service, so both roles speak through a [`SignalingClient`] and do not care whether it
//! goes over TLS to a cloud, over loopback, or into a service in this process.
//!
//! ```text
//!  caller::call ── Call, CallUpdate ──▶ signaling server ◀── Answer ── answerer::Answerer
//!       └──────────────────── data channel, once both agree ────────────────────┘
//! ```
//!
//! # Invariant
//! The rules are in machines without clock, network or tasks (`caller::machine`, `answerer::machine`,
//! `answerer::pool`, `queue::rules`); the drivers around them only carry inputs and outputs.
//!
//! Contract: goutils `rpc/wrtc_client.go`, `rpc/wrtc_signaling_answerer.go`, `rpc/wrtc_signaling_server.go`.

pub mod answerer;
pub mod caller;
pub mod queue;
pub mod service;

use std::error::Error;

use bytes::Bytes;
use tonic::metadata::{Ascii, MetadataValue};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt as _};

use crate::proto::webrtc::signaling_service_client::SignalingServiceClient;

/// Any error.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The transport below a [`SignalingClient`], with its type erased. Cheap to clone.
///
/// Its error is a `Status` and not a boxed error: with the latter, rustc cannot prove that a future which
/// holds an RPC of the client is `Send`.
pub type SignalingTransport =
    BoxCloneSyncService<http::Request<tonic::body::Body>, http::Response<tonic::body::Body>, tonic::Status>;

/// A client of the signaling service over any transport. Cheap to clone.
pub type SignalingClient = SignalingServiceClient<SignalingTransport>;

/// Names the robot that is called, or the names that are answered for.
pub(crate) const RPC_HOST: &str = "rpc-host";

/// What signaling answers, with `InvalidArgument`, when it does not serve this host.
pub(crate) const HOST_NOT_PRECONFIGURED: &str = "host not preconfigured";

/// What signaling servers put before the message of an error that the answerer reported.
pub(crate) const ERROR_FROM_ANSWERER: &str = "error from answerer: ";

/// The most candidates of one call that are looked at, in either direction. Real peers send under 30.
pub(crate) const MAX_CANDIDATES: usize = 256;

/// A client over `service`: a tonic `Channel` with or without interceptors, or a server in this process.
pub fn client<S, B>(service: S) -> SignalingClient
where
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<B>>,
    S: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let erased = service
        .map_response(|response: http::Response<B>| response.map(tonic::body::Body::new))
        .map_err(|error: S::Error| tonic::Status::from_error(error.into()));
    SignalingClient::new(BoxCloneSyncService::new(erased))
}

/// A host as metadata carries it; `None` when it is empty or has other than visible ASCII characters.
pub(crate) fn host_value(host: &str) -> Option<MetadataValue<Ascii>> {
    let visible = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
    if visible { host.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_must_fit_into_metadata() {
        assert!(host_value("robot.example:9102").is_some());
        assert!(host_value("").is_none());
        for unfit in ["a\nb", "a b", " ", "r\u{f6}bot"] {
            assert!(host_value(unfit).is_none(), "{unfit}");
        }
    }

    #[tokio::test]
    async fn a_channel_with_an_interceptor_makes_a_client() {
        let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let intercepted = tonic::service::interceptor::InterceptedService::new(channel, Ok);
        let _: SignalingClient = client(intercepted);
    }
}
