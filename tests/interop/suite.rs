//! The suite of calls, by the names of README.md, from a farlink caller to whatever robot the channel leads to.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use farlink::Channel;
use farlink::proto::echo::echo_service_client::EchoServiceClient;
use farlink::proto::echo::{EchoBiDiRequest, EchoMultipleRequest, EchoRequest, EchoResponse};
use farlink::proto::google_rpc;
use farlink::wire::message::MAX_MESSAGE;
use futures_util::future::join_all;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};

use crate::common::LONG;

type Client = EchoServiceClient<Channel>;

/// Runs all checks, one after the other.
pub(crate) async fn run(channel: Channel) {
    let client = EchoServiceClient::new(channel.clone());
    let client = client.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let all = async {
        unary(client.clone()).await;
        streams(client.clone()).await;
        errors(client.clone(), channel.clone()).await;
        metadata(client.clone()).await;
        large(client.clone()).await;
        deadline_and_cancel(client.clone()).await;
        many(client).await;
    };
    timeout(4 * LONG, all).await.expect("the suite ends");
    assert_eq!(channel.stats().await.open_streams, 0);
}

async fn echo(client: &mut Client, message: &str) -> Result<String, Status> {
    let reply = client.echo(EchoRequest { message: message.into() }).await?;
    Ok(reply.into_inner().message)
}

async fn unary(mut client: Client) {
    assert_eq!(echo(&mut client, "hello").await.unwrap(), "hello");
    assert_eq!(echo(&mut client, "").await.unwrap(), "");
    assert_eq!(echo(&mut client, "grün\n☂").await.unwrap(), "grün\n☂");
}

async fn streams(mut client: Client) {
    for message in ["hello", ""] {
        let replies = client.echo_multiple(EchoMultipleRequest { message: message.into() }).await.unwrap();
        let mut replies = replies.into_inner();
        let mut said = String::new();
        while let Some(reply) = replies.message().await.unwrap() {
            said += &reply.message;
        }
        assert_eq!(said, message);
    }
    let (say, said) = mpsc::channel(1);
    // goutils sends response headers with its first message: who waits for them before saying something
    // waits for ever, over HTTP/2 too.
    say.send(EchoBiDiRequest { message: "ab".into() }).await.unwrap();
    let replies = client.echo_bi_di(ReceiverStream::new(said)).await;
    let mut replies = replies.unwrap().into_inner();
    for message in ["ab", "c"] {
        if message == "c" {
            say.send(EchoBiDiRequest { message: message.into() }).await.unwrap();
        }
        for letter in message.chars() {
            assert_eq!(replies.message().await.unwrap().unwrap().message, letter.to_string());
        }
    }
    drop(say);
    assert!(replies.message().await.unwrap().is_none());
}

fn check_status(status: &Status, code: Code, text: &str) {
    assert_eq!((status.code(), status.message()), (code, text));
    let wire = google_rpc::Status::decode(status.details()).unwrap();
    let detail = EchoRequest::decode(&wire.details[0].value[..]).unwrap();
    assert_eq!(detail.message, text);
}

async fn errors(mut client: Client, channel: Channel) {
    let text = "größer: \"100 %\"\nals das";
    let status = echo(&mut client, &format!("fail:9:{text}")).await.unwrap_err();
    check_status(&status, Code::FailedPrecondition, text);

    let message = format!("fail:10:{text}");
    let replies = client.echo_multiple(EchoMultipleRequest { message: message.clone() }).await.unwrap();
    let mut replies = replies.into_inner();
    let mut said = String::new();
    let status = loop {
        match replies.message().await {
            Ok(reply) => said += &reply.expect("an error at the end").message,
            Err(status) => break status,
        }
    };
    assert_eq!(said, message);
    check_status(&status, Code::Aborted, text);

    let mut raw = tonic::client::Grpc::new(channel);
    raw.ready().await.unwrap();
    let path = "/proto.rpc.examples.echo.v1.EchoService/Nothing".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<EchoRequest, EchoResponse>::default();
    let status = raw.unary(Request::new(EchoRequest::default()), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

async fn metadata(mut client: Client) {
    let mut request = Request::new(EchoRequest { message: "meta".into() });
    request.metadata_mut().append("x-ask", "1".parse().unwrap());
    request.metadata_mut().append("x-ask", "2".parse().unwrap());
    let reply = client.echo(request).await.unwrap();
    let values: Vec<_> = reply.metadata().get_all("x-echo").iter().collect();
    assert_eq!(values, ["a", "b"]);
    assert_eq!(reply.into_inner().message, "1,2");

    let replies = client.echo_multiple(EchoMultipleRequest { message: "meta".into() }).await.unwrap();
    let values: Vec<_> = replies.metadata().get_all("x-echo").iter().collect();
    assert_eq!(values, ["a", "b"]);
    let mut replies = replies.into_inner();
    while replies.message().await.unwrap().is_some() {}
    let trailers = replies.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("x-trailer").unwrap(), "t");
}

async fn large(mut client: Client) {
    let size = 1 << 20;
    let reply = echo(&mut client, &format!("size:{size}")).await.unwrap();
    assert!(reply.len() == size && reply.bytes().all(|byte| byte == b'x'));
    for size in [1usize << 20, 5 << 20] {
        // Not all alike: a piece that is lost or out of place shows.
        let message: String = (0..size).map(|place| char::from(b'a' + (place / 1000 % 26) as u8)).collect();
        assert!(echo(&mut client, &message).await.unwrap() == message, "{size} bytes");
    }
}

async fn deadline_and_cancel(mut client: Client) {
    let mut request = Request::new(EchoRequest { message: "sleep:20000".into() });
    request.set_timeout(Duration::from_millis(300));
    let began = Instant::now();
    let status = client.echo(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(5));

    let slow = timeout(Duration::from_millis(300), echo(&mut client.clone(), "sleep:20000")).await;
    assert!(slow.is_err());
    // Both calls have ended at the robot too, a reset or a deadline later.
    let ended = async {
        while echo(&mut client, "running").await.unwrap() != "0" {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), ended).await.expect("a call that was given up ends at the robot");
}

async fn many(client: Client) {
    let calls = (0..100).map(|place| {
        let mut client = client.clone();
        async move { echo(&mut client, &format!("call {place}")).await.unwrap() }
    });
    let answers: HashSet<String> = join_all(calls).await.into_iter().collect();
    assert_eq!(answers.len(), 100);
}
