//! The `data` channel of a peer: a view of the core, polled by its owner.
//!
//! # Invariant
//! Of a burst ([`send_more`](DataChannel::send_more)) messages wait in the association until it is over, so that they
//! share packets: [`push`](DataChannel::push), or the next poll that finds nothing, lets them out.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::core::Shared;
use crate::peer::{ChannelClosed, DataChannel, MAX_CHANNEL_MESSAGE};

/// Dropping it closes the connection.
pub(super) struct Channel {
    shared: Arc<Shared>,
    /// Whether something was sent since the last burst was let out.
    waiting: bool,
}

impl Channel {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, waiting: false }
    }
}

impl DataChannel for Channel {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        let poll = self.shared.with(|core| core.poll_open(cx));
        if poll.is_pending() {
            self.waiting = false;
        }
        poll
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<(), ChannelClosed>> {
        let limit = limit.max(1);
        let poll = self.shared.with(|core| core.poll_below(cx, limit));
        if poll.is_pending() {
            self.waiting = false;
        }
        poll
    }

    fn send(&mut self, message: Bytes) -> Result<(), ChannelClosed> {
        self.send_more(message)?;
        self.push();
        Ok(())
    }

    fn send_more(&mut self, message: Bytes) -> Result<(), ChannelClosed> {
        debug_assert!(message.len() <= MAX_CHANNEL_MESSAGE, "the caller splits messages");
        self.shared.with(|core| core.send(message))?;
        self.waiting = true;
        Ok(())
    }

    fn push(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.shared.with(|core| core.push());
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        let poll = self.shared.with(|core| core.poll_below(cx, 1));
        if poll.is_pending() {
            self.waiting = false;
        }
        poll
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let poll = self.shared.with(|core| core.poll_recv(cx));
        if poll.is_pending() {
            self.waiting = false;
        }
        poll
    }

    fn buffered(&self) -> usize {
        self.shared.with(|core| core.buffered())
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.shared.with(|core| core.close());
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}
