//! How frames leave the outbox: by whoever flushes, or by the driver.
//!
//! # Invariant
//! A flush never waits for another one, nor for room: what it cannot send now, the driver is woken for.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Outbox;
use crate::peer::ChannelClosed;
use crate::transport::webrtc::line::Line;

/// Bytes that one flush sends before it leaves the rest to the driver: a call is not to do the work of all others.
const BURST: usize = 64 * 1024;

/// Frames that come at once when few calls move: a whole answer is three.
const FEW: usize = 8;

impl Outbox {
    /// Frames leave by this line, until it is [detached](Self::detach).
    pub(in crate::transport::webrtc) fn attach(&self, line: Line) {
        *self.lock_line() = Some(line);
    }

    /// Closes the line.
    pub(in crate::transport::webrtc) fn detach(&self) {
        let line = self.lock_line().take();
        drop(line);
    }

    /// Lets out what was added, as far as there is room for it. Does not wait; what does not leave now leaves with the
    /// driver.
    pub(in crate::transport::webrtc) fn flush(&self) {
        if self.reading.load(Ordering::SeqCst) {
            // The driver is at it, and sends for all when it has read what came.
            return;
        }
        if !self.is_empty() && !self.is_sent_here() || self.held.load(Ordering::SeqCst) {
            self.driver.wake();
        }
    }

    /// Whether all is sent, or the driver will be woken when there is room.
    fn is_sent_here(&self) -> bool {
        if self.busy.load(Ordering::Relaxed) {
            return false;
        }
        let mut line = match self.line.try_lock() {
            Ok(line) => line,
            Err(TryLockError::Poisoned(line)) => line.into_inner(),
            // Somebody else is at it: what he does not see is left to the driver.
            Err(TryLockError::WouldBlock) => return false,
        };
        let Some(line) = &mut *line else { return false };
        let Some(driver) = line.stand_in() else { return false };
        match line.poll_send(&mut Context::from_waker(&driver), self, BURST) {
            Poll::Pending => true,
            Poll::Ready(Err(ChannelClosed)) => false,
            Poll::Ready(Ok(())) => self.is_empty(),
        }
    }

    /// Has this task, the driver, woken by everything that happens here, once.
    pub(in crate::transport::webrtc) fn register_driver(&self, cx: &Context<'_>) {
        self.driver.register(cx.waker());
        if let Some(line) = &mut *self.lock_line() {
            line.register_driver(cx);
        }
    }

    /// Sends what there is; ready when all is sent. For the driver, who has
    /// [registered](Self::register_driver) to be woken for more.
    ///
    /// # Errors
    /// [`ChannelClosed`] when nothing can be sent any more.
    pub(in crate::transport::webrtc) fn poll_send(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ChannelClosed>> {
        match &mut *self.lock_line() {
            Some(line) => line.poll_send(cx, self, usize::MAX),
            None => Poll::Ready(Err(ChannelClosed)),
        }
    }

    /// Whether the driver reads, and will send afterwards: what a batch of frames causes leaves together.
    pub(in crate::transport::webrtc) fn set_reading(&self, on: bool) {
        self.reading.store(on, Ordering::SeqCst);
    }

    /// So many frames came at once: their calls will soon have something to send, each of them. Many do so faster
    /// when the driver sends for all, in few packets; few do so sooner without it.
    pub(in crate::transport::webrtc) fn came(&self, frames: usize) {
        if frames > 0 {
            self.busy.store(frames > FEW, Ordering::Relaxed);
        }
    }

    /// The next frame of the peer; `None` after the last one.
    pub(in crate::transport::webrtc) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.lock_line().as_mut().map_or(Poll::Ready(None), |line| line.poll_recv(cx))
    }

    /// Ready when the peer has acknowledged all that was sent.
    pub(in crate::transport::webrtc) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ChannelClosed>> {
        self.lock_line().as_mut().map_or(Poll::Ready(Err(ChannelClosed)), |line| line.poll_flush(cx))
    }

    /// Bytes sent and not yet acknowledged.
    pub(in crate::transport::webrtc) fn buffered(&self) -> usize {
        self.lock_line().as_ref().map_or(0, Line::buffered)
    }

    /// Whether the driver reads nothing for now, since `holds` says so: it is woken when something has left.
    pub(in crate::transport::webrtc) fn is_held(&self, holds: impl Fn() -> bool) -> bool {
        let was = self.held.load(Ordering::SeqCst);
        if !was && !holds() {
            return false;
        }
        // First this, then the question again: something may leave in between.
        self.held.store(true, Ordering::SeqCst);
        let is = holds();
        self.held.store(is, Ordering::SeqCst);
        is
    }

    /// Makes the driver look again, for reasons of its own.
    pub(in crate::transport::webrtc) fn wake_driver(&self) {
        self.driver.wake();
    }

    fn lock_line(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
