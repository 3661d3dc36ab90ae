//! Many callers in one process, each with a session that does nothing but live.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use allocation_counter::measure;
use farlink::Channel;
use farlink::proto::common::ResourceName;
use farlink::proto::motor::SetPowerRequest;
use farlink::server::{CallInfo, ConnectionHandle};
use farlink::sessions::SessionsClient;
use farlink::sessions::robot::{Resources, SessionManager};
use farlink::transport::TransportKind;
use http::{Request, Response};
use tokio::runtime::Runtime;
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service;

use super::figures::{cpu, resident};
use super::one_thread;
use super::wire::{AtOnce, Book, SET_POWER, WINDOW, Wire, request};

const CALLERS: u32 = 10_000;

pub(crate) fn rows(budget: Duration) {
    let budget = budget.max(Duration::from_secs(5));
    println!("{CALLERS} callers in one process, W = {WINDOW:?}, on one thread, idle for {budget:?}");
    println!(
        "{:<22} {:>9} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9}",
        "for each session", "RSS", "heap", "allocs", "tasks", "CPU us/s", "us/beat", "expired"
    );
    let book = Arc::new(Book::default());
    let seen = || (book.beats.load(Ordering::Relaxed), book.expired.load(Ordering::Relaxed));
    row(one_thread(), "callers alone", budget, || Wire::new(AtOnce::new(&book), None), seen);

    // With a real robot: what both ends take together.
    let runtime = one_thread();
    let entered = runtime.enter();
    let builder = SessionManager::builder(Arc::new(Nothing)).window(WINDOW);
    let builder = builder.max_sessions(CALLERS as usize).max_per_owner(CALLERS as usize);
    let manager = builder.build().expect("a manager");
    drop(entered);
    let routes = manager.protect(Routes::default()).prepare();
    let mut guards = Vec::new();
    let wire = || {
        let connection = ConnectionHandle::new();
        guards.push(connection.guard());
        Wire::new(routes.clone(), Some(CallInfo::new(connection, TransportKind::WebRtc)))
    };
    let seen = || (manager.stats().heartbeats, manager.stats().expired);
    row(runtime, "callers and robot", budget, wire, seen);
}

/// `seen`: heartbeats and expired sessions so far.
fn row<S>(
    runtime: Runtime,
    name: &str,
    budget: Duration,
    mut wire: impl FnMut() -> Wire<S>,
    seen: impl Fn() -> (u64, u64),
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + fmt::Debug
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    // What is below the sessions is not counted.
    let channels: Vec<_> = (0..CALLERS).map(|_| Channel::from_transport(wire())).collect();
    let mut clients = Vec::with_capacity(channels.len());
    let (had, tasks) = (resident(), runtime.metrics().num_alive_tasks());
    let heap = measure(|| {
        runtime.block_on(async {
            for channel in &channels {
                let client = SessionsClient::new(channel.clone());
                let call = client.channel().call(request(SET_POWER, &SetPowerRequest::default()));
                call.await.expect("a robot that answers");
                clients.push(client);
            }
            tokio::time::sleep(WINDOW).await;
        });
    });
    let count = f64::from(CALLERS);
    let memory = (resident() - had) / count;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let [bytes, pieces, tasks] = [
        heap.bytes_current as f64 / count,
        heap.count_current as f64 / count,
        (runtime.metrics().num_alive_tasks() - tasks) as f64 / count,
    ];
    let (beats, spent) = (seen().0, cpu());
    runtime.block_on(async { tokio::time::sleep(budget).await });
    let spent = (cpu() - spent).as_secs_f64() * 1e6;
    let (beaten, expired) = seen();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (each, beat) = (spent / count / budget.as_secs_f64(), spent / (beaten - beats) as f64);
    println!(
        "{name:<22} {memory:>9.0} {bytes:>9.0} {pieces:>9.1} {tasks:>7.2} {each:>9.2} {beat:>9.2} {expired:>9}"
    );
    // The next row is not to find its memory here.
    std::mem::forget((clients, runtime));
}

struct Nothing;

#[tonic::async_trait]
impl Resources for Nothing {
    fn names(&self) -> Vec<ResourceName> {
        Vec::new()
    }

    async fn stop(&self, _: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}
