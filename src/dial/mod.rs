//! Getting to a robot: which ways there are, in which order, with how much time, and what became of each.
//!
//! Floor 3. Below are signaling and the transports; above, [`Channel`](crate::Channel) is what a user gets.
//! `plan` checks what was asked, `webrtc` and `connect` go the ways, `attempt` times their stages,
//! and the report tells all of it.
//!
//! ```text
//!  address, options ─▶ plan ─▶ WebRTC: resolve, signaling, authenticate, ICE config, offer, answer,
//!                        │             connectivity, data channel ─▶ transport
//!                        └───▶ direct: resolve, connect, authenticate ─▶ transport
//! ```
//!
//! # Invariant
//! Whatever happens, a dial is over at its deadline, and what it opened and does not return is closed.

mod attempt;
mod connect;
mod error;
mod options;
mod plan;
mod report;
mod signaling;
mod webrtc;

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use self::attempt::{Attempt, Share};
use self::plan::{Plan, WebRtcPlan};

pub use self::error::{Cause, ConfigError, DialError, Failure};
pub use self::options::{DialOptions, Fallback};
pub use self::report::{AttemptReport, DialReport, Stage, StageReport};
pub(crate) use self::signaling::SignalingServer;
use crate::auth::Authorized;
use crate::transport::TransportKind;
use crate::transport::direct::DirectTransport;
use crate::transport::webrtc::WebRtcTransport;

/// How long signaling servers and robots of today keep an offer; more time is of no use to WebRTC when a
/// direct attempt may follow.
const OFFER_LIFETIME: Duration = Duration::from_secs(10);

/// What a dial ends with.
#[derive(Debug)]
pub(crate) enum Dialed {
    WebRtc(WebRtcTransport),
    Direct(Authorized<DirectTransport>),
}

/// Goes the ways to the robot until one works.
pub(crate) async fn dial(address: &str, options: &DialOptions) -> Result<(Dialed, DialReport), DialError> {
    let plan = Plan::new(address, options)?;
    let span = tracing::info_span!("dial", robot = %plan.name, transport = tracing::field::Empty);
    run(plan).instrument(span).await
}

async fn run(plan: Plan) -> Result<(Dialed, DialReport), DialError> {
    let began = Instant::now();
    let deadline = began + plan.timeout;
    let mut attempts = Vec::new();
    let mut dialed = None;

    if let Some(webrtc) = &plan.webrtc {
        let (report, result) = over_webrtc(&plan, webrtc, webrtc_deadline(&plan, began)).await;
        attempts.push(report);
        dialed = result.map(Dialed::WebRtc);
    }
    let failure = attempts.last().and_then(|attempt| attempt.failure.as_ref());
    if dialed.is_none() && may_go_direct(&plan, failure) {
        if let Some(failure) = failure {
            tracing::info!(%failure, "trying the robot's own address");
        }
        let (report, result) = directly(&plan, deadline).await;
        attempts.push(report);
        dialed = result.map(Dialed::Direct);
    }

    let transport = dialed.as_ref().map(|dialed| match dialed {
        Dialed::WebRtc(_) => TransportKind::WebRtc,
        Dialed::Direct(_) => TransportKind::Direct,
    });
    let report = DialReport { address: plan.name, transport, elapsed: began.elapsed(), attempts };
    match (dialed, transport) {
        (Some(dialed), Some(transport)) => {
            tracing::Span::current().record("transport", tracing::field::display(transport));
            Ok((dialed, report))
        }
        _ => Err(DialError::from_report(report)),
    }
}

/// WebRTC may not eat the time of the direct attempt that may follow it.
fn webrtc_deadline(plan: &Plan, began: Instant) -> Instant {
    match plan.fallback {
        Fallback::Never => began + plan.timeout,
        _ => began + (plan.timeout / 2).min(OFFER_LIFETIME),
    }
}

fn may_go_direct(plan: &Plan, failure: Option<&Failure>) -> bool {
    let Some(failure) = failure else { return plan.webrtc.is_none() };
    !failure.is_denied()
        && match plan.fallback {
            Fallback::OnFailure => true,
            Fallback::OnlyWithoutSignaling => failure.is_without_signaling(),
            Fallback::Never => false,
        }
}

async fn over_webrtc(
    plan: &Plan,
    webrtc: &WebRtcPlan,
    deadline: Instant,
) -> (AttemptReport, Option<WebRtcTransport>) {
    let server = webrtc.signaling.endpoint.to_string();
    let span = tracing::info_span!("attempt", transport = "webrtc", %server);
    let mut attempt = Attempt::new(TransportKind::WebRtc, server, deadline);
    let work = webrtc::attempt(&mut attempt, plan, webrtc).instrument(span);
    // Every stage has a deadline of its own; this one holds whatever they do.
    let result = timeout_at(deadline, work).await.unwrap_or(Err(Cause::Timeout));
    conclude(attempt, result)
}

async fn directly(plan: &Plan, deadline: Instant) -> (AttemptReport, Option<Authorized<DirectTransport>>) {
    let server = plan.direct.endpoint.to_string();
    let span = tracing::info_span!("attempt", transport = "direct", %server);
    let mut attempt = Attempt::new(TransportKind::Direct, server, deadline);
    let identity = plan.identity.as_ref();
    let work = connect::reach(&mut attempt, Stage::Connect, Share::All, &plan.direct, identity);
    let result = timeout_at(deadline, work.instrument(span)).await.unwrap_or(Err(Cause::Timeout));
    conclude(attempt, result.map(|reached| reached.transport))
}

fn conclude<T>(attempt: Attempt, result: Result<T, Cause>) -> (AttemptReport, Option<T>) {
    match result {
        Ok(transport) => (attempt.finish(None), Some(transport)),
        Err(cause) => (attempt.finish(Some(cause)), None),
    }
}
