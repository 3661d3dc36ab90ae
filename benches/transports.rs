//! What a transport costs: the same calls over each, side by side in one run.
//!
//! `cargo bench --bench transports [-- SECONDS] [-- --only STACK]`, 2 s for each row by default. Figures of one run compare;
//! figures of two runs, or of two machines, do not.
//!
//! Rows: our WebRTC transport over the memory stack (what our own code costs), over our engine and over the `webrtc`
//! crate's protocols on loopback, our direct transport, and tonic's own channel to the same listener; then goutils'
//! (`--only goutils` for these alone), where there is a Go toolchain. Caller and robot share a process, but for the
//! rows that end in `2p`: there each has its own, as in the field.

#[path = "transports/apart.rs"]
mod apart;
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/interop/go.rs"]
#[allow(dead_code, reason = "benches ask for no checks")]
mod go;
#[path = "transports/goutils.rs"]
mod goutils;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::probe::ProbeRequest;
use common::probe::probe_client::ProbeClient;
use common::{Lab, Probe, ROBOT};
use farlink::DialOptions;
use farlink::peer::Stack;
use farlink::peer::memory::MemoryStack;
use farlink::transport::TransportKind;
use farlink::transport::webrtc::{Limits, Overflow};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tonic::body::Body;
use tonic::client::GrpcService;

/// In a task, as calls are made in programs: what waits in `block_on` has a thread of its own, which is woken by the
/// kernel for every answer. goutils' calls are made in goroutines.
#[tokio::main]
async fn main() {
    tokio::spawn(rows()).await.expect("rows");
}

async fn rows() {
    if let Some(name) = apart::wanted() {
        let (_, stack) = stacks().into_iter().find(|(each, _)| *each == name).expect("a row's name");
        return apart::serve(stack).await;
    }
    // `cargo bench` and `cargo test --benches` pass flags of their own.
    let seconds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(2.0);
    let budget = Duration::from_secs_f64(seconds);
    let stacks = stacks();
    println!("{:<22} {:>30} {:>12} {:>12} {:>12}", "", "serial p50 / p99 us", "64 at once", "dial", "stream");
    println!(
        "{:<22} {:>10} {:>9} {:>9} {:>12} {:>12} {:>12}",
        "", "64 B", "1 KiB", "16 KiB", "calls/s", "p50 ms", "MB/s"
    );
    let only = std::env::args().skip_while(|word| word != "--only").nth(1);
    let wanted = |name: &str| only.as_ref().is_none_or(|only| name.ends_with(only.as_str()));
    for (name, stack) in &stacks {
        if !wanted(name) {
            continue;
        }
        let lab = Lab::start(Arc::clone(stack)).await;
        webrtc_row(name, &lab.options, budget).await;
        // The memory stack ends where its process does.
        if !name.ends_with("memory") {
            apart::webrtc(name, stack, budget).await;
        }
    }
    if only.is_none() {
        tcp_rows(budget).await;
    }
    if wanted("goutils") {
        goutils::rows(&stacks, budget).await;
    }
}

async fn tcp_rows(budget: Duration) {
    let lab = Lab::start(Arc::new(MemoryStack::new())).await;
    row("direct", Probe::client(lab.directly().await), budget, None).await;
    let robot = format!("http://{}", lab.robot.local_addr().expect("the lab's robot listens"));
    let plain = ProbeClient::connect(robot).await.expect("loopback");
    row("tonic's channel", plain, budget, None).await;
    apart::tcp("webrtc/memory", budget).await;
}

fn stacks() -> Vec<(&'static str, Arc<dyn Stack>)> {
    vec![
        ("webrtc/memory", Arc::new(MemoryStack::new())),
        #[cfg(feature = "engine")]
        ("webrtc/engine", Arc::new(farlink::peer::engine::Engine::new())),
        #[cfg(feature = "webrtc")]
        ("webrtc/webrtc-rs", Arc::new(farlink::peer::webrtc_rs::WebRtcRs::new())),
    ]
}

/// What comes by these options, from the dials on.
async fn webrtc_row(name: &str, options: &DialOptions, budget: Duration) {
    // A reader whose thread is kept from it for a moment is to hold up a fast stream, not to end it.
    let mut limits = Limits::default();
    limits.overflow = Overflow::HoldConnection;
    let options = options.clone().limits(limits);
    let dial = async || {
        let channel = farlink::dial(ROBOT, options.clone()).await.expect("the robot is there");
        assert_eq!(channel.transport(), TransportKind::WebRtc, "{:?}", channel.fallback_reason());
        channel
    };
    let mut dials = Vec::new();
    for _ in 0..15 {
        let began = Instant::now();
        Probe::client(dial().await).unary(ProbeRequest::default()).await.expect("the lab's robot answers");
        dials.push(began.elapsed());
    }
    row(name, Probe::client(dial().await), budget, Some(dials)).await;
}

async fn row<T>(name: &str, client: ProbeClient<T>, budget: Duration, dials: Option<Vec<Duration>>)
where
    T: GrpcService<Body> + Clone + Send + 'static,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    T::Future: Send,
{
    let mut line = format!("{name:<22}");
    for size in [64, 1024, 16 * 1024] {
        line += &format!(" {:>10}", serial(client.clone(), size, budget).await);
    }
    let rate = parallel(client.clone(), budget).await;
    let dial = dials.map_or_else(
        || "-".to_owned(),
        |mut dials| {
            dials.sort_unstable();
            format!("{:.1}", dials[dials.len() / 2].as_secs_f64() * 1e3)
        },
    );
    let stream = stream(client, budget).await;
    println!("{line} {rate:>12.0} {dial:>12} {stream:>12.1}");
}

/// One call after the other.
async fn serial<T>(mut client: ProbeClient<T>, size: usize, budget: Duration) -> String
where
    T: GrpcService<Body>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let data = bytes::Bytes::from(vec![7; size]);
    let mut times = Vec::new();
    let until = Instant::now() + budget;
    while Instant::now() < until {
        let request = ProbeRequest { data: data.clone(), ..Default::default() };
        let began = Instant::now();
        client.unary(request).await.expect("the lab's robot answers");
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_micros();
    format!("{}/{}", at(50), at(99))
}

/// 64 calls of 64 bytes at once, calls per second.
async fn parallel<T>(client: ProbeClient<T>, budget: Duration) -> f64
where
    T: GrpcService<Body> + Clone + Send + 'static,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    T::Future: Send,
{
    let began = Instant::now();
    let until = began + budget;
    let workers: FuturesUnordered<_> = (0..64)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let mut calls = 0u32;
                while Instant::now() < until {
                    let request = ProbeRequest { data: vec![7; 64].into(), ..Default::default() };
                    client.unary(request).await.expect("the lab's robot answers");
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let calls: Vec<_> = workers.collect().await;
    let calls: u32 = calls.into_iter().map(|calls| calls.expect("a worker that does not panic")).sum();
    f64::from(calls) / began.elapsed().as_secs_f64()
}

/// How long a stream lasts at least. goutils stands still for a second after its first burst, so that what a shorter one
/// carries is luck; all rows have the same.
const STREAM_AT_LEAST: Duration = Duration::from_secs(5);

/// A server stream of messages of 16 KiB, MB/s.
async fn stream<T>(mut client: ProbeClient<T>, budget: Duration) -> f64
where
    T: GrpcService<Body>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let request = ProbeRequest { size: 16 * 1024, count: u32::MAX, ..Default::default() };
    let budget = budget.max(STREAM_AT_LEAST);
    let began = Instant::now();
    let mut messages = client.spread(request).await.expect("the lab's robot answers").into_inner();
    let mut bytes = 0.0;
    while began.elapsed() < budget {
        let message = messages.message().await.expect("a stream that goes on").expect("a message");
        bytes += f64::from(u32::try_from(message.data.len()).unwrap_or(u32::MAX));
    }
    bytes / began.elapsed().as_secs_f64() / 1e6
}
