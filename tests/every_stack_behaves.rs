//! What each WebRTC stack promises to the rest of the library, one test per promise and stack.

#![allow(clippy::unwrap_used)]
// Some promises are for stacks over a network.
#![cfg_attr(not(any(feature = "engine", feature = "webrtc")), allow(dead_code))]

#[path = "common/peers.rs"]
mod peers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use farlink::peer::memory::MemoryStack;
use farlink::peer::{
    Candidate, CandidateKind, Description, MAX_CHANNEL_MESSAGE, PeerConfig, Phase, Role, Stack,
};
use peers::{
    connected, flush, gathered, negotiate, negotiate_at_once, open, opened, patiently, recv, send,
    send_below, two, until, until_phase,
};

fn memory() -> Arc<dyn Stack> {
    Arc::new(MemoryStack::new())
}

#[cfg(feature = "webrtc")]
fn webrtc_rs() -> Arc<dyn Stack> {
    Arc::new(farlink::peer::webrtc_rs::WebRtcRs::new().resolve_mdns(false))
}

#[cfg(feature = "engine")]
fn engine() -> Arc<dyn Stack> {
    Arc::new(farlink::peer::engine::Engine::new().resolve_mdns(false))
}

/// Each promise against each stack.
macro_rules! promises {
    (all: $($all:ident),*; over_a_network: $($real:ident),* $(,)?) => {
        mod memory_stack {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $all() {
                super::$all(super::memory()).await;
            })*
        }
        #[cfg(feature = "engine")]
        mod engine_stack {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $all() {
                super::$all(super::engine()).await;
            })*
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $real() {
                super::$real(super::engine()).await;
            })*
        }
        #[cfg(feature = "webrtc")]
        mod webrtc_rs_stack {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $all() {
                super::$all(super::webrtc_rs()).await;
            })*
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $real() {
                super::$real(super::webrtc_rs()).await;
            })*
        }
    };
}

promises![
    all: it_opens_with_trickled_candidates,
    it_opens_with_candidates_in_the_descriptions,
    it_opens_with_only_the_callers_trickled_candidates,
    both_sides_speak_first,
    no_first_message_is_lost,
    messages_of_every_size_arrive_in_order_both_ways,
    thousands_of_small_messages_arrive_in_order,
    a_slow_reader_slows_the_sender_and_loses_nothing,
    poll_ready_keeps_to_its_limit,
    an_idle_channel_is_ready_at_a_limit_of_zero,
    flushed_means_the_peer_has_it,
    a_close_is_seen_by_the_peer,
    a_drop_is_seen_by_the_peer,
    what_was_flushed_before_a_close_is_still_read,
    this_side_sees_its_own_close,
    closing_twice_or_before_negotiating_does_no_harm,
    bad_candidates_harm_nothing,
    candidates_may_come_before_the_description_and_after_connecting,
    the_candidates_end_and_are_in_the_description,
    the_state_reaches_connected_with_a_path,
    a_description_out_of_turn_is_an_error_that_harms_nothing,
    garbage_descriptions_are_errors,
    stats_count_bytes;
    over_a_network: the_answerer_may_be_passive,
    a_stranger_with_another_certificate_is_refused,
    dead_and_unusable_servers_delay_no_host_candidate,
    an_offer_with_media_is_answered_without_it,
];

async fn it_opens_with_trickled_candidates(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = connected(&stack).await;
    send(&mut caller.channel, "hello").await.unwrap();
    assert_eq!(recv(&mut answerer.channel).await.unwrap(), "hello");
}

async fn it_opens_with_candidates_in_the_descriptions(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = two(&stack).await;
    negotiate_at_once(&mut caller, &mut answerer).await;
    opened(&mut caller, &mut answerer).await;
    send(&mut answerer.channel, "hello").await.unwrap();
    assert_eq!(recv(&mut caller.channel).await.unwrap(), "hello");
}

/// What micro-rdk does: it reads no candidates in the offer. It answers with its own.
async fn it_opens_with_only_the_callers_trickled_candidates(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = two(&stack).await;
    let offer = caller.connection.create_offer().await.unwrap();
    let answer = answerer.connection.accept_offer(without_candidates(&offer)).await.unwrap();
    caller.connection.set_answer(without_candidates(&answer)).await.unwrap();
    for candidate in gathered(&mut caller).await {
        answerer.connection.add_remote_candidate(candidate).await.unwrap();
    }
    opened(&mut caller, &mut answerer).await;
}

fn without_candidates(description: &Description) -> Description {
    let lines = description.sdp.lines().filter(|line| !line.contains("candidate"));
    let sdp = lines.map(|line| format!("{line}\r\n")).collect();
    Description { kind: description.kind, sdp }
}

async fn both_sides_speak_first(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = connected(&stack).await;
    for number in 0..100_u32 {
        send(&mut caller.channel, number.to_be_bytes().to_vec()).await.unwrap();
        send(&mut answerer.channel, number.to_be_bytes().to_vec()).await.unwrap();
    }
    for number in 0..100_u32 {
        let (one, other) = tokio::join!(recv(&mut caller.channel), recv(&mut answerer.channel));
        assert_eq!(*one.unwrap(), number.to_be_bytes());
        assert_eq!(*other.unwrap(), number.to_be_bytes());
    }
}

/// Each side sends at the instant its channel opens, and reads only then: 200 connections, 8 at a time.
async fn no_first_message_is_lost(stack: Arc<dyn Stack>) {
    let mut running = tokio::task::JoinSet::new();
    for number in 0..200 {
        if running.len() == 8 {
            running.join_next().await.unwrap().unwrap();
        }
        let stack = Arc::clone(&stack);
        running.spawn(async move {
            let (mut caller, mut answerer) = two(&stack).await;
            match number % 2 {
                0 => negotiate(&mut caller, &mut answerer).await,
                _ => negotiate_at_once(&mut caller, &mut answerer).await,
            }
            let speak = async |mut peer: farlink::peer::Peer| {
                patiently("opening", open(&mut peer.channel)).await.unwrap();
                peer.channel.send(Bytes::from_static(b"first")).unwrap();
                assert_eq!(recv(&mut peer.channel).await.unwrap(), "first");
                flush(&mut peer.channel).await.unwrap();
                peer
            };
            let _peers = tokio::join!(speak(caller), speak(answerer));
        });
    }
    running.join_all().await;
}

async fn messages_of_every_size_arrive_in_order_both_ways(stack: Arc<dyn Stack>) {
    let (mut from, mut to) = connected(&stack).await;
    let sizes = [1, 2, 1_199, 1_200, 16 * 1024, 1, MAX_CHANNEL_MESSAGE - 1, MAX_CHANNEL_MESSAGE, 3];
    for _ in 0..2 {
        for (mark, size) in sizes.into_iter().enumerate() {
            send(&mut from.channel, vec![mark as u8; size]).await.unwrap();
            send(&mut to.channel, vec![mark as u8; size]).await.unwrap();
        }
        for (mark, size) in sizes.into_iter().enumerate() {
            let both = async { tokio::join!(recv(&mut from.channel), recv(&mut to.channel)) };
            for message in <[_; 2]>::from(both.await) {
                let message = message.unwrap();
                assert_eq!(message.len(), size);
                assert!(message.iter().all(|byte| usize::from(*byte) == mark));
            }
        }
    }
}

async fn thousands_of_small_messages_arrive_in_order(stack: Arc<dyn Stack>) {
    const COUNT: u32 = 5_000;
    let (mut caller, answerer) = connected(&stack).await;
    let reading = tokio::spawn(async move {
        let mut answerer = answerer;
        for number in 0..COUNT {
            assert_eq!(*recv(&mut answerer.channel).await.unwrap(), number.to_be_bytes());
        }
        answerer // Not dropped here, which would close before the last acknowledgement.
    });
    for number in 0..COUNT {
        patiently("sending", send(&mut caller.channel, number.to_be_bytes().to_vec())).await.unwrap();
    }
    patiently("flushing", flush(&mut caller.channel)).await.unwrap();
    reading.await.unwrap();
}

async fn a_slow_reader_slows_the_sender_and_loses_nothing(stack: Arc<dyn Stack>) {
    const LIMIT: usize = 256 * 1024;
    const SIZE: usize = 16 * 1024;
    /// What stacks may hold on both sides beside `LIMIT`: a window, and what is under way.
    const HELD: usize = 3 << 20;
    let (mut caller, mut answerer) = connected(&stack).await;
    let mut sent = 0_u32;
    loop {
        let mut message = vec![0; SIZE];
        message[..4].copy_from_slice(&sent.to_be_bytes());
        let sending = send_below(&mut caller.channel, LIMIT, message);
        match tokio::time::timeout(Duration::from_millis(500), sending).await {
            Ok(result) => result.unwrap(),
            Err(_) => break,
        }
        sent += 1;
        assert!(sent as usize * SIZE < LIMIT + HELD, "{sent} messages and no end");
    }
    assert!(sent > 16 && caller.channel.buffered() >= LIMIT);
    let read = async {
        for number in 0..sent {
            assert_eq!(recv(&mut answerer.channel).await.unwrap()[..4], number.to_be_bytes());
        }
    };
    let ((), flushed) = tokio::join!(read, patiently("flushing", flush(&mut caller.channel)));
    flushed.unwrap();
    assert_eq!(caller.channel.buffered(), 0);
}

async fn poll_ready_keeps_to_its_limit(stack: Arc<dyn Stack>) {
    const LIMIT: usize = 4_096;
    let (mut caller, answerer) = connected(&stack).await;
    let reading = tokio::spawn(async move {
        let mut answerer = answerer;
        for _ in 0..500 {
            assert_eq!(recv(&mut answerer.channel).await.unwrap().len(), 1_000);
        }
        answerer
    });
    for _ in 0..500 {
        let ready = std::future::poll_fn(|cx| caller.channel.poll_ready(cx, LIMIT));
        patiently("getting ready", ready).await.unwrap();
        assert!(caller.channel.buffered() < LIMIT);
        caller.channel.send(Bytes::from(vec![7; 1_000])).unwrap();
    }
    patiently("flushing", flush(&mut caller.channel)).await.unwrap();
    reading.await.unwrap();
}

async fn an_idle_channel_is_ready_at_a_limit_of_zero(stack: Arc<dyn Stack>) {
    let (mut caller, _answerer) = connected(&stack).await;
    patiently("getting ready", send_below(&mut caller.channel, 0, "x")).await.unwrap();
    patiently("getting ready", send_below(&mut caller.channel, 0, "x")).await.unwrap();
}

async fn flushed_means_the_peer_has_it(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = connected(&stack).await;
    send(&mut caller.channel, vec![1; 50_000]).await.unwrap();
    patiently("flushing", flush(&mut caller.channel)).await.unwrap();
    assert_eq!(caller.channel.buffered(), 0);
    assert_eq!(recv(&mut answerer.channel).await.unwrap().len(), 50_000);
}

/// How soon a close must be seen on loopback. Generous for slow machines; the aim is 100 ms.
const SOON: Duration = Duration::from_secs(1);

async fn a_close_is_seen_by_the_peer(stack: Arc<dyn Stack>) {
    let (caller, mut answerer) = connected(&stack).await;
    let closed = Instant::now();
    caller.connection.close();
    assert_eq!(recv(&mut answerer.channel).await, None);
    until_phase(&mut answerer, Phase::ClosedByPeer).await;
    assert!(closed.elapsed() < SOON, "{:?}", closed.elapsed());
    assert!(send(&mut answerer.channel, "x").await.is_err());
    assert_eq!(recv(&mut answerer.channel).await, None);
}

async fn a_drop_is_seen_by_the_peer(stack: Arc<dyn Stack>) {
    let (mut caller, answerer) = connected(&stack).await;
    drop(answerer);
    let closed = Instant::now();
    until_phase(&mut caller, Phase::ClosedByPeer).await;
    assert_eq!(recv(&mut caller.channel).await, None);
    assert!(closed.elapsed() < SOON, "{:?}", closed.elapsed());
}

async fn what_was_flushed_before_a_close_is_still_read(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = connected(&stack).await;
    for _ in 0..20 {
        send(&mut caller.channel, vec![1; 20_000]).await.unwrap();
    }
    patiently("flushing", flush(&mut caller.channel)).await.unwrap();
    drop(caller);
    until_phase(&mut answerer, Phase::ClosedByPeer).await;
    for _ in 0..20 {
        assert_eq!(recv(&mut answerer.channel).await.unwrap().len(), 20_000);
    }
    assert_eq!(recv(&mut answerer.channel).await, None);
}

async fn this_side_sees_its_own_close(stack: Arc<dyn Stack>) {
    let (mut caller, _answerer) = connected(&stack).await;
    caller.connection.close();
    assert_eq!(recv(&mut caller.channel).await, None);
    assert!(send(&mut caller.channel, "x").await.is_err());
    assert!(flush(&mut caller.channel).await.is_err());
    until_phase(&mut caller, Phase::Closed).await;
}

async fn closing_twice_or_before_negotiating_does_no_harm(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = two(&stack).await;
    caller.connection.create_offer().await.unwrap();
    for peer in [&mut caller, &mut answerer] {
        peer.connection.close();
        peer.connection.close();
        until_phase(peer, Phase::Closed).await;
        assert!(patiently("opening", open(&mut peer.channel)).await.is_err());
    }
    let again = answerer.connection.accept_offer(Description::offer("v=0\r\n")).await;
    assert!(again.is_err());
}

async fn bad_candidates_harm_nothing(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = two(&stack).await;
    let long = "x ".repeat(100_000);
    let bad = [
        "candidate:",
        "candidate:1",
        "garbage",
        "candidate:1 1 udp",
        "candidate:1 1 udp 99999999999999 127.0.0.1 1 typ host",
        "candidate:1 1 udp 1 127.0.0.1 99999 typ host",
        "candidate:1 1 udp 1 999.0.0.1 1 typ host",
        "candidate:1 1 tcp 1 127.0.0.1 9 typ host tcptype active",
        "candidate:1 1 tcp 1 127.0.0.1 9 typ host tcptype passive",
        "candidate:1 1 udp 1 de.ad.local 9 typ host",
        "candidate:1 1 udp 1 fe80::1%eth0 9 typ host",
        "candidate:1 2 udp 1 127.0.0.1 9 typ host",
        "candidate:1 1 udp 1 0.0.0.0 0 typ host",
        "candidate:1 1 udp 1 127.0.0.1 9 typ srflx raddr",
        "candidate:1 1 udp 1 127.0.0.1 9 typ nonsense",
        "candidate:ä 1 ü 1 ö 9 typ host",
        &long,
    ];
    let add = async |peer: &farlink::peer::Peer| {
        for text in bad {
            for sdp_mid in [None, Some(String::new()), Some("nine".to_owned())] {
                let candidate = candidate(text, sdp_mid);
                let _ = peer.connection.add_remote_candidate(candidate).await;
            }
        }
        let garbage = candidate("garbage", None);
        assert!(peer.connection.add_remote_candidate(garbage).await.is_err());
        peer.connection.add_remote_candidate(candidate("", None)).await.unwrap();
    };
    add(&caller).await;
    add(&answerer).await;
    negotiate(&mut caller, &mut answerer).await;
    add(&caller).await;
    opened(&mut caller, &mut answerer).await;
    add(&answerer).await;
    send(&mut caller.channel, "fine").await.unwrap();
    assert_eq!(recv(&mut answerer.channel).await.unwrap(), "fine");
}

fn candidate(text: &str, sdp_mid: Option<String>) -> Candidate {
    Candidate { candidate: text.to_owned(), sdp_mid, ..Candidate::default() }
}

async fn candidates_may_come_before_the_description_and_after_connecting(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = two(&stack).await;
    let offer = caller.connection.create_offer().await.unwrap();
    let mut spellings = Vec::new();
    for candidate in gathered(&mut caller).await {
        let bare = candidate.candidate.trim_start_matches("candidate:").to_owned();
        let odd = Candidate {
            candidate: bare,
            sdp_mid: Some("0".to_owned()),
            sdp_mline_index: Some(7),
            username_fragment: Some(String::new()),
        };
        spellings.extend([candidate, odd]);
    }
    for candidate in &spellings {
        answerer.connection.add_remote_candidate(candidate.clone()).await.unwrap();
    }
    let answer = answerer.connection.accept_offer(without_candidates(&offer)).await.unwrap();
    caller.connection.set_answer(without_candidates(&answer)).await.unwrap();
    opened(&mut caller, &mut answerer).await;
    for candidate in spellings {
        answerer.connection.add_remote_candidate(candidate).await.unwrap();
    }
    send(&mut answerer.channel, "fine").await.unwrap();
    assert_eq!(recv(&mut caller.channel).await.unwrap(), "fine");
}

async fn the_candidates_end_and_are_in_the_description(stack: Arc<dyn Stack>) {
    let (mut caller, _answerer) = two(&stack).await;
    assert_eq!(caller.connection.local_description().await, None);
    caller.connection.create_offer().await.unwrap();
    let found = gathered(&mut caller).await;
    assert!(!found.is_empty());
    let description = caller.connection.local_description().await.unwrap();
    for candidate in &found {
        assert!(candidate.candidate.starts_with("candidate:"));
        assert!(description.sdp.contains(&candidate.candidate));
    }
    assert!(found.iter().any(|candidate| candidate.candidate.contains(" 127.0.0.1 ")));
    assert!(description.sdp.contains("a=end-of-candidates"));
    assert_eq!(Description::decode(&description.encode()).unwrap(), description);
}

async fn the_state_reaches_connected_with_a_path(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = two(&stack).await;
    assert_eq!(caller.state.borrow().phase, Phase::New);
    negotiate(&mut caller, &mut answerer).await;
    for peer in [&mut caller, &mut answerer] {
        let state = until(peer, |state| state.phase == Phase::Connected).await;
        let path = state.path.unwrap();
        assert_eq!((path.local, path.remote.is_direct()), (CandidateKind::Host, true), "{path}");
        assert!(path.local_address.contains(':') && !path.is_relayed());
        // It may move to a better one; then both say so.
        let same = async {
            while peer.connection.stats().await.path != peer.state.borrow().path {
                tokio::task::yield_now().await;
            }
        };
        patiently("the same path in the counters", same).await;
    }
}

trait Direct {
    fn is_direct(&self) -> bool;
}

impl Direct for CandidateKind {
    fn is_direct(&self) -> bool {
        matches!(self, Self::Host | Self::Prflx)
    }
}

async fn a_description_out_of_turn_is_an_error_that_harms_nothing(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = two(&stack).await;
    assert!(answerer.connection.create_offer().await.is_err());
    assert!(caller.connection.set_answer(Description::answer("v=0\r\n")).await.is_err());
    let offer = caller.connection.create_offer().await.unwrap();
    assert!(caller.connection.create_offer().await.is_err());
    assert!(caller.connection.accept_offer(offer.clone()).await.is_err());
    let answer = answerer.connection.accept_offer(offer.clone()).await.unwrap();
    assert!(answerer.connection.accept_offer(offer).await.is_err());
    assert!(answerer.connection.set_answer(answer.clone()).await.is_err());
    caller.connection.set_answer(answer.clone()).await.unwrap();
    assert!(caller.connection.set_answer(answer).await.is_err());
    for candidate in gathered(&mut caller).await {
        answerer.connection.add_remote_candidate(candidate).await.unwrap();
    }
    opened(&mut caller, &mut answerer).await;
}

async fn garbage_descriptions_are_errors(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = two(&stack).await;
    caller.connection.create_offer().await.unwrap();
    for sdp in ["", "v=0", "m=", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", "\u{0}\r\n=\r\na=:"]
    {
        assert!(answerer.connection.accept_offer(Description::offer(sdp)).await.is_err());
        assert!(caller.connection.set_answer(Description::answer(sdp)).await.is_err());
    }
    gathered(&mut caller).await;
    let offer = caller.connection.local_description().await.unwrap();
    answerer.connection.accept_offer(offer).await.unwrap();
    gathered(&mut answerer).await;
    let answer = answerer.connection.local_description().await.unwrap();
    caller.connection.set_answer(answer).await.unwrap();
    opened(&mut caller, &mut answerer).await;
}

async fn stats_count_bytes(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = connected(&stack).await;
    let config = PeerConfig::new(Role::Caller);
    assert!(!config.relay_only);
    send(&mut caller.channel, vec![0; 10_000]).await.unwrap();
    recv(&mut answerer.channel).await.unwrap();
    assert!(caller.connection.stats().await.bytes_sent >= 10_000);
    assert!(answerer.connection.stats().await.bytes_received >= 10_000);
}

/// micro-rdk answers so: the caller starts the DTLS handshake.
async fn the_answerer_may_be_passive(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = two(&stack).await;
    let mut offer = caller.connection.create_offer().await.unwrap();
    offer.sdp = offer.sdp.replace("a=setup:actpass", "a=setup:active");
    let answer = answerer.connection.accept_offer(offer).await.unwrap();
    assert!(answer.sdp.contains("a=setup:passive"));
    caller.connection.set_answer(answer).await.unwrap();
    for candidate in gathered(&mut caller).await {
        answerer.connection.add_remote_candidate(candidate).await.unwrap();
    }
    opened(&mut caller, &mut answerer).await;
    send(&mut caller.channel, "hello").await.unwrap();
    assert_eq!(recv(&mut answerer.channel).await.unwrap(), "hello");
}

async fn a_stranger_with_another_certificate_is_refused(stack: Arc<dyn Stack>) {
    let (mut caller, answerer) = two(&stack).await;
    let offer = caller.connection.create_offer().await.unwrap();
    let mut answer = answerer.connection.accept_offer(offer).await.unwrap();
    let start = answer.sdp.find("sha-256 ").unwrap() + 8;
    answer.sdp.replace_range(start..start + 5, "00:00");
    caller.connection.set_answer(answer).await.unwrap();
    for candidate in gathered(&mut caller).await {
        answerer.connection.add_remote_candidate(candidate).await.unwrap();
    }
    let state = until(&mut caller, |state| state.phase.is_final()).await;
    assert!(matches!(&state.phase, Phase::Failed(why) if why.contains("DTLS")), "{state:?}");
    assert!(patiently("opening", open(&mut caller.channel)).await.is_err());
}

#[cfg(feature = "webrtc")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webrtc_rs_needs_no_ipv4() {
    ipv6_alone_is_enough(webrtc_rs()).await;
}

/// The engine has another IPv6 address than loopback's where there is one; it is kept from it here.
#[cfg(feature = "engine")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_needs_no_ipv4() {
    let engine =
        farlink::peer::engine::Engine::new().use_address(|_, ip| ip == std::net::Ipv6Addr::LOCALHOST);
    ipv6_alone_is_enough(Arc::new(engine)).await;
}

async fn ipv6_alone_is_enough(stack: Arc<dyn Stack>) {
    if tokio::net::UdpSocket::bind("[::1]:0").await.is_err() {
        println!("skipped: this host has no ::1");
        return;
    }
    let (mut caller, mut answerer) = two(&stack).await;
    let offer = without_candidates(&caller.connection.create_offer().await.unwrap());
    let answer = without_candidates(&answerer.connection.accept_offer(offer).await.unwrap());
    caller.connection.set_answer(answer).await.unwrap();
    let (there, back) = (gathered(&mut caller).await, gathered(&mut answerer).await);
    for (found, to) in [(there, &answerer), (back, &caller)] {
        for candidate in found.into_iter().filter(is_ipv6_loopback) {
            to.connection.add_remote_candidate(candidate).await.unwrap();
        }
    }
    opened(&mut caller, &mut answerer).await;
    let path = caller.connection.stats().await.path.unwrap();
    assert!(path.remote_address.starts_with("[::1]:"), "{path}");
}

fn is_ipv6_loopback(candidate: &Candidate) -> bool {
    candidate.candidate.split(' ').nth(4) == Some("::1")
}

/// Nobody answers at that address; the servers must not hold up what is known at once.
async fn dead_and_unusable_servers_delay_no_host_candidate(stack: Arc<dyn Stack>) {
    use farlink::peer::IceServer;
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut config = PeerConfig::new(Role::Caller);
    config.ice_servers = vec![
        IceServer::new(&format!("stun:127.0.0.1:{port}")).unwrap(),
        IceServer::new("turns:127.0.0.1:1").unwrap(),
        IceServer::new("turn:127.0.0.1:1").unwrap(),
    ];
    let mut caller = stack.open(config).await.unwrap();
    caller.connection.create_offer().await.unwrap();
    let first = tokio::time::timeout(Duration::from_secs(2), caller.candidates.recv()).await;
    assert!(first.unwrap().unwrap().candidate.contains("typ host"));
}

/// What a robot with cameras, or a browser, may send before anything else.
async fn an_offer_with_media_is_answered_without_it(stack: Arc<dyn Stack>) {
    let (mut caller, mut answerer) = two(&stack).await;
    let offer = caller.connection.create_offer().await.unwrap();
    let media = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\na=sendrecv\r\n";
    let with_media = Description::offer(offer.sdp + media);
    let answer = answerer.connection.accept_offer(with_media).await.unwrap();
    assert!(answer.sdp.contains("m=video 0 UDP/TLS/RTP/SAVPF 96\r\n"));
    caller.connection.set_answer(answer).await.unwrap();
    for candidate in gathered(&mut caller).await {
        answerer.connection.add_remote_candidate(candidate).await.unwrap();
    }
    opened(&mut caller, &mut answerer).await;
}

/// Of the other stacks one reads no limit, and one has none.
#[cfg(feature = "engine")]
#[tokio::test]
async fn the_engine_ends_with_the_reason_when_a_message_is_longer_than_the_peer_takes() {
    let (mut caller, mut answerer) = two(&engine()).await;
    let offer = caller.connection.create_offer().await.unwrap();
    let mut answer = answerer.connection.accept_offer(offer).await.unwrap();
    let said = format!("a=max-message-size:{MAX_CHANNEL_MESSAGE}");
    assert!(answer.sdp.contains(&said), "{}", answer.sdp);
    answer.sdp = answer.sdp.replace(&said, "a=max-message-size:1000");
    caller.connection.set_answer(answer).await.unwrap();
    for candidate in gathered(&mut answerer).await {
        caller.connection.add_remote_candidate(candidate).await.unwrap();
    }
    opened(&mut caller, &mut answerer).await;
    send(&mut caller.channel, vec![1; 1000]).await.unwrap();
    assert_eq!(recv(&mut answerer.channel).await.unwrap(), vec![1; 1000]);
    caller.channel.send_more("what came before it leaves".into()).unwrap();
    send(&mut caller.channel, vec![2; 1001]).await.unwrap_err();
    send(&mut caller.channel, "what comes later takes no place").await.unwrap_err();
    let failed = until(&mut caller, |state| state.phase.is_final()).await;
    let Phase::Failed(why) = &failed.phase else { panic!("{failed:?}") };
    assert!(why.contains("1001 bytes") && why.contains("at most 1000"), "{why}");
    assert_eq!(recv(&mut answerer.channel).await.unwrap(), "what came before it leaves");
    assert_eq!(recv(&mut answerer.channel).await, None);
}

/// Robots and callers of different builds meet.
#[cfg(all(feature = "engine", feature = "webrtc"))]
mod stacks_meet {
    use super::*;

    async fn meet(calls: Arc<dyn Stack>, answers: Arc<dyn Stack>) {
        for at_once in [false, true] {
            let mut caller = calls.open(PeerConfig::new(Role::Caller)).await.unwrap();
            let mut answerer = answers.open(PeerConfig::new(Role::Answerer)).await.unwrap();
            match at_once {
                true => negotiate_at_once(&mut caller, &mut answerer).await,
                false => negotiate(&mut caller, &mut answerer).await,
            }
            opened(&mut caller, &mut answerer).await;
            for size in [0, 1, 1_200, 16 * 1024, MAX_CHANNEL_MESSAGE] {
                send(&mut caller.channel, vec![1; size]).await.unwrap();
                send(&mut answerer.channel, vec![2; size]).await.unwrap();
                assert_eq!(recv(&mut answerer.channel).await.unwrap(), vec![1; size]);
                assert_eq!(recv(&mut caller.channel).await.unwrap(), vec![2; size]);
            }
            drop(caller);
            until_phase(&mut answerer, Phase::ClosedByPeer).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_engine_calls_webrtc_rs() {
        meet(engine(), webrtc_rs()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn webrtc_rs_calls_the_engine() {
        meet(webrtc_rs(), engine()).await;
    }
}
