//! What a gRPC channel promises, over everything that carries one: a data channel in memory, of our engine and of
//! the `webrtc` crate, and HTTP/2.

#![cfg(all(feature = "engine", feature = "webrtc"))]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::probe::probe_client::ProbeClient;
use common::probe::{ProbeRequest, ProbeResponse};
use common::{LONG, Lab, Probe, tokened, until_running};
use farlink::Channel;
use farlink::peer::Stack;
use farlink::peer::engine::Engine;
use farlink::peer::memory::MemoryStack;
use farlink::peer::webrtc_rs::WebRtcRs;
use farlink::transport::TransportKind;
use farlink::wire::message::MAX_MESSAGE;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

type Client = ProbeClient<Channel>;

/// A robot and a channel to it.
struct Scene {
    _lab: Lab,
    channel: Channel,
    name: &'static str,
}

impl Scene {
    async fn over(stack: Arc<dyn Stack>, name: &'static str) -> Self {
        let lab = Lab::start(stack).await;
        let channel = lab.over_webrtc().await;
        assert_eq!(channel.transport(), TransportKind::WebRtc);
        Self { _lab: lab, channel, name }
    }

    async fn memory() -> Self {
        Self::over(Arc::new(MemoryStack::new()), "memory").await
    }

    async fn engine() -> Self {
        Self::over(Arc::new(Engine::new().resolve_mdns(false)), "engine").await
    }

    async fn webrtc_rs() -> Self {
        Self::over(Arc::new(WebRtcRs::new().resolve_mdns(false)), "webrtc-rs").await
    }

    async fn direct() -> Self {
        let lab = Lab::start(Arc::new(MemoryStack::new())).await;
        let channel = lab.directly().await;
        assert_eq!(channel.transport(), TransportKind::Direct);
        Self { _lab: lab, channel, name: "direct" }
    }

    fn client(&self) -> Client {
        Probe::client(self.channel.clone())
    }

    /// A token for a call of this test on this transport.
    fn token(&self, what: &str) -> String {
        format!("{what} over {}", self.name)
    }

    /// The connection still carries calls, and holds none.
    async fn lives(&self) {
        let reply = self.client().unary(sized(7)).await.unwrap().into_inner();
        assert_eq!(reply.total, 7);
        let idle = async {
            while self.channel.stats().await.open_streams > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(LONG, idle).await.expect("calls were left open");
    }
}

fn sized(size: u32) -> ProbeRequest {
    ProbeRequest { size, ..Default::default() }
}

fn data(data: impl Into<Bytes>) -> ProbeRequest {
    ProbeRequest { data: data.into(), ..Default::default() }
}

fn slow() -> ProbeRequest {
    ProbeRequest { delay_ms: 600_000, ..Default::default() }
}

/// Names each promise once per transport.
macro_rules! promises {
    ($($promise:ident [$($kind:ident),+];)+) => {
        $(mod $promise {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $kind() {
                let scene = super::Scene::$kind().await;
                let promise = super::$promise(&scene);
                tokio::time::timeout(super::LONG * 2, promise).await.expect("hangs");
                scene.lives().await;
            }
            )+
        })+
    };
}

promises! {
    a_unary_call_is_answered [memory, engine, webrtc_rs, direct];
    a_server_stream_comes_whole_and_in_order [memory, engine, webrtc_rs, direct];
    a_client_stream_is_counted_at_its_end [memory, engine, webrtc_rs, direct];
    a_bidi_stream_interleaves_and_its_half_close_ends_it [memory, engine, webrtc_rs, direct];
    a_deadline_ends_the_call_and_its_handler [memory, engine, webrtc_rs, direct];
    a_deadline_ends_a_stream_in_its_middle [memory, engine, webrtc_rs, direct];
    a_dropped_call_cancels_its_handler [memory, engine, webrtc_rs, direct];
    a_dropped_response_stream_cancels_its_handler [memory, engine, webrtc_rs, direct];
    an_error_arrives_whole [memory, engine, webrtc_rs, direct];
    an_error_after_messages_comes_after_them [memory, engine, webrtc_rs, direct];
    metadata_travels_both_ways [memory, engine, webrtc_rs, direct];
    an_empty_message_is_a_message_everywhere [memory, engine, webrtc_rs, direct];
    five_mebibytes_go_and_come [memory, engine, webrtc_rs, direct];
    a_message_over_the_limit_fails_its_call_alone [memory, engine, webrtc_rs];
    a_hundred_calls_at_once_get_their_own_answers [memory, engine, webrtc_rs, direct];
    an_unknown_method_is_unimplemented [memory, engine, webrtc_rs, direct];
    a_panicking_handler_fails_its_call_alone [memory, engine, webrtc_rs, direct];
    a_failing_request_stream_cancels_the_call [memory, engine, webrtc_rs, direct];
    outside_a_runtime_calls_work_and_say_what_they_need [memory, engine, webrtc_rs, direct];
    a_response_may_begin_before_the_request_ends_and_end_it [memory, engine, webrtc_rs, direct];
}

/// Waits on a thread that has no runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Thread(std::thread::Thread);
    impl std::task::Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Thread(std::thread::current())).into();
    let (mut cx, mut future) = (std::task::Context::from_waker(&waker), std::pin::pin!(future));
    loop {
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

async fn outside_a_runtime_calls_work_and_say_what_they_need(scene: &Scene) {
    let (mut client, (done, results)) = (scene.client(), tokio::sync::oneshot::channel());
    std::thread::spawn(move || {
        let plain = block_on(client.unary(data("hello")));
        let mut hurried = Request::new(data("hello"));
        hurried.set_timeout(LONG);
        let hurried = block_on(client.unary(hurried));
        // Dropped here, while it runs.
        let slow = client.spread(ProbeRequest { count: 2, ..slow() });
        let _ = futures_util::FutureExt::now_or_never(slow);
        done.send((plain, hurried)).unwrap();
    });
    let (plain, hurried) = results.await.expect("it panicked");
    assert_eq!(plain.unwrap().into_inner().total, 5);
    let status = hurried.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("tokio runtime"), "{status}");
}

async fn a_unary_call_is_answered(scene: &Scene) {
    let reply = scene.client().unary(data("hello")).await.unwrap().into_inner();
    assert_eq!(reply, ProbeResponse { data: "hello".into(), count: 1, total: 5 });
}

async fn a_server_stream_comes_whole_and_in_order(scene: &Scene) {
    let request = ProbeRequest { size: 3000, count: 200, ..Default::default() };
    let replies = scene.client().spread(request).await.unwrap().into_inner();
    let places: Vec<_> = replies
        .map(|reply| {
            let reply = reply.unwrap();
            assert_eq!(reply.data.len(), 3000);
            reply.count
        })
        .collect()
        .await;
    assert_eq!(places, (1..=200).collect::<Vec<_>>());
    let none = scene.client().spread(sized(1)).await.unwrap().into_inner().message().await.unwrap();
    assert_eq!(none, None);
}

async fn a_client_stream_is_counted_at_its_end(scene: &Scene) {
    let messages = futures_util::stream::iter((0..200).map(|n| data(vec![1; n * 100])));
    let reply = scene.client().collect(messages).await.unwrap().into_inner();
    assert_eq!((reply.count, reply.total), (200, (0..200).map(|n| n * 100).sum()));
    let reply = scene.client().collect(futures_util::stream::empty()).await.unwrap().into_inner();
    assert_eq!(reply.count, 0);
}

async fn a_bidi_stream_interleaves_and_its_half_close_ends_it(scene: &Scene) {
    let (send, messages) = mpsc::channel(1);
    let token = scene.token("bidi");
    let mut client = scene.client();
    let call = client.both(tokened(&token, ReceiverStream::new(messages)));
    send.send(data("0")).await.unwrap();
    let mut replies = call.await.unwrap().into_inner();
    for number in 0..20 {
        let reply = replies.message().await.unwrap().unwrap();
        assert_eq!(reply.data, number.to_string());
        send.send(data((number + 1).to_string())).await.unwrap();
    }
    drop(send);
    assert_eq!(replies.message().await.unwrap().unwrap().data, "20");
    assert_eq!(replies.message().await.unwrap(), None);
    until_running(&token, false).await;
}

async fn a_deadline_ends_the_call_and_its_handler(scene: &Scene) {
    let token = scene.token("deadline");
    let mut request = tokened(&token, slow());
    request.set_timeout(Duration::from_millis(300));
    let began = Instant::now();
    let status = scene.client().unary(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let elapsed = began.elapsed();
    assert!(elapsed >= Duration::from_millis(290) && elapsed < Duration::from_secs(5), "{elapsed:?}");
    until_running(&token, false).await;
}

async fn a_deadline_ends_a_stream_in_its_middle(scene: &Scene) {
    let token = scene.token("deadline of a stream");
    let mut request = tokened(&token, ProbeRequest { delay_ms: 50, count: 10_000, ..Default::default() });
    request.set_timeout(Duration::from_millis(400));
    let mut replies = scene.client().spread(request).await.unwrap().into_inner();
    let mut came = 0;
    let status = loop {
        match replies.message().await {
            Ok(reply) => assert_eq!(reply.expect("no status").count, came + 1),
            Err(status) => break status,
        }
        came += 1;
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(came > 0);
    until_running(&token, false).await;
}

async fn a_dropped_call_cancels_its_handler(scene: &Scene) {
    let token = scene.token("dropped call");
    let mut client = scene.client();
    let mut call = Box::pin(client.unary(tokened(&token, slow())));
    tokio::select! {
        _ = &mut call => panic!("answered"),
        () = until_running(&token, true) => {}
    }
    drop(call);
    until_running(&token, false).await;
}

async fn a_dropped_response_stream_cancels_its_handler(scene: &Scene) {
    let token = scene.token("dropped stream");
    let request =
        tokened(&token, ProbeRequest { count: 1_000_000, size: 10, delay_ms: 1, ..Default::default() });
    let mut replies = scene.client().spread(request).await.unwrap().into_inner();
    replies.message().await.unwrap().unwrap();
    until_running(&token, true).await;
    drop(replies);
    until_running(&token, false).await;
}

/// Every field of a status, with what strings can hold.
fn failing() -> ProbeRequest {
    let detail = prost_types::Any { type_url: "type.googleapis.com/x.Y".into(), value: vec![0, 1, 0xff] };
    let details = farlink::proto::google_rpc::Status { code: 9, message: "ä".into(), details: vec![detail] };
    ProbeRequest {
        code: 9,
        message: "nicht so:\n\tgrößer als 100% \u{1f916}".into(),
        details: details.encode_to_vec().into(),
        ..Default::default()
    }
}

fn assert_failed(status: &tonic::Status) {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert_eq!(status.message(), failing().message);
    let details = farlink::proto::google_rpc::Status::decode(status.details()).unwrap().details;
    assert_eq!(details.len(), 1);
    assert_eq!(details[0].value, [0, 1, 0xff]);
}

async fn an_error_arrives_whole(scene: &Scene) {
    let mut request = Request::new(failing());
    request.metadata_mut().insert("x-why", "because".parse().unwrap());
    let status = scene.client().unary(request).await.unwrap_err();
    assert_failed(&status);
    assert_eq!(status.metadata().get("x-why").unwrap(), "because");
}

async fn an_error_after_messages_comes_after_them(scene: &Scene) {
    let request = ProbeRequest { size: 50_000, count: 3, ..failing() };
    let mut replies = scene.client().spread(request).await.unwrap().into_inner();
    for _ in 0..3 {
        assert_eq!(replies.message().await.unwrap().unwrap().data.len(), 50_000);
    }
    assert_failed(&replies.message().await.unwrap_err());
}

async fn metadata_travels_both_ways(scene: &Scene) {
    let mut request = Request::new(ProbeRequest { count: 2, ..failing() });
    let bytes = MetadataValue::from_bytes(&[0, 1, 0xfe, 0xff]);
    request.metadata_mut().append("x-many", "one".parse().unwrap());
    request.metadata_mut().append("x-many", "two, three".parse().unwrap());
    request.metadata_mut().append_bin("x-raw-bin", bytes.clone());
    request.metadata_mut().append_bin("x-raw-bin", MetadataValue::from_bytes(b""));
    let check = |metadata: &tonic::metadata::MetadataMap| {
        let many: Vec<_> = metadata.get_all("x-many").iter().collect();
        assert_eq!(many, ["one", "two, three"]);
        let raw: Vec<_> =
            metadata.get_all_bin("x-raw-bin").iter().map(|raw| raw.to_bytes().unwrap()).collect();
        assert_eq!(raw, [&[0, 1, 0xfe, 0xff][..], b""]);
        assert_eq!(
            metadata
                .keys()
                .filter(
                    |key| matches!(key, tonic::metadata::KeyRef::Ascii(key) if key.as_str() == "user-agent")
                )
                .count(),
            0
        );
    };
    let metadata = request.metadata().clone();
    let again = |message| {
        let mut request = Request::new(message);
        *request.metadata_mut() = metadata.clone();
        request
    };
    // In headers, with a message after them.
    check(scene.client().unary(again(sized(1))).await.unwrap().metadata());
    // In trailers alone.
    check(scene.client().unary(again(failing())).await.unwrap_err().metadata());
    // In the headers of a stream that fails later.
    check(scene.client().spread(again(ProbeRequest { count: 2, ..failing() })).await.unwrap().metadata());
}

async fn an_empty_message_is_a_message_everywhere(scene: &Scene) {
    let empty = ProbeRequest::default;
    assert_eq!(empty().encoded_len(), 0);
    let reply = scene.client().unary(empty()).await.unwrap().into_inner();
    assert_eq!(reply.count, 1);
    let messages = [empty(), data("x"), empty(), empty()];
    let reply = scene.client().collect(futures_util::stream::iter(messages.clone())).await.unwrap();
    assert_eq!(reply.into_inner().count, 4);
    let reply = scene.client().collect(futures_util::stream::iter([empty()])).await.unwrap();
    assert_eq!(reply.into_inner().count, 1);
    let replies = scene.client().both(futures_util::stream::iter(messages)).await.unwrap().into_inner();
    let lengths: Vec<_> = replies.map(|reply| reply.unwrap().data.len()).collect().await;
    assert_eq!(lengths, [0, 1, 0, 0]);
    // A reply of zero bytes.
    let reply = scene.client().collect(futures_util::stream::empty()).await.unwrap().into_inner();
    assert_eq!(reply.encoded_len(), 0);
}

async fn five_mebibytes_go_and_come(scene: &Scene) {
    let sent = Bytes::from((0..5 << 20).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>());
    let reply = scene.client().unary(data(sent.clone())).await.unwrap().into_inner();
    assert!(reply.data == sent, "not what was sent");
}

async fn a_message_over_the_limit_fails_its_call_alone(scene: &Scene) {
    let token = scene.token("beside a message that is too large");
    let (send, messages) = mpsc::channel(1);
    send.send(data("a")).await.unwrap();
    let beside = scene.client().both(tokened(&token, ReceiverStream::new(messages))).await;
    let mut beside = beside.unwrap().into_inner();
    assert_eq!(beside.message().await.unwrap().unwrap().data, "a");

    // Tag and length of the field take five bytes.
    let most = MAX_MESSAGE - 5;
    let much = Bytes::from(vec![0; most + 1]);
    assert_eq!(data(much.clone()).encoded_len(), MAX_MESSAGE + 1);
    let status = scene.client().unary(data(much)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let status = scene.client().unary(sized(most as u32)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");

    send.send(data("b")).await.unwrap();
    assert_eq!(beside.message().await.unwrap().unwrap().data, "b");
}

async fn a_hundred_calls_at_once_get_their_own_answers(scene: &Scene) {
    let calls = (0..100_u32).map(|number| {
        let mut client = scene.client();
        async move {
            let text = format!("call {number} ").repeat(number as usize * 20);
            let delay_ms = number % 7;
            let request = ProbeRequest { data: text.clone().into(), delay_ms, ..Default::default() };
            assert_eq!(client.unary(request).await.unwrap().into_inner().data, text);
        }
    });
    join_all(calls).await;
}

async fn an_unknown_method_is_unimplemented(scene: &Scene) {
    use farlink::proto::echo::echo_service_client::EchoServiceClient;
    let request = farlink::proto::echo::EchoRequest::default();
    let status = EchoServiceClient::new(scene.channel.clone()).echo(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
}

async fn a_panicking_handler_fails_its_call_alone(scene: &Scene) {
    let token = scene.token("beside a panic");
    let mut client = scene.client();
    let beside = client.unary(tokened(&token, ProbeRequest { delay_ms: 300, size: 5, ..Default::default() }));
    let panics = async {
        until_running(&token, true).await;
        let panic = ProbeRequest { code: -1, ..Default::default() };
        let status = scene.client().unary(panic.clone()).await.unwrap_err();
        assert!(matches!(status.code(), Code::Internal | Code::Unknown), "{status}");
        // After headers were sent, too.
        let mut replies =
            scene.client().both(futures_util::stream::iter([data("x"), panic])).await.unwrap().into_inner();
        let status = loop {
            match replies.message().await {
                Ok(reply) => drop(reply.expect("no status")),
                Err(status) => break status,
            }
        };
        assert!(matches!(status.code(), Code::Internal | Code::Unknown), "{status}");
    };
    let (beside, ()) = tokio::join!(beside, panics);
    assert_eq!(beside.unwrap().into_inner().total, 5);
}

async fn a_failing_request_stream_cancels_the_call(scene: &Scene) {
    let token = scene.token("dropped with its upload");
    let (send, messages) = mpsc::channel(1);
    send.send(data("x")).await.unwrap();
    let mut client = scene.client();
    let mut call = Box::pin(client.collect(tokened(&token, ReceiverStream::new(messages))));
    tokio::select! {
        _ = &mut call => panic!("answered"),
        () = until_running(&token, true) => {}
    }
    drop(call);
    until_running(&token, false).await;
    // The upload is let go as well.
    tokio::time::timeout(LONG, send.closed()).await.expect("the request stream is still held");
}

async fn a_response_may_begin_before_the_request_ends_and_end_it(scene: &Scene) {
    let (send, messages) = mpsc::channel(1);
    send.send(failing()).await.unwrap();
    let mut client = scene.client();
    let status = client.collect(ReceiverStream::new(messages)).await.unwrap_err();
    assert_failed(&status);
    tokio::time::timeout(LONG, send.closed()).await.expect("the request stream is still held");
}
