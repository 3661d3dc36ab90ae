//! What must hold, in every state and at every step.

use std::fmt;

use super::Flaw;
use super::state::{
    Phase, Request, Scope, Sid, State, Stopping, Time, What, caller_name, motor_name, tick_of,
};
use crate::sessions::LeaseState;

/// What was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// No motor runs longer than a window and a tick after the last arrival of a sign of life of its last owner.
    StopsInTime,
    /// Whose signs of life arrive in time is neither ended nor stopped nor refused.
    SparesTheTimely,
    /// The lease is neither healthy nor at risk once the session is over; the risk is told before anything is
    /// stopped; and it is lost only if the session is over, or an acknowledgement never came.
    TellsInTime,
    /// What was acknowledged lives for a window from its arrival.
    KeepsItsWord,
    /// An id moves nothing over a connection that it was neither started nor resumed on, and nothing once its
    /// session is over.
    BindsIdsToConnections,
    /// A stop never hits what another live session has taken since.
    SparesTheNextOwner,
    /// Nobody changes anything about another owner's session.
    LeavesOthersAlone,
    /// Callers do all that it takes: while its session lives, nothing that a caller sends is refused.
    ResumesFirst,
    /// The book says what is true.
    IsTrue,
}

#[derive(Debug)]
pub(super) struct Broken {
    pub(super) rule: Rule,
    pub(super) why: String,
}

impl Broken {
    pub(super) fn new(rule: Rule, why: impl Into<String>) -> Self {
        Self { rule, why: why.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.why)
    }
}

/// What must not be changed by anybody else: deadline, connection and whether that is gone.
type Untouched = Vec<(Sid, Time, u64, bool)>;

impl State {
    /// Whether a sign of life is its owner's, in time, and from where it may come.
    pub(super) fn is_right(
        &self,
        scope: &Scope,
        who: usize,
        connection: u32,
        sid: Sid,
        arrived: Time,
    ) -> bool {
        self.truth(sid).is_some_and(|truth| {
            let own = truth.owner == who && (truth.connection == connection || scope.same_host);
            own && !truth.ended && arrived < truth.deadline
        })
    }

    /// What the robot said to a heartbeat or a call that had arrived at this time.
    pub(super) fn judge(
        &self,
        scope: &Scope,
        request: &Request,
        arrived: Time,
        right: bool,
        taken: bool,
    ) -> Result<(), Broken> {
        let what = if matches!(request.what, What::Beat { .. }) { "heartbeat" } else { "call" };
        let truth = request.what.sid().and_then(|sid| self.truth(sid));
        if right && !taken {
            // When the window that it gives is over, it may be refused.
            let over = truth.is_some_and(|truth| {
                let given = if truth.counts(request.connection) { arrived + scope.window } else { 0 };
                self.now >= truth.deadline.max(given)
            });
            if !over {
                return Err(Broken::new(Rule::SparesTheTimely, format!("a {what} in time is refused")));
            }
        }
        if taken && !right {
            let over = truth.is_none_or(|truth| truth.ended || arrived >= truth.deadline);
            let why = if over { "of a session that is over" } else { "over another connection" };
            return Err(Broken::new(Rule::BindsIdsToConnections, format!("a {what} {why} is taken")));
        }
        Ok(())
    }

    /// Something is refused for its session.
    pub(super) fn may_be_refused(
        &self,
        scope: &Scope,
        who: usize,
        request: &Request,
        sid: Sid,
    ) -> Result<(), Broken> {
        let lives = self.truth(sid).is_some_and(|truth| {
            // A start that was sent over the connection before this one, and looked at after the start on this one,
            // ties the session to a connection that is gone. The refusal makes its owner resume once more.
            let overtaken = (scope.stale || scope.backlog) && truth.connection != request.connection;
            !truth.ended && self.now < truth.deadline && !overtaken
        });
        if lives && self.callers[who].hears(request.connection) {
            let name = caller_name(who);
            return Err(Broken::new(
                Rule::ResumesFirst,
                format!("{name} is refused, though the session lives"),
            ));
        }
        Ok(())
    }

    /// The sessions of others than this caller.
    pub(super) fn others(&self, who: usize) -> Untouched {
        let owner = Self::seen(who, 0).owner;
        let others = self.robot.book.sessions().filter(|(_, session)| session.caller.owner != owner);
        let what = others.map(|(id, session)| {
            let lost = session.disconnected.is_some();
            (Sid::of(id), tick_of(session.deadline), session.caller.connection, lost)
        });
        what.collect()
    }

    pub(super) fn others_are_as_before(&self, who: usize, before: &Untouched) -> Result<(), Broken> {
        if self.others(who) != *before {
            let why = format!("{} has changed a session of somebody else", caller_name(who));
            return Err(Broken::new(Rule::LeavesOthersAlone, why));
        }
        Ok(())
    }

    /// The robot ends a session.
    pub(super) fn may_end(&self, scope: &Scope, sid: Sid, stops: bool) -> Result<(), Broken> {
        let Some(truth) = self.truth(sid) else { return Ok(()) };
        // A robot that leaves a grace may know of a loss before its caller does.
        let cut = scope.grace.is_some();
        if self.now < truth.deadline && truth.promised && !cut {
            let why = "a session ends within a window from the arrival of a heartbeat that was acknowledged";
            return Err(Broken::new(Rule::KeepsItsWord, why));
        }
        if self.now < truth.deadline {
            return Err(Broken::new(Rule::SparesTheTimely, "a session ends before its window is over"));
        }
        let caller = &self.callers[truth.owner];
        let believes = match caller.phase {
            Phase::Idle { last } => last == Some(sid),
            Phase::Live(live) => live.sid == sid,
        };
        let told = caller.doubt.is_some_and(|doubt| doubt < self.now);
        if stops && caller.alive && believes && !told && !cut {
            let why =
                format!("the robot stops what {} moved, who was told of no risk", caller_name(truth.owner));
            return Err(Broken::new(Rule::TellsInTime, why));
        }
        Ok(())
    }

    /// A motor is being stopped.
    pub(super) fn may_stop(&self, stopping: &Stopping) -> Result<(), Broken> {
        let motor = self.robot.motors[usize::from(stopping.motor)];
        let next = motor.by.filter(|by| *by != stopping.sid);
        let lives = next.and_then(|next| self.truth(next)).is_some_and(|truth| !truth.ended);
        if lives {
            let name = motor_name(stopping.motor);
            let why = format!("{name} is stopped for a session that is gone, and somebody else has taken it");
            return Err(Broken::new(Rule::SparesTheNextOwner, why));
        }
        if self.now < stopping.due {
            return Err(Broken::new(Rule::SparesTheTimely, "a motor is stopped before its time"));
        }
        Ok(())
    }

    /// What must hold in every state.
    pub(super) fn check(&self, scope: &Scope) -> Result<(), Broken> {
        self.motors_stop_in_time(scope)?;
        self.leases_are_right(scope)?;
        self.ids_are_no_good_for_others(scope)?;
        self.the_book_is_true()
    }

    fn motors_stop_in_time(&self, scope: &Scope) -> Result<(), Broken> {
        for (number, motor) in (0..).zip(&self.robot.motors) {
            let Some(sid) = motor.by.filter(|_| motor.runs) else { continue };
            let Some(truth) = self.truth(sid) else { continue };
            let name = motor_name(number);
            if self.now > truth.sign + scope.window + scope.lag {
                let why = format!("{name} runs {} ticks after its owner's last sign", self.now - truth.sign);
                return Err(Broken::new(Rule::StopsInTime, why));
            }
            let watched = !truth.ended || self.robot.stops.iter().any(|stopping| stopping.sid == sid);
            if !watched {
                let why = format!("{name} runs, its session is over, and nobody is going to stop it");
                return Err(Broken::new(Rule::StopsInTime, why));
            }
        }
        Ok(())
    }

    fn leases_are_right(&self, scope: &Scope) -> Result<(), Broken> {
        for (who, caller) in self.callers.iter().enumerate() {
            let Phase::Live(live) = caller.phase else { continue };
            let truth = self.truth(live.sid);
            if truth.is_none_or(|truth| truth.forgotten) || scope.grace.is_some() {
                continue;
            }
            let holds = self.deadline(live.sid).is_some_and(|deadline| deadline > self.now);
            let lease = live.lease.state(super::state::at(self.now));
            let name = caller_name(who);
            if lease < LeaseState::Suspect && !holds {
                let why = format!("{name}'s lease is {lease}, and the robot has given the session up");
                return Err(Broken::new(Rule::TellsInTime, why));
            }
            // The last sign arrived before the last word of the robot did, so that word was about it or later.
            let known = truth.is_some_and(|truth| truth.sign <= live.acknowledged);
            let claims = lease == LeaseState::Lost
                || (scope.has(Flaw::GivesUpTooEarly) && lease == LeaseState::Suspect);
            if claims && holds && known {
                let why =
                    format!("{name}'s lease is lost, though the robot holds it and every word of it came");
                return Err(Broken::new(Rule::TellsInTime, why));
            }
        }
        Ok(())
    }

    /// Somebody else comes with the id of a session: a heartbeat, a call, a start that would go on with it.
    fn ids_are_no_good_for_others(&self, scope: &Scope) -> Result<(), Broken> {
        if self.callers.len() < 2 {
            return Ok(());
        }
        for truth in self.truths.iter().filter(|truth| !truth.ended) {
            let thief = 1 - truth.owner;
            let before = self.others(thief);
            let mut caller = Self::seen(thief, self.callers[thief].connection);
            if scope.has(Flaw::TakesForeignIds) {
                caller.owner = Self::seen(truth.owner, 0).owner;
            }
            let (id, now) = (truth.sid.uuid(), super::state::at(self.now));
            let mut probe = self.clone();
            let book = probe.book();
            let taken = book.heartbeat(id, &caller, now, now).is_ok()
                || book.admit(id, &caller, now, now).is_ok()
                || book
                    .start(&caller, Some(id), Sid(u32::MAX).uuid(), now, now)
                    .is_ok_and(|started| started.resumed);
            probe.others_are_as_before(thief, &before)?;
            if taken {
                let why = format!("{}'s id is good for {}", caller_name(truth.owner), caller_name(thief));
                return Err(Broken::new(Rule::LeavesOthersAlone, why));
            }
        }
        Ok(())
    }

    fn the_book_is_true(&self) -> Result<(), Broken> {
        for truth in &self.truths {
            let deadline = self.deadline(truth.sid);
            if deadline != (!truth.ended).then_some(truth.deadline) {
                let why = format!("a deadline is {deadline:?} in the book, and is {:?}", truth.deadline);
                return Err(Broken::new(Rule::IsTrue, why));
            }
        }
        let first = self.robot.book.sessions().map(|(_, session)| session.deadline).min();
        let looked_for = self.robot.book.next_deadline();
        if first.is_some() && looked_for.is_none_or(|looked_for| Some(looked_for) > first) {
            return Err(Broken::new(Rule::IsTrue, "a deadline will be overslept"));
        }
        Ok(())
    }
}
