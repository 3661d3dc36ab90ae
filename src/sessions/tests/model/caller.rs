//! What a caller does: `keeper` and `core`, without their tasks and locks.

use super::state::{Answer, Asking, AtRobot, Live, Phase, Request, Scope, Sid, State, Time, What, at};
use super::{Flaw, state};
use crate::sessions::LeaseState;
use crate::sessions::caller::model::Lease;

impl State {
    /// A call that would move this motor finds no usable session, and asks for one.
    pub(super) fn ask(&mut self, who: usize, wants: Option<u8>) {
        let resume = match self.callers[who].phase {
            Phase::Idle { last } => last,
            Phase::Live(live) => Some(live.sid),
        };
        self.callers[who].asking = Some(Asking { wants });
        self.send(who, What::Start { resume });
    }

    pub(super) fn send(&mut self, who: usize, what: What) {
        let (sent, caller) = (self.now, &mut self.callers[who]);
        let connection = caller.connection;
        caller.requests.push(Request { connection, sent, what, at_robot: AtRobot::No });
    }

    /// The start is not answered in time.
    pub(super) fn give_up(&mut self, scope: &Scope, who: usize) {
        let caller = &mut self.callers[who];
        let connection = caller.connection;
        let is_start = |what: What| matches!(what, What::Start { .. });
        caller.requests.retain(|request| request.connection != connection || !is_start(request.what));
        caller.answers.retain(|answer| !matches!(answer, Answer::Started { .. }));
        caller.asking = None;
        if let Phase::Live(live) = &mut caller.phase {
            live.doubted = false;
        }
        self.look(scope, who);
    }

    /// Nothing has been acknowledged for so long that the session is given up.
    pub(super) fn abandon(&mut self, who: usize) {
        self.end(who);
    }

    pub(super) fn cut(&mut self, scope: &Scope, who: usize) {
        let caller = &mut self.callers[who];
        caller.up = false;
        caller.unnoticed.push(caller.connection);
        caller.answers.clear();
        if !scope.stale {
            caller.requests.retain(|request| request.at_robot != AtRobot::No);
        }
        self.look(scope, who);
    }

    pub(super) fn reconnect(&mut self, scope: &Scope, who: usize) {
        let caller = &mut self.callers[who];
        caller.connection += 1;
        caller.up = true;
        let connection = caller.connection;
        if let Phase::Live(live) = &mut caller.phase
            && scope.has(Flaw::DoesNotResume)
        {
            live.connection = connection;
        }
        // What was asked on the connection before is asked once more.
        if let Some(asking) = self.callers[who].asking {
            self.ask(who, asking.wants);
        }
        self.look(scope, who);
    }

    pub(super) fn die(&mut self, who: usize) {
        let caller = &mut self.callers[who];
        if caller.up {
            caller.unnoticed.push(caller.connection);
        }
        (caller.alive, caller.up, caller.asking) = (false, false, None);
        caller.phase = Phase::Idle { last: None };
        caller.answers.clear();
    }

    /// The keeper's round: what follows from the link and the clock.
    pub(super) fn look(&mut self, scope: &Scope, who: usize) {
        let now = self.now;
        let caller = &mut self.callers[who];
        let Phase::Live(live) = &mut caller.phase else { return };
        let here = caller.up && caller.connection == live.connection;
        live.bound &= here || scope.has(Flaw::DoesNotResume);
        let mut is = live.lease.state(at(now));
        if scope.has(Flaw::TellsOfTheRiskTooLate) && is == LeaseState::AtRisk {
            is = LeaseState::Healthy;
        }
        if is != live.state {
            live.state = is;
            announce(&mut caller.doubt, is, now);
        }
        let (asks, up) = (caller.asking.is_some(), caller.up);
        if !here && up && !asks {
            self.ask(who, None);
        }
    }

    /// Its user is told that the session is over.
    fn end(&mut self, who: usize) {
        let caller = &mut self.callers[who];
        if let Phase::Live(live) = caller.phase {
            caller.phase = Phase::Idle { last: Some(live.sid) };
            caller.doubt = caller.doubt.or(Some(self.now));
            caller.answers.retain(|answer| !answer.is_of_beat());
        }
    }

    pub(super) fn receive(&mut self, scope: &Scope, who: usize, which: usize) {
        let answer = self.callers[who].answers.remove(which);
        match answer {
            Answer::Started { sid, sent } => self.adopt(scope, who, sid, sent),
            Answer::Acknowledged { sent, .. } => {
                let now = self.now;
                if let Phase::Live(live) = &mut self.callers[who].phase {
                    let sent = if scope.has(Flaw::CountsFromReceipt) { now } else { sent };
                    live.lease.acknowledge(at(sent), at(now));
                    live.acknowledged = now;
                }
                self.look(scope, who);
            }
            Answer::BeatRefused { .. } => {
                // Being asked about already: the answer will tell.
                if self.callers[who].asking.is_none() {
                    self.end(who);
                }
            }
            Answer::CallRefused { sid, motor } => self.is_refused(who, sid, motor),
        }
    }

    /// A call was refused for its session: it waits for another, or for this one to be resumed.
    fn is_refused(&mut self, who: usize, sid: Sid, motor: u8) {
        let caller = &mut self.callers[who];
        if let Phase::Live(live) = &mut caller.phase {
            live.doubted |= live.sid == sid;
            if live.is_usable() {
                return;
            }
        }
        match &mut caller.asking {
            Some(asking) => asking.wants = asking.wants.or(Some(motor)),
            None => self.ask(who, Some(motor)),
        }
    }

    fn adopt(&mut self, scope: &Scope, who: usize, sid: Sid, sent: Time) {
        let now = self.now;
        let caller = &mut self.callers[who];
        let sent = if scope.has(Flaw::CountsFromReceipt) { now } else { sent };
        let lease = Lease::new(state::TICK * scope.window, at(sent), at(now));
        let state = lease.state(at(now));
        caller.phase = Phase::Live(Live {
            sid,
            lease,
            acknowledged: now,
            state,
            bound: true,
            doubted: false,
            connection: caller.connection,
        });
        let wants = caller.asking.take().and_then(|asking| asking.wants);
        if scope.has(Flaw::ResumesInSilence) {
            announce(&mut caller.doubt, LeaseState::Healthy, now);
        } else {
            announce(&mut caller.doubt, state, now);
        }
        // Heartbeats of another session have nobody who waits for their answers.
        caller.answers.retain(|answer| match answer {
            Answer::Acknowledged { sid: about, .. } | Answer::BeatRefused { sid: about } => *about == sid,
            _ => true,
        });
        // Whoever waited for it goes, without another look.
        if let Some(motor) = wants
            && !self.calls(who)
        {
            self.send(who, What::Call { sid, motor });
        }
        self.look(scope, who);
    }

    /// Whether a call is under way: one at a time is enough.
    pub(super) fn calls(&self, who: usize) -> bool {
        let connection = self.callers[who].connection;
        let is_call = |request: &Request| {
            let here = request.connection == connection || request.at_robot == AtRobot::Admitted;
            here && matches!(request.what, What::Call { .. })
        };
        self.callers[who].requests.iter().any(is_call)
    }
}

/// An event says how the lease is.
fn announce(doubt: &mut Option<Time>, state: LeaseState, now: Time) {
    *doubt = match state {
        LeaseState::Healthy => None,
        _ => doubt.or(Some(now)),
    };
}
