//! Another path: what was learned of the one before is forgotten.
//!
//! Floor 1, engine, part of `recovery`; after RFC 9260 7.2.1 (each address of the peer has a window of its own) and RFC
//! 9002 9 with RFC 9000 9.4 (so has each path). What is under way stays in the ledger: a path that was only left for a
//! better one still delivers it, and what a dead one lost is found lost by the first acknowledgement on the new one.
//!
//! # Invariant
//! What left on the path before neither measures the new one nor counts as its loss.

use std::time::{Duration, Instant};

use super::flight::Flight;
use super::rack::Rack;
use super::rtt::Rtt;
use crate::peer::engine::congestion::Pacer;

impl<C: Clone> Flight<C> {
    /// Packets take another path from now on, on which something else measured a round trip of `rtt`. Time-outs,
    /// round-trip times, window and rate begin anew. What is under way is asked for at once, whatever the windows
    /// say: poll for a packet afterwards.
    pub(crate) fn path_changed(&mut self, now: Instant, rtt: Option<Duration>) {
        self.moved_at = Some(now);
        self.rtt = Rtt::new(rtt, now);
        self.rack = Rack::default();
        self.reorder_at = None;
        self.rate.forget(now);
        let seed = self.ledger.next().0.into();
        self.controller = self.congestion.controller(self.max_packet, rtt, now, seed);
        self.pacer = Pacer::new(self.max_packet, now);
        if self.ledger.is_empty() {
            return;
        }
        self.heard_at = now;
        self.probe.restart(now);
        self.stats.probes += 1;
        self.arm_copies(now);
    }

    /// Whether what left at this time took the path of now.
    pub(super) fn is_of_this_path(&self, sent_at: Instant) -> bool {
        self.moved_at.is_none_or(|moved| sent_at >= moved)
    }
}
