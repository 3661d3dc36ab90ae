//! Paths that are gone, and the next best thing.
//!
//! The crate gives a pair up after many checks without an answer. Sometimes it is known at once: a relay of ours is
//! lost, or the peer itself has left the path.
//!
//! # Invariant
//! Without a nomination the path is only a pair on which a check of ours was answered lately.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Ice, MAX_HEARD, Route};
use crate::peer::engine::connection::timing;

impl Ice {
    /// A relay of ours is gone, with all pairs over it. Whether there is a path: if packets took the relay, the best
    /// other pair that worked lately takes over, or else all are checked anew, at once.
    pub(in crate::peer::engine::connection) fn lose_relay(
        &mut self,
        now: Instant,
        relay: SocketAddr,
    ) -> bool {
        let uses = |route: &Route| route.source == relay;
        let lost = self
            .agent
            .local_candidates()
            .find(|candidate| candidate.kind() == is::CandidateKind::Relayed && candidate.addr() == relay);
        let Some(lost) = lost else { return true };
        self.agent.invalidate_candidate(&lost);
        self.relays.retain(|known| *known != relay);
        let place = format!(" {} {} typ relay", relay.ip(), relay.port());
        self.local.retain(|line| !line.contains(&place));
        self.heard.retain(|(_, to)| *to != relay);
        self.answered.retain(|(route, _)| !uses(route));
        let was_path = self.path.as_ref().is_some_and(uses);
        // The crate nominates another that works, if that is for this side to do.
        self.advance(now);
        if !was_path {
            return true;
        }
        if !self.path.is_some_and(|path| self.is_alive(now, path)) {
            let direct = |(route, _): &&(Route, Instant)| !self.is_relayed(route.source, route.destination);
            let alive = self.answered.iter().filter(|(route, _)| self.is_alive(now, *route));
            if let Some((route, _)) = alive.max_by_key(|each| (direct(each), each.1)) {
                (self.path, self.nominated) = (Some(*route), false);
            }
        }
        if self.path.as_ref().is_some_and(uses) {
            self.agent.recreate_candidate_pairs();
            self.look();
            self.orphaned = true;
            self.advance(now);
            return false;
        }
        // So that the peer learns of the nomination soon, though its first word may be lost.
        self.look_again(now);
        true
    }

    /// The peer sends from there to here, and nothing on the path: packets go there as well from now on, if a check
    /// of ours was answered there lately.
    pub(in crate::peer::engine::connection) fn follow(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
    ) {
        let there = |route: &Route| route.source == to && route.destination == from;
        let found = self.answered.iter().find(|(route, _)| there(route) && self.is_alive(now, *route));
        if let Some((route, _)) = found {
            (self.path, self.nominated) = (Some(*route), false);
        }
    }

    /// A check was answered there. If there is no path for want of a relay, this is one until the next nomination.
    pub(super) fn note_answer(&mut self, now: Instant, route: Route) {
        let room = self.answered.len() < MAX_HEARD;
        match self.answered.iter_mut().find(|(known, _)| *known == route) {
            Some((_, at)) => *at = now,
            None if room => self.answered.push((route, now)),
            None => {}
        }
        if std::mem::take(&mut self.orphaned) {
            (self.path, self.nominated, self.found) = (Some(route), false, true);
            self.slow_down(now);
        }
    }

    fn is_alive(&self, now: Instant, route: Route) -> bool {
        let answered = self.answered.iter().find(|(known, _)| *known == route);
        answered.is_some_and(|(_, at)| now.saturating_duration_since(*at) <= timing::SPOKEN)
    }
}
