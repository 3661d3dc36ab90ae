//! Why the queue refuses, and the gRPC status that callers and answerers see for it.
//!
//! Floor 3. The texts that peers compare are contract, to the letter. Contract: goutils
//! `rpc/wrtc_call_queue.go`, `rpc/wrtc_call_queue_mongodb.go`.

use std::error::Error;
use std::sync::Arc;

use tonic::{Code, Status};

use super::MAX_HOST;

/// Why the queue refuses something, or a call ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// No answerer of the host is there. NOT_FOUND.
    #[error("host appears to be offline; ensure machine is online and try again")]
    Offline,
    /// The host, or the whole queue, has as many calls in flight, or the queue as many bytes in calls, as it
    /// may have. UNAVAILABLE.
    #[error("too many connection attempts; please wait a bit and try again")]
    TooManyCalls,
    /// The host has as many answerers as it may have. UNAVAILABLE, in the words of the contract.
    #[error("too many connection attempts; please wait a bit and try again")]
    TooManyAnswerers,
    /// No call of this host has this uuid. UNKNOWN.
    #[error("no active offer for {uuid:?}")]
    NoActiveOffer {
        /// As the caller spelled it, at most 64 characters of it.
        uuid: String,
    },
    /// One side sent more candidates than a call may have. RESOURCE_EXHAUSTED.
    #[error("too many candidates for one call; this one was dropped")]
    TooManyCandidates,
    /// A host longer than [`MAX_HOST`]. INVALID_ARGUMENT.
    #[error("rpc-host is too long: at most {MAX_HOST} bytes")]
    HostTooLong,
    /// The lifetime of the offer is over. DEADLINE_EXCEEDED.
    #[error("no connection was negotiated in time: {0}")]
    Deadline(Waited),
    /// The caller reported an error, which ended the call. CANCELLED.
    #[error("call was ended by its caller")]
    CallerFailed,
    /// The server shuts down. UNAVAILABLE.
    #[error("signaling server is shutting down; try again")]
    Closed,
    /// The engine failed, for reasons of its own. UNAVAILABLE.
    #[error("call queue failed; try again")]
    Engine(#[source] Arc<dyn Error + Send + Sync>),
}

/// What a call waited for when its time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Waited {
    /// All answerers of the host were busy.
    #[error("the host was busy with other calls")]
    ForAnswerer,
    /// An answerer had the offer and did not answer.
    #[error("the host took the offer and did not answer")]
    ForAnswer,
    /// The answer had come; the answerer was not done with its candidates.
    #[error("the host answered and did not finish")]
    ForEnd,
}

impl QueueError {
    /// The gRPC code that stands for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Offline => Code::NotFound,
            Self::TooManyCalls | Self::TooManyAnswerers | Self::Closed | Self::Engine(_) => Code::Unavailable,
            Self::NoActiveOffer { .. } => Code::Unknown,
            Self::TooManyCandidates => Code::ResourceExhausted,
            Self::HostTooLong => Code::InvalidArgument,
            Self::Deadline(_) => Code::DeadlineExceeded,
            Self::CallerFailed => Code::Cancelled,
        }
    }

    pub(super) fn no_active_offer(uuid: &str) -> Self {
        Self::NoActiveOffer { uuid: uuid.chars().take(64).collect() }
    }
}

impl From<QueueError> for Status {
    fn from(error: QueueError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
