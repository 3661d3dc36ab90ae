//! Why a call failed: where it stood, and whose fault it was.
//!
//! Floor 3. What a dial does next (try direct, give up, ask again later) follows from the kind.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};

use crate::peer::PeerError;
use crate::proto::google_rpc;
use crate::signaling::{ERROR_FROM_ANSWERER, HOST_NOT_PRECONFIGURED};
use crate::wire::sdp::DescriptionError;

/// What a call was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CallStage {
    /// Asking signaling for ICE servers.
    IceConfig,
    /// Making the offer.
    Offer,
    /// The offer is with signaling.
    Answer,
    /// The answer is here; looking for a path.
    Connectivity,
    /// A path works; the data channel is not open yet.
    DataChannel,
}

impl fmt::Display for CallStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IceConfig => "fetching the ICE servers",
            Self::Offer => "making the offer",
            Self::Answer => "waiting for the answer",
            Self::Connectivity => "looking for a path",
            Self::DataChannel => "opening the data channel",
        })
    }
}

/// A call that did not end in an open data channel. Prints stage and kind; `source()` is what lies below
/// the kind, so that a chain of sources names each cause once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CallError {
    /// Where the call stood.
    pub stage: CallStage,
    /// What went wrong.
    pub kind: CallErrorKind,
}

impl CallError {
    pub(super) fn new(stage: CallStage, kind: CallErrorKind) -> Self {
        Self { stage, kind }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            // It names the stage itself.
            kind @ CallErrorKind::Timeout { .. } => kind.fmt(f),
            kind => write!(f, "{}: {kind}", self.stage),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

/// What went wrong with a call, so far as a caller would act on it differently.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// The host cannot be named in metadata: it is empty, or has characters outside visible ASCII.
    #[error("{0:?} cannot be a robot's name: use visible ASCII only")]
    Host(String),
    /// There is no WebRTC signaling for this host here. A direct connection may work.
    #[error("there is no WebRTC signaling for this robot at this address")]
    NoSignaler(#[source] Status),
    /// No answerer is online under this name.
    #[error("the robot appears to be offline; see that it runs and has a network")]
    Offline(#[source] Status),
    /// The credentials are missing, wrong, or not good for this robot.
    #[error("signaling denied access; check the credentials and their permissions")]
    Denied(#[source] Status),
    /// Signaling failed in another way.
    #[error("signaling failed")]
    Status(#[source] Status),
    /// The robot refused or failed, and said so through signaling.
    #[error("the robot reported an error")]
    Answerer(#[source] Status),
    /// Signaling or the robot broke the rules of the exchange.
    #[error("signaling broke the protocol")]
    Protocol(#[source] CallViolation),
    /// The peer connection failed.
    #[error("the peer connection failed")]
    Peer(#[source] PeerError),
    /// The deadline passed.
    #[error("no result after {:.1} s {stage}", elapsed.as_secs_f64())]
    Timeout {
        /// What the call was waiting for.
        stage: CallStage,
        /// How long the whole call took.
        elapsed: Duration,
    },
}

/// How the other side broke the rules of the exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallViolation {
    /// `Call` ended without an error and without an answer. goutils' memory queue does so after 10 s.
    #[error("the call ended without an answer")]
    EndedBeforeAnswer,
    /// A candidate came before the answer.
    #[error("a candidate came before the answer")]
    UpdateBeforeInit,
    /// A second answer came.
    #[error("a second answer came")]
    SecondInit,
    /// A message belongs to another call.
    #[error("a message for another call came")]
    WrongUuid,
    /// A message with nothing in it, or with something this version does not know.
    #[error("a message without a stage came")]
    NoStage,
    /// The answer cannot be read.
    #[error("the answer cannot be read")]
    Description(#[source] DescriptionError),
    /// An offer came where the answer should be.
    #[error("an offer came in place of the answer")]
    NotAnAnswer,
}

impl CallErrorKind {
    /// What a status of the signaling server means. Contract: goutils `rpc/wrtc_client.go`.
    pub(super) fn from_status(status: Status) -> Self {
        if status.message().contains(ERROR_FROM_ANSWERER) {
            return Self::Answerer(status);
        }
        match status.code() {
            Code::Unimplemented => Self::NoSignaler(status),
            Code::InvalidArgument if status.message().contains(HOST_NOT_PRECONFIGURED) => {
                Self::NoSignaler(status)
            }
            Code::NotFound => Self::Offline(status),
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied(status),
            _ => Self::Status(status),
        }
    }

    /// What the answerer is told; `None` when it is the one who said so, or when signaling ended the call.
    pub(super) fn to_wire(&self) -> Option<google_rpc::Status> {
        let code = match self {
            Self::Timeout { .. } => Code::DeadlineExceeded,
            Self::Peer(_) => Code::Unavailable,
            Self::Protocol(CallViolation::EndedBeforeAnswer) => return None,
            Self::Protocol(_) => Code::InvalidArgument,
            Self::Host(_)
            | Self::NoSignaler(_)
            | Self::Offline(_)
            | Self::Denied(_)
            | Self::Status(_)
            | Self::Answerer(_) => return None,
        };
        Some(google_rpc::Status { code: code as i32, message: self.to_string(), ..Default::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart_by_what_a_dial_does_next() {
        let kind = |code, message: &str| CallErrorKind::from_status(Status::new(code, message));
        assert!(matches!(kind(Code::Unimplemented, ""), CallErrorKind::NoSignaler(_)));
        assert!(matches!(
            kind(Code::InvalidArgument, "host not preconfigured"),
            CallErrorKind::NoSignaler(_)
        ));
        assert!(matches!(kind(Code::InvalidArgument, "no"), CallErrorKind::Status(_)));
        assert!(matches!(kind(Code::NotFound, "host appears to be offline"), CallErrorKind::Offline(_)));
        assert!(matches!(kind(Code::Unauthenticated, ""), CallErrorKind::Denied(_)));
        assert!(matches!(kind(Code::PermissionDenied, ""), CallErrorKind::Denied(_)));
        assert!(matches!(kind(Code::Unavailable, ""), CallErrorKind::Status(_)));
        // Whatever the code: an answerer's word is not signaling's.
        for code in [Code::Unknown, Code::Unimplemented, Code::Unauthenticated] {
            assert!(matches!(kind(code, "error from answerer: full"), CallErrorKind::Answerer(_)));
        }
    }

    #[test]
    fn a_chain_of_sources_names_each_cause_once() {
        let error = CallError::new(
            CallStage::Answer,
            CallErrorKind::Offline(Status::not_found("host appears to be offline")),
        );
        let mut chain = vec![error.to_string()];
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            chain.push(cause.to_string());
            next = cause.source();
        }
        assert_eq!(chain.iter().filter(|text| text.contains("see that it runs")).count(), 1, "{chain:?}");
        assert!(chain.last().unwrap().contains("host appears to be offline"), "{chain:?}");
    }
}
