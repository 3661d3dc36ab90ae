//! What a caller can know about its session: how long the robot surely still waits.
//!
//! Pure; the clock is an argument. The robot's deadline moves when a sign of life *arrives*, which the caller
//! does not see. It knows two instants: when the newest acknowledged sign was sent, `s`, and when its
//! acknowledgement came back, `a`. The sign arrived in between, so with a window `W` the robot waits at least
//! until `s + W`, and, if nothing later got through, no longer than `a + W`.
//!
//! # Invariant
//! As long as the lease is [`Healthy`](LeaseState::Healthy) or [`AtRisk`](LeaseState::AtRisk), the robot has
//! not stopped anything: whoever follows the states hears of the risk before the robot can act.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// The share of the window after which silence is a risk.
const AT_RISK: f64 = 0.6;

/// What a robot may need beyond its window to notice that it is over (rdk looks every 10 ms).
const TICK: Duration = Duration::from_millis(10);

/// How sure a caller can be that the robot still takes it for alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LeaseState {
    /// A sign of life that was sent less than 0.6 windows ago has been acknowledged.
    Healthy,
    /// Nothing sent in the last 0.6 windows has been acknowledged. The robot still waits.
    AtRisk,
    /// The robot may have stopped what this session moved.
    Suspect,
    /// Unless an acknowledgement was lost, the robot has stopped what this session moved.
    Lost,
}

impl fmt::Display for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::AtRisk => "at risk",
            Self::Suspect => "suspect",
            Self::Lost => "lost",
        })
    }
}

/// The arithmetic of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    window: Duration,
    /// When the newest acknowledged sign of life was sent.
    sent: Instant,
    /// When the latest acknowledgement came.
    acknowledged: Instant,
    /// The clock stood still for longer than the window.
    lost: bool,
}

impl Lease {
    /// A session whose start was sent and answered at these instants.
    pub(crate) fn new(window: Duration, sent: Instant, answered: Instant) -> Self {
        Self { window, sent, acknowledged: answered, lost: false }
    }

    /// A sign of life was acknowledged. They may be acknowledged in any order.
    pub(crate) fn acknowledge(&mut self, sent: Instant, now: Instant) {
        self.sent = self.sent.max(sent);
        self.acknowledged = self.acknowledged.max(now);
        self.lost = false;
    }

    /// This process stood still (the host slept, an executor was blocked) for longer than the window: lost,
    /// until something is acknowledged.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    /// How it stands.
    pub(crate) fn state(&self, now: Instant) -> LeaseState {
        if self.lost || now >= self.over() {
            LeaseState::Lost
        } else if now >= self.sent + self.window {
            LeaseState::Suspect
        } else if now >= self.risky() {
            LeaseState::AtRisk
        } else {
            LeaseState::Healthy
        }
    }

    /// When it changes by itself; `None` once it is lost.
    pub(crate) fn next_change(&self, now: Instant) -> Option<Instant> {
        match self.state(now) {
            LeaseState::Healthy => Some(self.risky()),
            LeaseState::AtRisk => Some((self.sent + self.window).min(self.over())),
            LeaseState::Suspect => Some(self.over()),
            LeaseState::Lost => None,
        }
    }

    /// How long nothing that was sent has been acknowledged.
    pub(crate) fn gap(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.sent)
    }

    fn risky(&self) -> Instant {
        self.sent + self.window.mul_f64(AT_RISK)
    }

    fn over(&self) -> Instant {
        self.acknowledged + self.window + TICK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: Duration = Duration::from_secs(2);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn each_state_begins_when_the_arithmetic_says() {
        let start = Instant::now();
        let lease = Lease::new(W, start, start + ms(100));
        for (at, state) in [
            (0, LeaseState::Healthy),
            (1199, LeaseState::Healthy),
            (1200, LeaseState::AtRisk),
            (1999, LeaseState::AtRisk),
            (2000, LeaseState::Suspect),
            (2109, LeaseState::Suspect),
            (2110, LeaseState::Lost),
            (1_000_000, LeaseState::Lost),
        ] {
            assert_eq!(lease.state(start + ms(at)), state, "after {at} ms");
        }
        let mut now = start;
        let mut changes = Vec::new();
        while let Some(next) = lease.next_change(now) {
            assert!(next > now);
            now = next;
            changes.push((now - start).as_millis());
        }
        assert_eq!(changes, [1200, 2000, 2110]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_counts_is_when_the_acknowledged_sign_was_sent() {
        let start = Instant::now();
        let mut lease = Lease::new(W, start, start);
        // Acknowledged late, it proves little.
        lease.acknowledge(start + ms(100), start + ms(1900));
        assert_eq!(lease.state(start + ms(1900)), LeaseState::AtRisk);
        assert_eq!(lease.state(start + ms(2100)), LeaseState::Suspect);
        // But the robot cannot be known to have given up before this.
        assert_eq!(lease.state(start + ms(3909)), LeaseState::Suspect);
        assert_eq!(lease.state(start + ms(3910)), LeaseState::Lost);
        // An older one, acknowledged after a newer one, takes nothing back.
        lease.acknowledge(start + ms(2000), start + ms(2050));
        lease.acknowledge(start + ms(50), start + ms(2060));
        assert_eq!(lease.state(start + ms(3199)), LeaseState::Healthy);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stood_still_loses_it_until_the_next_acknowledgement() {
        let start = Instant::now();
        let mut lease = Lease::new(W, start, start);
        lease.lose();
        assert_eq!(lease.state(start), LeaseState::Lost);
        assert_eq!(lease.next_change(start), None);
        lease.acknowledge(start + ms(10), start + ms(20));
        assert_eq!(lease.state(start + ms(20)), LeaseState::Healthy);
    }
}
