//! What the robot does: `core` and `stopping`, without their tasks and locks. The rules are the book's.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::Flaw;
use super::rules::{Broken, Rule};
use super::state::{
    Answer, AtRobot, Late, Phase, Request, Scope, Sid, State, Stopping, TICK, Time, Truth, What, at,
    motor_name, tick_of,
};
use crate::sessions::robot::model::{Book, Caller as Who, Owner, Transport};

impl State {
    /// A caller as the robot sees it.
    pub(super) fn seen(who: usize, connection: u32) -> Who {
        let identity = ["ann", "bob"][who].to_owned();
        let owner = Owner { identity: Some(identity), transport: Transport::WebRtc };
        let connection = u64::try_from(who).unwrap() * 1_000_000 + u64::from(connection);
        Who { owner, connection, host: Some([10, 0, 0, u8::try_from(who).unwrap()].into()) }
    }

    /// The robot looks at a request that has arrived at this time.
    pub(super) fn handle(
        &mut self,
        scope: &Scope,
        who: usize,
        which: usize,
        answered: bool,
    ) -> Result<(), Broken> {
        let (now, request) = (self.now, self.callers[who].requests[which]);
        let arrived = match request.at_robot {
            AtRobot::Arrived(arrived) => arrived,
            _ => now,
        };
        let caller = self.caller_of(scope, who, &request);
        let others = self.others(who);
        let answer = match request.what {
            What::Start { resume } => Some(self.start(scope, who, &request, resume, arrived)?),
            What::Beat { sid } => {
                let right = self.is_right(scope, who, request.connection, sid, arrived);
                let beat = self.book().heartbeat(sid.uuid(), &caller, at(arrived), at(now));
                self.judge(scope, &request, arrived, right, beat.is_ok())?;
                Some(match beat {
                    Ok(_) => {
                        self.sign(scope, sid, request.connection, arrived);
                        Answer::Acknowledged { sid, sent: request.sent }
                    }
                    Err(_) => {
                        self.may_be_refused(scope, who, &request, sid)?;
                        Answer::BeatRefused { sid }
                    }
                })
            }
            What::Call { sid, motor } => {
                let right = self.is_right(scope, who, request.connection, sid, arrived)
                    && self.truth(sid).is_some_and(|truth| truth.connection == request.connection);
                let call = self.book().admit(sid.uuid(), &caller, at(arrived), at(now));
                self.judge(scope, &request, arrived, right, call.is_ok())?;
                if call.is_ok() {
                    self.sign(scope, sid, request.connection, arrived);
                    self.callers[who].requests[which].at_robot = AtRobot::Admitted;
                    self.others_are_as_before(who, &others)?;
                    let at_once = !scope.slow && !self.robot.book.is_stopping(motor_name(motor));
                    return if at_once { self.take(scope, who, which) } else { Ok(()) };
                }
                self.may_be_refused(scope, who, &request, sid)?;
                Some(Answer::CallRefused { sid, motor })
            }
        };
        self.others_are_as_before(who, &others)?;
        self.callers[who].requests.remove(which);
        if answered && let Some(answer) = answer {
            self.answer(scope, who, request.connection, answer);
        }
        Ok(())
    }

    /// What the robot takes this request's caller for.
    fn caller_of(&self, scope: &Scope, who: usize, request: &Request) -> Who {
        let caller = Self::seen(who, request.connection);
        match (request.what, scope.has(Flaw::TakesCallsFromAnyConnection)) {
            (What::Call { sid, .. }, true) => {
                let session = self.robot.book.session(sid.uuid());
                session.map_or(caller, |session| session.caller.clone())
            }
            _ => caller,
        }
    }

    fn answer(&mut self, scope: &Scope, who: usize, connection: u32, answer: Answer) {
        let caller = &mut self.callers[who];
        let waits = caller.hears(connection)
            && match answer {
                Answer::Started { .. } => caller.asking.is_some(),
                Answer::Acknowledged { sid, .. } | Answer::BeatRefused { sid } => {
                    caller.live().is_some_and(|live| live.sid == sid)
                }
                Answer::CallRefused { .. } => true,
            };
        if waits && !caller.answers.contains(&answer) {
            caller.answers.push(answer);
        }
        // Said where it can be heard, whether it will be or not.
        if self.callers[who].hears(connection)
            && let Answer::Acknowledged { sid, .. } = answer
            && let Some(truth) = self.truth_mut(sid)
        {
            truth.promised = true;
        }
        if waits && scope.late < Late::Everything {
            self.receive(scope, who, self.callers[who].answers.len() - 1);
        }
    }

    fn start(
        &mut self,
        scope: &Scope,
        who: usize,
        request: &Request,
        resume: Option<Sid>,
        arrived: Time,
    ) -> Result<Answer, Broken> {
        let (now, fresh) = (self.now, Sid(self.sessions));
        self.sessions += 1;
        let caller = Self::seen(who, request.connection);
        let resumed = resume.map(Sid::uuid);
        let right = resume.is_some_and(|sid| {
            let truth = self.truth(sid).filter(|truth| !truth.ended);
            truth.is_some_and(|truth| {
                let window = if truth.counts(request.connection) { scope.window } else { 0 };
                arrived < truth.deadline && now < truth.deadline.max(arrived + window)
            })
        });
        let started = self.book().start(&caller, resumed, fresh.uuid(), at(arrived), at(now));
        let Ok(started) = started else {
            return Err(Broken::new(Rule::SparesTheTimely, "the start of a session is refused".to_owned()));
        };
        if started.resumed != right {
            let why = format!("a session is resumed: {}, and should be: {right}", started.resumed);
            return Err(Broken::new(Rule::SparesTheTimely, why));
        }
        let sid = Sid::of(started.id);
        // Whoever starts something over a connection is watched, and found to be gone if it is.
        let caller = &mut self.callers[who];
        if !caller.hears(request.connection) && !caller.unnoticed.contains(&request.connection) {
            caller.unnoticed.push(request.connection);
        }
        if started.resumed {
            if let Some(truth) = self.truth_mut(sid) {
                (truth.connection, truth.lost) = (request.connection, None);
            }
        } else {
            self.truths.push(Truth {
                sid,
                owner: who,
                connection: request.connection,
                sign: now,
                deadline: now + scope.window,
                promised: false,
                lost: None,
                ended: false,
                forgotten: false,
            });
        }
        self.sign(scope, sid, request.connection, if started.resumed { arrived } else { now });
        Ok(Answer::Started { sid, sent: request.sent })
    }

    fn sign(&mut self, scope: &Scope, sid: Sid, connection: u32, arrived: Time) {
        if let Some(truth) = self.truth_mut(sid) {
            truth.sign(connection, arrived, scope.window);
        }
    }

    /// A call that was let in takes its motor, and moves it.
    pub(super) fn take(&mut self, scope: &Scope, who: usize, which: usize) -> Result<(), Broken> {
        let request = self.callers[who].requests.remove(which);
        let What::Call { sid, motor } = request.what else { return Ok(()) };
        let now = at(self.now);
        if self.book().associate(motor_name(motor), sid.uuid(), now).is_err() {
            self.answer(scope, who, request.connection, Answer::CallRefused { sid, motor });
            return Ok(());
        }
        let good = self.truth(sid).is_some_and(|truth| {
            // It was let in on this connection; what happened since is another matter.
            !truth.ended && truth.owner == who
        });
        if !good {
            let why = format!("{} is moved under a session that is gone", motor_name(motor));
            return Err(Broken::new(Rule::BindsIdsToConnections, why));
        }
        let moved = &mut self.robot.motors[usize::from(motor)];
        (moved.runs, moved.by) = (true, Some(sid));
        Ok(())
    }

    /// The robot notices that a connection is gone.
    pub(super) fn notice(&mut self, scope: &Scope, who: usize) {
        let now = self.now;
        let caller = &mut self.callers[who];
        let connection = caller.unnoticed.remove(0);
        caller.requests.retain(|request| request.connection != connection || request.at_robot != AtRobot::No);
        let grace = scope.grace.map(|grace| TICK * grace);
        let number = Self::seen(who, connection).connection;
        let lost = self.book().disconnected(number, grace, at(now));
        for sid in lost.into_iter().map(Sid::of) {
            if let Some(truth) = self.truth_mut(sid) {
                truth.lost = Some(now);
                let cut = scope.grace.map_or(truth.deadline, |grace| now + grace);
                truth.deadline = truth.deadline.min(cut);
            }
        }
    }

    /// The robot ends the sessions that are over.
    pub(super) fn expire(&mut self, scope: &Scope) -> Result<(), Broken> {
        let mut time = self.now;
        if scope.has(Flaw::ExpiresEarly) {
            time += 1;
        }
        if self.robot.seen_over.take().is_some() {
            // Whatever has become of them since.
            let deadlines = self.robot.book.sessions().map(|(_, session)| tick_of(session.deadline));
            time = deadlines.fold(time, Time::max);
        }
        // A call of the model moves its motor at once, and is gone.
        let ended = self.book().expire(at(time), |_| BTreeSet::new());
        for ended in ended {
            let sid = Sid::of(ended.id);
            self.may_end(scope, sid, !ended.stops.is_empty())?;
            if let Some(truth) = self.truth_mut(sid) {
                truth.ended = true;
            }
            self.cancel_calls(scope, sid);
            let due = self.truth(sid).map_or(self.now, |truth| truth.deadline);
            for stop in ended.stops {
                let motor = u8::from(stop.resource == motor_name(1));
                if !scope.has(Flaw::ForgetsToStop) {
                    self.robot.stops.push(Stopping { stop, motor, sid, due, begun: false });
                }
            }
        }
        Ok(())
    }

    fn cancel_calls(&mut self, scope: &Scope, ended: Sid) {
        for who in 0..self.callers.len() {
            let admitted = |request: &&Request| {
                request.at_robot == AtRobot::Admitted && request.what.sid() == Some(ended)
            };
            let cancelled = self.callers[who].requests.iter().filter(admitted).copied().collect::<Vec<_>>();
            self.callers[who].requests.retain(|request| !cancelled.contains(request));
            for request in cancelled {
                if let What::Call { sid, motor } = request.what {
                    self.answer(scope, who, request.connection, Answer::CallRefused { sid, motor });
                }
            }
        }
    }

    pub(super) fn begin_stop(&mut self, scope: &Scope, which: usize) -> Result<(), Broken> {
        let stop = self.robot.stops[which].stop.clone();
        if self.book().begin_stop(&stop) || scope.has(Flaw::StopsUnasked) {
            self.robot.stops[which].begun = true;
            if !scope.slow {
                return self.end_stop(which);
            }
        } else {
            self.robot.stops.remove(which);
        }
        Ok(())
    }

    pub(super) fn end_stop(&mut self, which: usize) -> Result<(), Broken> {
        let stopping = self.robot.stops.remove(which);
        self.may_stop(&stopping)?;
        self.robot.motors[usize::from(stopping.motor)].runs = false;
        if self.book().end_stop(&stopping.stop, false) {
            return Err(Broken::new(
                Rule::SparesTheNextOwner,
                "somebody took a motor while it was being stopped",
            ));
        }
        Ok(())
    }

    /// The robot's process ends, and another one takes its place. What it moved stands.
    pub(super) fn restart(&mut self, scope: &Scope) {
        self.robot.book = Rc::new(Book::new(scope.rules()));
        self.robot.stops.clear();
        self.robot.seen_over = None;
        for motor in &mut self.robot.motors {
            (motor.runs, motor.by) = (false, None);
        }
        for truth in &mut self.truths {
            (truth.ended, truth.forgotten) = (true, true);
        }
        for caller in &mut self.callers {
            caller.requests.retain(|request| request.at_robot == AtRobot::No);
        }
    }

    /// Sessions that nobody knows of, whose start was answered to nobody, end without a step of their own.
    pub(super) fn bury(&mut self, scope: &Scope) -> Result<(), Broken> {
        let over = at(self.now - scope.lag);
        if self.robot.book.next_deadline().is_none_or(|next| next > over) {
            return Ok(());
        }
        for ended in self.book().expire(over, |_| BTreeSet::new()) {
            let sid = Sid::of(ended.id);
            if !ended.stops.is_empty() || self.is_known(sid) {
                return Err(Broken::new(Rule::StopsInTime, "the robot has overslept".to_owned()));
            }
        }
        Ok(())
    }

    /// Forgets what is true of sessions that nobody knows of.
    pub(super) fn forget(&mut self) {
        let mut truths = std::mem::take(&mut self.truths);
        truths.retain(|truth| self.is_known(truth.sid));
        self.truths = truths;
        // What nobody waits for, and the robot refuses.
        for who in 0..self.callers.len() {
            let sid = self.callers[who].live().map(|live| live.sid);
            let mut requests = std::mem::take(&mut self.callers[who].requests);
            requests.retain(|request| match request.what {
                What::Start { .. } => true,
                What::Beat { sid: about } | What::Call { sid: about, .. } => {
                    sid == Some(about) || self.truth(about).is_some_and(|truth| !truth.ended)
                }
            });
            self.callers[who].requests = requests;
            self.callers[who].answers.retain(|answer| match answer {
                Answer::CallRefused { sid: about, .. } => sid == Some(*about),
                _ => true,
            });
        }
        for motor in 0..self.robot.motors.len() {
            let motor = &mut self.robot.motors[motor];
            if !motor.runs && !self.robot.stops.iter().any(|stopping| Some(stopping.sid) == motor.by) {
                motor.by = None;
            }
        }
        for caller in &mut self.callers {
            if let (false, Phase::Idle { last }) = (caller.alive, &mut caller.phase) {
                *last = None;
            }
        }
    }
}
