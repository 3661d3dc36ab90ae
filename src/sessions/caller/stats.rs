//! What a client's sessions have done so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::SessionEvent;
use crate::sessions::shares::{SHARES, Shares};

/// What a client's sessions have done so far. All counts since the client was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SessionStats {
    /// Sessions that the robot has given us, resumed ones not counted.
    pub started: u64,
    /// Times that a session was gone on with.
    pub resumed: u64,
    /// Sessions that took the place of one that was gone: times that the robot had stopped.
    pub replaced: u64,
    /// Heartbeats sent.
    pub heartbeats: u64,
    /// Heartbeats that were acknowledged.
    pub acknowledged: u64,
    /// Heartbeats that failed, for whatever reason.
    pub failed: u64,
    /// From sending the newest acknowledged heartbeat to its acknowledgement.
    pub rtt: Option<Duration>,
    /// The longest such time.
    pub longest_rtt: Option<Duration>,
    /// Acknowledged heartbeats by that time, in parts of the window: less than 1/32, 1/16, 1/8, 1/4, 1/2, and
    /// more. Those in the last took a path on which a session is hard to keep.
    pub rtts: [u64; SHARES],
    /// Calls made once more in a new session.
    pub retried: u64,
    /// Calls of methods that no descriptor tells about, made without a session.
    pub unknown_methods: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    started: AtomicU64,
    resumed: AtomicU64,
    replaced: AtomicU64,
    heartbeats: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    /// Microseconds and one; 0 is unknown.
    rtt: AtomicU64,
    longest_rtt: AtomicU64,
    rtts: Shares,
    retried: AtomicU64,
}

impl Counters {
    pub(super) fn adopted(&self, event: &SessionEvent) {
        match event {
            SessionEvent::Resumed { .. } => add(&self.resumed),
            SessionEvent::Replaced { .. } => {
                add(&self.started);
                add(&self.replaced);
            }
            _ => add(&self.started),
        }
    }

    pub(super) fn sent(&self) {
        add(&self.heartbeats);
    }

    pub(super) fn acknowledged(&self, rtt: Duration, window: Duration) {
        self.rtts.count(rtt, window);
        add(&self.acknowledged);
        let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX - 1) + 1;
        self.rtt.store(micros, Ordering::Relaxed);
        self.longest_rtt.fetch_max(micros, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        add(&self.failed);
    }

    pub(super) fn retried(&self) {
        add(&self.retried);
    }

    pub(super) fn stats(&self, unknown_methods: u64) -> SessionStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let time = |counter: &AtomicU64| get(counter).checked_sub(1).map(Duration::from_micros);
        SessionStats {
            started: get(&self.started),
            resumed: get(&self.resumed),
            replaced: get(&self.replaced),
            heartbeats: get(&self.heartbeats),
            acknowledged: get(&self.acknowledged),
            failed: get(&self.failed),
            rtt: time(&self.rtt),
            longest_rtt: time(&self.longest_rtt),
            rtts: self.rtts.read(),
            retried: get(&self.retried),
            unknown_methods,
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
