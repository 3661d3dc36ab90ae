//! The rules of reconnecting: when to dial, when to wait, when to give up.
//!
//! Pure: `step(input, now)` returns what is to be done. The driver is `driver`.
//!
//! ```text
//!              Lost                        Dialed
//!  up ──────────────────────▶ dialing ──────────────────▶ up
//!   │ lived < 5 s                │  ▲
//!   └──────────▶ sleeping ◀──────┘  │   DialFailed: too often, or for good ─▶ ended
//!                   └──── Timer ────┘   Close ─▶ ended
//! ```
//!
//! # Invariant
//! One dial at a time, and none once it has ended.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::delay;
use crate::transport::{CloseReason, Reconnecting};

/// A connection that lived so long has shown that dialing is worth it. One that is lost before is dialed again
/// with the back-off of the dials before it.
const LONG_LIFE: Duration = Duration::from_secs(5);

/// The longest pause after the first dial, which is at once; each further one doubles it. A robot that restarts
/// needs a second or two: attempts are few by default, and must not all be over by then.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// The connection is gone, for this reason.
    Lost(CloseReason),
    /// There is another one.
    Dialed,
    /// There is none; `permanent`: it would fail the same way for ever.
    DialFailed { why: String, permanent: bool },
    /// Time passed.
    Timer,
    /// The user wants no more.
    Close,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Dial; say how it went.
    Dial,
    /// Say [`Input::Timer`] at this time.
    SleepUntil(Instant),
    /// Tell everybody that there is no connection.
    Down(Reconnecting),
    /// Use the connection that was dialed, and tell everybody.
    Up { connection: u64, attempts: u32, after: Duration },
    /// End, for this reason. Comes last.
    End(CloseReason),
}

#[derive(Debug)]
enum State {
    /// There is a connection, since then.
    Up(Instant),
    Dialing,
    Sleeping(Instant),
    Ended,
}

/// One channel's life over many connections.
#[derive(Debug)]
pub(super) struct Machine {
    /// Zero for no bound.
    max_attempts: u32,
    rng: fastrand::Rng,
    state: State,
    connection: u64,
    /// Why the last connection was lost, and when.
    lost: CloseReason,
    lost_at: Instant,
    /// Dials that failed since then.
    failed: u32,
    /// Dials since the last connection that lived long, successful or not: the back-off counts these.
    dials: u32,
}

impl Machine {
    /// Begins with a connection.
    pub(super) fn new(max_attempts: u32, rng: fastrand::Rng, now: Instant) -> Self {
        Self {
            max_attempts,
            rng,
            state: State::Up(now),
            connection: 1,
            lost: CloseReason::Local,
            lost_at: now,
            failed: 0,
            dials: 0,
        }
    }

    /// Takes what happened; returns what is to be done, in order.
    pub(super) fn step(&mut self, input: Input, now: Instant) -> Vec<Output> {
        match (&self.state, input) {
            (State::Ended, _) => vec![],
            (_, Input::Close) => self.end(CloseReason::Local),
            (State::Up(since), Input::Lost(reason)) => {
                if now.saturating_duration_since(*since) >= LONG_LIFE {
                    self.dials = 0;
                }
                (self.lost, self.lost_at, self.failed) = (reason, now, 0);
                vec![self.down(None), self.dial_in_time(now)]
            }
            (State::Dialing, Input::Dialed) => {
                self.state = State::Up(now);
                self.connection += 1;
                let after = now.saturating_duration_since(self.lost_at);
                vec![Output::Up { connection: self.connection, attempts: self.failed + 1, after }]
            }
            (State::Dialing, Input::DialFailed { why, permanent }) => {
                self.failed = self.failed.saturating_add(1);
                if permanent || self.failed == self.max_attempts {
                    return self.end(CloseReason::GaveUp { attempts: self.failed, last: why });
                }
                vec![self.down(Some(why)), self.dial_in_time(now)]
            }
            (State::Sleeping(until), Input::Timer) if now < *until => vec![Output::SleepUntil(*until)],
            (State::Sleeping(_), Input::Timer) => vec![self.dial()],
            _ => vec![],
        }
    }

    fn down(&self, failure: Option<String>) -> Output {
        Output::Down(Reconnecting::new(self.failed.saturating_add(1), self.lost.clone(), failure))
    }

    /// The first dial is at once; others wait.
    fn dial_in_time(&mut self, now: Instant) -> Output {
        if self.dials == 0 {
            return self.dial();
        }
        let until = now + delay(FIRST_PAUSE, self.dials, &mut self.rng);
        self.state = State::Sleeping(until);
        Output::SleepUntil(until)
    }

    fn dial(&mut self) -> Output {
        self.state = State::Dialing;
        self.dials = self.dials.saturating_add(1);
        Output::Dial
    }

    fn end(&mut self, reason: CloseReason) -> Vec<Output> {
        self.state = State::Ended;
        vec![Output::End(reason)]
    }
}

#[cfg(test)]
mod tests;
