//! The phases of a connection's life, and the deadlines that end them.
//!
//! # Invariant
//! A final phase is never left, and has no deadline.

use std::time::{Duration, Instant};

use super::config::Config;
use super::failure::Failure;
use super::timing;
use crate::peer::{Phase, Role};

pub(super) struct Life {
    phase: Phase,
    role: Role,
    disconnected: Duration,
    lost: Duration,
    /// Until when a path must be found, and since when it is looked for.
    looking: Option<(Instant, Instant)>,
    /// Until when hands must be shaken.
    shaking: Option<Instant>,
    /// When the peer was last heard on the path, and when it last answered a probe there.
    heard: Option<(Instant, Instant)>,
    /// When it was last heard on another pair.
    elsewhere: Option<Instant>,
    /// When this path was doubted.
    doubted: Option<Instant>,
    /// When the path began to be this one.
    moved: Option<Instant>,
    /// When the peer's data first came on another pair and nothing on the path since.
    left: Option<Instant>,
}

/// What a deadline brought.
pub(super) enum Due {
    /// No path within this time.
    NoPath(Duration),
    Fail(Failure),
    /// The path is silent and another pair is not.
    Doubt,
    /// The peer sends its data on another pair, and says nothing on the path.
    Left,
}

impl Life {
    pub(super) fn new(config: &Config) -> Self {
        let Config { role, disconnected, lost, .. } = *config;
        Self {
            phase: Phase::New,
            role,
            disconnected,
            lost,
            looking: None,
            shaking: None,
            heard: None,
            elsewhere: None,
            doubted: None,
            moved: None,
            left: None,
        }
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Enters a phase; whether that changed anything.
    pub(super) fn enter(&mut self, phase: Phase) -> bool {
        let changed = !self.phase.is_final() && self.phase != phase;
        if changed {
            self.phase = phase;
        }
        changed
    }

    /// Both descriptions are known: a path must be found.
    pub(super) fn look(&mut self, now: Instant) {
        let patience = if self.role == Role::Caller { timing::CALLER_LOOKS } else { timing::ANSWERER_LOOKS };
        self.looking = Some((now, now + patience));
    }

    /// The path is gone, and there is no other: one must be found.
    pub(super) fn orphan(&mut self, now: Instant) {
        self.looking = Some((now, now + timing::ORPHANED));
    }

    /// Looking ended with a path.
    pub(super) fn found(&mut self) {
        self.looking = None;
    }

    /// There is a path, or another one. Hands must be shaken on the first.
    pub(super) fn moved(&mut self, now: Instant) {
        if self.heard.is_none() {
            self.shaking = Some(now + timing::HANDSHAKE);
        }
        self.heard = Some((now, now));
        (self.doubted, self.left) = (None, None);
        self.moved = Some(now);
    }

    /// Messages may be sent.
    pub(super) fn shaken(&mut self) {
        self.shaking = None;
    }

    /// Something of the peer came over the path; whether it ends a silence.
    pub(super) fn hear(&mut self, now: Instant, answer: bool) -> bool {
        self.left = None;
        if let Some((heard, consent)) = &mut self.heard {
            *heard = now;
            if answer {
                *consent = now;
            }
        }
        self.phase == Phase::Disconnected && self.enter(Phase::Connected)
    }

    /// Something of the peer came on another pair; whether it was data.
    pub(super) fn hear_elsewhere(&mut self, now: Instant, data: bool) {
        self.elsewhere = Some(now);
        if data {
            self.left.get_or_insert(now);
        }
    }

    /// When the peer counts as gone from the path.
    fn leaves(&self) -> Option<Instant> {
        let at = (self.left? + timing::LEFT).max(self.moved? + 2 * timing::LEFT);
        let at = self.doubted.map_or(at, |doubted| at.max(doubted + timing::DOUBT));
        self.looking.is_none().then_some(at)
    }

    /// When the path becomes doubtful: silent for a while, with another pair that speaks.
    fn doubtful(&self) -> Option<Instant> {
        let ((heard, _), elsewhere) = (self.heard?, self.elsewhere?);
        let at = heard.max(self.doubted.unwrap_or(heard)) + timing::DOUBT;
        (self.looking.is_none() && at <= elsewhere + timing::SPOKEN).then_some(at)
    }

    /// When the next deadline ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.phase.is_final() {
            return None;
        }
        let looking = self.looking.map(|(_, until)| until);
        let silence = self.heard.and_then(|(heard, _)| match (&self.phase, looking) {
            (Phase::Disconnected, None) => Some(heard + self.lost),
            // While another path is looked for, that deadline decides.
            (Phase::Disconnected, Some(_)) => None,
            (_, None) => Some(heard + self.disconnected.min(self.lost)),
            (_, Some(_)) => Some(heard + self.disconnected),
        });
        let consent = self.heard.map(|(_, answered)| answered + timing::CONSENT);
        [looking, self.shaking, silence, consent, self.doubtful(), self.leaves()].into_iter().flatten().min()
    }

    /// What is due. `Disconnected` is entered here; whether it was is seen at [`phase`](Self::phase).
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        if self.phase.is_final() {
            return None;
        }
        if let Some((since, until)) = self.looking
            && now >= until
        {
            return Some(Due::NoPath(now.saturating_duration_since(since)));
        }
        if self.shaking.is_some_and(|until| now >= until) {
            return Some(Due::Fail(Failure::Handshake));
        }
        let (heard, answered) = self.heard?;
        let silence = now.saturating_duration_since(heard);
        if silence >= self.lost && self.looking.is_none() {
            return Some(Due::Fail(Failure::Silence(silence)));
        }
        let unanswered = now.saturating_duration_since(answered);
        if unanswered >= timing::CONSENT {
            return Some(Due::Fail(Failure::Consent(unanswered)));
        }
        if silence >= self.disconnected && self.phase == Phase::Connected {
            self.enter(Phase::Disconnected);
        }
        if self.leaves().is_some_and(|at| now >= at) {
            (self.doubted, self.left) = (Some(now), None);
            return Some(Due::Left);
        }
        if self.doubtful().is_some_and(|at| now >= at) {
            self.doubted = Some(now);
            return Some(Due::Doubt);
        }
        None
    }
}
