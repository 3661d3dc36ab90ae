//! What a reset costs, and what it leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use farlink::Channel;
use farlink::proto::motor::SetPowerRequest;
use farlink::sessions::SessionsClient;
use tokio::runtime::{Handle, Runtime};
use tower_service::Service as _;

use super::figures::Spread;
use super::wire::{AtOnce, Book, SET_POWER, Wire, request};
use super::{one_thread, two_threads};

const RESETS: u64 = 1000;

pub(crate) fn rows() {
    println!("\n{RESETS} resets of a live session (goal C26: < 1 us, no task left)");
    row("one thread", &one_thread());
    row("two threads", &two_threads());
}

fn row(name: &str, runtime: &Runtime) {
    let (times, left) = runtime.block_on(async {
        let book = Arc::new(Book::default());
        let channel = Channel::from_transport(Wire::new(AtOnce::new(&book), None));
        let client = SessionsClient::new(channel);
        let before = Handle::current().metrics().num_alive_tasks();
        let mut times = Vec::new();
        for _ in 0..RESETS {
            let call = client.channel().call(request(SET_POWER, &SetPowerRequest::default()));
            call.await.expect("a robot that answers");
            let began = Instant::now();
            client.reset();
            times.push(began.elapsed());
        }
        assert_eq!(book.starts.load(Ordering::Relaxed), RESETS);
        tokio::time::sleep(Duration::from_millis(50)).await;
        (times, Handle::current().metrics().num_alive_tasks() - before)
    });
    println!("{name:<22} {}  tasks left {left}", Spread::of(times));
}
