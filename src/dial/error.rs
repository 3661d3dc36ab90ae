//! Why a dial did not end in a channel: what was asked wrongly, or what was tried and failed.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tonic::{Code, Status};

use super::report::{DialReport, Stage};
use crate::address::AddressError;
use crate::auth::AuthError;
use crate::peer::{IceServerError, PeerError};
use crate::signaling::caller::{CallError, CallErrorKind};
use crate::transport::TransportKind;
use crate::transport::direct::{ConnectError, RootsError};

/// What was asked cannot be done. Always before any I/O.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The robot's address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The API key's id.
    #[error("{0:?} is not a valid UUID: the API key's id looks like 11111111-2222-3333-4444-555555555555")]
    ApiKeyId(String),
    /// Two options that exclude each other, or an option and the address.
    #[error("{0}")]
    Conflict(&'static str),
    /// An ICE server.
    #[error(transparent)]
    IceServer(#[from] IceServerError),
    /// The trusted certificates.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The signaling server's address.
    #[error("the signaling address: {0}")]
    SignalingAddress(AddressError),
    /// An access token that no header can carry.
    #[error("the access token cannot be sent: expected visible ASCII characters, without a line break")]
    Token,
    /// The time-out.
    #[error("a timeout of {0:?} cannot be kept: expected more than zero and at most a day")]
    Timeout(Duration),
    /// `turn_uri`.
    #[error("the TURN URI: {0}")]
    TurnUri(IceServerError),
    /// This build has no WebRTC stack and was given none.
    #[error(
        "no WebRTC stack: build with the feature `webrtc`, give DialOptions a stack, or set disable_webrtc"
    )]
    NoStack,
}

/// Why a dial failed. Prints one sentence that names each attempt, its stage and its cause.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// What was asked cannot be done; nothing was tried.
    #[error("cannot dial: {0}")]
    Config(ConfigError),
    /// The credentials were refused, or would have had to travel in plaintext. Trying again will not help.
    #[error("{0}")]
    Denied(Box<DialReport>),
    /// The time was up.
    #[error("{0}")]
    TimedOut(Box<DialReport>),
    /// Nothing that was tried worked.
    #[error("{0}")]
    Failed(Box<DialReport>),
}

/// Its text is part of this error's own, so it is no source.
impl From<ConfigError> for DialError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl DialError {
    /// Everything that was tried.
    pub fn report(&self) -> Option<&DialReport> {
        match self {
            Self::Config(_) => None,
            Self::Denied(report) | Self::TimedOut(report) | Self::Failed(report) => Some(report),
        }
    }

    /// Whether the same dial may work later: the robot or the network was at fault, not what was asked.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Config(_) | Self::Denied(_) => false,
            Self::TimedOut(_) => true,
            Self::Failed(report) => {
                let mut failures = report.attempts.iter().filter_map(|attempt| attempt.failure.as_ref());
                !failures.all(Failure::is_permanent)
            }
        }
    }

    pub(super) fn from_report(report: DialReport) -> Self {
        let last = report.attempts.iter().rev().find_map(|attempt| attempt.failure.as_ref());
        let failures = report.attempts.iter().filter_map(|attempt| attempt.failure.as_ref());
        if failures.clone().any(Failure::is_denied) {
            Self::Denied(Box::new(report))
        } else if last.is_some_and(Failure::is_timeout) {
            Self::TimedOut(Box::new(report))
        } else {
            Self::Failed(Box::new(report))
        }
    }
}

/// Why one attempt failed: in which stage, after how long, and the cause. Prints as part of a sentence.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failure {
    /// What was tried.
    pub transport: TransportKind,
    /// The server that was to be reached: signaling, or the robot.
    pub server: String,
    /// The stage that failed.
    pub stage: Stage,
    /// How long the whole attempt took.
    pub elapsed: Duration,
    /// Why.
    pub cause: Cause,
}

impl Failure {
    /// Whether no other way may be tried: the second door has the same lock.
    pub fn is_denied(&self) -> bool {
        match &self.cause {
            Cause::InsecureCredentials | Cause::Authenticate(AuthError::Refused(_)) => true,
            Cause::Call(error) => matches!(error.kind, CallErrorKind::Denied(_)),
            Cause::Status(status) => {
                matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
            }
            _ => false,
        }
    }

    /// Whether the same attempt would fail the same way until somebody changes a setting, here or there.
    pub fn is_permanent(&self) -> bool {
        use ConnectError::{NotHttp2, NotPlaintext, NotTls};
        self.is_denied()
            || matches!(
                &self.cause,
                Cause::NoRelay
                    | Cause::Authenticate(AuthError::NotOffered(_))
                    | Cause::Connect(NotTls { .. } | NotPlaintext { .. } | NotHttp2 { .. })
            )
    }

    /// Whether there is no WebRTC signaling for the robot where it was looked for.
    pub fn is_without_signaling(&self) -> bool {
        matches!(&self.cause, Cause::Call(error) if matches!(error.kind, CallErrorKind::NoSignaler(_)))
    }

    /// Whether time ran out, be it the attempt's or the call's.
    pub fn is_timeout(&self) -> bool {
        match &self.cause {
            Cause::Timeout => true,
            Cause::Call(error) => matches!(error.kind, CallErrorKind::Timeout { .. }),
            _ => false,
        }
    }

    /// As it is told, without the transport: for who has but one.
    pub(super) fn without_transport(&self) -> String {
        format!("failed {} ({}): {}", self.stage, Millis(self.elapsed), self.why())
    }

    /// The cause in words. The stage is told beside it, and not repeated.
    fn why(&self) -> String {
        match &self.cause {
            _ if self.is_timeout() => too_late(self.stage, &self.server),
            // Which of the two servers it is tells where to drop them.
            Cause::Authenticate(AuthError::NotOffered(_)) => {
                format!("{} does not authenticate anybody: drop the credentials", self.server)
            }
            Cause::Call(error) => match &error.kind {
                // What every signaling server says about it is what the kind says.
                CallErrorKind::Offline(status) if status.message().contains("appears to be offline") => {
                    error.kind.to_string()
                }
                kind => chain(kind),
            },
            cause => chain(cause),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.transport {
            TransportKind::WebRtc => "WebRTC",
            TransportKind::Direct => "direct gRPC",
        };
        write!(f, "{name} {}", self.without_transport())
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // Display has told the whole chain already.
        None
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut fields = serializer.serialize_struct("Failure", 3)?;
        fields.serialize_field("stage", &self.stage)?;
        fields.serialize_field("cause", &self.why())?;
        fields.serialize_field("denied", &self.is_denied())?;
        fields.end()
    }
}

/// The cause of a failed attempt; the chain of sources says more.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The server could not be reached or does not speak what it should.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No token was to be had.
    #[error(transparent)]
    Authenticate(#[from] AuthError),
    /// Signaling, the robot's answer, or the peer connection.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The WebRTC stack could not be started.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A call failed.
    #[error(transparent)]
    Status(Arc<Status>),
    /// The server speaks plaintext only, and credentials may not travel in plaintext.
    #[error(
        "the server does not speak TLS and the credentials were not sent: \
         set allow_insecure_with_creds_downgrade if that is what you want"
    )]
    InsecureCredentials,
    /// Only relays may be used, and there is none.
    #[error(
        "force_relay needs a TURN server, and neither signaling nor ice_servers name one that may be used: \
         name one, or leave force_relay out"
    )]
    NoRelay,
    /// The attempt's share of the time was up.
    #[error("no result in time")]
    Timeout,
}

/// What did not come in time, and what may help.
fn too_late(stage: Stage, server: &str) -> String {
    let text = match stage {
        Stage::Resolve => "the resolver did not answer in time",
        Stage::Signaling | Stage::Connect => {
            return format!("{server} did not answer in time; see that it is the right address and port");
        }
        Stage::Authenticate | Stage::IceConfig => return format!("{server} did not answer in time"),
        Stage::Offer => "the offer was not ready in time",
        Stage::Answer => "the robot did not answer in time; see that it runs and can be reached by signaling",
        Stage::Connectivity => "no path worked in time; where networks block UDP, a TURN server helps",
        Stage::DataChannel => "the path worked, but the channel did not open in time",
        Stage::FirstUse => "no response in time",
    };
    text.to_owned()
}

/// An error and its causes, each once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = match error.downcast_ref::<Status>() {
            // A status prints its code and metadata for programmers; its message is for people.
            Some(status) if status.message().is_empty() => status.code().description().to_owned(),
            Some(status) => status.message().to_owned(),
            None => error.to_string(),
        };
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// A time as people read it: `0.4 ms`, `41 ms`, `10.0 s`.
pub(super) struct Millis(pub(super) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds >= 1.0 {
            write!(f, "{seconds:.1} s")
        } else if seconds >= 0.01 {
            write!(f, "{:.0} ms", seconds * 1e3)
        } else {
            write!(f, "{:.1} ms", seconds * 1e3)
        }
    }
}
