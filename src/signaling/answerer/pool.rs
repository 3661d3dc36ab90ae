//! The rules of an answerer as a whole: when to connect, how many `Answer` streams to hold open.
//!
//! Floor 3, pure: `step(input, now)` returns what is to be done; `wake_at` says when to step with
//! [`Input::Tick`]. The driver is `driver`.
//!
//! ```text
//!  down ─Connect─▶ dialing ─Connected─▶ up: idle streams = spare, as long as idle + calls <= max
//!   ▲                 │ failed            │ the last idle stream was lost, or refused 3 times
//!   └── backoff ◀─────┴───────────────────┘
//! ```

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::AnswererState;
use super::bucket::Bucket;
use super::ending::Ending;
use crate::backoff::delay;

/// The longest pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A stream that lived so long has shown that the server works.
const LONG_LIFE: Duration = Duration::from_secs(5);
/// After so many failures in a row a new connection is tried.
const PATIENCE: u32 = 3;
/// How long to stay away when the server has enough answerers, in powers of two of 50 ms: 1.6 s.
const CROWDED: u32 = 6;

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// There is a client.
    Connected,
    /// There is none, for this reason.
    ConnectFailed(String),
    /// The server answered the question.
    Reached,
    /// It did not, for this reason.
    Unreached(String),
    /// Something came on a stream.
    Heard,
    /// The server sends heartbeats.
    Heartbeats,
    /// A stream has an offer.
    Claimed(u64),
    /// A stream's work is over.
    Ended(u64, Ending),
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Make a client.
    Connect,
    /// Open an `Answer` stream with this number; `heartbeats`: this server sends them.
    Open { id: u64, heartbeats: bool },
    /// End this idle stream; no [`Input::Ended`] is expected.
    Close(u64),
    /// Ask the server something, to know that it is there.
    Ask,
    /// Tell the user.
    State(AnswererState),
}

#[derive(Debug, PartialEq, Eq)]
enum Link {
    /// Nothing; connect at this time.
    Down(Instant),
    /// A client is being made.
    Dialing,
    /// There is a client.
    Up,
}

/// All streams of an answerer.
#[derive(Debug)]
pub(super) struct Pool {
    spare: usize,
    max: usize,
    rng: fastrand::Rng,
    link: Link,
    online: bool,
    asking: bool,
    ask_at: Option<Instant>,
    heartbeats: bool,
    idle: HashMap<u64, Instant>,
    calls: HashSet<u64>,
    next_id: u64,
    failures: u32,
    crowded: bool,
    not_before: Instant,
    bucket: Bucket,
}

impl Pool {
    /// `spare` is at least 1 and at most `max`.
    pub(super) fn new(spare: usize, max: usize, rng: fastrand::Rng, now: Instant) -> Self {
        let max = max.max(1);
        let burst = u32::try_from(max.saturating_add(spare)).unwrap_or(u32::MAX);
        Self {
            spare: spare.clamp(1, max),
            max,
            rng,
            link: Link::Down(now),
            online: false,
            asking: false,
            ask_at: None,
            heartbeats: false,
            idle: HashMap::new(),
            calls: HashSet::new(),
            next_id: 0,
            failures: 0,
            crowded: false,
            not_before: now,
            bucket: Bucket::new(burst, now),
        }
    }

    /// When to step with [`Input::Tick`] if nothing happens before.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match self.link {
            Link::Down(at) => Some(at),
            Link::Dialing => None,
            Link::Up => {
                let open = self.wants_stream().then(|| self.not_before.max(self.bucket.next()));
                // Without a stream nothing is asked; opening one steps again.
                let ask = self.ask_at.filter(|_| !self.asking && !self.idle.is_empty());
                open.into_iter().chain(ask).min()
            }
        }
    }

    /// Takes what happened; returns what is to be done, in order.
    pub(super) fn step(&mut self, input: Input, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Connected => {
                self.link = Link::Up;
                (self.online, self.heartbeats) = (false, false);
                (self.asking, self.ask_at) = (false, Some(now));
            }
            Input::ConnectFailed(why) => self.fail(Some(why), true, now, &mut out),
            Input::Reached => {
                self.asking = false;
                // Only now, and only with a stream: a server that refuses us is there, but we are not online.
                if !self.idle.is_empty() {
                    self.go_online(&mut out);
                } else if !self.online {
                    self.ask_at = Some(self.not_before);
                }
            }
            Input::Unreached(why) => {
                self.asking = false;
                // With streams that say nothing either, the connection is as good as none.
                if self.link == Link::Up && !self.online {
                    out.extend(self.idle.drain().map(|(id, _)| Output::Close(id)));
                    self.fail(Some(why), true, now, &mut out);
                }
            }
            Input::Heard => self.go_online(&mut out),
            Input::Heartbeats => self.heartbeats = true,
            Input::Claimed(id) => {
                self.idle.remove(&id);
                self.calls.insert(id);
            }
            Input::Ended(id, ending) => self.ended(id, ending, now, &mut out),
            Input::Tick => {}
        }
        self.act(now, &mut out);
        out
    }

    fn ended(&mut self, id: u64, ending: Ending, now: Instant, out: &mut Vec<Output>) {
        if self.calls.remove(&id) {
            if self.crowded {
                // Its place at the server is free.
                self.crowded = false;
                self.not_before = now;
            }
            if ending == Ending::Answered {
                self.failures = 0;
                // Real callers may come as fast as they like.
                self.bucket.give_back();
            }
            return;
        }
        let Some(opened) = self.idle.remove(&id) else { return };
        if now.saturating_duration_since(opened) > LONG_LIFE {
            self.failures = 0;
            if ending == Ending::Benign {
                let jitter = Duration::from_millis(self.rng.u64(..100));
                self.hold(now + jitter);
                return;
            }
        }
        match ending {
            Ending::Crowded => {
                self.crowded = true;
                let pause = delay(FIRST_PAUSE, CROWDED, &mut self.rng);
                self.hold(now + pause);
            }
            Ending::Lost(why) => self.fail(Some(why), self.idle.is_empty(), now, out),
            Ending::Silent => {
                self.fail(Some("heartbeats stopped".to_owned()), self.idle.is_empty(), now, out);
            }
            Ending::Refused(why) => {
                let give_up = self.idle.is_empty() && self.failures + 1 >= PATIENCE;
                self.fail(Some(why), give_up, now, out);
            }
            Ending::Benign => self.fail(None, false, now, out),
            Ending::Violation => self.fail(Some("signaling broke the protocol".to_owned()), false, now, out),
            Ending::Answered | Ending::Failed | Ending::Stopped => {}
        }
    }

    /// Counts a failure and stays away for a while; with `down`, from the whole connection.
    fn fail(&mut self, why: Option<String>, down: bool, now: Instant, out: &mut Vec<Output>) {
        self.failures = self.failures.saturating_add(1);
        let pause = delay(FIRST_PAUSE, self.failures, &mut self.rng);
        self.hold(now + pause);
        if down {
            self.link = Link::Down(now + pause);
        }
        let Some(why) = why else { return };
        if down || self.idle.is_empty() {
            self.online = false;
            if self.link == Link::Up {
                self.ask_at = Some(self.not_before);
            }
            let (attempt, last_error) = (self.failures, Some(why));
            out.push(Output::State(AnswererState::Connecting { attempt, last_error }));
        }
    }

    fn go_online(&mut self, out: &mut Vec<Output>) {
        if self.link == Link::Up && !std::mem::replace(&mut self.online, true) {
            self.ask_at = None;
            out.push(Output::State(AnswererState::Online));
        }
    }

    fn hold(&mut self, until: Instant) {
        self.not_before = self.not_before.max(until);
    }

    fn wants_stream(&self) -> bool {
        self.idle.len() < self.spare && self.idle.len() + self.calls.len() < self.max
    }

    fn act(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.link {
            Link::Down(at) if now >= at => {
                self.link = Link::Dialing;
                out.push(Output::Connect);
            }
            Link::Up => {
                while self.wants_stream() && now >= self.not_before && self.bucket.take(now) {
                    self.next_id += 1;
                    self.idle.insert(self.next_id, now);
                    out.push(Output::Open { id: self.next_id, heartbeats: self.heartbeats });
                }
                // After the streams, so that an answer means that they got through as well.
                if !self.asking && !self.idle.is_empty() && self.ask_at.is_some_and(|at| now >= at) {
                    (self.asking, self.ask_at) = (true, None);
                    out.push(Output::Ask);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
