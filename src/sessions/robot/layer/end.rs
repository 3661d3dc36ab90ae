//! The end of a call's session, as each part of the call sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// The handler has been called.
    pub(super) begun: Arc<AtomicBool>,
}

impl SessionEnd {
    /// Ready when the session has ended.
    pub(super) fn wait(&self) -> Pin<Box<WaitForCancellationFutureOwned>> {
        Box::pin(self.ended.clone().cancelled_owned())
    }

    /// The handler is about to be called: from here on the call must not be made again.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    pub(super) fn status(&self) -> Status {
        if self.closing.is_cancelled() {
            refusal::shutting_down()
        } else if self.begun.load(Ordering::Relaxed) {
            self.sid.cut()
        } else {
            self.sid.expired()
        }
    }
}
