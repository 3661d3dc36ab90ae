//! Real relays.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::coturn::Turn;
use super::driven::Driven;
use crate::peer::engine::gathering::{Leg, Why};
use crate::peer::engine::sockets::Trust;
use crate::peer::{CandidateKind, IceServer};

fn alice(url: &str) -> Vec<IceServer> {
    vec![IceServer::with_credential(url, "alice", "wonder").unwrap()]
}

/// Each leg: what it is, its URL.
fn legs(turn: &Turn) -> [(Leg, String); 3] {
    [(Leg::Udp, turn.udp_url()), (Leg::Tcp, turn.tcp_url()), (Leg::Tls, turn.tls_url())]
}

/// Whether payloads of every kind and length get from one relay to the other and back.
async fn talk(a: &mut Driven, b: &mut Driven) {
    let (at_a, at_b) = (a.relayed(), b.relayed());
    // STUN first, as ICE does, and again: what arrives before the other's permission is there is lost.
    while a.received.is_empty() || b.received.is_empty() {
        a.send(at_b, &[0, 1, 2, 3]);
        b.send(at_a, &[0, 1, 2, 3, 4]);
        let both = Driven::both(a, b, |a, b| !a.received.is_empty() && !b.received.is_empty());
        let _ = tokio::time::timeout(Duration::from_millis(100), both).await;
    }
    // DTLS then, which gets a channel, of lengths that need padding in a stream.
    for length in 1..40_u8 {
        let payload: Vec<u8> = (0..length).map(|byte| byte ^ 0x16).collect();
        let payload = if payload[0] < 4 { vec![0x17; length.into()] } else { payload };
        a.received.clear();
        b.received.clear();
        a.send(at_b, &payload);
        Driven::both(a, b, |_, b| !b.data().is_empty()).await;
        assert_eq!(b.data(), [&(at_b, at_a, payload.clone())]);
        b.send(at_a, &payload);
        Driven::both(a, b, |a, _| !a.data().is_empty()).await;
        assert_eq!(a.data(), [&(at_a, at_b, payload)]);
    }
    // In bursts, which a stream cuts and joins. coturn drops some of what goes into a stream.
    let large = vec![0x17; 1201];
    b.received.clear();
    while b.received.len() < 50 {
        let before = b.received.len();
        for _ in 0..10 {
            a.send(at_b, &large);
        }
        Driven::both(a, b, |_, b| b.received.len() > before).await;
    }
    assert!(b.received.iter().all(|(_, from, payload)| *from == at_a && *payload == large));
}

#[tokio::test]
async fn two_relays_talk_to_each_other_over_every_pair_of_legs() {
    let Some(turn) = Turn::start(None) else { return };
    for (leg_a, url_a) in legs(&turn) {
        for (leg_b, url_b) in legs(&turn) {
            let began = Instant::now();
            let mut a = Driven::gathered(alice(&url_a), turn.trust()).await;
            let gathered = began.elapsed();
            let mut b = Driven::gathered(alice(&url_b), turn.trust()).await;
            assert_eq!((a.relay().unwrap().leg, b.relay().unwrap().leg), (Some(leg_a), Some(leg_b)));
            talk(&mut a, &mut b).await;
            eprintln!("{leg_a} to {leg_b}: gathered in {gathered:?}, talked after {:?}", began.elapsed());
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_apart_on_every_leg() {
    let Some(turn) = Turn::start(None) else { return };
    for (leg, url) in legs(&turn) {
        let servers = vec![IceServer::with_credential(&url, "alice", "hush").unwrap()];
        let driven = Driven::gathered(servers, turn.trust()).await;
        assert_eq!(driven.why(), Some(&Why::Unauthorized), "{leg}");
        assert!(driven.relay().is_none() && !format!("{:?}", driven.failures).contains("hush"));
    }
}

/// What `--use-auth-secret` takes: the user says until when, the password is a MAC of it.
fn time_limited(url: &str, until: SystemTime) -> Vec<IceServer> {
    let user = format!("{}:me", until.duration_since(UNIX_EPOCH).unwrap().as_secs());
    let openssl = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$0\" | openssl dgst -sha1 -hmac north -binary | openssl base64", &user])
        .output()
        .unwrap();
    let password = String::from_utf8(openssl.stdout).unwrap().trim().to_owned();
    vec![IceServer::with_credential(url, user, password).unwrap()]
}

#[tokio::test]
async fn time_limited_users_work_until_they_expire() {
    let Some(turn) = Turn::start(Some("north")) else { return };
    let hour = Duration::from_secs(3600);
    let valid = time_limited(&turn.udp_url(), SystemTime::now() + hour);
    assert!(Driven::gathered(valid, turn.trust()).await.relay().is_some());
    let expired = time_limited(&turn.udp_url(), SystemTime::now() - hour);
    let driven = Driven::gathered(expired, turn.trust()).await;
    assert_eq!(driven.why(), Some(&Why::Unauthorized));
}

#[tokio::test]
async fn a_certificate_of_nobody_is_told_apart() {
    let Some(turn) = Turn::start(None) else { return };
    let (other, url) =
        (rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap(), turn.tls_url());
    let trust = Trust::pem(other.cert.pem().as_bytes()).unwrap();
    let driven = Driven::gathered(alice(&url), trust).await;
    assert!(
        matches!(driven.why(), Some(Why::Connect(why)) if why.contains("certificate")),
        "{:?}",
        driven.why()
    );
}

#[tokio::test]
async fn a_relay_whose_server_is_killed_is_told_over_a_stream() {
    let Some(mut turn) = Turn::start(None) else { return };
    for url in [turn.tcp_url(), turn.tls_url()] {
        let mut driven = Driven::gathered(alice(&url), turn.trust()).await;
        let relayed = driven.relayed();
        if url == turn.tls_url() {
            turn.kill();
            driven.until(|driven| !driven.failures.is_empty()).await;
            assert!(matches!(driven.why(), Some(Why::Lost(_))), "{:?}", driven.why());
            assert_eq!(driven.failures[0].relay, Some(relayed));
        }
    }
    let driven = Driven::gathered(alice(&turn.tcp_url()), turn.trust()).await;
    assert!(matches!(driven.why(), Some(Why::Connect(_))), "{:?}", driven.why());
}

#[tokio::test]
async fn a_server_that_is_asked_where_it_sees_us_says_so() {
    let Some(turn) = Turn::start(None) else { return };
    let driven = Driven::gathered(vec![turn.stun()], turn.trust()).await;
    // On loopback it sees what we are: no candidate beside the host's, and no failure.
    assert_eq!(driven.candidates.len(), 1);
    assert_eq!((driven.candidates[0].kind, driven.failures.len()), (CandidateKind::Host, 0));
}

#[tokio::test]
async fn closing_frees_the_relay_on_its_server() {
    let Some(turn) = Turn::start(None) else { return };
    for (leg, url) in legs(&turn) {
        let mut first = Driven::gathered(alice(&url), turn.trust()).await;
        let relayed = first.relayed();
        assert!(UdpSocket::bind(relayed).is_err(), "{leg}: {relayed} is not the relay's");
        first.gatherer.close(Instant::now());
        first.until(|first| first.gatherer.is_over()).await;
        let began = Instant::now();
        // coturn takes its time, about a second.
        while let Err(error) = UdpSocket::bind(relayed) {
            assert!(began.elapsed() < Duration::from_secs(10), "{leg}: {relayed} is still there: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        eprintln!("{leg}: free after {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_user_with_too_many_relays_is_told_so() {
    let Some(turn) = Turn::start_with(None, &["--user-quota=1"]) else { return };
    let first = Driven::gathered(alice(&turn.udp_url()), turn.trust()).await;
    first.relayed();
    let second = Driven::gathered(alice(&turn.udp_url()), turn.trust()).await;
    assert_eq!(second.why(), Some(&Why::Quota));
}

#[tokio::test]
async fn what_the_server_forbids_is_only_lost() {
    let Some(turn) = Turn::start_with(None, &["--denied-peer-ip=10.0.0.0-10.255.255.255"]) else { return };
    let mut a = Driven::gathered(alice(&turn.udp_url()), turn.trust()).await;
    let mut b = Driven::gathered(alice(&turn.udp_url()), turn.trust()).await;
    let forbidden: SocketAddr = "10.1.2.3:4".parse().unwrap();
    let (now, relayed) = (Instant::now(), a.relayed());
    assert!(a.gatherer.permit(now, relayed, forbidden));
    assert!(!a.gatherer.permit(now, relayed, "[2001:db8::1]:4".parse().unwrap()));
    a.send(forbidden, &[0, 1]);
    talk(&mut a, &mut b).await;
    assert!(a.failures.is_empty());
}
