//! What sessions cost on the hot path: nothing is allocated to put an id on a call.

mod common;

use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll};

use allocation_counter::measure;
use common::fake_robot::{FakeRobot, Local, SPREAD, UNARY, options};
use common::probe::ProbeRequest;
use farlink::sessions::{OnExpiry, SessionOptions, Sessions};
use farlink::transport::{LinkWatch, Stats, Transport, TransportError, TransportKind};
use futures_util::future::Either;
use futures_util::task::noop_waker_ref;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use prost::Message as _;
use tonic::body::Body;
use tower_service::Service;

/// Answers all but the robot's own service at once, with nothing.
#[derive(Debug, Clone)]
struct AtOnce(Local);

impl Service<Request<Body>> for AtOnce {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future =
        Either<Ready<Result<Response<Body>, TransportError>>, <Local as Service<Request<Body>>>::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/viam.robot") {
            return Either::Right(self.0.call(request));
        }
        if request.uri().path() == UNARY {
            assert_eq!(request.headers()["viam-sid"], "sid-1");
        }
        Either::Left(ready(Ok(Response::new(Body::empty()))))
    }
}

impl Transport for AtOnce {
    fn kind(&self) -> TransportKind {
        self.0.kind()
    }

    async fn stats(&self) -> Stats {
        self.0.stats().await
    }

    fn watch(&self) -> LinkWatch {
        self.0.watch()
    }

    fn close(&self) {
        self.0.close();
    }
}

/// As tonic's clients make it.
fn request(path: &'static str) -> Request<Body> {
    let message = ProbeRequest { data: "0.5".into(), ..Default::default() }.encode_to_vec();
    let mut request = Request::post(path).body(Body::new(Full::new(message.into()))).unwrap();
    for (key, value) in [("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "tonic")] {
        request.headers_mut().insert(key, HeaderValue::from_static(value));
    }
    request
}

/// Allocations of one call, from its request to its answer's headers.
fn allocations<S>(service: &mut S, path: &'static str) -> u64
where
    S: Service<Request<Body>, Response = Response<Body>, Error = TransportError>,
{
    let mut worst = 0;
    for _ in 0..10 {
        let mut request = Some(request(path));
        let mut answered = false;
        let counted = measure(|| {
            let call = pin!(service.call(request.take().unwrap()));
            let polled = call.poll(&mut Context::from_waker(noop_waker_ref()));
            answered = matches!(polled, Poll::Ready(Ok(_)));
        });
        assert!(answered);
        worst = worst.max(counted.count_total);
    }
    worst
}

async fn begun(options: SessionOptions) -> Sessions<AtOnce> {
    let fake = FakeRobot::new();
    let mut sessions = Sessions::new(AtOnce(Local::new(fake.routes())), options);
    sessions.call(request(UNARY)).await.unwrap();
    sessions
}

/// C28
#[tokio::test(start_paused = true)]
async fn putting_a_session_on_a_call_allocates_nothing() {
    let mut sessions = begun(options().on_expiry(OnExpiry::Surface)).await;
    assert_eq!(allocations(&mut sessions.inner().clone(), SPREAD), 0, "what is measured allocates by itself");
    assert_eq!(allocations(&mut sessions, UNARY), 0);
}

/// C28
#[tokio::test(start_paused = true)]
async fn calls_without_a_session_pass_without_a_cost() {
    let mut sessions = begun(options()).await;
    assert_eq!(allocations(&mut sessions, SPREAD), 0);
    assert_eq!(allocations(&mut sessions, "/a.service/NobodyKnows"), 0);
}

/// C21 has its price: the request is kept.
#[tokio::test(start_paused = true)]
async fn keeping_a_request_for_another_try_costs_a_few_allocations() {
    let mut sessions = begun(options().on_expiry(OnExpiry::Retry)).await;
    let count = allocations(&mut sessions, UNARY);
    assert!((1..=8).contains(&count), "{count} allocations");
}
