use http_body_util::Empty;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::*;
use crate::transport::LinkState;

/// A server that has lost its tongue: no call to it ever ends.
#[derive(Debug, Clone)]
struct Mute;

impl Service<Request<Body>> for Mute {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        Box::pin(std::future::pending())
    }
}

impl Transport for Mute {
    fn kind(&self) -> TransportKind {
        TransportKind::Direct
    }

    async fn stats(&self) -> Stats {
        Stats::new(TransportKind::Direct)
    }

    fn watch(&self) -> LinkWatch {
        LinkWatch::new(tokio::sync::watch::Sender::new(LinkState::default()).subscribe())
    }

    fn close(&self) {}
}

/// Where a transport stands whose token was refused.
fn without_token() -> Authorized<Mute> {
    let shared = Shared {
        credentials: Credentials::api_key("key"),
        entity: "me".to_owned(),
        token: Mutex::new(None),
        fetching: AsyncMutex::new(()),
    };
    Authorized { inner: Mute, shared: Some(Arc::new(shared)) }
}

async fn call(transport: &Authorized<Mute>, timeout: Option<&str>) -> Status {
    let mut request = Request::post("/robot/Move").body(Body::new(Empty::new())).unwrap();
    if let Some(timeout) = timeout {
        request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
    }
    // Far beyond everything that is promised: a call that hangs shall fail the test, not stop it.
    let call = within_an_hour(transport.clone().oneshot(request)).await;
    call.unwrap_err().status().clone()
}

async fn within_an_hour<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(3600), work).await.expect("the call hangs")
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_token_keeps_its_deadline() {
    let transport = without_token();
    let began = Instant::now();
    // One fetches, the other waits for it.
    let (first, second) = tokio::join!(call(&transport, Some("2S")), call(&transport, Some("1S")));
    assert_eq!((first.code(), second.code()), (Code::DeadlineExceeded, Code::DeadlineExceeded));
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_without_a_deadline_do_not_hang_behind_a_server_that_gives_no_token() {
    let transport = without_token();
    let began = Instant::now();
    let calls = (call(&transport, None), call(&transport, None), call(&transport, Some("1H")));
    let (first, second, third) = tokio::join!(calls.0, calls.1, calls.2);
    for status in [first, second, third] {
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("within 10 s"), "{status:?}");
    }
    assert_eq!(began.elapsed().as_secs(), 10, "not one after the other");
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_token_keeps_its_deadline_too() {
    let transport = without_token();
    *transport.shared.as_ref().unwrap().token.lock().unwrap() = Some(HeaderValue::from_static("Bearer t"));
    assert_eq!(call(&transport, Some("1S")).await.code(), Code::DeadlineExceeded);
}
