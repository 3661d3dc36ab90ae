//! What a dial did: every attempt, its stages, their times, and what failed.
//!
//! Prints as one sentence for people and serializes for machines. It is on the channel after success and in
//! the error after failure.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::error::{Failure, Millis};
use crate::transport::{Path, TransportKind};

/// The stages of a dial, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// The server's name becomes addresses.
    Resolve,
    /// TCP, TLS and HTTP/2 to the signaling server.
    Signaling,
    /// TCP, TLS and HTTP/2 to the robot itself.
    Connect,
    /// Credentials become a token.
    Authenticate,
    /// Signaling says which ICE servers to use.
    IceConfig,
    /// The peer connection is opened and makes its offer.
    Offer,
    /// The offer is on its way to the robot and its answer on the way back.
    Answer,
    /// Candidates are exchanged and tried, until a path works.
    Connectivity,
    /// The handshake on the path, until the data channel is open.
    DataChannel,
    /// The first call on the channel, up to its response's headers. Recorded after the dial.
    FirstUse,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name",
            Self::Signaling => "connecting to signaling",
            Self::Connect => "connecting to the robot",
            Self::Authenticate => "authenticating",
            Self::IceConfig => "fetching the ICE servers",
            Self::Offer => "making the offer",
            Self::Answer => "waiting for the answer",
            Self::Connectivity => "looking for a path",
            Self::DataChannel => "opening the data channel",
            Self::FirstUse => "making the first call",
        })
    }
}

/// One stage of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StageReport {
    /// Which stage.
    pub stage: Stage,
    /// How long it took. Serialized as `ms`, a number with fractions.
    #[serde(rename = "ms", serialize_with = "as_millis")]
    pub elapsed: Duration,
}

impl StageReport {
    pub(crate) fn new(stage: Stage, elapsed: Duration) -> Self {
        Self { stage, elapsed }
    }
}

/// One way to the robot that was tried.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct AttemptReport {
    /// What was tried.
    pub transport: TransportKind,
    /// The server that was connected to: signaling, or the robot.
    pub server: String,
    /// The stages that were entered, in order; of a failed attempt, the last one failed.
    pub stages: Vec<StageReport>,
    /// How long it took. Serialized as `ms`.
    #[serde(rename = "ms", serialize_with = "as_millis")]
    pub elapsed: Duration,
    /// The pair of candidates that the data channel opened on. WebRTC only, and only on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Whether the server turned out not to speak TLS, and the dial went on in plaintext.
    pub downgraded: bool,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What a dial did.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct DialReport {
    /// The robot, as it was named.
    pub address: String,
    /// The transport that the dial ended with; `None` when nothing worked.
    pub transport: Option<TransportKind>,
    /// How long it took. Serialized as `ms`.
    #[serde(rename = "ms", serialize_with = "as_millis")]
    pub elapsed: Duration,
    /// Everything that was tried, in order.
    pub attempts: Vec<AttemptReport>,
}

impl DialReport {
    /// Why the transport that is preferred is not the one that is used: the failure of the WebRTC attempt,
    /// if there was one and it failed.
    pub fn fallback_reason(&self) -> Option<&Failure> {
        self.attempts
            .iter()
            .filter_map(|attempt| attempt.failure.as_ref())
            .find(|failure| failure.transport == TransportKind::WebRtc)
    }

    /// The report as JSON. Times are milliseconds.
    pub fn to_json(&self) -> serde_json::Value {
        // Nothing in it can fail to serialize: strings, numbers, lists.
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl fmt::Display for DialReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = || self.attempts.iter().filter_map(|attempt| attempt.failure.as_ref());
        let Some(transport) = self.transport else {
            write!(f, "no transport reached {}", self.address)?;
            return failures().enumerate().try_for_each(|(place, failure)| {
                write!(f, "{} {failure}", if place == 0 { ":" } else { ";" })
            });
        };
        let name = match transport {
            TransportKind::WebRtc => "WebRTC",
            TransportKind::Direct => "direct gRPC",
        };
        write!(f, "reached {} over {name} in {}", self.address, Millis(self.elapsed))?;
        if let Some(attempt) = self.attempts.last() {
            if let Some(path) = &attempt.path {
                write!(f, ", {path}")?;
            }
            for (place, stage) in attempt.stages.iter().enumerate() {
                let comma = if place == 0 { " (" } else { ", " };
                write!(f, "{comma}{} {}", stage.stage, Millis(stage.elapsed))?;
            }
            let end = if attempt.stages.is_empty() { "" } else { ")" };
            f.write_str(end)?;
            if attempt.downgraded {
                f.write_str(", in plaintext because the server does not speak TLS")?;
            }
        }
        failures().try_for_each(|failure| write!(f, ", after {failure}"))
    }
}

fn as_millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    // Whole microseconds are enough, and read better.
    serializer.serialize_f64((duration.as_secs_f64() * 1e6).round() / 1e3)
}
