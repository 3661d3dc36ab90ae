//! What servers can do to a gatherer, in virtual time.

use std::time::Duration;

use super::script::{Script, Turn, at, binding};
use crate::peer::engine::gathering::stun::{Class, Message, Writer, attribute, method};
use crate::peer::engine::gathering::{Config, Handled, Leg, Via, Why};
use crate::peer::{CandidateKind, IceServer};

const BASE: &str = "10.0.0.2:4000";
const SERVER: &str = "192.0.2.1:3478";
const MS: Duration = Duration::from_millis(1);

fn stun(url: &str) -> IceServer {
    IceServer::new(url).unwrap()
}

/// One TURN server over UDP that has given a relay.
fn with_relay(turn: &Turn) -> Script {
    let mut script = Script::new(vec![Turn::server("turn:t")], &[BASE]);
    script.resolved(0, &[SERVER]);
    turn.serve(&mut script, SERVER);
    assert_eq!(script.of_kind(CandidateKind::Relay).len(), 1);
    script
}

#[test]
fn without_servers_the_addresses_of_the_machine_are_all() {
    let script = Script::new(Vec::new(), &[BASE, "[2001:db8::2]:4000", "127.0.0.1:4000"]);
    assert_eq!(script.of_kind(CandidateKind::Host).len(), 3);
    assert_eq!(script.complete, Some(Duration::ZERO));
}

#[test]
fn every_stun_server_is_asked_from_every_base_that_may_reach_it_at_once() {
    let bases = [BASE, "172.17.0.1:4000", "[2001:db8::2]:4000", "127.0.0.1:4000"];
    let mut script = Script::new(vec![stun("stun:a"), stun("stun:b")], &bases);
    script.resolved(0, &["192.0.2.1:3478", "[2001:db8::9]:3478", "192.0.2.2:3478"]);
    script.resolved(1, &["127.0.0.1:3478"]);
    let sent: Vec<_> = script.sent().into_iter().map(|transmit| (transmit.via, transmit.to)).collect();
    let udp = |base: &str, to: &str| (Via::Udp(at(base)), at(to));
    assert_eq!(
        sent,
        [
            udp(BASE, "192.0.2.1:3478"),
            udp("172.17.0.1:4000", "192.0.2.1:3478"),
            udp("[2001:db8::2]:4000", "[2001:db8::9]:3478"),
            udp("127.0.0.1:4000", "127.0.0.1:3478"),
        ]
    );
}

#[test]
fn what_two_servers_see_alike_is_one_candidate() {
    let mut script = Script::new(vec![stun("stun:a"), stun("stun:b"), stun("stun:c")], &[BASE]);
    for n in 0..3 {
        script.resolved(n, &[&format!("192.0.2.{n}:3478")]);
    }
    let requests = script.sent();
    for (request, seen) in requests.iter().zip(["198.51.100.7:1", "198.51.100.7:1", BASE]) {
        assert_eq!(script.answer(request, binding(request, seen)), Handled::Consumed);
    }
    let srflx = script.of_kind(CandidateKind::Srflx);
    assert_eq!(srflx.len(), 1);
    assert_eq!((srflx[0].address, srflx[0].base), (at("198.51.100.7:1"), at(BASE)));
    assert_eq!((srflx[0].related, script.complete), (Some(at(BASE)), Some(Duration::ZERO)));
    assert!(script.failures.is_empty());
}

#[test]
fn a_dead_stun_server_holds_nobody_up_for_longer_than_patience() {
    let mut script = Script::new(vec![stun("stun:a")], &[BASE]);
    script.resolved(0, &[SERVER]);
    let mut sent = Vec::new();
    while script.complete.is_none() {
        sent.extend(script.sent().iter().map(|_| script.elapsed().as_millis()));
        assert!(script.tick());
    }
    assert_eq!(sent, [0, 100, 300, 700, 1500, 3100, 4700]);
    assert_eq!(script.complete, Some(Duration::from_secs(5)));
    assert_eq!(script.failures[0].why, Why::Silent);
    assert!(!script.tick(), "nothing is left to do");
}

#[test]
fn once_one_stun_server_has_answered_a_dead_one_costs_half_a_second() {
    let mut script = Script::new(vec![stun("stun:a"), stun("stun:dead")], &[BASE]);
    script.resolved(0, &[SERVER]);
    script.resolved(1, &["192.0.2.66:3478"]);
    let request = script.sent_to(SERVER).remove(0);
    script.answer(&request, binding(&request, "198.51.100.7:1"));
    while script.complete.is_none() {
        assert!(script.tick());
    }
    assert_eq!(script.complete, Some(500 * MS));
    assert_eq!((script.failures.len(), &script.failures[0].why), (1, &Why::Silent));
}

#[test]
fn where_udp_is_blocked_a_relay_over_tcp_ends_the_waiting() {
    let servers = vec![stun("stun:a"), Turn::server("turn:t"), Turn::server("turn:t?transport=tcp")];
    let (turn, mut script) = (Turn::new(), Script::new(servers, &[BASE]));
    for n in 0..3 {
        script.resolved(n, &[SERVER]);
    }
    script.pass(200 * MS);
    script.sent();
    let (stream, ..) = script.connect[0];
    script.gatherer.connected(script.now, stream);
    for _ in 0..2 {
        let over_tcp = script.sent().into_iter().find(|each| each.via == Via::Stream(stream)).unwrap();
        let answer = turn.answer(&over_tcp);
        script.answer(&over_tcp, answer);
    }
    while script.complete.is_none() {
        assert!(script.tick());
    }
    assert_eq!(script.complete, Some(700 * MS));
    assert_eq!((script.of_kind(CandidateKind::Relay).len(), script.failures.len()), (1, 2));
    script.pass(Duration::from_secs(20));
    assert!(script.failures.len() == 2 && script.sent().is_empty());
}

#[test]
fn a_resolver_that_never_answers_is_not_waited_for() {
    let mut script = Script::new(vec![stun("stun:a"), Turn::server("turn:t")], &[BASE]);
    while script.complete.is_none() {
        assert!(script.tick());
    }
    assert_eq!(script.complete, Some(Duration::from_secs(5)));
    assert_eq!(script.failures.len(), 2);
    // Its late answer changes nothing.
    script.resolved(0, &[SERVER]);
    script.resolved(1, &[SERVER]);
    assert!(script.sent().is_empty() && script.failures.len() == 2);
}

#[test]
fn a_forged_answer_is_not_taken() {
    let mut script = Script::new(vec![stun("stun:a")], &[BASE]);
    script.resolved(0, &[SERVER]);
    let request = script.sent().remove(0);
    let wrong_id = Writer::new(Class::Success, method::BINDING, [9; 12])
        .add_xor_address(attribute::XOR_MAPPED_ADDRESS, at("6.6.6.6:6"))
        .finish();
    assert_eq!(script.answer(&request, wrong_id), Handled::NotMine);
    let answer = binding(&request, "198.51.100.7:1");
    let (now, base) = (script.now, at(BASE));
    assert_eq!(script.gatherer.handle_datagram(now, base, at("6.6.6.6:3478"), &answer), Handled::NotMine);
    assert_eq!(script.answer(&request, answer), Handled::Consumed);
    assert_eq!(script.of_kind(CandidateKind::Srflx).len(), 1);
}

#[test]
fn a_relay_takes_two_round_trips_and_shows_where_we_are() {
    let turn = Turn::new();
    let mut script = Script::new(vec![Turn::server("turn:t")], &[BASE]);
    script.resolved(0, &[SERVER]);
    assert_eq!(turn.serve(&mut script, SERVER), [method::ALLOCATE; 2]);
    assert_eq!(script.complete, Some(Duration::ZERO));
    let relay = script.of_kind(CandidateKind::Relay)[0];
    assert_eq!((relay.address, relay.base, relay.related), (turn.relayed, turn.relayed, Some(turn.mapped)));
    assert_eq!(script.of_kind(CandidateKind::Srflx)[0].address, turn.mapped);
}

#[test]
fn when_only_relays_are_wanted_there_is_nothing_else() {
    let servers = vec![stun("stun:a"), Turn::server("turn:t")];
    let config = Config { servers, relay_only: true, ..Config::default() };
    let mut script = Script::with(config, &[BASE]);
    script.resolved(0, &[SERVER]);
    Turn::new().serve(&mut script, SERVER);
    assert_eq!(script.candidates.len(), script.of_kind(CandidateKind::Relay).len());
    assert_eq!((script.resolve.len(), script.failures.len()), (1, 1));
}

#[test]
fn every_refusal_has_its_reason() {
    for (code, why) in [
        (401, Why::Unauthorized),
        (441, Why::Unauthorized),
        (486, Why::Quota),
        (508, Why::Full),
        (403, Why::Refused { code: 403, words: "no".to_owned() }),
        (438, Why::Refused { code: 438, words: "no".to_owned() }),
    ] {
        let (turn, mut script) = (Turn::new(), Script::new(vec![Turn::server("turn:t")], &[BASE]));
        script.resolved(0, &[SERVER]);
        let request = script.sent().remove(0);
        let challenge = turn.refuse(&request, 401, None);
        script.answer(&request, challenge);
        for _ in 0..5 {
            for request in script.sent() {
                let refusal = turn.refuse(&request, code, None);
                script.answer(&request, refusal);
            }
        }
        assert_eq!(script.failures.len(), 1, "{code}");
        assert_eq!(script.failures[0].why, why);
        assert_eq!(script.complete, Some(Duration::ZERO));
    }
}

#[test]
fn an_allocation_that_is_not_signed_is_not_believed() {
    let (turn, mut script) = (Turn::new(), Script::new(vec![Turn::server("turn:t")], &[BASE]));
    script.resolved(0, &[SERVER]);
    let request = script.sent().remove(0);
    let challenge = turn.answer(&request);
    script.answer(&request, challenge);
    let request = script.sent().remove(0);
    let forged = Turn { relayed: at("6.6.6.6:6"), ..Turn::new() }.accept(&request).finish();
    assert_eq!(script.answer(&request, forged), Handled::Consumed);
    assert!(script.of_kind(CandidateKind::Relay).is_empty());
    let genuine = turn.answer(&request);
    script.answer(&request, genuine);
    assert_eq!(script.of_kind(CandidateKind::Relay)[0].address, turn.relayed);
}

#[test]
fn an_alternate_server_is_followed_but_not_in_circles() {
    let (turn, mut script) = (Turn::new(), Script::new(vec![Turn::server("turn:t")], &[BASE]));
    script.resolved(0, &[SERVER]);
    let request = script.sent().remove(0);
    let refusal = turn.refuse(&request, 300, Some("192.0.2.2:3478"));
    script.answer(&request, refusal);
    turn.serve(&mut script, "192.0.2.2:3478");
    assert_eq!(script.of_kind(CandidateKind::Relay).len(), 1);

    for (hops, circle) in [(1, SERVER), (3, "192.0.2.99:3478")] {
        let mut script = Script::new(vec![Turn::server("turn:t")], &[BASE]);
        script.resolved(0, &[SERVER]);
        for hop in 0..=hops {
            let next = if hop < hops { format!("192.0.2.1{hop}:3478") } else { circle.to_owned() };
            let request = script.sent().remove(0);
            let refusal = turn.refuse(&request, 300, Some(&next));
            script.answer(&request, refusal);
        }
        assert_eq!(script.failures[0].why, Why::Redirected);
        assert!(script.sent().is_empty());
    }
}

#[test]
fn a_server_with_a_dead_address_is_asked_at_its_next_one() {
    let (turn, mut script) = (Turn::new(), Script::new(vec![Turn::server("turn:t")], &[BASE]));
    script.resolved(0, &["192.0.2.66:3478", SERVER]);
    script.sent();
    script.pass(250 * MS);
    turn.serve(&mut script, SERVER);
    assert_eq!(script.of_kind(CandidateKind::Relay).len(), 1);
    assert_eq!(script.complete, Some(250 * MS));
    // The dead one, should it wake up, has nothing of ours to keep.
    script.pass(Duration::from_secs(10));
    assert!(script.sent_to("192.0.2.66:3478").is_empty() && script.failures.is_empty());
}

#[test]
fn of_two_addresses_that_both_give_a_relay_one_is_deleted() {
    let (turn, mut script) = (Turn::new(), Script::new(vec![Turn::server("turn:t")], &[BASE]));
    script.resolved(0, &["192.0.2.66:3478", SERVER]);
    script.pass(250 * MS);
    let slow = script.sent();
    let (slow, fast): (Vec<_>, Vec<_>) = slow.into_iter().partition(|transmit| transmit.to != at(SERVER));
    let challenge = turn.answer(&slow[0]);
    script.answer(&slow[0], challenge);
    let challenge = turn.answer(&fast[0]);
    script.answer(&fast[0], challenge);
    let signed = script.sent();
    let allocate = signed.iter().find(|transmit| transmit.to == at(SERVER)).unwrap();
    let success = turn.answer(allocate);
    script.answer(allocate, success);
    assert_eq!(script.of_kind(CandidateKind::Relay).len(), 1);
    let deleted = script.sent_to("192.0.2.66:3478");
    let message = Message::read(&deleted[0].bytes).unwrap();
    assert_eq!((message.method, message.number(attribute::LIFETIME)), (method::REFRESH, Some(0)));
}

#[test]
fn an_allocation_is_refreshed_for_as_long_as_it_is_wanted_whatever_the_nonce() {
    let mut turn = Turn::new();
    let mut script = with_relay(&turn);
    for nonce in ["second", "third", "third", "fourth"] {
        turn.nonce = nonce;
        script.pass(Duration::from_secs(541));
        let methods = turn.serve(&mut script, SERVER);
        assert!(
            !methods.is_empty() && methods.iter().all(|method| *method == method::REFRESH),
            "{methods:?}"
        );
    }
    assert!(script.failures.is_empty());
    script.gatherer.close(script.now);
    assert_eq!(turn.serve(&mut script, SERVER), [method::REFRESH]);
    assert!(script.gatherer.is_over());
}

#[test]
fn a_server_that_is_killed_is_noticed_when_the_relay_expires() {
    let turn = Turn::new();
    let mut script = with_relay(&turn);
    let relayed = script.of_kind(CandidateKind::Relay)[0].address;
    script.pass(Duration::from_secs(590));
    assert!(script.failures.is_empty());
    script.pass(Duration::from_secs(15));
    assert!(matches!(script.failures[0].why, Why::Lost(_)));
    assert_eq!(script.failures[0].relay, Some(relayed), "what is gone is named");
    assert_eq!(script.gatherer.poll_timeout(), None);
}

#[test]
fn a_short_lifetime_is_kept() {
    let turn = Turn { lifetime: 30, ..Turn::new() };
    let mut script = with_relay(&turn);
    script.pass(Duration::from_secs(15));
    assert_eq!(turn.serve(&mut script, SERVER), [method::REFRESH]);
}

#[test]
fn the_first_datagrams_wait_for_their_permission_and_are_not_lost() {
    let turn = Turn::new();
    let mut script = with_relay(&turn);
    let (peer, mut out) = (at("198.51.100.9:7"), Vec::new());
    for check in 0..6_u8 {
        let sent = script.gatherer.send_relayed(script.now, turn.relayed, peer, &[0, 1, check], &mut out);
        assert_eq!((sent, out.len()), (None, 0));
    }
    let asked = script.sent();
    assert_eq!(asked.len(), 1, "one permission for all");
    let granted = turn.answer(&asked[0]);
    script.answer(&asked[0], granted);
    let waited = script.sent();
    assert_eq!(waited.len(), 4);
    for (check, transmit) in waited.iter().enumerate() {
        let message = Message::read(&transmit.bytes).unwrap();
        assert_eq!((message.class, message.method), (Class::Indication, method::SEND));
        assert_eq!(message.xor_address(attribute::XOR_PEER_ADDRESS), Some(peer));
        assert_eq!(message.attribute(attribute::DATA), Some(&[0, 1, check as u8][..]));
    }
}

#[test]
fn a_peer_that_is_more_than_a_candidate_gets_a_channel() {
    let turn = Turn::new();
    let mut script = with_relay(&turn);
    let (peer, relay) = (at("198.51.100.9:7"), turn.relayed);
    assert!(script.gatherer.permit(script.now, relay, peer));
    assert_eq!(turn.serve(&mut script, SERVER), [method::CREATE_PERMISSION]);
    let send = |script: &mut Script, payload: &[u8]| {
        let mut out = Vec::new();
        let sent = script.gatherer.send_relayed(script.now, relay, peer, payload, &mut out);
        assert_eq!(sent, Some((Via::Udp(at(BASE)), at(SERVER))));
        out
    };
    assert!(Message::read(&send(&mut script, &[0, 1])).is_some());
    assert!(script.sent().is_empty(), "STUN needs no channel");
    assert!(Message::read(&send(&mut script, &[22, 254])).is_some());
    assert_eq!(turn.serve(&mut script, SERVER), [method::CHANNEL_BIND]);
    assert_eq!(send(&mut script, b"\x16hello"), b"\x40\x00\x00\x06\x16hello");
    // What comes back on the channel is the peer's, wherever it was bound.
    let handled = script.gatherer.handle_datagram(script.now, at(BASE), at(SERVER), b"\x40\x00\x00\x02ok");
    assert_eq!(handled, Handled::Relayed { relay, peer, payload: 4..6 });
    let unknown = script.gatherer.handle_datagram(script.now, at(BASE), at(SERVER), b"\x40\x01\x00\x02ok");
    assert_eq!(unknown, Handled::Consumed);
}

#[test]
fn permissions_and_channels_live_as_long_as_they_are_used() {
    let turn = Turn::new();
    let mut script = with_relay(&turn);
    let (used, unused) = (at("198.51.100.9:7"), at("198.51.100.10:7"));
    for peer in [used, unused] {
        script.gatherer.permit(script.now, turn.relayed, peer);
    }
    turn.serve(&mut script, SERVER);
    let mut asked = Vec::new();
    for _ in 0..30 {
        script.pass(Duration::from_secs(20));
        asked.extend(turn.serve(&mut script, SERVER));
        let sent = script.gatherer.send_relayed(script.now, turn.relayed, used, b"\x16data", &mut Vec::new());
        assert!(sent.is_some());
        asked.extend(turn.serve(&mut script, SERVER));
    }
    let count = |wanted: u16| asked.iter().filter(|method| **method == wanted).count();
    assert_eq!((count(method::CHANNEL_BIND), count(method::REFRESH)), (3, 1));
    assert!(count(method::CREATE_PERMISSION) <= 1, "the channel renews it");
}

#[test]
fn a_datagram_of_somebody_without_permission_is_not_taken() {
    let turn = Turn::new();
    let mut script = with_relay(&turn);
    let friend = at("198.51.100.9:7");
    script.gatherer.permit(script.now, turn.relayed, friend);
    turn.serve(&mut script, SERVER);
    let from = |script: &mut Script, peer| {
        let bytes = Writer::new(Class::Indication, method::DATA, [5; 12])
            .add_xor_address(attribute::XOR_PEER_ADDRESS, peer)
            .add(attribute::DATA, b"hello")
            .finish();
        let handled = script.gatherer.handle_datagram(script.now, at(BASE), at(SERVER), &bytes);
        match handled {
            Handled::Relayed { peer, payload, .. } => Some((peer, bytes[payload].to_vec())),
            _ => None,
        }
    };
    assert_eq!(from(&mut script, friend), Some((friend, b"hello".to_vec())));
    assert_eq!(from(&mut script, at("6.6.6.6:6")), None);
}

#[test]
fn no_peer_makes_a_relay_hold_more_than_its_bound() {
    let turn = Turn::new();
    let mut script = with_relay(&turn);
    for n in 0..1000_u16 {
        let peer = std::net::SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], n));
        script.gatherer.send_relayed(script.now, turn.relayed, peer, &[0; 1200], &mut Vec::new());
    }
    assert_eq!(script.sent().len(), 64);
}

#[test]
fn a_relay_over_a_stream_is_asked_for_once_it_stands() {
    for (url, name) in [("turn:t?transport=tcp", None), ("turns:t", Some("t".to_owned()))] {
        let (turn, mut script) = (Turn::new(), Script::new(vec![Turn::server(url)], &[BASE]));
        script.resolved(0, &[SERVER]);
        let (stream, to, asked) = script.connect[0].clone();
        assert_eq!((to, asked), (at(SERVER), name));
        assert!(script.sent().is_empty());
        script.gatherer.connected(script.now, stream);
        assert_eq!(turn.serve(&mut script, SERVER), [method::ALLOCATE; 2]);
        let relay = script.of_kind(CandidateKind::Relay)[0];
        assert_ne!(relay.leg.unwrap(), Leg::Udp);
        // A request in a stream is not repeated.
        script.pass(Duration::from_secs(540));
        assert_eq!(script.sent().len(), 1);
        script.pass(Duration::from_secs(4));
        assert!(script.sent().is_empty());
    }
}

#[test]
fn a_stream_that_does_not_come_about_is_told_and_its_next_address_tried() {
    let mut script = Script::new(vec![Turn::server("turns:t")], &[BASE]);
    script.resolved(0, &["192.0.2.66:5349", SERVER]);
    script.disconnected(script.connect[0].0, "refused");
    assert_eq!((script.connect[1].1, script.complete), (at(SERVER), None));
    script.disconnected(script.connect[1].0, "broken");
    assert_eq!(script.failures[0].why, Why::Connect("refused".to_owned()));
    assert_eq!(script.complete, Some(Duration::ZERO));
}

#[test]
fn a_stream_that_stands_too_late_is_closed() {
    let mut script = Script::new(vec![Turn::server("turns:t")], &[BASE]);
    script.resolved(0, &[SERVER]);
    let (stream, ..) = script.connect[0];
    script.pass(Duration::from_secs(5));
    assert_eq!((script.complete, script.disconnect.len()), (Some(Duration::from_secs(5)), 1));
    script.gatherer.connected(script.now, stream);
    script.disconnected(stream, "closed as it should be");
    assert_eq!((script.disconnect, script.failures.len()), (vec![stream; 2], 1));
}

#[test]
fn a_stream_that_speaks_something_else_is_given_up() {
    let mut script = Script::new(vec![Turn::server("turn:t?transport=tcp")], &[BASE]);
    script.resolved(0, &[SERVER]);
    let (stream, ..) = script.connect[0];
    script.gatherer.connected(script.now, stream);
    let request = script.sent().remove(0);
    script.answer(&request, b"\xffTTP/1.1 400 Bad Request".to_vec());
    assert_eq!(script.disconnect, [stream]);
    assert!(matches!(script.failures[0].why, Why::Connect(_)));
    assert_eq!(script.complete, Some(Duration::ZERO));
}

#[test]
fn servers_that_cannot_be_used_are_told_and_hold_nobody_up() {
    let mut many = vec![
        stun("stuns:a"),
        stun("turn:no-credentials"),
        Turn::server("turns:b?transport=udp"),
        Turn::server("turns:b?transport=udp"),
    ];
    many.extend((0..20).map(|n| stun(&format!("stun:s{n}"))));
    let script = Script::new(many, &[BASE]);
    assert_eq!((script.resolve.len(), script.failures.len()), (13, 3 + 7));
    let shown: Vec<_> = script.failures.iter().map(ToString::to_string).collect();
    assert!(shown[1].contains("turn:no-credentials:3478") && shown[1].contains("no user name"), "{shown:?}");
}

#[test]
fn a_new_credential_is_used_from_the_next_request_on() {
    let turn = Turn::new();
    let mut script =
        Script::new(vec![IceServer::with_credential("turn:t", "alice", "old").unwrap()], &[BASE]);
    script.resolved(0, &[SERVER]);
    let request = script.sent().remove(0);
    script.gatherer.set_credentials(&[Turn::server("turn:t")]);
    let challenge = turn.answer(&request);
    script.answer(&request, challenge);
    turn.serve(&mut script, SERVER);
    assert_eq!(script.of_kind(CandidateKind::Relay).len(), 1);
}
