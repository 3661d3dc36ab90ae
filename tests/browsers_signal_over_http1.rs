//! What a browser sends, byte by byte: HTTP/1.1, CORS preflights, gRPC-web.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use farlink::peer::IceServer;
use farlink::proto::webrtc::answer_response::Stage as Said;
use farlink::proto::webrtc::call_response::Stage as Heard;
use farlink::proto::webrtc::call_update_request::Update;
use farlink::proto::webrtc::signaling_service_client::SignalingServiceClient;
use farlink::proto::webrtc::*;
use farlink_signaling::SignalingServer;
use prost::Message;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

const SERVICE: &str = "/proto.rpc.webrtc.v1.SignalingService";
const ORIGIN: &str = "https://app.example";

async fn server() -> SocketAddr {
    let turn = IceServer::with_credential("turn:t.example", "u", "c").unwrap();
    let builder = SignalingServer::builder().hosts(["robot.example:80"]).ice_servers([turn]);
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let addr = server.local_addr();
    tokio::spawn(server.serve(std::future::pending()));
    addr
}

/// A response of which the head has been read.
struct Response {
    status: String,
    headers: HashMap<String, String>,
    connection: BufReader<TcpStream>,
}

impl Response {
    async fn read(stream: TcpStream) -> Self {
        let mut connection = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut text = String::new();
            connection.read_line(&mut text).await.unwrap();
            match text.trim_end() {
                "" => break,
                text => lines.push(text.to_owned()),
            }
        }
        let status = lines.remove(0);
        let headers = lines.iter().map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Self { status, headers, connection }
    }

    /// The next chunk of the body; empty at its end.
    async fn chunk(&mut self) -> Vec<u8> {
        let mut size = String::new();
        self.connection.read_line(&mut size).await.unwrap();
        let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).unwrap() + 2];
        self.connection.read_exact(&mut chunk).await.unwrap();
        chunk.truncate(chunk.len() - 2);
        chunk
    }

    /// The body through its end, as frames of gRPC-web.
    async fn frames(mut self) -> Vec<(u8, Vec<u8>)> {
        assert_eq!(self.headers["transfer-encoding"], "chunked");
        let mut body = Vec::new();
        loop {
            match self.chunk().await {
                chunk if chunk.is_empty() => return frames(&body),
                chunk => body.extend(chunk),
            }
        }
    }
}

fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [flag, a, b, c, d, rest @ ..] = body {
        let (frame, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        frames.push((*flag, frame.to_vec()));
        body = rest;
    }
    assert!(body.is_empty());
    frames
}

async fn send(addr: SocketAddr, head: &str, body: &[u8]) -> Response {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let read = Response::read(stream);
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("no response")
}

async fn post(addr: SocketAddr, method: &str, host: &str, message: impl Message) -> Response {
    let mut body = vec![0];
    body.extend((message.encoded_len() as u32).to_be_bytes());
    body.extend(message.encode_to_vec());
    let head = format!(
        "POST {SERVICE}/{method} HTTP/1.1\r\nHost: {addr}\r\nOrigin: {ORIGIN}\r\n\
         content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\nx-user-agent: connect-es/1.6.1\r\n\
         rpc-host: {host}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    send(addr, &head, &body).await
}

fn assert_ok(trailer: &(u8, Vec<u8>)) {
    assert_eq!(trailer.0, 0x80);
    let text = String::from_utf8(trailer.1.clone()).unwrap();
    assert!(text.contains("grpc-status:0\r\n"), "{text:?}");
}

fn assert_cors(response: &Response) {
    assert_eq!(response.headers["access-control-allow-origin"], ORIGIN);
    assert_eq!(response.headers["access-control-allow-credentials"], "true");
    let exposed = &response.headers["access-control-expose-headers"];
    for header in ["grpc-status", "grpc-message", "grpc-encoding", "grpc-status-details-bin"] {
        assert!(exposed.split(',').any(|name| name.trim() == header), "{exposed}");
    }
}

#[tokio::test]
async fn a_preflight_allows_everything_that_the_sdk_sends_with_credentials() {
    let addr = server().await;
    let asked = "authorization,content-type,grpc-timeout,rpc-host,viam_client,x-grpc-web,x-user-agent";
    for method in ["OptionalWebRTCConfig", "Call", "CallUpdate"] {
        let head = format!(
            "OPTIONS {SERVICE}/{method} HTTP/1.1\r\nHost: {addr}\r\nOrigin: {ORIGIN}\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: {asked}\r\n\r\n"
        );
        let response = send(addr, &head, b"").await;
        assert_eq!(response.status, "HTTP/1.1 200 OK");
        let headers = &response.headers;
        assert_eq!(headers["access-control-allow-origin"], ORIGIN);
        assert_eq!(headers["access-control-allow-credentials"], "true");
        assert_eq!(headers["access-control-allow-methods"], "POST");
        let allowed = &headers["access-control-allow-headers"];
        for header in asked.split(',') {
            assert!(allowed.split(',').any(|name| name.trim() == header), "{header} not in {allowed}");
        }
        assert!(headers["access-control-max-age"].parse::<u32>().unwrap() > 0);
        for vary in ["origin", "access-control-request-headers"] {
            assert!(headers["vary"].contains(vary), "{}", headers["vary"]);
        }
    }
}

#[tokio::test]
async fn a_browser_reads_its_ice_servers() {
    let addr = server().await;
    let request = OptionalWebRtcConfigRequest {};
    let response = post(addr, "OptionalWebRTCConfig", "robot.example:80", request).await;
    assert_eq!(response.status, "HTTP/1.1 200 OK");
    assert_eq!(response.headers["content-type"], "application/grpc-web+proto");
    assert_cors(&response);
    let frames = response.frames().await;
    assert_eq!(frames.len(), 2);
    let config = OptionalWebRtcConfigResponse::decode(&*frames[0].1).unwrap().config.unwrap();
    assert_eq!(config.additional_ice_servers[0].urls, ["turn:t.example:3478?transport=udp"]);
    assert_ok(&frames[1]);
}

#[tokio::test]
async fn a_browser_is_told_why_it_was_refused() {
    let addr = server().await;
    let offline = post(addr, "Call", "robot.example:80", CallRequest::default()).await;
    assert_cors(&offline);
    assert_eq!(offline.headers["grpc-status"], "5");
    let elsewhere = post(addr, "OptionalWebRTCConfig", "elsewhere", OptionalWebRtcConfigRequest {}).await;
    assert_eq!(elsewhere.headers["grpc-status"], "3");
    assert_eq!(elsewhere.headers["grpc-message"].replace("%20", " "), "host not preconfigured");
}

#[tokio::test]
async fn a_browser_calls_and_its_stream_ends_when_the_robot_is_done() {
    let addr = server().await;
    let mut robots = SignalingServiceClient::connect(format!("http://{addr}")).await.unwrap();
    let (say, said) = mpsc::channel(8);
    let mut answer = Request::new(ReceiverStream::new(said));
    answer.metadata_mut().insert("rpc-host", "robot.example:80".parse().unwrap());
    let mut asked = robots.answer(answer).await.unwrap().into_inner();

    let offer = CallRequest { sdp: "offer".into(), disable_trickle: false };
    let mut call = post(addr, "Call", "robot.example:80", offer).await;
    assert_eq!(call.status, "HTTP/1.1 200 OK");
    assert_cors(&call);
    let uuid = asked.message().await.unwrap().unwrap().uuid;
    let robot = |stage| AnswerResponse { uuid: uuid.clone(), stage: Some(stage) };
    say.send(robot(Said::Init(AnswerResponseInitStage { sdp: "answer".into() }))).await.unwrap();
    let init = frames(&call.chunk().await);
    let init = CallResponse::decode(&*init[0].1).unwrap();
    assert_eq!(init.uuid, uuid);
    assert_eq!(init.stage, Some(Heard::Init(CallResponseInitStage { sdp: "answer".into() })));

    let candidate = IceCandidate { candidate: "c".into(), ..IceCandidate::default() };
    for update in [Update::Candidate(candidate), Update::Done(true)] {
        let update = CallUpdateRequest { uuid: uuid.clone(), update: Some(update) };
        let frames = post(addr, "CallUpdate", "robot.example:80", update).await.frames().await;
        assert_eq!(frames[0], (0, Vec::new()));
        assert_ok(&frames[1]);
        assert!(asked.message().await.unwrap().is_some());
    }
    say.send(robot(Said::Done(AnswerResponseDoneStage {}))).await.unwrap();
    let rest = tokio::time::timeout(Duration::from_secs(10), call.frames()).await.expect("no end");
    assert_eq!(rest.len(), 1);
    assert_ok(&rest[0]);
}

#[tokio::test]
async fn a_closed_page_frees_the_robot() {
    let addr = server().await;
    let mut robots = SignalingServiceClient::connect(format!("http://{addr}")).await.unwrap();
    let (_say, said) = mpsc::channel(8);
    let mut answer = Request::new(ReceiverStream::new(said));
    answer.metadata_mut().insert("rpc-host", "robot.example:80".parse().unwrap());
    let mut asked = robots.answer(answer).await.unwrap().into_inner();
    let call = post(addr, "Call", "robot.example:80", CallRequest::default()).await;
    assert!(asked.message().await.unwrap().is_some());
    drop(call);
    let told = tokio::time::timeout(Duration::from_secs(5), asked.message()).await.expect("not told");
    assert!(matches!(told.unwrap().unwrap().stage, Some(answer_request::Stage::Error(_))));
}
