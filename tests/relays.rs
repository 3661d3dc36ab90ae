//! Real relays: the `webrtc` stack against a TURN server (coturn) on loopback, and against servers that are
//! dead, wrong, or of a kind that it cannot use.
//!
//! Without `turnserver` (Debian: coturn) the tests that need it say so and pass; with
//! `FARLINK_REQUIRE_PEERS=1` they fail.

#![cfg(all(feature = "engine", feature = "webrtc"))]
#![allow(clippy::unwrap_used)]

mod common;
#[macro_use]
#[path = "common/stacks.rs"]
mod stacks;

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::probe::ProbeRequest;
use common::{LONG, Lab, Probe, ROBOT, Signaling, loopback};
use farlink::peer::{Candidate, CandidateKind, IceServer, Peer, PeerConfig, PeerError, Role, Stack};
use farlink::transport::CloseReason;
use farlink::{Channel, DialError, DialOptions};
use futures_core::future::BoxFuture;
use tonic::Code;

on_each_stack! {
    force_relay_goes_through_the_relay_that_signaling_hands_out
    a_robot_may_force_the_relay_too
    a_direct_path_is_preferred_to_a_relay
    a_wrong_password_is_a_failure_that_says_so
    turn_uri_picks_one_of_the_relays
    force_p2p_gathers_no_relay
    a_relay_that_dies_takes_its_connections_with_it
    dead_servers_do_not_delay_a_path_that_needs_none
}

/// coturn, for as long as this lives.
struct Turn {
    child: Child,
    port: u16,
}

impl Turn {
    /// `None` where it is not installed and need not be.
    fn start() -> Option<Self> {
        for _ in 0..5 {
            let port = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap().port();
            let scratch = format!("{}/turn-{}-{port}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
            let spawned = Command::new("turnserver")
                .args(["-n", "--log-file=stdout", "--no-cli", "--no-tcp", "--no-tls", "--no-dtls"])
                .args(["--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--allow-loopback-peers"])
                .args(["--lt-cred-mech", "--realm=lab", "--user=alice:wonder", "--fingerprint"])
                .arg(format!("--listening-port={port}"))
                .arg(format!("--db={scratch}.db"))
                .arg(format!("--pidfile={scratch}.pid"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let Ok(child) = spawned else {
                let required = std::env::var_os("FARLINK_REQUIRE_PEERS").is_some_and(|value| value == "1");
                assert!(!required, "no turnserver: install coturn");
                eprintln!("skipped: no turnserver (Debian: coturn)");
                return None;
            };
            let turn = Self { child, port };
            if turn.answers() {
                return Some(turn);
            }
        }
        panic!("coturn does not start");
    }

    /// Whether it is up, asked by a STUN binding request.
    fn answers(&self) -> bool {
        let socket = UdpSocket::bind(loopback()).unwrap();
        socket.connect(("127.0.0.1", self.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut request = [0; 20];
        request[1] = 1;
        request[4..8].copy_from_slice(&0x2112_a442_u32.to_be_bytes());
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            if socket.send(&request).is_ok() && socket.recv(&mut [0; 512]).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn url(&self) -> String {
        format!("turn:127.0.0.1:{}", self.port)
    }

    fn server(&self) -> IceServer {
        IceServer::with_credential(&self.url(), "alice", "wonder").unwrap()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stack, and which TURN servers each caller was told to use.
#[derive(Debug)]
struct Recorder {
    stack: Arc<dyn Stack>,
    callers: Mutex<Vec<usize>>,
}

impl Recorder {
    fn over(stack: Arc<dyn Stack>) -> Arc<Self> {
        Arc::new(Self { stack, callers: Mutex::default() })
    }
}

impl Stack for Recorder {
    fn open(&self, config: PeerConfig) -> BoxFuture<'static, Result<Peer, PeerError>> {
        if config.role == Role::Caller {
            let relays = config.ice_servers.iter().filter(|server| server.is_turn()).count();
            self.callers.lock().unwrap().push(relays);
        }
        self.stack.open(config)
    }
}

/// Signaling that hands these servers out, and a robot.
async fn lab(stack: Arc<dyn Stack>, servers: Vec<IceServer>) -> Lab {
    Lab::on(Signaling::handing_out(loopback(), servers).await, stack, |robot| robot).await
}

async fn dial(lab: &Lab, change: impl FnOnce(DialOptions) -> DialOptions) -> Result<Channel, DialError> {
    let options = lab.options.clone().ice_servers(Vec::new());
    farlink::dial(ROBOT, change(options)).await
}

async fn works(channel: &Channel) -> Result<(), tonic::Status> {
    let request = ProbeRequest { size: 70_000, ..Default::default() };
    let reply = Probe::client(channel.clone()).unary(request).await?;
    assert_eq!(reply.into_inner().total, 70_000);
    Ok(())
}

/// A port on which nobody answers. Open, so that no ICMP error tells.
fn silence() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind(loopback()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

async fn force_relay_goes_through_the_relay_that_signaling_hands_out(stack: Arc<dyn Stack>) {
    let Some(turn) = Turn::start() else { return };
    let lab = lab(stack, vec![turn.server()]).await;
    let began = Instant::now();
    let channel = dial(&lab, |options| options.force_relay(true)).await.unwrap();
    works(&channel).await.unwrap();
    eprintln!("relayed call after {:?}: {}", began.elapsed(), channel.report().unwrap().to_json());
    let stats = channel.stats().await;
    assert!(stats.is_relayed(), "{stats:?}");
    assert_eq!(stats.path.unwrap().local, CandidateKind::Relay);
}

async fn a_robot_may_force_the_relay_too(stack: Arc<dyn Stack>) {
    let Some(turn) = Turn::start() else { return };
    let signaling = Signaling::handing_out(loopback(), vec![turn.server()]).await;
    let lab = Lab::on(signaling, stack, |robot| robot.force_relay(true)).await;
    for both in [false, true] {
        let channel = dial(&lab, |options| options.force_relay(both)).await.unwrap();
        works(&channel).await.unwrap();
        let path = channel.stats().await.path.unwrap();
        assert_eq!(path.remote, CandidateKind::Relay, "{path}");
    }
}

async fn a_direct_path_is_preferred_to_a_relay(stack: Arc<dyn Stack>) {
    let Some(turn) = Turn::start() else { return };
    let lab = lab(stack, vec![turn.server()]).await;
    let channel = dial(&lab, |options| options).await.unwrap();
    works(&channel).await.unwrap();
    assert!(!channel.stats().await.is_relayed());
}

async fn a_wrong_password_is_a_failure_that_says_so(stack: Arc<dyn Stack>) {
    let Some(turn) = Turn::start() else { return };
    let lab =
        lab(stack, vec![IceServer::with_credential(&turn.url(), "alice", "open-sesame").unwrap()]).await;
    let began = Instant::now();
    let error = dial(&lab, |options| options.force_relay(true)).await.unwrap_err().to_string();
    eprintln!("after {:?}: {error}", began.elapsed());
    // Whoever notices first, the stack or the call, says what to look at.
    assert!(error.contains("TURN server") && error.contains("credential"), "{error}");
    assert!(!error.contains("sesame"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

async fn turn_uri_picks_one_of_the_relays(stack: Arc<dyn Stack>) {
    let Some(turn) = Turn::start() else { return };
    let (_socket, dead) = silence();
    let dead = format!("turn:127.0.0.1:{dead}");
    let stack = Recorder::over(stack);
    let servers = vec![IceServer::with_credential(&dead, "alice", "wonder").unwrap(), turn.server()];
    let lab = lab(Arc::clone(&stack) as _, servers).await;
    let uri = |uri: &str| Some(uri.to_owned());
    let channel = dial(&lab, |options| options.force_relay(true).turn_uri(uri(&turn.url()))).await.unwrap();
    works(&channel).await.unwrap();
    assert!(channel.stats().await.is_relayed());
    let none = dial(&lab, |options| options.force_relay(true).turn_uri(uri("turn:127.0.0.1:1"))).await;
    let error = none.unwrap_err().to_string();
    assert!(error.contains("force_relay needs a TURN server"), "{error}");
    assert_eq!(*stack.callers.lock().unwrap(), [1], "a peer was opened without a relay to use");
}

async fn force_p2p_gathers_no_relay(stack: Arc<dyn Stack>) {
    let Some(turn) = Turn::start() else { return };
    let stack = Recorder::over(stack);
    let lab = lab(Arc::clone(&stack) as _, vec![turn.server()]).await;
    let channel = dial(&lab, |options| options.force_p2p(true)).await.unwrap();
    works(&channel).await.unwrap();
    assert!(!channel.stats().await.is_relayed());
    dial(&lab, |options| options).await.unwrap();
    assert_eq!(*stack.callers.lock().unwrap(), [0, 1]);
}

async fn a_relay_that_dies_takes_its_connections_with_it(stack: Arc<dyn Stack>) {
    let Some(turn) = Turn::start() else { return };
    let lab = lab(stack, vec![turn.server()]).await;
    let channel = dial(&lab, |options| options.force_relay(true)).await.unwrap();
    works(&channel).await.unwrap();
    let request = ProbeRequest { delay_ms: 60_000, ..Default::default() };
    let mut client = Probe::client(channel.clone());
    let call = tokio::spawn(async move { client.unary(request).await });
    drop(turn);
    let began = Instant::now();
    let reason = tokio::time::timeout(LONG, channel.closed()).await.unwrap();
    eprintln!("noticed after {:?}: {reason}", began.elapsed());
    assert!(matches!(reason, CloseReason::Lost(_)), "{reason:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(works(&channel).await.unwrap_err().code(), Code::Unavailable);
}

async fn dead_servers_do_not_delay_a_path_that_needs_none(stack: Arc<dyn Stack>) {
    let (_socket, dead) = silence();
    let servers = vec![
        IceServer::new(&format!("stun:127.0.0.1:{dead}")).unwrap(),
        IceServer::new("stun:nobody.invalid:3478").unwrap(),
        IceServer::with_credential(&format!("turn:127.0.0.1:{dead}"), "alice", "wonder").unwrap(),
    ];
    let lab = lab(stack, servers).await;
    let began = Instant::now();
    let channel = dial(&lab, |options| options).await.unwrap();
    works(&channel).await.unwrap();
    eprintln!("beside dead servers: {:?}", began.elapsed());
    // A STUN server is waited for 5 s, a TURN server longer.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webrtc_rs_leaves_relays_over_tcp_and_tls_out_and_the_rest_still_connects() {
    let stack = Arc::new(farlink::peer::webrtc_rs::WebRtcRs::new());
    let relay = |url| IceServer::with_credential(url, "alice", "wonder").unwrap();
    let lab = lab(stack, vec![relay("turns:127.0.0.1:1"), relay("turn:127.0.0.1:1?transport=tcp")]).await;
    let channel = dial(&lab, |options| options).await.unwrap();
    works(&channel).await.unwrap();
    let error = dial(&lab, |options| options.force_relay(true)).await.unwrap_err().to_string();
    assert!(error.contains("a turn: URL over UDP"), "{error}");
}

/// Passes datagrams on between one peer and a server, and tells which methods of TURN the peer asked for.
async fn overheard(server: u16) -> (u16, tokio::sync::mpsc::UnboundedReceiver<u16>) {
    let here = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let there = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    there.connect(("127.0.0.1", server)).await.unwrap();
    let port = here.local_addr().unwrap().port();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut asked, mut answered, mut peer) = ([0; 2000], [0; 2000], None);
        loop {
            tokio::select! {
                received = here.recv_from(&mut asked) => {
                    let (length, from) = received.unwrap();
                    peer = Some(from);
                    let _ = tell.send(u16::from_be_bytes([asked[0], asked[1]]));
                    there.send(&asked[..length]).await.unwrap();
                }
                received = there.recv(&mut answered) => {
                    // A server that is gone is told by the peer's silence.
                    let (Ok(length), Some(peer)) = (received, peer) else { continue };
                    here.send_to(&answered[..length], peer).await.unwrap();
                }
            }
        }
    });
    (port, told)
}

/// A permission that is asked for with the first check costs that check, or a round trip.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_has_the_peer_let_through_before_anybody_checks() {
    const CREATE_PERMISSION: u16 = 0x0008;
    let Some(turn) = Turn::start() else { return };
    for early in [true, false] {
        let (port, mut asked) = overheard(turn.port).await;
        let server =
            IceServer::with_credential(&format!("turn:127.0.0.1:{port}"), "alice", "wonder").unwrap();
        let mut config = PeerConfig::new(Role::Caller);
        config.ice_servers = vec![server];
        let stack = farlink::peer::engine::Engine::new().resolve_mdns(false);
        let mut caller = stack.open(config).await.unwrap();
        caller.connection.create_offer().await.unwrap();
        let told = Candidate {
            candidate: "candidate:1 1 udp 2130706431 127.0.0.1 9 typ host".to_owned(),
            ..Candidate::default()
        };
        // No answer yet: there is nothing that could be checked.
        if early {
            caller.connection.add_remote_candidate(told.clone()).await.unwrap();
        }
        tokio::time::timeout(LONG, async { while caller.candidates.recv().await.is_some() {} })
            .await
            .unwrap();
        if !early {
            caller.connection.add_remote_candidate(told).await.unwrap();
        }
        tokio::time::timeout(LONG, async { while asked.recv().await.unwrap() != CREATE_PERMISSION {} })
            .await
            .unwrap();
    }
}
