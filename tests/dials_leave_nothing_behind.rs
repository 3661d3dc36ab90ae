//! Two hundred dials, whole ones and ones that are given up anywhere, leave no task and no descriptor. Alone in its
//! binary, because it counts what the whole process has.

#![cfg(all(feature = "engine", feature = "webrtc", target_os = "linux"))]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::probe::ProbeRequest;
use common::{LONG, Lab, Probe};
use farlink::peer::Stack;
use farlink::peer::engine::Engine;
use farlink::peer::webrtc_rs::WebRtcRs;
use futures_util::StreamExt as _;
use tokio::time::timeout;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Until there is no more than this, or for long.
async fn settle(wanted: (usize, usize)) {
    let settled = async {
        while descriptors() > wanted.0 || tasks() > wanted.1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(LONG, settled).await.is_err() {
        panic!("{wanted:?} descriptors and tasks are wanted, there are {:?}", (descriptors(), tasks()));
    }
}

/// What there is when nothing has changed for a while.
async fn baseline() -> (usize, usize) {
    let mut last = (descriptors(), tasks());
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = (descriptors(), tasks());
        last = (last.0.min(now.0), last.1.min(now.1));
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_dials_leave_no_task_and_no_descriptor() {
    // One after the other: both are counted in the whole process.
    leave_nothing(Arc::new(Engine::new().resolve_mdns(false))).await;
    leave_nothing(Arc::new(WebRtcRs::new().resolve_mdns(false))).await;
}

async fn leave_nothing(stack: Arc<dyn Stack>) {
    let before_all = tasks();
    let lab = Lab::start(stack).await;
    // What is made once.
    for channel in [lab.over_webrtc().await, lab.directly().await] {
        Probe::client(channel).unary(ProbeRequest::default()).await.unwrap();
    }
    let before = baseline().await;

    let dials = (0..200_u64).map(|number| {
        let lab = &lab;
        async move {
            match number % 5 {
                0 => {
                    // Dropped at another stage each time.
                    let _ = timeout(Duration::from_micros(number * 150), lab.over_webrtc()).await;
                }
                1 => {
                    // With a call under way.
                    let channel = lab.over_webrtc().await;
                    let mut client = Probe::client(channel);
                    let request = ProbeRequest { delay_ms: 600_000, ..Default::default() };
                    let _ = timeout(Duration::from_millis(5), client.unary(request)).await;
                }
                2 => {
                    let channel = lab.directly().await;
                    Probe::client(channel).unary(ProbeRequest::default()).await.unwrap();
                }
                3 => {
                    // To a robot that is not there.
                    let options = lab.options.clone().timeout(Duration::from_millis(200));
                    farlink::dial("nobody.example", options).await.unwrap_err();
                }
                _ => {
                    let channel = lab.over_webrtc().await;
                    Probe::client(channel).unary(ProbeRequest::default()).await.unwrap();
                }
            }
        }
    });
    futures_util::stream::iter(dials).buffer_unordered(8).collect::<Vec<()>>().await;
    settle(before).await;

    lab.robot.shutdown().await;
    drop(lab.signaling);
    settle((before.0, before_all)).await;
}
