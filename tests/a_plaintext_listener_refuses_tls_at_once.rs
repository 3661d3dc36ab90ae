//! The first bytes of a connection, and its last: TLS where there is none, silence, shutdown.

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use farlink::proto::webrtc::OptionalWebRtcConfigRequest;
use farlink::proto::webrtc::signaling_service_client::SignalingServiceClient;
use farlink::server::listener::{Listener, TlsIdentity};
use farlink::signaling::queue::MemoryQueue;
use farlink::signaling::service::SignalingService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), future).await.expect("took too long")
}

fn routes() -> Routes {
    Routes::new(SignalingService::new(Arc::new(MemoryQueue::default())).into_server())
}

async fn plaintext() -> (SocketAddr, JoinHandle<()>) {
    let listener = Listener::bind("127.0.0.1:0", None).await.unwrap();
    let addr = listener.local_addr();
    (addr, tokio::spawn(async move { listener.serve(routes(), pending()).await.unwrap() }))
}

async fn works(channel: Channel) -> Result<(), Status> {
    let mut request = Request::new(OptionalWebRtcConfigRequest {});
    request.metadata_mut().insert("rpc-host", "h".parse().unwrap());
    within(SignalingServiceClient::new(channel).optional_web_rtc_config(request)).await.map(drop)
}

async fn channel(addr: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap()
}

/// A stream that does not end by itself.
async fn waits(channel: Channel) -> Streaming<farlink::proto::webrtc::AnswerRequest> {
    let mut request = Request::new(tokio_stream::pending());
    request.metadata_mut().insert("rpc-host", "h".parse().unwrap());
    within(SignalingServiceClient::new(channel).answer(request)).await.unwrap().into_inner()
}

fn tls_client(certificate: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

fn identity() -> (String, TlsIdentity) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).unwrap();
    (made.cert.pem(), identity)
}

#[tokio::test]
async fn a_tls_hello_is_answered_with_something_that_is_not_tls() {
    let (addr, _server) = plaintext().await;
    let (certificate, _) = identity();
    let started = Instant::now();
    let tcp = TcpStream::connect(addr).await.unwrap();
    let localhost = ServerName::try_from("localhost").unwrap();
    let error = within(tls_client(&certificate).connect(localhost, tcp)).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");

    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.write_all(&[0x16, 3, 1, 0, 200]).await.unwrap();
    let mut answer = String::new();
    within(tcp.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    // By the listener itself: hyper's parser answers 400 to such bytes too, which nobody promises.
    assert_eq!(body, "this port speaks no TLS\n");
}

#[tokio::test]
async fn silent_connections_hold_up_nobody() {
    let (addr, _server) = plaintext().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    works(channel(addr).await).await.unwrap();
}

#[tokio::test]
async fn tls_carries_grpc_and_a_plaintext_client_is_dropped() {
    let (certificate, identity) = identity();
    let listener = Listener::bind("127.0.0.1:0", Some(identity)).await.unwrap();
    assert!(listener.is_tls());
    let addr = listener.local_addr();
    tokio::spawn(listener.serve(routes(), pending()));
    let _silent = TcpStream::connect(addr).await.unwrap();
    let connector = tls_client(&certificate);
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(addr).await?;
            let tls = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            std::io::Result::Ok(TokioIo::new(tls))
        }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connect).await.unwrap();
    works(channel).await.unwrap();

    let mut plain = TcpStream::connect(addr).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = within(plain.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn dropping_the_server_cuts_its_connections() {
    let (addr, server) = plaintext().await;
    let mut stream = waits(channel(addr).await).await;
    let mut idle = TcpStream::connect(addr).await.unwrap();
    server.abort();
    assert!(within(stream.message()).await.is_err());
    assert_eq!(within(idle.read(&mut [0])).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn shutdown_stops_accepting_and_cuts_after_the_grace() {
    let grace = Duration::from_millis(200);
    let listener = Listener::bind("127.0.0.1:0", None).await.unwrap().with_grace(grace);
    let addr = listener.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(listener.serve(routes(), async { stopped.await.unwrap_or_default() }));
    let mut stream = waits(channel(addr).await).await;
    let mut http1 = TcpStream::connect(addr).await.unwrap();
    http1.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let started = Instant::now();
    stop.send(()).unwrap();
    assert!(within(stream.message()).await.is_err());
    assert!(started.elapsed() >= grace);
    within(server).await.unwrap().unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}
