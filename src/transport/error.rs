//! Why one call failed, and why a transport ended.

use std::error::Error;
use std::fmt;

use serde::Serialize;
use tonic::Status;

/// Why one call failed on its transport. Opaque; its source is the [`tonic::Status`] that tonic's clients
/// then return.
#[derive(Debug)]
pub struct TransportError {
    status: Status,
    not_sent: bool,
}

impl TransportError {
    /// The status that tonic's clients return for it.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// A call that surely did not leave: whoever has the request may make it again.
    pub fn not_sent(status: Status) -> Self {
        Self { status, not_sent: true }
    }

    /// Whether the call surely did not leave. False when that is not known.
    pub fn is_not_sent(&self) -> bool {
        self.not_sent
    }
}

impl From<Status> for TransportError {
    fn from(status: Status) -> Self {
        Self { status, not_sent: false }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call failed on its transport")
    }
}

impl Error for TransportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.status)
    }
}

/// Why a transport ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it, or dropped its last clone.
    Local,
    /// The other side closed it.
    Peer,
    /// The link was lost; the text says how that was noticed.
    Lost(String),
    /// The link was lost, was dialed again, and that was given up.
    GaveUp {
        /// How many attempts failed since the link was lost.
        attempts: u32,
        /// How the last one failed.
        last: String,
    },
}

impl CloseReason {
    /// The status of calls that this ended, and of calls made after it.
    pub fn status(&self) -> Status {
        Status::unavailable(self.to_string())
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("the connection was closed by this side"),
            Self::Peer => f.write_str("the connection was closed by the other side"),
            Self::Lost(how) => write!(f, "the connection was lost: {how}"),
            Self::GaveUp { attempts, last } => {
                let plural = if *attempts == 1 { "" } else { "s" };
                write!(
                    f,
                    "the connection was lost, and dialing again was given up after {attempts} failed \
                     attempt{plural}: {last}; make a new channel once that is mended \
                     (max_reconnect_attempts says how often to try)"
                )
            }
        }
    }
}
