//! What can happen next.

use super::Flaw;
use super::rules::Broken;
use super::state::{
    Answer, AtRobot, BEGINNING, Caller, Late, Phase, Request, Scope, State, Time, What, at, caller_name,
    motor_name, tick_of,
};
use crate::sessions::LeaseState;

/// What becomes of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    OnItsWay,
    /// It has arrived, and the robot will look at it later.
    InBacklog,
    /// It has arrived, and this is known.
    Answered,
    /// It has arrived, and the answer is lost.
    Unanswered,
}

/// One thing that happens. Callers, requests, answers and stops by their place in the state before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Time goes on.
    Tick,
    Ask {
        who: usize,
        motor: u8,
    },
    Beat {
        who: usize,
        fate: Fate,
    },
    Call {
        who: usize,
        motor: u8,
    },
    GiveUp {
        who: usize,
    },
    Abandon {
        who: usize,
    },
    Cut {
        who: usize,
    },
    Reconnect {
        who: usize,
    },
    Die {
        who: usize,
    },
    /// A request arrives, to be looked at later.
    Arrive {
        who: usize,
        which: usize,
    },
    /// The robot looks at a request. What it answers may get lost.
    Handle {
        who: usize,
        which: usize,
        answered: bool,
    },
    Take {
        who: usize,
        which: usize,
    },
    Receive {
        who: usize,
        which: usize,
    },
    Notice {
        who: usize,
    },
    /// The robot sees that a session is over, and acts later.
    Look,
    Expire,
    BeginStop {
        which: usize,
    },
    EndStop {
        which: usize,
    },
    Restart,
}

impl Step {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Tick => "Tick",
            Self::Ask { .. } => "Ask",
            Self::Beat { .. } => "Beat",
            Self::Call { .. } => "Call",
            Self::GiveUp { .. } => "GiveUp",
            Self::Abandon { .. } => "Abandon",
            Self::Cut { .. } => "Cut",
            Self::Reconnect { .. } => "Reconnect",
            Self::Die { .. } => "Die",
            Self::Arrive { .. } => "Arrive",
            Self::Handle { .. } => "Handle",
            Self::Take { .. } => "Take",
            Self::Receive { .. } => "Receive",
            Self::Notice { .. } => "Notice",
            Self::Look => "Look",
            Self::Expire => "Expire",
            Self::BeginStop { .. } => "BeginStop",
            Self::EndStop { .. } => "EndStop",
            Self::Restart => "Restart",
        }
    }
}

impl State {
    pub(super) fn steps(&self, scope: &Scope) -> Vec<Step> {
        let mut steps = Vec::new();
        for who in 0..self.callers.len() {
            self.steps_of_caller(scope, who, &mut steps);
            self.steps_of_network(scope, who, &mut steps);
        }
        let over = self.robot.book.sessions().any(|(_, session)| {
            let early = Time::from(scope.has(Flaw::ExpiresEarly));
            tick_of(session.deadline) <= self.now + early
        });
        match (over, scope.has(Flaw::OverrulesAcknowledgements), self.robot.seen_over) {
            (true, true, None) => steps.push(Step::Look),
            (_, true, Some(())) | (true, false, _) => steps.push(Step::Expire),
            _ => {}
        }
        for (which, stopping) in self.robot.stops.iter().enumerate() {
            steps.push(if stopping.begun { Step::EndStop { which } } else { Step::BeginStop { which } });
        }
        if scope.restarts && self.robot.book.len() > 0 {
            steps.push(Step::Restart);
        }
        if self.may_tick(scope) {
            steps.push(Step::Tick);
        }
        steps
    }

    fn steps_of_caller(&self, scope: &Scope, who: usize, steps: &mut Vec<Step>) {
        let caller = &self.callers[who];
        if !caller.alive {
            return;
        }
        if scope.deaths {
            steps.push(Step::Die { who });
        }
        if !caller.up {
            return steps.push(Step::Reconnect { who });
        }
        let in_trouble = |other: &Caller| !other.up || !other.unnoticed.is_empty();
        let of_this = |request: &Request| request.connection == caller.connection;
        if scope.cuts && !self.callers.iter().any(in_trouble) && caller.requests.iter().all(of_this) {
            steps.push(Step::Cut { who });
        }
        if caller.asking.is_some() && scope.late > Late::Nothing {
            steps.push(Step::GiveUp { who });
        }
        let motors = 0..scope.motors;
        match caller.phase {
            Phase::Idle { .. } if caller.asking.is_none() => {
                steps.extend(motors.map(|motor| Step::Ask { who, motor }));
            }
            Phase::Idle { .. } => {}
            Phase::Live(live) => {
                if live.lease.state(at(self.now)) == LeaseState::Lost && caller.asking.is_none() {
                    steps.push(Step::Abandon { who });
                }
                if live.is_usable() {
                    if !self.calls(who) {
                        steps.extend(motors.map(|motor| Step::Call { who, motor }));
                    }
                } else if caller.asking.is_none() {
                    steps.extend(motors.map(|motor| Step::Ask { who, motor }));
                }
                let is_beat = |request: &&Request| {
                    matches!(request.what, What::Beat { .. }) && request.connection == caller.connection
                };
                let beats = caller.requests.iter().filter(is_beat);
                let room = beats.clone().count() < scope.in_flight;
                let first_of_tick = beats.clone().all(|beat| beat.sent != self.now);
                if live.connection != caller.connection {
                } else if scope.late < Late::Everything {
                    // A second one in a tick changes nothing.
                    if live.acknowledged < self.now {
                        steps.push(Step::Beat { who, fate: Fate::Answered });
                    }
                    let truth = self.truth(live.sid);
                    let is_first = truth.is_none_or(|truth| truth.ended || truth.sign < self.now);
                    if scope.lost_answers && is_first {
                        steps.push(Step::Beat { who, fate: Fate::Unanswered });
                    }
                    if scope.backlog && room {
                        steps.push(Step::Beat { who, fate: Fate::InBacklog });
                    }
                } else if room && first_of_tick {
                    steps.push(Step::Beat { who, fate: Fate::OnItsWay });
                }
            }
        }
    }

    fn steps_of_network(&self, scope: &Scope, who: usize, steps: &mut Vec<Step>) {
        let caller = &self.callers[who];
        for (which, request) in caller.requests.iter().enumerate() {
            match request.at_robot {
                AtRobot::No if scope.backlog => steps.push(Step::Arrive { who, which }),
                AtRobot::No | AtRobot::Arrived(_) => self.steps_of_request(scope, who, which, steps),
                AtRobot::Admitted => {
                    let What::Call { motor, .. } = request.what else { continue };
                    if !self.robot.book.is_stopping(motor_name(motor)) {
                        steps.push(Step::Take { who, which });
                    }
                }
            }
        }
        steps.extend((0..caller.answers.len()).map(|which| Step::Receive { who, which }));
        if !caller.unnoticed.is_empty() {
            steps.push(Step::Notice { who });
        }
    }

    fn steps_of_request(&self, scope: &Scope, who: usize, which: usize, steps: &mut Vec<Step>) {
        let caller = &self.callers[who];
        let is_beat = matches!(caller.requests[which].what, What::Beat { .. });
        let answers = caller.answers.iter().filter(|answer| answer.is_of_beat()).count();
        let has_room = answers < scope.in_flight && caller.hears(caller.requests[which].connection);
        if !is_beat || has_room {
            steps.push(Step::Handle { who, which, answered: true });
        }
        // Where answers may be late, the others may be so for ever.
        if if scope.late < Late::Everything { scope.lost_answers } else { is_beat } {
            steps.push(Step::Handle { who, which, answered: false });
        }
    }

    /// Time goes on only when the robot has done what it must have done by then.
    fn may_tick(&self, scope: &Scope) -> bool {
        let next = self.now + 1;
        let in_time = |due: Time| next <= due + scope.lag;
        let known = self.truths.iter().filter(|truth| !truth.ended);
        known.map(|truth| self.deadline(truth.sid).unwrap_or(next)).all(in_time)
            && self.robot.stops.iter().all(|stopping| in_time(stopping.due))
            && self.callers.iter().flat_map(|caller| &caller.requests).all(|request| match request.at_robot {
                AtRobot::Arrived(arrived) => next <= arrived + 1,
                _ => true,
            })
    }

    pub(super) fn after(&self, scope: &Scope, step: Step) -> Result<Self, Broken> {
        let mut state = self.clone();
        state.take_step(scope, step)?;
        state.forget();
        Ok(state)
    }

    fn take_step(&mut self, scope: &Scope, step: Step) -> Result<(), Broken> {
        match step {
            Step::Tick => {
                self.bury(scope)?;
                self.now += 1;
                let is_lost = |request: &Request| match (request.at_robot, request.what) {
                    (AtRobot::No, What::Start { .. }) => scope.late < Late::Everything,
                    (AtRobot::No, What::Call { .. }) => scope.late < Late::Calls,
                    _ => false,
                };
                for caller in &mut self.callers {
                    caller.requests.retain(|request| !is_lost(request));
                }
                for who in 0..self.callers.len() {
                    if scope.late == Late::Nothing
                        && self.callers[who].up
                        && self.callers[who].asking.is_some()
                    {
                        self.give_up(scope, who);
                    }
                    self.look(scope, who);
                }
            }
            Step::Ask { who, motor } => self.ask(who, Some(motor)),
            Step::Beat { who, fate } => {
                if let Phase::Live(live) = self.callers[who].phase {
                    self.send(who, What::Beat { sid: live.sid });
                    let which = self.callers[who].requests.len() - 1;
                    match fate {
                        Fate::OnItsWay => {}
                        Fate::InBacklog => {
                            self.callers[who].requests[which].at_robot = AtRobot::Arrived(self.now);
                        }
                        _ => self.handle(scope, who, which, fate == Fate::Answered)?,
                    }
                }
            }
            Step::Call { who, motor } => {
                if let Phase::Live(live) = self.callers[who].phase {
                    self.send(who, What::Call { sid: live.sid, motor });
                }
            }
            Step::GiveUp { who } => self.give_up(scope, who),
            Step::Abandon { who } => self.abandon(who),
            Step::Cut { who } => self.cut(scope, who),
            Step::Reconnect { who } => self.reconnect(scope, who),
            Step::Die { who } => self.die(who),
            Step::Arrive { who, which } => {
                self.callers[who].requests[which].at_robot = AtRobot::Arrived(self.now);
            }
            Step::Handle { who, which, answered } => self.handle(scope, who, which, answered)?,
            Step::Take { who, which } => self.take(scope, who, which)?,
            Step::Receive { who, which } => self.receive(scope, who, which),
            Step::Notice { who } => self.notice(scope, who),
            Step::Look => self.robot.seen_over = Some(()),
            Step::Expire => self.expire(scope)?,
            Step::BeginStop { which } => self.begin_stop(scope, which)?,
            Step::EndStop { which } => self.end_stop(which)?,
            Step::Restart => self.restart(scope),
        }
        Ok(())
    }

    /// The step in words, taken from this state.
    pub(super) fn tell(&self, step: Step) -> String {
        let name = |who: usize| caller_name(who);
        let request = |who: usize, which: usize| {
            let Request { connection, sent, what, .. } = self.callers[who].requests[which];
            let what = match what {
                What::Start { resume: None } => "start".to_owned(),
                What::Start { resume: Some(sid) } => format!("start that goes on with s{}", sid.0),
                What::Beat { sid } => format!("heartbeat for s{}", sid.0),
                What::Call { sid, motor } => format!("call to {} under s{}", motor_name(motor), sid.0),
            };
            format!("{}'s {what}, sent at {} over connection {connection}", name(who), sent - BEGINNING)
        };
        let lease = |who: usize| match self.callers[who].live() {
            Some(live) if live.state > LeaseState::Healthy => format!(", whose lease is {},", live.state),
            _ => String::new(),
        };
        let what = match step {
            Step::Tick => "a tick passes".to_owned(),
            Step::Ask { who, .. } => format!("{}{} asks for a session", name(who), lease(who)),
            Step::Beat { who, fate } => match fate {
                Fate::OnItsWay => format!("{} beats", name(who)),
                Fate::InBacklog => format!("{} beats, it arrives, and waits to be looked at", name(who)),
                Fate::Answered => format!("{} beats, it arrives, and the answer comes at once", name(who)),
                Fate::Unanswered => format!("{} beats, it arrives, and the answer is lost", name(who)),
            },
            Step::Call { who, motor } => format!("{}{} calls {}", name(who), lease(who), motor_name(motor)),
            Step::GiveUp { who } => format!("{} waits for the answer to a start no longer", name(who)),
            Step::Abandon { who } => format!("{} gives the session up", name(who)),
            Step::Cut { who } => format!("{} loses the connection", name(who)),
            Step::Reconnect { who } => format!("{} has another connection", name(who)),
            Step::Die { who } => format!("{} dies", name(who)),
            Step::Arrive { who, which } => format!("the robot has got {}", request(who, which)),
            Step::Handle { who, which, answered } => {
                let lost = if answered { "" } else { "; the answer is lost" };
                format!("the robot looks at {}{lost}", request(who, which))
            }
            Step::Take { who, which } => format!("the robot carries out {}", request(who, which)),
            Step::Receive { who, which } => {
                let name = name(who);
                match self.callers[who].answers[which] {
                    Answer::Started { sid, sent } => {
                        let sent = sent - BEGINNING;
                        format!("{name} is given s{}, asked for at {sent}", sid.0)
                    }
                    Answer::Acknowledged { sid, sent } => {
                        let sent = sent - BEGINNING;
                        format!("{name}'s heartbeat for s{}, sent at {sent}, is acknowledged", sid.0)
                    }
                    Answer::BeatRefused { sid } => format!("{name}'s heartbeat for s{} is refused", sid.0),
                    Answer::CallRefused { sid, .. } => format!("{name}'s call under s{} is refused", sid.0),
                }
            }
            Step::Notice { who } => format!("the robot notices that {}'s connection is gone", name(who)),
            Step::Look => "the robot sees that a session is over".to_owned(),
            Step::Expire => "the robot ends sessions".to_owned(),
            Step::BeginStop { which } => {
                let stopping = &self.robot.stops[which];
                format!("the robot is about to stop {} for s{}", motor_name(stopping.motor), stopping.sid.0)
            }
            Step::EndStop { which } => format!("{} is stopped", motor_name(self.robot.stops[which].motor)),
            Step::Restart => "the robot starts anew and knows nobody".to_owned(),
        };
        format!("{:>3}  {what}", self.now - BEGINNING)
    }
}
