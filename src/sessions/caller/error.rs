//! Why there is no session.

use std::error::Error;
use std::sync::Arc;

use tonic::{Code, Status};

use super::SessionId;
use crate::transport::TransportError;
use crate::wire::session::SESSION_EXPIRED;

/// Why there is no session, or none any more.
///
/// A call that failed for such a reason has it among the sources of its [`tonic::Status`]:
/// [`SessionError::of`] finds it there.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The robot gave the session up and stopped what it moved, if it was not started anew itself. The next call
    /// begins a new one. With the code INVALID_ARGUMENT the call did not run; with ABORTED it had begun.
    #[error(
        "the session has expired and the robot has stopped what it moved: call again to go on in a new one"
    )]
    Expired {
        /// The session that is gone.
        session: SessionId,
    },
    /// The robot refused to start a session, or could not be asked.
    #[error("no session could be started: {}", .0.message())]
    Start(#[source] Status),
    /// The robot did not answer the start of a session in time.
    #[error("the robot did not answer the start of a session in time")]
    StartTimeout,
    /// The robot wants heartbeats in a window that nobody can keep: absent, zero or negative.
    #[error("the robot asks for a heartbeat window of {0}: its configuration needs one from 30 ms to 1 min")]
    InvalidWindow(String),
    /// The robot gave the session an id that a header cannot carry.
    #[error("the robot gave the session an id that cannot be sent back")]
    InvalidId,
    /// The runtime that heartbeats ran on is gone, or the client was closed.
    #[error("the session was abandoned: its runtime has ended, or its client was closed")]
    Abandoned,
}

impl SessionError {
    /// The reason in a failed call's status, if it failed for want of a session.
    pub fn of(status: &Status) -> Option<&Self> {
        let mut source = status.source();
        while let Some(error) = source {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            source = error.source();
        }
        None
    }

    /// The same, in the robot's own words if it has said any.
    pub(super) fn in_words_of(self, said: Option<Status>) -> Status {
        let Some(mut said) = said else { return self.status() };
        said.set_source(Arc::new(self));
        said
    }

    /// What a call that it fails ends with. An expiry keeps the code and the text of Viam's robots.
    pub fn status(&self) -> Status {
        let mut status = match self {
            Self::Expired { .. } => Status::invalid_argument(SESSION_EXPIRED),
            // The robot's own words and code, as Viam's SDKs pass them on.
            Self::Start(status) => Status::new(status.code(), self.to_string()),
            Self::StartTimeout => Status::new(Code::DeadlineExceeded, self.to_string()),
            Self::InvalidWindow(_) | Self::InvalidId => Status::failed_precondition(self.to_string()),
            Self::Abandoned => Status::unavailable(self.to_string()),
        };
        status.set_source(Arc::new(self.clone()));
        status
    }
}

impl From<SessionError> for TransportError {
    fn from(error: SessionError) -> Self {
        Self::from(error.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_reads_as_viam_s_robots_spell_it_and_is_found_in_a_status() {
        let error = SessionError::Expired { session: SessionId::new("11111111-2222") };
        let status = error.status();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "SESSION_EXPIRED"));
        assert!(matches!(SessionError::of(&status), Some(SessionError::Expired { .. })));
        // As tonic's clients get it: wrapped in the transport's error.
        let status = Status::from_error(Box::new(TransportError::from(error)));
        assert!(matches!(SessionError::of(&status), Some(SessionError::Expired { .. })));
        assert!(SessionError::of(&Status::invalid_argument(SESSION_EXPIRED)).is_none());
    }

    #[test]
    fn errors_never_show_a_whole_id() {
        let error = SessionError::Expired { session: SessionId::new("11111111-2222-secret") };
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
