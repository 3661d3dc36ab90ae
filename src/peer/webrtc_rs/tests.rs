//! What other implementations do and this one never does, done to it through its own parts.

use std::future::poll_fn;
use std::net::Shutdown;
use std::time::Duration;

use bytes::Bytes;
use webrtc::sctp::chunk::chunk_payload_data::PayloadProtocolIdentifier as Kind;
use webrtc::sctp::stream::Stream;

use super::*;
use crate::peer::{DataChannel as _, Description, PeerConnection as _, Phase, Role};

async fn connected() -> [Parts; 2] {
    connect(None).await
}

async fn connect(tap: Option<oneshot::Sender<Arc<Stream>>>) -> [Parts; 2] {
    let stack = WebRtcRs::new();
    let open = |role| assemble(PeerConfig::new(role), stack.identity().unwrap(), false);
    let mut caller = open(Role::Caller).await.unwrap();
    let mut answerer = open(Role::Answerer).await.unwrap();
    *caller.connection.life.tap.lock().unwrap() = tap;
    let offer = caller.connection.create_offer().await.unwrap();
    let answer = answerer.connection.accept_offer(offer).await.unwrap();
    caller.connection.set_answer(answer).await.unwrap();
    while let Some(candidate) = caller.candidates.recv().await {
        answerer.connection.add_remote_candidate(candidate).await.unwrap();
    }
    for parts in [&mut caller, &mut answerer] {
        poll_fn(|cx| parts.channel.poll_open(cx)).await.unwrap();
    }
    [caller, answerer]
}

async fn send(parts: &mut Parts, message: Bytes) {
    poll_fn(|cx| parts.channel.poll_ready(cx, 1 << 20)).await.unwrap();
    parts.channel.send(message).unwrap();
}

async fn recv(parts: &mut Parts) -> Option<Bytes> {
    let next = poll_fn(|cx| parts.channel.poll_recv(cx));
    tokio::time::timeout(Duration::from_secs(10), next).await.unwrap()
}

/// pion and browsers close a data channel by resetting its stream, right behind the last message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_the_channel_closes_it_after_its_last_message() {
    for reads_late in [false, true] {
        let [mut caller, mut answerer] = connected().await;
        for _ in 0..50 {
            send(&mut caller, Bytes::from(vec![1; 1_000])).await;
        }
        caller.channel.stream().shutdown(Shutdown::Both).await.unwrap();
        if reads_late {
            let closed = answerer.state.wait_for(|state| state.phase == Phase::ClosedByPeer);
            tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap().unwrap();
        }
        for number in 0..50 {
            assert_eq!(recv(&mut answerer).await.map(|message| message.len()), Some(1_000), "{number}");
        }
        assert_eq!(recv(&mut answerer).await, None);
        let closed = answerer.state.wait_for(|state| state.phase == Phase::ClosedByPeer);
        tokio::time::timeout(Duration::from_secs(1), closed).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_message_is_a_message() {
    let [mut caller, mut answerer] = connected().await;
    send(&mut caller, Bytes::new()).await;
    send(&mut caller, Bytes::from_static(b"x")).await;
    assert_eq!(recv(&mut answerer).await.unwrap(), "");
    assert_eq!(recv(&mut answerer).await.unwrap(), "x");
}

/// A robot with cameras offers them on channel 1 once connected (goutils `rpc/wrtc_peer.go`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_on_the_negotiation_channel_are_answered_and_garbage_is_not() {
    let (tap, tapped) = oneshot::channel();
    let [mut caller, mut answerer] = connect(Some(tap)).await;
    let stream = tapped.await.unwrap();
    let say = async |text: &[u8]| {
        stream.write_sctp(&Bytes::copy_from_slice(text), Kind::String).await.unwrap();
    };
    let offer = caller.connection.local_description().await.unwrap();
    say(b"garbage").await;
    say(&[0xff; 60_000]).await;
    say(Description::answer(offer.sdp.clone()).encode().as_bytes()).await;
    say(Description::offer("v=0").encode().as_bytes()).await;
    let media = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=sendonly\r\n";
    for version in 2..4 {
        say(Description::offer(offer.sdp.clone() + media).encode().as_bytes()).await;
        let mut buffer = vec![0; 65_535];
        let read = stream.read_sctp(&mut buffer);
        let (length, kind) = tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
        assert_eq!(kind, Kind::String);
        let answer = Description::decode(std::str::from_utf8(&buffer[..length]).unwrap()).unwrap();
        assert!(answer.sdp.contains("m=video 0 ") && answer.sdp.contains("a=setup:active"));
        assert!(answer.sdp.contains(&format!(" {version} IN IP4")));
    }
    send(&mut caller, Bytes::from_static(b"alive")).await;
    assert_eq!(recv(&mut answerer).await.unwrap(), "alive");
}

/// A sender before a closed window hears when it opens; without that it probes after 1 s, 2 s, 4 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_opens_is_told_to_the_sender() {
    let [mut caller, mut answerer] = connected().await;
    let messages = 70;
    let sending = tokio::spawn(async move {
        for number in 0..messages {
            poll_fn(|cx| caller.channel.poll_ready(cx, 64 * 1024)).await.unwrap();
            caller.channel.send(Bytes::from(vec![number; 16_384])).unwrap();
        }
        poll_fn(|cx| caller.channel.poll_flush(cx)).await.unwrap();
        caller
    });
    while !answerer.connection.life.window.is_closed() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The first probe comes after 1 s, and the second 2 s later.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let began = tokio::time::Instant::now();
    for number in 0..messages {
        assert_eq!(recv(&mut answerer).await.unwrap()[0], number);
    }
    let elapsed = began.elapsed();
    eprintln!("went on after {elapsed:?}");
    assert!(elapsed < Duration::from_millis(900), "the sender learnt of it by probing: {elapsed:?}");
    drop(sending.await.unwrap());
}

/// The DTLS alert is on its way as soon as this side closes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_is_seen_at_once() {
    let mut times = Vec::new();
    for _ in 0..10 {
        let [caller, mut answerer] = connected().await;
        let began = tokio::time::Instant::now();
        caller.connection.close();
        let closed = answerer.state.wait_for(|state| state.phase == Phase::ClosedByPeer);
        tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap().unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    eprintln!("a close is seen after {:?}, at most {:?}", times[5], times[9]);
    assert!(times[5] < Duration::from_millis(100), "{times:?}");
}
