//! The sending half of a data channel, shared by all its streams.
//!
//! Streams put frames in, wait for room, and [flush](Outbox::flush) after a burst: it takes out what the
//! [line](super::line) has room for. The rest leaves with the [driver](super::driver). No lock is held across an await.
//!
//! # Invariant
//! What is in here and not flushed is known to somebody who will flush; what a flush leaves behind, the driver
//! sends.
//!
//! Nothing leaves on a stream before it was opened or after it was ended, whoever races with whom. A
//! stream that waits for [room](Outbox::poll_room) before each message holds at most one message more than
//! [`ROOM`] bytes here.

mod leaving;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use super::line::Line;
use super::scheduler::{EncodePacket, Scheduler};

/// A stream has room while fewer bytes than this wait, in bytes: enough to keep the driver busy, little
/// enough for thousands of streams.
pub(super) const ROOM: usize = 64 * 1024;

/// Frames that wait to be sent.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// From the driver's making to its end. Locked before `state`, if both are.
    line: Mutex<Option<Line>>,
    driver: AtomicWaker,
    /// Whether the driver reads nothing until something has left.
    held: AtomicBool,
    /// Whether the driver reads now, and sends when it has.
    reading: AtomicBool,
    /// Whether many calls move at once, so that their frames had better leave together.
    busy: AtomicBool,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler,
    open: HashMap<u64, Open>,
    closed: bool,
}

/// A stream that may send.
#[derive(Debug, Default)]
struct Open {
    head_sent: bool,
    waiting: Option<Waker>,
}

/// Nothing will be sent on the stream any more: it has ended, or the channel is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamClosed;

/// How a stream's end is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// After all that the stream has sent.
    InOrder,
    /// Ahead of all data; what the stream has not sent yet is dropped.
    Cut,
}

impl Outbox {
    pub(super) fn new(encode: EncodePacket) -> Self {
        let state = State { scheduler: Scheduler::new(encode), open: HashMap::new(), closed: false };
        Self {
            state: Mutex::new(state),
            line: Mutex::new(None),
            driver: AtomicWaker::new(),
            held: AtomicBool::new(false),
            reading: AtomicBool::new(false),
            busy: AtomicBool::new(false),
        }
    }

    /// Lets the stream send.
    pub(super) fn open(&self, stream: u64) {
        self.lock().open.insert(stream, Open::default());
    }

    /// Adds the stream's headers.
    pub(super) fn push_head(&self, stream: u64, frame: Bytes) {
        self.change(|state| {
            let Some(open) = state.open.get_mut(&stream) else { return };
            if !std::mem::replace(&mut open.head_sent, true) {
                state.scheduler.push_frame(stream, frame);
            }
        });
    }

    /// Adds a frame after all that its stream has added before.
    pub(super) fn push_frame(&self, stream: u64, frame: Bytes) {
        self.change(|state| {
            if state.open.contains_key(&stream) {
                state.scheduler.push_frame(stream, frame);
            }
        });
    }

    /// Adds a message; `last` half-closes with it.
    pub(super) fn push_message(&self, stream: u64, message: Bytes, last: bool, urgent: bool) {
        self.change(|state| {
            if state.open.contains_key(&stream) {
                state.scheduler.push_message(stream, message, last, urgent);
            }
        });
    }

    /// Ends the stream with this frame, and before it with `head` if headers have not been sent yet.
    /// Returns false when it had ended before: the first end is the one that is sent.
    pub(super) fn end(&self, stream: u64, ending: Ending, head: Option<Bytes>, frame: Bytes) -> bool {
        let mut first = false;
        self.change(|state| {
            let Some(open) = state.open.remove(&stream) else { return };
            first = true;
            let head = head.filter(|_| !open.head_sent);
            match (ending, head) {
                (Ending::InOrder, head) => {
                    head.into_iter().for_each(|head| state.scheduler.push_frame(stream, head));
                    state.scheduler.push_frame(stream, frame);
                }
                (Ending::Cut, None) => state.scheduler.cut(stream, frame),
                (Ending::Cut, Some(head)) => {
                    state.scheduler.cut(stream, head);
                    state.scheduler.cut(stream, frame);
                }
            }
            wake(open.waiting);
        });
        first
    }

    /// Ends the stream without a frame: the peer has ended it. What it has not sent is dropped.
    pub(super) fn forget(&self, stream: u64) {
        self.change(|state| {
            state.scheduler.forget(stream);
            wake(state.open.remove(&stream).and_then(|open| open.waiting));
        });
    }

    /// Ready when this stream may add a message. One task may wait for each stream.
    pub(super) fn poll_room(&self, stream: u64, cx: &mut Context<'_>) -> Poll<Result<(), StreamClosed>> {
        let mut state = self.lock();
        let queued = state.scheduler.queued(stream);
        let Some(open) = state.open.get_mut(&stream) else { return Poll::Ready(Err(StreamClosed)) };
        if queued < ROOM {
            return Poll::Ready(Ok(()));
        }
        open.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The next frame to send. Only the [`Line`](super::line::Line) calls this, which its lock makes one at a time: whoever
    /// takes a frame must send it before anybody takes the next.
    pub(super) fn pop(&self) -> Option<Bytes> {
        let mut state = self.lock();
        let (frame, stream) = state.scheduler.pop()?;
        let roomy = stream.filter(|stream| state.scheduler.queued(*stream) < ROOM);
        let open = roomy.and_then(|stream| state.open.get_mut(&stream));
        let waiting = open.and_then(|open| open.waiting.take());
        drop(state);
        wake(waiting);
        Some(frame)
    }

    /// What waits ahead of all data costs, in bytes.
    pub(super) fn bytes_ahead(&self) -> usize {
        self.lock().scheduler.bytes_ahead()
    }

    /// What waits costs in all, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.lock().scheduler.bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().scheduler.is_empty()
    }

    /// Drops all that waits, now and later, and wakes everybody.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.scheduler.clear();
        let open = std::mem::take(&mut state.open);
        drop(state);
        open.into_values().for_each(|open| wake(open.waiting));
        self.driver.wake();
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        change(&mut state);
        drop(state);
        if self.held.load(Ordering::SeqCst) {
            self.driver.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
