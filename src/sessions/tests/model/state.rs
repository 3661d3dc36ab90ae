//! What there is: callers, their robot, what is on its way between them, and what is true.
//!
//! The lease, the rule of when a call may carry its session, and the robot's book are the real ones.

use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Flaw;
use crate::sessions::LeaseState;
use crate::sessions::caller::model::Lease;
use crate::sessions::robot::model::{Book, Rules, Stop};

/// In ticks since the beginning.
pub(super) type Time = u32;

/// The time that a robot may need to notice, by the lease's arithmetic.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// When everything begins: not at zero, so that something may lie before it.
pub(super) const BEGINNING: Time = 100;

pub(super) fn at(time: Time) -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now) + TICK * time
}

/// The tick of an instant that [`at`] made.
pub(super) fn tick_of(instant: Instant) -> Time {
    let ticks = instant.duration_since(at(0)).as_millis() / TICK.as_millis();
    Time::try_from(ticks).unwrap()
}

/// What may take as long as it likes, and overtake what was sent before. All else arrives within its tick or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Late {
    Nothing,
    Calls,
    Everything,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub(super) callers: usize,
    pub(super) motors: u8,
    /// In ticks. A caller may beat at every tick; that some of its heartbeats never get anywhere is all that
    /// matters of how often it does.
    pub(super) window: Time,
    /// Heartbeats of one caller under way at once, and acknowledgements: what does not fit is lost.
    pub(super) in_flight: usize,
    pub(super) late: Late,
    /// Answers that are not late may get lost.
    pub(super) lost_answers: bool,
    /// Something can happen between a call's admission and its motion, and while a motor is being stopped.
    pub(super) slow: bool,
    /// How late, in ticks, the robot may look at a deadline.
    pub(super) lag: Time,
    /// Requests may arrive and be looked at a tick later.
    pub(super) backlog: bool,
    /// Connections are cut and made again: one at a time is without, or has been lost without the robot's notice.
    pub(super) cuts: bool,
    /// What was sent over a connection that was cut may arrive until the robot has noticed.
    pub(super) stale: bool,
    /// The robot forgets everything.
    pub(super) restarts: bool,
    /// Callers die.
    pub(super) deaths: bool,
    /// What a robot leaves a session whose connection it knows to be lost: [`OnDisconnect::StopAfter`].
    ///
    /// [`OnDisconnect::StopAfter`]: crate::sessions::robot::OnDisconnect
    pub(super) grace: Option<Time>,
    /// Whether heartbeats may come over another connection than the session's.
    pub(super) same_host: bool,
    pub(super) flaw: Option<Flaw>,
}

impl Scope {
    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            window: TICK * self.window,
            max_sessions: 100,
            max_per_owner: 100,
            max_resources: 100,
            same_host: self.same_host,
        }
    }
}

/// A session, numbered in the order of their starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sid(pub(super) u32);

impl Sid {
    pub(super) fn uuid(self) -> Uuid {
        Uuid::from_u128(self.0.into())
    }

    pub(super) fn of(id: Uuid) -> Self {
        Self(id.as_u128().try_into().unwrap())
    }
}

#[derive(Clone)]
pub(super) struct State {
    pub(super) now: Time,
    pub(super) callers: Vec<Caller>,
    pub(super) robot: Robot,
    /// What is true of sessions, whatever anybody believes.
    pub(super) truths: Vec<Truth>,
    /// Sessions so far.
    pub(super) sessions: u32,
}

#[derive(Clone)]
pub(super) struct Caller {
    pub(super) alive: bool,
    /// The number of its connection, or of the last one.
    pub(super) connection: u32,
    pub(super) up: bool,
    /// Connections that were cut, which the robot has not noticed.
    pub(super) unnoticed: Vec<u32>,
    pub(super) phase: Phase,
    /// A session is being started or resumed, over the present connection.
    pub(super) asking: Option<Asking>,
    /// Since when its user has had reason to doubt that all is well.
    pub(super) doubt: Option<Time>,
    pub(super) requests: Vec<Request>,
    pub(super) answers: Vec<Answer>,
}

#[derive(Clone, Copy)]
pub(super) enum Phase {
    Idle { last: Option<Sid> },
    Live(Live),
}

/// The keeper and what calls see of it.
#[derive(Clone, Copy)]
pub(super) struct Live {
    pub(super) sid: Sid,
    pub(super) lease: Lease,
    /// When something was acknowledged last, as the lease has it.
    pub(super) acknowledged: Time,
    /// The state that was announced last.
    pub(super) state: LeaseState,
    pub(super) bound: bool,
    pub(super) doubted: bool,
    /// The connection that the robot knows it on.
    pub(super) connection: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Asking {
    /// A call waits for it, which moves this.
    pub(super) wants: Option<u8>,
}

/// On its way to the robot, or waiting there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) connection: u32,
    pub(super) sent: Time,
    pub(super) what: What,
    pub(super) at_robot: AtRobot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Start { resume: Option<Sid> },
    Beat { sid: Sid },
    Call { sid: Sid, motor: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtRobot {
    /// It is on its way.
    No,
    /// It has arrived, and nobody has looked at it.
    Arrived(Time),
    /// A call whose session is good, and which has not taken its motor yet.
    Admitted,
}

/// On its way to the caller, over its present connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Started { sid: Sid, sent: Time },
    Acknowledged { sid: Sid, sent: Time },
    BeatRefused { sid: Sid },
    CallRefused { sid: Sid, motor: u8 },
}

#[derive(Clone)]
pub(super) struct Robot {
    /// Shared by states that follow each other and differ elsewhere.
    pub(super) book: Rc<Book>,
    pub(super) motors: Vec<Motor>,
    pub(super) stops: Vec<Stopping>,
    /// A robot that looks first and acts later has seen that a session is over: a flaw.
    pub(super) seen_over: Option<()>,
}

#[derive(Clone, Copy)]
pub(super) struct Motor {
    pub(super) runs: bool,
    /// Who moved it last.
    pub(super) by: Option<Sid>,
}

/// A task that stops a motor.
#[derive(Clone)]
pub(super) struct Stopping {
    pub(super) stop: Stop,
    pub(super) motor: u8,
    pub(super) sid: Sid,
    /// The deadline that was missed.
    pub(super) due: Time,
    pub(super) begun: bool,
}

/// What is true of a session, told by what arrived at the robot, and by nothing that the robot made of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Truth {
    pub(super) sid: Sid,
    pub(super) owner: usize,
    /// Its owner's connection on which it was started or resumed last.
    pub(super) connection: u32,
    /// When the last sign of life arrived that counts.
    pub(super) sign: Time,
    /// A window after that, or less where the robot leaves a grace.
    pub(super) deadline: Time,
    /// The robot said that it had got the last sign. Not part of what makes states differ: it decides which of
    /// two rules is named for an end that breaks both.
    pub(super) promised: bool,
    /// When the robot noticed that its connection was gone.
    pub(super) lost: Option<Time>,
    pub(super) ended: bool,
    /// It ended because the robot forgot everything.
    pub(super) forgotten: bool,
}

impl State {
    pub(super) fn new(scope: &Scope) -> Self {
        let caller = Caller {
            alive: true,
            connection: 1,
            up: true,
            unnoticed: Vec::new(),
            phase: Phase::Idle { last: None },
            asking: None,
            doubt: Some(0),
            requests: Vec::new(),
            answers: Vec::new(),
        };
        let motor = Motor { runs: false, by: None };
        let robot = Robot {
            book: Rc::new(Book::new(scope.rules())),
            motors: vec![motor; scope.motors.into()],
            stops: Vec::new(),
            seen_over: None,
        };
        Self { now: BEGINNING, callers: vec![caller; scope.callers], robot, truths: Vec::new(), sessions: 0 }
    }

    pub(super) fn book(&mut self) -> &mut Book {
        Rc::make_mut(&mut self.robot.book)
    }

    pub(super) fn truth(&self, sid: Sid) -> Option<&Truth> {
        self.truths.iter().find(|truth| truth.sid == sid)
    }

    pub(super) fn truth_mut(&mut self, sid: Sid) -> Option<&mut Truth> {
        self.truths.iter_mut().find(|truth| truth.sid == sid)
    }

    /// When the book says that a session is over; `None` if it has none such.
    pub(super) fn deadline(&self, sid: Sid) -> Option<Time> {
        self.robot.book.session(sid.uuid()).map(|session| tick_of(session.deadline))
    }

    /// Whether anybody can still tell that the session was.
    pub(super) fn is_known(&self, sid: Sid) -> bool {
        let by_caller = |caller: &Caller| {
            let phase = match caller.phase {
                Phase::Idle { last } => last == Some(sid),
                Phase::Live(live) => live.sid == sid,
            };
            phase
                || caller.requests.iter().any(|request| request.what.sid() == Some(sid))
                || caller.answers.iter().any(|answer| answer.sid() == sid)
        };
        self.callers.iter().any(by_caller)
            || self.robot.motors.iter().any(|motor| motor.by == Some(sid))
            || self.robot.stops.iter().any(|stopping| stopping.sid == sid)
            || self.robot.book.resources().any(|(_, holder)| holder == Some(sid.uuid()))
    }
}

impl Caller {
    pub(super) fn live(&self) -> Option<&Live> {
        match &self.phase {
            Phase::Live(live) => Some(live),
            Phase::Idle { .. } => None,
        }
    }

    /// Whether answers over this connection reach it.
    pub(super) fn hears(&self, connection: u32) -> bool {
        self.alive && self.up && self.connection == connection
    }
}

impl Live {
    pub(super) fn is_usable(&self) -> bool {
        crate::sessions::caller::model::is_usable(self.lease, self.state, self.bound, self.doubted)
    }
}

impl What {
    pub(super) fn sid(self) -> Option<Sid> {
        match self {
            Self::Start { resume } => resume,
            Self::Beat { sid } | Self::Call { sid, .. } => Some(sid),
        }
    }
}

impl Answer {
    pub(super) fn is_of_beat(&self) -> bool {
        matches!(self, Self::Acknowledged { .. } | Self::BeatRefused { .. })
    }

    pub(super) fn sid(self) -> Sid {
        match self {
            Self::Started { sid, .. }
            | Self::Acknowledged { sid, .. }
            | Self::BeatRefused { sid }
            | Self::CallRefused { sid, .. } => sid,
        }
    }
}

impl Truth {
    /// Whether what comes over this connection gives it time: not if it is the session's own, and gone.
    pub(super) fn counts(&self, connection: u32) -> bool {
        self.lost.is_none() || connection != self.connection
    }

    /// A sign of life has arrived. Whether it counts is said here once more, as simply as can be.
    pub(super) fn sign(&mut self, connection: u32, arrived: Time, window: Time) {
        if self.counts(connection) {
            self.promised &= arrived < self.sign;
            self.sign = self.sign.max(arrived);
            self.deadline = self.deadline.max(arrived + window);
        }
    }
}

pub(super) fn motor_name(motor: u8) -> &'static str {
    ["m1", "m2"][usize::from(motor)]
}

pub(super) fn caller_name(caller: usize) -> &'static str {
    ["Ann", "Bob"][caller]
}
