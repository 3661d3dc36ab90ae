//! A relay that is lost under a connection.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::coturn::Turn;
use crate::peer::engine::Engine;
use crate::peer::{IceServer, Peer, PeerConfig, Phase, Role, Stack};

/// What a path has to be silent for before anybody doubts it: without what is tested here nothing moves sooner.
const SILENCE: Duration = Duration::from_secs(3);

/// A caller that uses these relays only, and an answerer without any: open, with all candidates told.
async fn connected(relays: &[&Turn]) -> (Peer, Peer) {
    let engine = Engine::new().resolve_mdns(false);
    let alice = |turn: &&Turn| IceServer::with_credential(&turn.tcp_url(), "alice", "wonder").unwrap();
    let mut config = PeerConfig::new(Role::Caller);
    (config.ice_servers, config.relay_only) = (relays.iter().map(alice).collect(), true);
    let (mut caller, mut answerer) =
        (engine.open(config).await.unwrap(), engine.open(PeerConfig::new(Role::Answerer)).await.unwrap());
    let offer = caller.connection.create_offer().await.unwrap();
    let answer = answerer.connection.accept_offer(offer).await.unwrap();
    caller.connection.set_answer(answer).await.unwrap();
    while let Some(candidate) = caller.candidates.recv().await {
        answerer.connection.add_remote_candidate(candidate).await.unwrap();
    }
    while let Some(candidate) = answerer.candidates.recv().await {
        caller.connection.add_remote_candidate(candidate).await.unwrap();
    }
    for peer in [&mut caller, &mut answerer] {
        poll_fn(|cx| peer.channel.poll_open(cx)).await.unwrap();
    }
    (caller, answerer)
}

async fn says(from: &mut Peer, to: &mut Peer, message: &'static [u8]) {
    from.channel.send(Bytes::from_static(message)).unwrap();
    from.channel.push();
    let got = poll_fn(|cx| to.channel.poll_recv(cx));
    let got = tokio::time::timeout(Duration::from_secs(5), got).await;
    assert_eq!(got.expect("nothing came").as_deref(), Some(message));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_relay_takes_over_long_before_silence_tells_when_the_server_of_one_is_killed() {
    let ranges = [["--min-port=40000", "--max-port=40499"], ["--min-port=40500", "--max-port=40999"]];
    let [Some(one), Some(two)] = ranges.map(|range| Turn::start_with(None, &range)) else { return };
    let (mut caller, mut answerer) = connected(&[&one, &two]).await;
    says(&mut caller, &mut answerer, b"before").await;
    says(&mut answerer, &mut caller, b"before").await;
    let path = caller.state.borrow().path.clone().unwrap();
    let port: u16 = path.local_address.rsplit(':').next().unwrap().parse().unwrap();
    let mut used = if port < 40_500 { one } else { two };
    let began = Instant::now();
    used.kill();
    let moved = caller.state.wait_for(|state| state.path.as_ref() != Some(&path));
    assert_eq!(moved.await.unwrap().phase, Phase::Connected);
    eprintln!("another path after {:?}", began.elapsed());
    says(&mut caller, &mut answerer, b"after").await;
    says(&mut answerer, &mut caller, b"after").await;
    eprintln!("both ways after {:?}", began.elapsed());
    assert!(began.elapsed() < SILENCE, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_only_relay_is_killed_fails_at_once_and_names_it() {
    let Some(mut turn) = Turn::start(None) else { return };
    let (mut caller, _answerer) = connected(&[&turn]).await;
    let began = Instant::now();
    turn.kill();
    let over = caller.state.wait_for(|state| state.phase.is_final()).await.unwrap().phase.clone();
    let Phase::Failed(why) = over else { panic!("{over:?}") };
    assert!(why.contains("the relay in use is lost") && why.contains(&turn.tcp_url()), "{why}");
    assert!(began.elapsed() < SILENCE, "{:?}", began.elapsed());
}
