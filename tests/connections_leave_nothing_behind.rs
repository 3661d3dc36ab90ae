//! No task and no descriptor outlives its peer, however far the peer came. Alone in its binary, because it
//! counts what the whole process has.

#![cfg(all(feature = "engine", feature = "webrtc", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

#[path = "common/peers.rs"]
mod peers;

use std::sync::Arc;
use std::time::Duration;

use farlink::peer::Stack;
use farlink::peer::engine::Engine;
use farlink::peer::webrtc_rs::WebRtcRs;
use peers::{connected, negotiate, patiently, two};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_connections_leave_no_task_and_no_descriptor() {
    // One after the other: both are counted in the whole process.
    leave_nothing(Arc::new(Engine::new().resolve_mdns(false))).await;
    leave_nothing(Arc::new(WebRtcRs::new().resolve_mdns(false))).await;
}

async fn leave_nothing(stack: Arc<dyn Stack>) {
    drop(connected(&stack).await);
    let left = async |descriptors_before: usize, tasks_before: usize| {
        while descriptors() > descriptors_before || tasks() > tasks_before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // A runtime has descriptors of its own; tasks must all go.
    patiently("the first to go", left(usize::MAX, 0)).await;
    let before = (descriptors(), tasks());
    for number in 0..200 {
        match number % 5 {
            0 => drop(two(&stack).await),
            1 => {
                let (caller, _answerer) = two(&stack).await;
                caller.connection.create_offer().await.unwrap();
            }
            2 => {
                let (mut caller, mut answerer) = two(&stack).await;
                negotiate(&mut caller, &mut answerer).await;
                // Dropped at another point of the handshake each time.
                tokio::time::sleep(Duration::from_millis(number / 5)).await;
            }
            3 => {
                // A future of `open` that is dropped half way.
                let opening = stack.open(farlink::peer::PeerConfig::default());
                let _ = tokio::time::timeout(Duration::ZERO, opening).await;
            }
            _ => drop(connected(&stack).await),
        }
    }
    if tokio::time::timeout(Duration::from_secs(20), left(before.0, before.1)).await.is_err() {
        panic!("{before:?} descriptors and tasks became {:?}", (descriptors(), tasks()));
    }
}
