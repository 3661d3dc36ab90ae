//! A motor that is not there: it turns by the clock, and prints a line whenever it starts, changes or stops.

use std::error::Error;
use std::time::Duration;

use farlink::proto::common::ResourceName;
use farlink::proto::motor::motor_service_server::{MotorService, MotorServiceServer};
use farlink::proto::motor::*;
use farlink::sessions::robot::{Resources, SessionEvent, SessionEvents};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// Its speed at full power, revolutions a minute.
const FULL_SPEED: f64 = 100.0;

/// A motor. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Motor {
    name: &'static str,
    motion: watch::Sender<Motion>,
}

/// What it does since when.
#[derive(Debug, Clone)]
pub(crate) struct Motion {
    /// From -1 to 1; 0 when it stands.
    pub(crate) power: f64,
    /// Since when it does so.
    pub(crate) since: Instant,
    position: f64,
    aim: Option<f64>,
    command: u64,
}

impl Motor {
    /// A motor that stands at zero.
    pub(crate) fn new(name: &'static str) -> Self {
        let motion = Motion { power: 0.0, since: Instant::now(), position: 0.0, aim: None, command: 0 };
        Self { name, motion: watch::Sender::new(motion) }
    }

    /// The service through which callers drive it.
    pub(crate) fn service(&self) -> MotorServiceServer<Self> {
        MotorServiceServer::new(self.clone())
    }

    /// What it does, now and at every change.
    pub(crate) fn motion(&self) -> watch::Receiver<Motion> {
        self.motion.subscribe()
    }

    /// Stops it; `by` is who did.
    pub(crate) fn stop_by(&self, by: &str) {
        self.drive(0.0, None, None, by);
    }

    /// Turns with this power until something else is asked, or until it is at `aim`. Returns the number of
    /// this command; `None`, and does nothing, when it is to follow a command that something else followed.
    fn drive(&self, power: f64, aim: Option<f64>, after: Option<u64>, by: &str) -> Option<u64> {
        let mut command = None;
        self.motion.send_if_modified(|motion| {
            if after.is_some_and(|after| after != motion.command) {
                return false;
            }
            let now = Instant::now();
            match power {
                _ if power == motion.power => {}
                0.0 => super::say!("MOTOR {} stopped by {by}", self.name),
                _ => super::say!("MOTOR {} power {power}", self.name),
            }
            let next = motion.command + 1;
            *motion = Motion { power, since: now, position: motion.position_at(now), aim, command: next };
            command = Some(next);
            true
        });
        command
    }

    /// Turns to a position and waits until it is there. A caller that goes away does not stop it: what does is
    /// the position, another command, or the end of the caller's session.
    async fn go(&self, aim: f64, rpm: f64) -> Result<(), Status> {
        let way = aim - self.position();
        if way == 0.0 {
            return Ok(());
        }
        let power = rpm.abs().min(FULL_SPEED) / FULL_SPEED;
        let takes = Duration::try_from_secs_f64(way.abs() / revolutions_a_second(power));
        let takes = takes.map_err(|_| Status::invalid_argument("that would take for ever"))?;
        let command = self.drive(power.copysign(way), Some(aim), None, "call");
        let motor = self.clone();
        let arrives = tokio::spawn(async move {
            let mut motion = motor.motion();
            let overtaken = motion.wait_for(|motion| Some(motion.command) != command);
            tokio::time::timeout(takes, overtaken).await.is_err()
                && motor.drive(0.0, None, command, "itself, where it should be").is_some()
        });
        match arrives.await {
            Ok(true) => Ok(()),
            _ => {
                let at = self.position();
                Err(Status::aborted(format!(
                    "it did not get to {aim}: something else was asked of it at {at:.2}"
                )))
            }
        }
    }

    fn position(&self) -> f64 {
        self.motion.borrow().position_at(Instant::now())
    }

    fn expect_name(&self, name: &str) -> Result<(), Status> {
        let unknown = || Status::not_found(format!("no motor is called {name:?}; there is {:?}", self.name));
        if name == self.name { Ok(()) } else { Err(unknown()) }
    }
}

impl Motion {
    fn position_at(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        let position = self.position + revolutions_a_second(self.power) * elapsed;
        match self.aim {
            Some(aim) if self.power > 0.0 => position.min(aim),
            Some(aim) => position.max(aim),
            None => position,
        }
    }
}

fn revolutions_a_second(power: f64) -> f64 {
    power * FULL_SPEED / 60.0
}

/// A number that it can turn by.
fn number(what: &str, value: f64) -> Result<f64, Status> {
    if value.is_finite() { Ok(value) } else { Err(Status::invalid_argument(format!("{what} is no number"))) }
}

/// A speed that gets it somewhere.
fn speed(rpm: f64) -> Result<f64, Status> {
    match number("rpm", rpm)? {
        rpm if rpm.abs() < 0.1 => {
            Err(Status::invalid_argument("at 0 rpm it gets nowhere: ask for 0.1 or more"))
        }
        rpm => Ok(rpm),
    }
}

/// What sessions have to know.
#[tonic::async_trait]
impl Resources for Motor {
    fn names(&self) -> Vec<ResourceName> {
        let [namespace, r#type, subtype, name] = ["rdk", "component", "motor", self.name].map(str::to_owned);
        vec![ResourceName { namespace, r#type, subtype, name }]
    }

    async fn stop(&self, _: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.stop_by("session expiry");
        Ok(())
    }
}

#[tonic::async_trait]
impl MotorService for Motor {
    async fn set_power(
        &self,
        request: Request<SetPowerRequest>,
    ) -> Result<Response<SetPowerResponse>, Status> {
        let SetPowerRequest { name, power_pct, .. } = request.into_inner();
        self.expect_name(&name)?;
        if !(-1.0..=1.0).contains(&power_pct) {
            return Err(Status::invalid_argument(format!("power_pct is from -1 to 1, not {power_pct}")));
        }
        self.drive(power_pct, None, None, "call");
        Ok(Response::new(SetPowerResponse {}))
    }

    async fn set_rpm(&self, request: Request<SetRpmRequest>) -> Result<Response<SetRpmResponse>, Status> {
        let SetRpmRequest { name, rpm, .. } = request.into_inner();
        self.expect_name(&name)?;
        let rpm = number("rpm", rpm)?.clamp(-FULL_SPEED, FULL_SPEED);
        self.drive(rpm / FULL_SPEED, None, None, "call");
        Ok(Response::new(SetRpmResponse {}))
    }

    async fn go_for(&self, request: Request<GoForRequest>) -> Result<Response<GoForResponse>, Status> {
        let GoForRequest { name, rpm, revolutions, .. } = request.into_inner();
        self.expect_name(&name)?;
        let way = number("revolutions", revolutions)? * speed(rpm)?.signum();
        if way == 0.0 {
            return Err(Status::invalid_argument("0 revolutions get it nowhere: SetRPM turns without end"));
        }
        self.go(self.position() + way, rpm).await?;
        Ok(Response::new(GoForResponse {}))
    }

    async fn go_to(&self, request: Request<GoToRequest>) -> Result<Response<GoToResponse>, Status> {
        let GoToRequest { name, rpm, position_revolutions, .. } = request.into_inner();
        self.expect_name(&name)?;
        self.go(number("position_revolutions", position_revolutions)?, speed(rpm)?).await?;
        Ok(Response::new(GoToResponse {}))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        self.expect_name(&request.into_inner().name)?;
        self.stop_by("call");
        Ok(Response::new(StopResponse {}))
    }

    async fn reset_zero_position(
        &self,
        request: Request<ResetZeroPositionRequest>,
    ) -> Result<Response<ResetZeroPositionResponse>, Status> {
        let ResetZeroPositionRequest { name, offset, .. } = request.into_inner();
        self.expect_name(&name)?;
        let zero = self.position() + number("offset", offset)?;
        self.motion.send_modify(|motion| {
            motion.position -= zero;
            motion.aim = motion.aim.map(|aim| aim - zero);
        });
        Ok(Response::new(ResetZeroPositionResponse {}))
    }

    async fn get_position(
        &self,
        request: Request<GetPositionRequest>,
    ) -> Result<Response<GetPositionResponse>, Status> {
        self.expect_name(&request.into_inner().name)?;
        Ok(Response::new(GetPositionResponse { position: self.position() }))
    }

    async fn get_properties(
        &self,
        request: Request<GetPropertiesRequest>,
    ) -> Result<Response<GetPropertiesResponse>, Status> {
        self.expect_name(&request.into_inner().name)?;
        Ok(Response::new(GetPropertiesResponse { position_reporting: true }))
    }

    async fn is_powered(
        &self,
        request: Request<IsPoweredRequest>,
    ) -> Result<Response<IsPoweredResponse>, Status> {
        self.expect_name(&request.into_inner().name)?;
        let power_pct = self.motion.borrow().power;
        Ok(Response::new(IsPoweredResponse { is_on: power_pct != 0.0, power_pct }))
    }

    async fn is_moving(
        &self,
        request: Request<IsMovingRequest>,
    ) -> Result<Response<IsMovingResponse>, Status> {
        self.expect_name(&request.into_inner().name)?;
        Ok(Response::new(IsMovingResponse { is_moving: self.motion.borrow().power != 0.0 }))
    }
}

/// Seconds on the command line.
#[allow(dead_code, reason = "not every example takes seconds")]
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds, such as 2.5".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| "expected seconds, 0 or more and not for ever".to_owned())
}

/// Says what a robot's owner must know: what does not stand still, or will not be stopped.
#[allow(dead_code, reason = "not every example watches its sessions")]
pub(crate) async fn tell(mut events: SessionEvents) {
    while let Some(event) = events.next().await {
        if matches!(event, SessionEvent::StopFailed { .. } | SessionEvent::NotAssociated { .. }) {
            eprintln!("{event:?}");
        }
    }
}
