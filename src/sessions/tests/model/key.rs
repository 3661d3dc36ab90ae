//! When two states are the same: they differ in nothing that anything later depends on.
//!
//! Times are told from now, and all that is further away than anybody looks is the same. Sessions are numbered
//! in the order in which they are come across, connections by whether they are the present one. Callers may
//! change places. Left out is what no rule reads: ids that have expired (callers take both refusals alike), and
//! sessions that nobody knows of.

use std::cmp::Ordering;

use super::state::{Answer, AtRobot, Phase, Request, Scope, Sid, State, Time, What, at, motor_name};

use crate::sessions::robot::model::Book;

pub(super) type Key = Box<[u8]>;

impl State {
    pub(super) fn key(&self, scope: &Scope) -> Key {
        if self.callers.len() < 2 {
            return self.key_in_order(scope, &[0]);
        }
        let alone = |who| {
            let mut key = Writer::new(self, scope);
            key.caller(who);
            key.bytes
        };
        match alone(0).cmp(&alone(1)) {
            Ordering::Less => self.key_in_order(scope, &[0, 1]),
            Ordering::Greater => self.key_in_order(scope, &[1, 0]),
            Ordering::Equal => self.key_in_order(scope, &[0, 1]).min(self.key_in_order(scope, &[1, 0])),
        }
    }

    fn key_in_order(&self, scope: &Scope, order: &[usize]) -> Key {
        let mut key = Writer::new(self, scope);
        for who in order {
            key.caller(*who);
        }
        key.robot();
        key.sessions();
        key.bytes.into()
    }
}

struct Writer<'a> {
    state: &'a State,
    scope: &'a Scope,
    bytes: Vec<u8>,
    seen: Vec<Sid>,
}

impl<'a> Writer<'a> {
    fn new(state: &'a State, scope: &'a Scope) -> Self {
        Self { state, scope, bytes: Vec::with_capacity(96), seen: Vec::new() }
    }

    fn caller(&mut self, who: usize) {
        let caller = &self.state.callers[who];
        let now = self.state.now;
        // Bytes for the counts are apart from all others, so that no two states read alike.
        self.flags(&[caller.alive, caller.up, caller.doubt.is_some(), caller.doubt == Some(now)]);
        self.push(caller.asking.map_or(0, |asking| asking.wants.map_or(1, |motor| motor + 2)));
        self.push(caller.unnoticed.len());
        for connection in &caller.unnoticed {
            self.connection(who, *connection);
        }
        match caller.phase {
            Phase::Idle { last: None } => self.push(0_u8),
            Phase::Idle { last: Some(sid) } => {
                self.push(1_u8);
                self.sid(sid);
            }
            Phase::Live(live) => {
                self.push(2_u8);
                self.sid(live.sid);
                self.push(live.state as u8);
                self.flags(&[live.bound, live.doubted, live.connection == caller.connection]);
                let gap = live.lease.gap(at(now)).as_millis() / 10;
                self.push(gap.min(u128::from(self.scope.window)));
                self.push((now - live.acknowledged).min(self.scope.window + 1));
            }
        }
        self.sorted(caller.requests.iter(), |writer, request| writer.request(who, request));
        self.sorted(caller.answers.iter(), |writer, answer| writer.answer(*answer));
    }

    fn request(&mut self, who: usize, request: &Request) {
        match request.what {
            What::Start { resume: None } => self.push(0_u8),
            What::Start { resume: Some(sid) } => {
                self.push(1_u8);
                self.sid(sid);
            }
            What::Beat { sid } => {
                self.push(2_u8);
                self.sid(sid);
            }
            What::Call { sid, motor } => {
                self.push(3 + motor);
                self.sid(sid);
            }
        }
        self.connection(who, request.connection);
        match request.at_robot {
            AtRobot::No => self.push(0_u8),
            AtRobot::Arrived(arrived) => self.push(2 + self.state.now - arrived),
            AtRobot::Admitted => self.push(1_u8),
        }
        // Nobody asks when a call was sent.
        if !matches!(request.what, What::Call { .. }) {
            self.sent(request.sent);
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Started { sid, sent } => {
                self.push(0_u8);
                self.sid(sid);
                self.sent(sent);
            }
            Answer::Acknowledged { sid, sent } => {
                self.push(1_u8);
                self.sid(sid);
                self.sent(sent);
            }
            Answer::BeatRefused { sid } => {
                self.push(4_u8);
                self.sid(sid);
            }
            Answer::CallRefused { sid, motor } => {
                self.push(5 + motor);
                self.sid(sid);
            }
        }
    }

    fn robot(&mut self) {
        let robot = &self.state.robot;
        for (number, motor) in (0..).zip(&robot.motors) {
            let name = motor_name(number);
            self.flags(&[motor.runs, robot.book.is_stopping(name), robot.seen_over.is_some()]);
            self.maybe(motor.by);
            let holder = robot.book.resources().find(|(resource, _)| *resource == name);
            self.push(u8::from(holder.is_some()));
            self.maybe(holder.and_then(|(_, holder)| holder).map(Sid::of));
        }
        self.push(robot.stops.len());
        for stopping in &robot.stops {
            let wanted = stopping.begun || Book::clone(&robot.book).begin_stop(&stopping.stop);
            self.flags(&[stopping.begun, wanted]);
            self.push(stopping.motor);
            self.sid(stopping.sid);
            self.age(stopping.due);
        }
    }

    fn sessions(&mut self) {
        let mut at = 0;
        while let Some(sid) = self.seen.get(at).copied() {
            at += 1;
            let state = self.state;
            let Some(truth) = state.truth(sid) else {
                self.push(0_u8);
                continue;
            };
            self.flags(&[true, truth.ended, truth.forgotten]);
            self.connection(truth.owner, truth.connection);
            self.age(truth.sign);
            self.time(truth.deadline);
            let Some(session) = state.robot.book.session(sid.uuid()) else { continue };
            self.time(super::state::tick_of(session.deadline));
            let connection = u32::try_from(session.caller.connection % 1_000_000).unwrap();
            self.connection(truth.owner, connection);
            let lost = session.disconnected.map(super::state::tick_of);
            self.push(lost.map_or(0, |lost| 1 + (state.now - lost).min(2)));
        }
    }

    /// Which of the sessions that the key is about.
    fn sid(&mut self, sid: Sid) {
        let place = self.seen.iter().position(|seen| *seen == sid).unwrap_or_else(|| {
            self.seen.push(sid);
            self.seen.len() - 1
        });
        self.push(place);
    }

    fn maybe(&mut self, sid: Option<Sid>) {
        match sid {
            None => self.push(u8::MAX),
            Some(sid) => self.sid(sid),
        }
    }

    fn connection(&mut self, who: usize, connection: u32) {
        let caller = &self.state.callers[who];
        self.push(if connection == caller.connection {
            0
        } else if caller.unnoticed.contains(&connection) {
            1
        } else {
            2
        });
    }

    /// When something was sent: beyond a window it proves nothing.
    fn sent(&mut self, time: Time) {
        self.push((self.state.now - time).min(self.scope.window));
    }

    /// How long ago, as far as anybody cares: nothing tells apart what is older than a window and three ticks.
    fn age(&mut self, time: Time) {
        self.push((self.state.now - time).min(self.scope.window + 3));
    }

    /// A time that may be to come.
    fn time(&mut self, time: Time) {
        let from_now = i64::from(time) - i64::from(self.state.now);
        self.push(from_now.clamp(-4, 100) + 4);
    }

    fn flags(&mut self, flags: &[bool]) {
        self.push(flags.iter().fold(0_u8, |bits, flag| bits << 1 | u8::from(*flag)));
    }

    /// What comes in any order. Numbers of sessions that are new here depend on it, which costs a few states
    /// that are told apart without need.
    fn sorted<T>(&mut self, items: impl ExactSizeIterator<Item = T>, write: impl Fn(&mut Self, T)) {
        self.push(items.len());
        let start = self.bytes.len();
        let mut parts = Vec::new();
        for item in items {
            let before = self.bytes.len();
            write(self, item);
            parts.push(self.bytes[before..].to_vec());
        }
        if parts.len() > 1 {
            parts.sort();
            self.bytes.truncate(start);
            parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        }
    }

    fn push(&mut self, byte: impl TryInto<u8>) {
        self.bytes.push(byte.try_into().unwrap_or(u8::MAX));
    }
}
