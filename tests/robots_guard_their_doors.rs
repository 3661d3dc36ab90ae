//! What strangers cannot do to a robot: answer in its place, reach its authentication and signaling over a data
//! channel, or take more connections than it has room for.

mod common;

use std::sync::Arc;

use common::probe::ProbeRequest;
use common::{LONG, Lab, Probe, ROBOT};
use farlink::peer::Stack;
use farlink::peer::memory::MemoryStack;
use farlink::proto::webrtc::signaling_service_client::SignalingServiceClient;
use farlink::proto::webrtc::{CallRequest, OptionalWebRtcConfigRequest};
use farlink::server::Server;
use farlink::signaling::queue::MemoryQueue;
use farlink::signaling::service::SignalingService;
use farlink::transport::TransportKind;
use farlink::{DialOptions, Fallback};
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Code, Request};

fn naming<T>(host: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("rpc-host", host.parse().unwrap());
    request
}

fn only_webrtc(options: &DialOptions) -> DialOptions {
    options.clone().fallback(Fallback::Never)
}

#[tokio::test]
async fn a_stranger_cannot_answer_for_a_robot_and_callers_get_through() {
    let lab = Lab::start(Arc::new(MemoryStack::new())).await;
    let address = lab.robot.local_addr().unwrap().to_string();
    let channel = Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut stranger = SignalingServiceClient::new(channel);
    for name in ["self", ROBOT, &address] {
        let answer = stranger.answer(naming(name, tokio_stream::pending()));
        let status = timeout(LONG, answer).await.expect("it waits for callers").unwrap_err();
        let refused = if name == "self" { Code::InvalidArgument } else { Code::PermissionDenied };
        assert_eq!(status.code(), refused, "{name}: {status}");
    }
    let status = stranger.call(naming("self", CallRequest::default())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "host not preconfigured"));

    for name in [ROBOT, &address] {
        let options = only_webrtc(&lab.options).signaling_address(address.clone());
        let channel = farlink::dial(name, options).await.unwrap();
        assert_eq!(channel.transport(), TransportKind::WebRtc);
        Probe::client(channel).unary(ProbeRequest::default()).await.unwrap();
    }
}

#[tokio::test]
async fn one_caller_too_many_is_told_so_and_the_next_gets_the_place() {
    let lab = Lab::with(Arc::new(MemoryStack::new()), |robot| robot.max_connections(2)).await;
    let options = only_webrtc(&lab.options);
    // Both ways in share the room.
    let local = options.clone().signaling_address(lab.robot.local_addr().unwrap().to_string());
    let first = farlink::dial(ROBOT, options.clone()).await.unwrap();
    let second = farlink::dial(ROBOT, local.clone()).await.unwrap();
    for options in [&options, &local] {
        let error = farlink::dial(ROBOT, options.clone()).await.unwrap_err().to_string();
        assert!(error.contains("the robot has no room for another connection"), "{error}");
    }
    Probe::client(second).unary(ProbeRequest::default()).await.expect("the others are left alone");
    first.close();
    drop(first);
    let mut open = lab.robot.connections();
    timeout(LONG, open.wait_for(|open| *open < 2)).await.expect("still open").unwrap();
    let third = farlink::dial(ROBOT, options).await.unwrap();
    Probe::client(third).unary(ProbeRequest::default()).await.unwrap();
}

#[tokio::test]
async fn neither_authentication_nor_signaling_is_served_on_a_data_channel() {
    // The routes have it, by mistake: the call would be answered.
    let routes =
        Probe::routes().add_service(SignalingService::new(Arc::new(MemoryQueue::default())).into_server());
    let signaling = common::Signaling::start().await;
    let via = signaling.addr.to_string();
    let stack: Arc<dyn Stack> = Arc::new(MemoryStack::new());
    let robot = Server::builder().host(ROBOT).answer_via(&via).insecure(true).stack(Arc::clone(&stack));
    let robot = robot.start(routes).await.unwrap();
    assert!(robot.signaling()[0].clone().online().await);
    let options = DialOptions::new().signaling_address(via).insecure(true).stack(stack).timeout(LONG);
    let channel = farlink::dial(ROBOT, only_webrtc(&options)).await.unwrap();
    Probe::client(channel.clone()).unary(ProbeRequest::default()).await.unwrap();
    let mut client = SignalingServiceClient::new(channel);
    let request = naming(ROBOT, OptionalWebRtcConfigRequest {});
    let status = client.optional_web_rtc_config(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
    let mut answer = client.answer(naming(ROBOT, tokio_stream::pending())).await.unwrap().into_inner();
    let status = timeout(LONG, answer.message()).await.expect("it waits for callers").unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
}
