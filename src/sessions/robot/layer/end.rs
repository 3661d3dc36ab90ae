//! The end of a call's session, as each part of the call sees it.

use std::pin::Pin;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use crate::sessions::robot::refusal::{self, Sid};

/// When the call's session ends, and what its caller is told then.
#[derive(Debug, Clone)]
pub(super) struct SessionEnd {
    pub(super) ended: CancellationToken,
    /// Cancelled when it is not the caller's fault.
    pub(super) closing: CancellationToken,
    pub(super) sid: Sid,
}

impl SessionEnd {
    /// Ready when the session has ended.
    pub(super) fn wait(&self) -> Pin<Box<WaitForCancellationFutureOwned>> {
        Box::pin(self.ended.clone().cancelled_owned())
    }

    pub(super) fn status(&self) -> Status {
        if self.closing.is_cancelled() { refusal::shutting_down() } else { self.sid.expired() }
    }
}
