//! One attempt's clock: stages that are timed, a deadline that bounds them, and the report they leave.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::error::{Cause, Failure};
use super::report::{AttemptReport, Stage, StageReport};
use crate::transport::{Path, TransportKind};

/// An attempt that is being made.
#[derive(Debug)]
pub(super) struct Attempt {
    transport: TransportKind,
    server: String,
    began: Instant,
    deadline: Instant,
    stages: Vec<StageReport>,
    entered: Option<(Stage, Instant)>,
    path: Option<Path>,
    downgraded: bool,
}

impl Attempt {
    pub(super) fn new(transport: TransportKind, server: String, deadline: Instant) -> Self {
        let began = Instant::now();
        Self {
            transport,
            server,
            began,
            deadline,
            stages: Vec::new(),
            entered: None,
            path: None,
            downgraded: false,
        }
    }

    /// When the attempt must be over.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The data channel opened on this path.
    pub(super) fn on_path(&mut self, path: Option<Path>) {
        self.path = path;
    }

    /// The server turned out not to speak TLS, and the attempt goes on in plaintext.
    pub(super) fn downgrade(&mut self) {
        self.downgraded = true;
    }

    /// Runs one stage, with at most `share` of the time that is left: a server that says nothing must not
    /// take the time of the stages after it.
    pub(super) async fn stage<T, E: Into<Cause>>(
        &mut self,
        stage: Stage,
        share: Share,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Cause> {
        self.enter(stage);
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        let until = now + share.of(left);
        match timeout_at(until, work).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(Cause::Timeout),
        }
    }

    /// Begins a stage; the one before it is over.
    pub(super) fn enter(&mut self, stage: Stage) {
        self.leave();
        self.entered = Some((stage, Instant::now()));
        tracing::debug!(transport = %self.transport, %stage, "dial stage");
    }

    /// Says which stage failed, when its own work knows better than the order of stages.
    pub(super) fn enter_failed(&mut self, stage: Stage) {
        if self.entered.is_none_or(|(entered, _)| entered != stage) {
            self.enter(stage);
        }
    }

    /// The report of an attempt that is over.
    pub(super) fn finish(mut self, cause: Option<Cause>) -> AttemptReport {
        let failure = cause.map(|cause| self.fail(cause));
        self.leave();
        let elapsed = self.began.elapsed();
        let Self { transport, server, stages, path, downgraded, .. } = self;
        AttemptReport { transport, server, stages, elapsed, path, downgraded, failure }
    }

    /// How it failed, in the stage that it stands in.
    pub(super) fn fail(&self, cause: Cause) -> Failure {
        let stage = self.entered.map_or(Stage::Resolve, |(stage, _)| stage);
        Failure {
            transport: self.transport,
            server: self.server.clone(),
            stage,
            elapsed: self.began.elapsed(),
            cause,
        }
    }

    fn leave(&mut self) {
        if let Some((stage, at)) = self.entered.take() {
            self.stages.push(StageReport { stage, elapsed: at.elapsed() });
        }
    }
}

/// How much of the time that is left a stage may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Half of it.
    Half,
    /// All of it.
    All,
}

impl Share {
    fn of(self, left: Duration) -> Duration {
        match self {
            Self::Half => left / 2,
            Self::All => left,
        }
    }
}
