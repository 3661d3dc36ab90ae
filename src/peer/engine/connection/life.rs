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
}

/// What a deadline brought.
pub(super) enum Due {
    /// No path within this time.
    NoPath(Duration),
    Fail(Failure),
}

impl Life {
    pub(super) fn new(config: &Config) -> Self {
        let Config { role, disconnected, lost, .. } = *config;
        Self { phase: Phase::New, role, disconnected, lost, looking: None, shaking: None, heard: None }
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

    /// A path was found. Hands must be shaken on the first.
    pub(super) fn found(&mut self, now: Instant) {
        self.looking = None;
        if self.heard.is_none() {
            self.shaking = Some(now + timing::HANDSHAKE);
        }
        self.heard = Some((now, now));
    }

    /// Messages may be sent.
    pub(super) fn shaken(&mut self) {
        self.shaking = None;
    }

    /// Something of the peer came over the path; whether it ends a silence.
    pub(super) fn hear(&mut self, now: Instant, answer: bool) -> bool {
        if let Some((heard, consent)) = &mut self.heard {
            *heard = now;
            if answer {
                *consent = now;
            }
        }
        self.phase == Phase::Disconnected && self.enter(Phase::Connected)
    }

    /// When the next deadline ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.phase.is_final() {
            return None;
        }
        let looking = self.looking.map(|(_, until)| until);
        let silence = self.heard.map(|(heard, _)| match self.phase {
            Phase::Disconnected => heard + self.lost,
            _ => heard + self.disconnected.min(self.lost),
        });
        // While another path is looked for, that deadline decides.
        let silence = silence.filter(|_| looking.is_none() || self.phase != Phase::Disconnected);
        let consent = self.heard.map(|(_, answered)| answered + timing::CONSENT);
        [looking, self.shaking, silence, consent].into_iter().flatten().min()
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
        None
    }
}
