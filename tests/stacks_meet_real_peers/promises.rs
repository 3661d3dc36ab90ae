//! What must hold between one of our stacks and a real peer, whoever calls and however candidates travel.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use farlink::peer::{MAX_CHANNEL_MESSAGE, Peer, Phase, Stack};
use serde_json::json;

use crate::peers::{self, flush, open, patiently, recv, send, until_phase, within};
use crate::program::Program;
use crate::remote::{Remote, WAYS, Way, pattern};

/// Opens on both sides.
async fn opened(remote: &mut Remote, stack: &Arc<dyn Stack>, way: Way) -> Peer {
    let began = Instant::now();
    let mut peer = remote.meet(stack, way).await;
    remote.hear("open").await;
    if patiently("opening", open(&mut peer.channel)).await.is_err() {
        panic!("not opened: {:?}", *peer.state.borrow());
    }
    println!("    open after {:?}", began.elapsed());
    peer
}

pub(crate) async fn it_opens(stack: Arc<dyn Stack>, program: &Program) {
    let mut remote = Remote::start(program);
    for way in WAYS {
        let mut peer = opened(&mut remote, &stack, way).await;
        remote.tell(json!({"do": "echo", "times": 1}));
        send(&mut peer.channel, "hello").await.unwrap();
        assert_eq!(recv(&mut peer.channel).await.unwrap(), "hello");
    }
}

pub(crate) async fn messages_of_every_size_arrive_in_order_both_ways(
    stack: Arc<dyn Stack>,
    program: &Program,
) {
    let sizes = [0, 1, 2, 1_199, 1_200, 16 * 1024, 1, 0, 0, MAX_CHANNEL_MESSAGE - 1, MAX_CHANNEL_MESSAGE, 3];
    let mut remote = Remote::start(program);
    for way in WAYS {
        let peer = opened(&mut remote, &stack, way).await;
        both_ways(&mut remote, peer, &sizes, 3).await;
    }
}

pub(crate) async fn ten_thousand_small_messages_arrive_each_way(stack: Arc<dyn Stack>, program: &Program) {
    let mut remote = Remote::start(program);
    for way in WAYS {
        let peer = opened(&mut remote, &stack, way).await;
        both_ways(&mut remote, peer, &[30], 10_000).await;
    }
}

/// How long thousands of messages each way may take. aiortc needs 4 s for ten thousand where nothing else runs.
const EXCHANGE: Duration = Duration::from_secs(90);

/// Both sides send messages of these sizes, so many times over, at once; all arrive, in order.
async fn both_ways(remote: &mut Remote, mut peer: Peer, sizes: &[usize], times: usize) {
    remote.tell(json!({"do": "expect", "sizes": sizes, "times": times}));
    remote.tell(json!({"do": "burst", "sizes": sizes, "times": times}));
    let total = times * sizes.len();
    let (mut sent, mut received) = (0, 0);
    // One task polls the channel, as above the seam: whatever can go on does.
    let exchange = poll_fn(|cx| {
        while sent < total && peer.channel.poll_ready(cx, 1 << 20).map(Result::unwrap).is_ready() {
            peer.channel.send(pattern(sent, sizes[sent % sizes.len()]).into()).unwrap();
            sent += 1;
        }
        while received < total
            && let Poll::Ready(message) = peer.channel.poll_recv(cx)
        {
            let message = message.unwrap_or_else(|| panic!("closed before message {received}"));
            let expected = pattern(received, sizes[received % sizes.len()]);
            assert_eq!(message.len(), expected.len(), "message {received}");
            assert!(message == expected, "message {received} holds other bytes");
            received += 1;
        }
        if sent == total && received == total { Poll::Ready(()) } else { Poll::Pending }
    });
    let began = Instant::now();
    within(EXCHANGE, "both ways", exchange).await;
    println!("    received after {:?}", began.elapsed());
    patiently("flushing", flush(&mut peer.channel)).await.unwrap();
    println!("    flushed after {:?}", began.elapsed());
    remote.hear("got").await;
}

pub(crate) async fn the_largest_messages_come_back(stack: Arc<dyn Stack>, program: &Program) {
    const TIMES: usize = 20;
    let mut remote = Remote::start(program);
    for way in WAYS {
        let mut peer = opened(&mut remote, &stack, way).await;
        remote.tell(json!({"do": "echo", "times": TIMES}));
        let began = Instant::now();
        for number in 0..TIMES {
            let message = pattern(number, MAX_CHANNEL_MESSAGE);
            patiently("sending", send(&mut peer.channel, message.clone())).await.unwrap();
            assert!(recv(&mut peer.channel).await.unwrap() == message, "echo {number}");
        }
        println!("    {:?} for each", began.elapsed() / TIMES as u32);
        remote.hear("echoed").await;
    }
}

/// Each side sends at the instant its channel opens.
pub(crate) async fn no_first_message_is_lost(stack: Arc<dyn Stack>, program: &Program) {
    let mut remote = Remote::start(program);
    let mut took = Vec::new();
    for way in WAYS.into_iter().cycle().take(meetings()) {
        let began = Instant::now();
        let mut peer = remote.meet(&stack, Way { greets: true, ..way }).await;
        remote.tell(json!({"do": "expect", "sizes": [7], "times": 1}));
        let ours = async {
            if patiently("opening", open(&mut peer.channel)).await.is_err() {
                panic!("not opened: {:?}", *peer.state.borrow());
            }
            peer.channel.send(Bytes::from(pattern(0, 7))).unwrap();
            assert_eq!(recv(&mut peer.channel).await.unwrap(), pattern(0, 5));
            took.push(began.elapsed());
            println!("    heard after {:?}", began.elapsed());
            patiently("flushing", flush(&mut peer.channel)).await.unwrap();
        };
        tokio::join!(ours, remote.hear("got"));
    }
    println!("  {}", percentiles(took));
}

/// The same between two of ours.
pub(crate) async fn no_first_message_of_our_own_is_lost(stack: Arc<dyn Stack>) {
    let mut took = Vec::new();
    for number in 0..meetings() {
        let began = Instant::now();
        let (mut caller, mut answerer) = peers::two(&stack).await;
        if number % 2 == 0 {
            peers::negotiate(&mut caller, &mut answerer).await;
        } else {
            peers::negotiate_at_once(&mut caller, &mut answerer).await;
        }
        let greet = async |peer: &mut Peer| {
            if patiently("opening", open(&mut peer.channel)).await.is_err() {
                panic!("meeting {number} not opened: {:?}", *peer.state.borrow());
            }
            peer.channel.send(Bytes::from(pattern(number, 7))).unwrap();
            assert_eq!(recv(&mut peer.channel).await.unwrap(), pattern(number, 7), "meeting {number}");
        };
        tokio::join!(greet(&mut caller), greet(&mut answerer));
        took.push(began.elapsed());
    }
    println!("  {}", percentiles(took));
}

fn meetings() -> usize {
    std::env::var("FARLINK_MEETINGS").map_or(20, |text| text.parse().unwrap())
}

fn percentiles(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    format!("{} times: p50 {:?}, p90 {:?}, p99 {:?}, max {:?}", took.len(), at(50), at(90), at(99), at(100))
}

/// How soon a close must be seen on loopback. Generous for slow machines.
const SOON: Duration = Duration::from_secs(1);

pub(crate) async fn a_close_is_seen_by_the_peer(stack: Arc<dyn Stack>, program: &Program) {
    let mut remote = Remote::start(program);
    for way in WAYS {
        let peer = opened(&mut remote, &stack, way).await;
        let closed = Instant::now();
        peer.connection.close();
        remote.hear("closed").await;
        println!("    seen after {:?}", closed.elapsed());
        assert!(closed.elapsed() < SOON, "{:?}", closed.elapsed());
    }
}

pub(crate) async fn a_drop_is_seen_by_the_peer(stack: Arc<dyn Stack>, program: &Program) {
    let mut remote = Remote::start(program);
    for way in WAYS {
        let peer = opened(&mut remote, &stack, way).await;
        let closed = Instant::now();
        drop(peer);
        remote.hear("closed").await;
        println!("    seen after {:?}", closed.elapsed());
        assert!(closed.elapsed() < SOON, "{:?}", closed.elapsed());
    }
}

pub(crate) async fn the_peers_close_is_seen(stack: Arc<dyn Stack>, program: &Program) {
    let mut remote = Remote::start(program);
    for way in WAYS {
        let mut peer = opened(&mut remote, &stack, way).await;
        let closed = Instant::now();
        remote.tell(json!({"do": "close"}));
        assert_eq!(recv(&mut peer.channel).await, None);
        until_phase(&mut peer, Phase::ClosedByPeer).await;
        println!("    seen after {:?}", closed.elapsed());
        assert!(closed.elapsed() < SOON, "{:?}", closed.elapsed());
    }
}
