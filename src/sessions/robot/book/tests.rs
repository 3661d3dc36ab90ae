use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::sessions::robot::owner::{Owner, Transport};

const W: Duration = Duration::from_secs(2);
const MS: Duration = Duration::from_millis(1);

fn rules() -> Rules {
    Rules { window: W, max_sessions: 1024, max_per_owner: 64, max_resources: 4096, same_host: true }
}

fn book() -> Book {
    Book::new(rules())
}

fn caller(identity: &str, connection: u64) -> Caller {
    let owner = Owner { identity: Some(identity.to_owned()), transport: Transport::WebRtc };
    Caller { owner, connection, host: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))) }
}

fn nobody(host: u8, connection: u64) -> Caller {
    let owner = Owner { identity: None, transport: Transport::Direct };
    Caller { owner, connection, host: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host))) }
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// Starts session number `number` and returns its id.
fn start(book: &mut Book, caller: &Caller, number: u128, now: Instant) -> Uuid {
    let started = book.start(caller, None, id(number), now, now).unwrap();
    assert_eq!(started, Started { id: id(number), resumed: false });
    started.id
}

fn expired(book: &mut Book, now: Instant) -> Vec<Uuid> {
    book.expire(now, no_calls).into_iter().map(|ended| ended.id).collect()
}

/// No session has a call in flight.
fn no_calls(_: Uuid) -> BTreeSet<String> {
    BTreeSet::new()
}

fn names(stops: &[Stop]) -> Vec<&str> {
    stops.iter().map(|stop| stop.resource.as_str()).collect()
}

#[test]
fn a_session_is_gone_exactly_at_its_deadline_and_not_before() {
    let (mut book, t, a) = (book(), Instant::now(), caller("a", 1));
    let session = start(&mut book, &a, 1, t);
    assert_eq!(book.next_deadline(), Some(t + W));
    assert!(expired(&mut book, t + W - MS).is_empty());
    assert_eq!(book.clone().heartbeat(session, &a, t + W - MS, t + W - MS), Ok(W - MS));
    // The beat and the deadline at the same instant, in both orders.
    assert_eq!(book.heartbeat(session, &a, t + W, t + W), Err(Refused::Expired));
    assert_eq!(expired(&mut book, t + W), [session]);
    assert_eq!(book.heartbeat(session, &a, t + W, t + W), Err(Refused::Expired));
    assert_eq!(book.next_deadline(), None);
}

#[test]
fn a_heartbeat_gives_a_window_from_its_arrival_and_never_takes_time_away() {
    let (mut book, t, a) = (book(), Instant::now(), caller("a", 1));
    let session = start(&mut book, &a, 1, t);
    book.heartbeat(session, &a, t + 10 * MS, t + 900 * MS).unwrap();
    assert_eq!(book.session(session).unwrap().deadline, t + 10 * MS + W);
    book.heartbeat(session, &a, t + 5 * MS, t + 901 * MS).unwrap();
    assert_eq!(book.session(session).unwrap().deadline, t + 10 * MS + W);
    assert!(expired(&mut book, t + W).is_empty());
    assert_eq!(expired(&mut book, t + 10 * MS + W), [session]);
}

#[test]
fn a_beat_that_arrived_in_time_counts_however_late_it_is_looked_at() {
    let (mut book, t, a) = (book(), Instant::now(), caller("a", 1));
    let session = start(&mut book, &a, 1, t);
    let late = t + W + W / 2;
    book.heartbeat(session, &a, t + W - MS, late).unwrap();
    assert!(expired(&mut book, late).is_empty(), "what is acknowledged is not overruled");
    // Its own window is over: it must not be acknowledged.
    let later = t + 3 * W;
    assert_eq!(book.heartbeat(session, &a, t + W, later), Err(Refused::Expired));
}

#[test]
fn a_thousand_beats_cost_one_look_a_window() {
    let (mut book, t, a) = (book(), Instant::now(), caller("a", 1));
    let session = start(&mut book, &a, 1, t);
    for beat in 1..=100 {
        book.heartbeat(session, &a, t + beat * MS, t + beat * MS).unwrap();
        assert_eq!(book.next_deadline(), Some(t + W), "beats do not touch the queue");
    }
    assert!(expired(&mut book, t + W).is_empty());
    assert_eq!(book.next_deadline(), Some(t + W + 100 * MS));
}

#[test]
fn an_id_is_good_for_its_owner_only() {
    let (mut book, t) = (book(), Instant::now());
    let (a, b) = (caller("a", 1), caller("b", 2));
    let direct = Caller { owner: Owner { transport: Transport::Direct, ..a.owner.clone() }, ..a.clone() };
    let session = start(&mut book, &a, 1, t);
    for other in [&b, &direct] {
        assert_eq!(book.heartbeat(session, other, t, t), Err(Refused::Unknown));
        assert_eq!(book.admit(session, other, t, t), Err(Refused::Unknown));
        assert_eq!(book.start(other, Some(session), id(2), t, t), Err(NotStarted::Foreign));
    }
    assert_eq!(book.heartbeat(id(9), &a, t, t), Err(Refused::Unknown));
    assert_eq!(expired(&mut book, t + W), [session]);
    assert_eq!(book.admit(session, &a, t + W, t + W), Err(Refused::Expired));
    assert_eq!(book.admit(session, &b, t + W, t + W), Err(Refused::Unknown));
    // What is gone is nobody's: no word about whose it was.
    let fresh = Started { id: id(3), resumed: false };
    assert_eq!(book.start(&b, Some(session), id(3), t + W, t + W), Ok(fresh));
}

#[test]
fn calls_come_over_the_session_s_connection_and_beats_from_its_host() {
    let (mut book, t, a) = (book(), Instant::now(), caller("a", 1));
    let session = start(&mut book, &a, 1, t);
    let second = Caller { connection: 2, ..a.clone() };
    let elsewhere = Caller { host: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..second.clone() };
    assert_eq!(book.admit(session, &second, t, t), Err(Refused::Unknown));
    assert_eq!(book.heartbeat(session, &elsewhere, t, t), Err(Refused::Unknown));
    let nowhere = Caller { host: None, ..a.clone() };
    let unknown = start(&mut book, &nowhere, 7, t);
    let second_unknown = Caller { connection: 2, ..nowhere };
    assert_eq!(book.heartbeat(unknown, &second_unknown, t, t), Err(Refused::Unknown), "no host is no proof");
    assert_eq!(book.end_all(no_calls).len(), 2);
    start(&mut book, &a, 1, t);
    assert_eq!(book.heartbeat(session, &second, t, t), Ok(Duration::ZERO));
    let mut strict = Book::new(Rules { same_host: false, ..rules() });
    start(&mut strict, &a, 1, t);
    assert_eq!(strict.heartbeat(session, &second, t, t), Err(Refused::Unknown));

    let started = book.start(&second, Some(session), id(2), t + MS, t + MS);
    assert_eq!(started, Ok(Started { id: session, resumed: true }));
    assert_eq!(book.session(session).unwrap().deadline, t + MS + W);
    assert_eq!(book.admit(session, &second, t + MS, t + MS), Ok(()));
    assert_eq!(book.admit(session, &a, t + MS, t + MS), Err(Refused::Unknown));
    assert!(book.disconnected(1, None, t + MS).is_empty(), "it is bound to the second one now");
    assert_eq!(book.disconnected(2, None, t + MS), [session]);
    // Its connection is gone, so the owner is sent to resume it.
    assert_eq!(book.admit(session, &a, t + MS, t + MS), Err(Refused::Expired));
    assert_eq!(book.len(), 1);
}

#[test]
fn a_lost_connection_leaves_the_window_or_a_grace() {
    let (mut book, t, a) = (book(), Instant::now(), caller("a", 1));
    let session = start(&mut book, &a, 1, t);
    let mut patient = book.clone();
    patient.disconnected(1, None, t + MS);
    assert!(expired(&mut patient, t + W - MS).is_empty());

    assert_eq!(book.disconnected(1, Some(100 * MS), t + MS), [session]);
    assert_eq!(book.next_deadline(), Some(t + 101 * MS));
    let mut resumed = book.clone();
    let second = Caller { connection: 2, ..a.clone() };
    // What was on its way when the connection was lost gives no time back.
    book.heartbeat(session, &a, t, t + 50 * MS).unwrap();
    assert_eq!(expired(&mut book, t + 101 * MS), [session]);
    resumed.start(&second, Some(session), id(2), t + 100 * MS, t + 100 * MS).unwrap();
    assert!(expired(&mut resumed, t + 101 * MS).is_empty());
    assert_eq!(expired(&mut resumed, t + 100 * MS + W), [session]);
}

#[test]
fn what_came_over_another_connection_counts_though_the_first_was_lost_before_anybody_looked() {
    let (mut book, t, a) = (book(), Instant::now(), caller("a", 1));
    let session = start(&mut book, &a, 1, t);
    let second = Caller { connection: 2, ..a.clone() };
    let (arrived, lost, late) = (t + W - 3 * MS, t + W - 2 * MS, t + W + MS);
    book.disconnected(1, None, lost);
    // It is acknowledged, and so it must count.
    let mut beaten = book.clone();
    assert!(beaten.heartbeat(session, &second, arrived, t + W - MS).is_ok());
    assert_eq!(beaten.session(session).unwrap().deadline, arrived + W);
    // In time to go on with the session, and looked at when its first window is over.
    let resumed = book.start(&second, Some(session), id(2), arrived, late);
    assert_eq!(resumed, Ok(Started { id: session, resumed: true }));
    assert_eq!(expired(&mut book, arrived + W), [session]);
}

#[test]
fn who_moves_a_resource_last_holds_it() {
    let (mut book, t) = (book(), Instant::now());
    let (a, b) = (caller("a", 1), caller("b", 2));
    let first = start(&mut book, &a, 1, t);
    let second = start(&mut book, &b, 2, t + MS);
    assert_eq!(book.associate("m1", first, t + MS), Ok(None));
    assert_eq!(book.associate("m2", first, t + MS), Ok(None));
    assert_eq!(book.associate("m1", second, t + MS), Ok(Some(first)));
    let ended = book.expire(t + W, no_calls);
    assert_eq!(ended.len(), 1);
    assert_eq!(names(&ended[0].stops), ["m2"]);
    assert_eq!(book.resources().collect::<Vec<_>>(), [("m1", Some(second)), ("m2", None)]);
    assert_eq!(book.associate("m1", first, t + W), Err(NotTaken::Expired));
    assert_eq!(book.associate("m1", second, t + W + MS), Err(NotTaken::Expired), "not even if nobody looked");
}

#[test]
fn a_resource_that_somebody_took_is_not_stopped() {
    let (mut book, t) = (book(), Instant::now());
    let a = start(&mut book, &caller("a", 1), 1, t);
    let b = start(&mut book, &caller("b", 2), 2, t + MS);
    book.associate("m1", a, t).unwrap();
    let stop = book.expire(t + W, no_calls).remove(0).stops.remove(0);
    for take in
        [|book: &mut Book, b, now| book.associate("m1", b, now), |book: &mut Book, _, _| book.release("m1")]
    {
        let mut taken = book.clone();
        take(&mut taken, b, t + W).unwrap();
        assert!(!taken.begin_stop(&stop));
    }
    // While it is being stopped nobody takes it.
    assert!(book.begin_stop(&stop));
    assert!(book.is_stopping("m1"));
    assert_eq!(book.associate("m1", b, t + W), Err(NotTaken::Stopping));
    assert_eq!(book.release("m1"), Err(NotTaken::Stopping));
    assert!(!book.end_stop(&stop, true));
    let mut taken = book.clone();
    taken.associate("m1", b, t + W).unwrap();
    assert!(!taken.begin_stop(&stop), "the second stop neither");
    assert!(book.begin_stop(&stop));
    assert!(!book.end_stop(&stop, false));
    assert_eq!(book.resources().count(), 0, "nothing is left of it");
    assert!(!book.begin_stop(&stop));
}

#[test]
fn a_caller_without_a_session_releases_the_resource() {
    let (mut book, t) = (book(), Instant::now());
    let a = start(&mut book, &caller("a", 1), 1, t);
    book.associate("m1", a, t).unwrap();
    assert_eq!(book.release("m1"), Ok(Some(a)));
    assert_eq!(book.release("m1"), Ok(None));
    assert_eq!(book.expire(t + W, no_calls), [Ended { id: a, stops: Vec::new(), underway: Vec::new() }]);
}

#[test]
fn what_a_call_in_flight_moves_is_stopped_with_its_session_unless_another_one_holds_it() {
    let (mut book, t) = (book(), Instant::now());
    let moving = |_| ["m1", "m2", "m3", "m4"].map(str::to_owned).into();
    let a = start(&mut book, &caller("a", 1), 1, t);
    let b = start(&mut book, &caller("b", 2), 2, t);
    let c = start(&mut book, &caller("c", 3), 3, t);
    for resource in ["m1", "m2", "m3", "m4"] {
        book.associate(resource, a, t).unwrap();
    }
    // Another session takes one of them and ends, a third holds one, and a caller without a session comes.
    book.associate("m1", b, t).unwrap();
    book.associate("m2", c, t).unwrap();
    book.release("m3").unwrap();
    for (session, identity, connection) in [(a, "a", 1), (c, "c", 3)] {
        book.heartbeat(session, &caller(identity, connection), t + MS, t + MS).unwrap();
    }
    book.heartbeat(c, &caller("c", 3), t + 2 * MS, t + 2 * MS).unwrap();
    let stop = book.expire(t + W, no_calls).remove(0).stops.remove(0);
    assert!(book.begin_stop(&stop) && !book.end_stop(&stop, false), "m1 stands, and is forgotten");
    let ended = book.expire(t + W + MS, moving).remove(0);
    assert_eq!((ended.id, names(&ended.stops)), (a, vec!["m1", "m3", "m4"]));
    assert_eq!(book.resources().find(|(resource, _)| *resource == "m2"), Some(("m2", Some(c))));
    assert!(book.begin_stop(&ended.stops[0]));
}

#[test]
fn what_is_being_stopped_when_another_session_ends_is_stopped_once_more() {
    let (mut book, t) = (book(), Instant::now());
    let moving = |_| BTreeSet::from(["m1".to_owned()]);
    let a = start(&mut book, &caller("a", 1), 1, t);
    let b = start(&mut book, &caller("b", 2), 2, t + MS);
    book.associate("m1", a, t).unwrap();
    let first = book.expire(t + W, no_calls).remove(0).stops.remove(0);
    // Before it has begun: the later stop is in its place.
    let mut early = book.clone();
    let second = early.expire(t + W + MS, moving).remove(0).stops.remove(0);
    assert!(!early.begin_stop(&first) && early.begin_stop(&second));

    assert!(book.begin_stop(&first));
    let ended = book.expire(t + W + MS, moving);
    assert_eq!(ended, [Ended { id: b, stops: Vec::new(), underway: vec!["m1".to_owned()] }]);
    assert!(book.end_stop(&first, false), "the handler of the later one may have moved it again");
    assert!(book.begin_stop(&first) && !book.end_stop(&first, false));
    assert_eq!(book.resources().count(), 0, "nothing is left of it");
}

#[test]
fn there_is_room_for_so_many_in_all_of_one_owner_and_of_one_host() {
    let (mut book, t) = (book(), Instant::now());
    let mut number = 0;
    let mut fill = |book: &mut Book, caller: &Caller| {
        for _ in 0..64 {
            number += 1;
            start(book, caller, number, t);
        }
    };
    let a = caller("a", 1);
    fill(&mut book, &a);
    assert_eq!(book.start(&a, None, id(5000), t, t), Err(NotStarted::FullForOwner));
    let resumed = book.start(&a, Some(id(1)), id(5000), t, t);
    assert_eq!(resumed, Ok(Started { id: id(1), resumed: true }), "goes on with what it has");
    for host in 1..=15 {
        let caller = nobody(host, host.into());
        fill(&mut book, &caller);
        let more = book.start(&Caller { connection: 99, ..caller }, None, id(5000), t, t);
        assert!(matches!(more, Err(NotStarted::FullForOwner | NotStarted::Full)));
    }
    assert_eq!(book.len(), 1024);
    assert_eq!(book.start(&caller("b", 3), None, id(5000), t, t), Err(NotStarted::Full));
    assert_eq!(expired(&mut book, t + W).len(), 1024);
    assert!(book.payers.is_empty() && book.connections.is_empty());
    assert!(book.start(&a, None, id(5000), t + W, t + W).is_ok());
}

#[test]
fn a_session_cannot_hold_more_than_the_robot_remembers() {
    let (mut book, t) = (Book::new(Rules { max_resources: 2, ..rules() }), Instant::now());
    let a = start(&mut book, &caller("a", 1), 1, t);
    book.associate("m1", a, t).unwrap();
    book.associate("m2", a, t).unwrap();
    assert_eq!(book.associate("m3", a, t), Err(NotTaken::Full));
    assert_eq!(book.associate("m1", a, t), Ok(None));
}

#[test]
fn only_so_many_ids_that_were_good_once_are_remembered() {
    let (mut book, t, a) = (book(), Instant::now(), caller("a", 1));
    for number in 0..4097 {
        let now = t + W * u32::try_from(number).unwrap();
        start(&mut book, &a, number, now);
        assert_eq!(expired(&mut book, now + W).len(), 1);
    }
    let now = t + W * 5000;
    assert_eq!(book.heartbeat(id(0), &a, now, now), Err(Refused::Unknown));
    assert_eq!(book.heartbeat(id(1), &a, now, now), Err(Refused::Expired));
}
