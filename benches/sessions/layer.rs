//! What the layer adds to a call, over a transport that answers at once.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use allocation_counter::measure;
use farlink::proto::motor::SetPowerRequest;
use farlink::sessions::{OnExpiry, SessionOptions, Sessions};
use farlink::transport::TransportError;
use futures_util::task::noop_waker_ref;
use http::{HeaderName, HeaderValue, Request, Response};
use tonic::body::Body;
use tower_service::Service;

use super::two_threads;
use super::wire::{AtOnce, Book, SET_POWER, Wire, request};

/// Known to move nothing.
const IS_MOVING: &str = "/viam.component.motor.v1.MotorService/IsMoving";
const UNKNOWN: &str = "/acme.crane.v1.CraneService/Lift";

const VIAM_SID: HeaderName = HeaderName::from_static("viam-sid");
const SID: &str = "7a4fd3a8-8e0b-4b5f-9f52-52d1a3c4be01";

/// Calls that are timed together, and how often.
const BATCH: u32 = 64;
const ROUNDS: usize = 5000;

pub(crate) fn rows() {
    let runtime = two_threads();
    let _entered = runtime.enter();
    let book = Arc::new(Book::default());
    let wire = Wire::new(AtOnce::new(&book), None);
    let with = |on_expiry| {
        let mut sessions = Sessions::new(wire.clone(), SessionOptions::new().on_expiry(on_expiry));
        let begun = runtime.block_on(sessions.call(set_power(SET_POWER)));
        begun.expect("a robot that answers");
        sessions
    };
    let (surface, retry) = (with(OnExpiry::Surface), with(OnExpiry::Retry));
    let mut rows = [
        ("the transport alone", Row::of(wire.clone(), SET_POWER)),
        ("a header by hand", Row::of(ByHand(wire.clone(), HeaderValue::from_static(SID)), SET_POWER)),
        ("unmonitored", Row::of(retry.clone(), IS_MOVING)),
        ("unknown", Row::of(retry.clone(), UNKNOWN)),
        ("monitored, Surface", Row::of(surface, SET_POWER)),
        ("monitored, Retry", Row::of(retry, SET_POWER)),
    ];
    // In turns: what else goes on in the machine hits all rows alike.
    for _ in 0..ROUNDS {
        rows.iter_mut().for_each(|(_, row)| row.round());
    }
    println!("\nthe layer's cost for each call (goal C28: < 50 ns and 0 allocations more than without)");
    println!("{:<22} {:>10} {:>10} {:>12}", "", "ns/call", "added ns", "added allocs");
    let (bare, allocations) = (rows[0].1.median(), rows[0].1.allocations);
    for (name, row) in &mut rows {
        let median = row.median();
        println!("{name:<22} {median:>10.1} {:>10.1} {:>12}", median - bare, row.allocations - allocations);
    }
}

fn set_power(path: &'static str) -> Request<Body> {
    request(path, &SetPowerRequest { name: "m1".to_owned(), power_pct: 0.5, extra: None })
}

/// What putting a header on a call costs, whoever does it.
struct ByHand(Wire<AtOnce>, HeaderValue);

impl Service<Request<Body>> for ByHand {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = <Wire<AtOnce> as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(VIAM_SID, self.1.clone());
        self.0.call(request)
    }
}

/// Makes these calls, one after the other.
type Calls = Box<dyn FnMut(&mut Vec<Request<Body>>)>;

struct Row {
    call: Calls,
    path: &'static str,
    nanos: Vec<f64>,
    allocations: u64,
}

impl Row {
    fn of<S>(mut service: S, path: &'static str) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = TransportError> + 'static,
    {
        let call = move |requests: &mut Vec<Request<Body>>| {
            for request in requests.drain(..) {
                let call = pin!(service.call(request));
                let polled = call.poll(&mut Context::from_waker(noop_waker_ref()));
                assert!(matches!(black_box(polled), Poll::Ready(Ok(_))));
            }
        };
        let mut row = Self { call: Box::new(call), path, nanos: Vec::with_capacity(ROUNDS), allocations: 0 };
        let mut requests = row.requests();
        row.allocations = measure(|| (row.call)(&mut requests)).count_total / u64::from(BATCH);
        row
    }

    fn requests(&self) -> Vec<Request<Body>> {
        (0..BATCH).map(|_| set_power(self.path)).collect()
    }

    fn round(&mut self) {
        let mut requests = self.requests();
        let began = Instant::now();
        (self.call)(&mut requests);
        self.nanos.push(began.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH));
    }

    fn median(&mut self) -> f64 {
        self.nanos.sort_unstable_by(f64::total_cmp);
        self.nanos[self.nanos.len() / 2]
    }
}
