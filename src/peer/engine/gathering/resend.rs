//! When a request is sent again, and when it is given up.
//!
//! Contract: RFC 8489 6.2.1, but for the first interval: half a second is what a network of 1998 needed, and a
//! dial waits for it.

use std::time::{Duration, Instant};

/// The first interval over UDP; each one is twice the one before.
const FIRST: Duration = Duration::from_millis(100);
/// Intervals stop growing here, so that the last of several seconds are not silent.
const LONGEST: Duration = Duration::from_millis(1600);

/// The timer of one request.
#[derive(Debug, Clone)]
pub(super) struct Resend {
    /// `None` over a stream, which loses nothing.
    again: Option<(Instant, Duration)>,
    give_up: Instant,
}

/// What the timer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Again,
    GiveUp,
}

impl Resend {
    /// A request that leaves now and may take `patience`. Over a stream it is never sent again.
    pub(super) fn new(now: Instant, patience: Duration, stream: bool) -> Self {
        Self { again: (!stream).then_some((now + FIRST, FIRST)), give_up: now + patience }
    }

    /// Gives it less time.
    pub(super) fn hurry(&mut self, give_up: Instant) {
        self.give_up = self.give_up.min(give_up);
    }

    /// When it is given up.
    pub(super) fn end(&self) -> Instant {
        self.give_up
    }

    /// What is due.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        if now >= self.give_up {
            return Due::GiveUp;
        }
        match self.again {
            Some((at, interval)) if now >= at => {
                let interval = (interval * 2).min(LONGEST);
                self.again = Some((now + interval, interval));
                Due::Again
            }
            _ => Due::Nothing,
        }
    }

    /// When something will be.
    pub(super) fn deadline(&self) -> Instant {
        self.again.map_or(self.give_up, |(at, _)| at.min(self.give_up))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When it was sent after the first time, in milliseconds, and when given up.
    fn schedule(stream: bool) -> Vec<u128> {
        let began = Instant::now();
        let mut resend = Resend::new(began, Duration::from_secs(5), stream);
        let mut times = Vec::new();
        loop {
            let now = resend.deadline();
            times.push((now - began).as_millis());
            if resend.due(now) == Due::GiveUp {
                return times;
            }
        }
    }

    #[test]
    fn a_datagram_is_repeated_less_and_less_often_until_patience_ends() {
        assert_eq!(schedule(false), [100, 300, 700, 1500, 3100, 4700, 5000]);
        assert_eq!(schedule(true), [5000]);
    }
}
