//! What has come on one stream and was not read yet.
//!
//! The [driver](super::driver) puts items in and never waits; the stream's body takes them out. Bytes are
//! counted per stream and per connection.
//!
//! # Invariant
//! A stream holds at most its budget plus one message; a connection at most its budget plus one message per
//! stream that fits into it. Who would exceed a budget loses its stream, nobody else's.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use tonic::Status;

/// Bytes that all streams of a connection hold together.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: AtomicUsize,
}

impl Held {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// How a stream's items end.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// The caller half-closed.
    HalfClose,
    /// The robot's trailers.
    Trailers { status: Status, metadata: HeaderMap },
    /// The call failed here: lost, over budget, a violation, a deadline.
    Failed(Status),
}

/// What a reader gets.
#[derive(Debug)]
pub(super) enum Item {
    /// A message, prefixed as an HTTP body wants it.
    Message(Bytes),
    /// There is no more.
    End(End),
}

/// The queue of one stream.
pub(super) struct Inbox {
    state: Mutex<State>,
    held: Arc<Held>,
    /// Called after each read; wakes a driver that holds the connection back.
    on_read: Option<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    head: Option<HeaderMap>,
    messages: VecDeque<Bytes>,
    bytes: usize,
    end: Option<End>,
    reader: Option<Waker>,
    abandoned: bool,
}

impl Inbox {
    pub(super) fn new(held: Arc<Held>) -> Self {
        Self { state: Mutex::new(State::default()), held, on_read: None }
    }

    /// Calls this after each message that is read.
    pub(super) fn on_read(mut self, call: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_read = Some(Box::new(call));
        self
    }

    /// Response headers have come.
    pub(super) fn put_head(&self, head: HeaderMap) {
        self.change(|state| state.head = Some(head));
    }

    /// A message has come. Returns the bytes that this stream now holds.
    pub(super) fn put_message(&self, message: Bytes) -> usize {
        let mut total = 0;
        self.change(|state| {
            if !state.abandoned {
                self.held.add(message.len());
                state.bytes += message.len();
                state.messages.push_back(message);
            }
            total = state.bytes;
        });
        total
    }

    /// Nobody will read any more: what waits is dropped, and what comes.
    pub(super) fn abandon(&self) {
        let mut freed = 0;
        self.change(|state| {
            state.abandoned = true;
            state.messages.clear();
            freed = std::mem::take(&mut state.bytes);
        });
        self.held.sub(freed);
    }

    /// Nothing more will come. The first end counts; a failure also drops what was not read, since a call
    /// that failed must not look half complete.
    pub(super) fn put_end(&self, end: End) {
        let failed = matches!(end, End::Failed(_));
        let mut freed = 0;
        self.change(|state| {
            if state.end.is_none() {
                state.end = Some(end);
                if failed {
                    freed = std::mem::take(&mut state.bytes);
                    state.messages.clear();
                }
            }
        });
        self.held.sub(freed);
    }

    /// The response's headers; or its end, when that came without headers. Only before
    /// [`poll_item`](Self::poll_item).
    pub(super) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<HeaderMap, End>> {
        let mut state = self.lock();
        if let Some(End::Failed(_)) = &state.end {
            return Poll::Ready(Err(state.end.clone().unwrap_or(End::HalfClose)));
        }
        if let Some(head) = state.head.take() {
            return Poll::Ready(Ok(head));
        }
        if let Some(end) = state.end.clone() {
            return Poll::Ready(Err(end));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The next item. The end comes again and again.
    pub(super) fn poll_item(&self, cx: &mut Context<'_>) -> Poll<Item> {
        let mut state = self.lock();
        if let Some(message) = state.messages.pop_front() {
            state.bytes -= message.len();
            drop(state);
            self.held.sub(message.len());
            if let Some(on_read) = &self.on_read {
                on_read();
            }
            return Poll::Ready(Item::Message(message));
        }
        if let Some(end) = state.end.clone() {
            return Poll::Ready(Item::End(end));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Bytes of whole messages that wait.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.held.sub(bytes);
    }
}
