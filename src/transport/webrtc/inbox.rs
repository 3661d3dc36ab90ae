//! What has come on one stream and was not read yet.
//!
//! The [driver](super::driver) puts items in and never waits; the stream's body takes them out. Bytes are
//! counted per stream and per connection.
//!
//! # Invariant
//! A stream holds at most its budget plus one message; a connection at most its budget plus one packet. A
//! stream over its budget is lost; over the connection's budget, the stream that holds the most is.
//!
//! Whatever frees bytes wakes a driver that holds the connection back for them: a read, a reader that goes
//! away, a call that fails.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use tonic::Status;

/// What a message costs beside its bytes: without it, a budget's worth of empty messages would take many
/// times the budget.
const PER_MESSAGE: usize = 64;

/// Bytes that all streams of a connection hold together.
#[derive(Debug, Default)]
pub(super) struct Held {
    unread: AtomicUsize,
    partial: AtomicUsize,
}

impl Held {
    /// All of them.
    pub(super) fn bytes(&self) -> usize {
        self.unread() + self.partial()
    }

    /// Whole messages: readers free them.
    pub(super) fn unread(&self) -> usize {
        self.unread.load(Ordering::Relaxed)
    }

    /// Messages of which more is to come: only the peer can end them.
    pub(super) fn partial(&self) -> usize {
        self.partial.load(Ordering::Relaxed)
    }

    /// A stream's unfinished message has changed its size.
    pub(super) fn resize_partial(&self, before: usize, after: usize) {
        self.partial.fetch_add(after, Ordering::Relaxed);
        self.partial.fetch_sub(before, Ordering::Relaxed);
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

/// Whom to wake once all that came together is in: headers, message and trailers of one answer are one wake-up, and
/// no reader meets a lock that is still held. Dropping them wakes them.
#[derive(Debug, Default)]
pub(super) struct Readers(Vec<Waker>);

impl Readers {
    pub(super) fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.wake();
    }
}

/// The queue of one stream.
pub(super) struct Inbox {
    state: Mutex<State>,
    held: Arc<Held>,
    /// Called when bytes were freed; wakes a driver that holds the connection back.
    on_freed: Option<Box<dyn Fn() + Send + Sync>>,
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
        Self { state: Mutex::new(State::default()), held, on_freed: None }
    }

    /// Calls this whenever bytes were freed.
    pub(super) fn on_freed(mut self, call: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_freed = Some(Box::new(call));
        self
    }

    /// Response headers have come.
    pub(super) fn put_head(&self, head: HeaderMap, readers: &mut Readers) {
        self.change(readers, |state| state.head = Some(head));
    }

    /// A message has come; after the end it is dropped. Returns the bytes that this stream now holds, or 0
    /// when it is the only message: one always fits.
    pub(super) fn put_message(&self, message: Bytes, readers: &mut Readers) -> usize {
        let mut total = 0;
        self.change(readers, |state| {
            if !state.abandoned && state.end.is_none() {
                self.held.unread.fetch_add(cost(&message), Ordering::Relaxed);
                state.bytes += cost(&message);
                state.messages.push_back(message);
            }
            total = if state.messages.len() > 1 { state.bytes } else { 0 };
        });
        total
    }

    /// Nobody will read any more: what waits is dropped, and what comes.
    pub(super) fn abandon(&self) {
        let mut freed = 0;
        self.change(&mut Readers::default(), |state| {
            state.abandoned = true;
            state.messages.clear();
            freed = std::mem::take(&mut state.bytes);
        });
        self.free(freed);
    }

    /// The call fails although its end may have come: it holds too much that nobody reads.
    pub(super) fn overflow(&self, status: Status) {
        let mut freed = 0;
        self.change(&mut Readers::default(), |state| {
            state.end = Some(End::Failed(status));
            state.messages.clear();
            freed = std::mem::take(&mut state.bytes);
        });
        self.free(freed);
    }

    /// Nothing more will come. The first end counts; a failure also drops what was not read, since a call
    /// that failed must not look half complete.
    pub(super) fn put_end(&self, end: End, readers: &mut Readers) {
        let failed = matches!(end, End::Failed(_));
        let mut freed = 0;
        self.change(readers, |state| {
            if state.end.is_none() {
                state.end = Some(end);
                if failed {
                    freed = std::mem::take(&mut state.bytes);
                    state.messages.clear();
                }
            }
        });
        self.free(freed);
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
            state.bytes -= cost(&message);
            drop(state);
            self.free(cost(&message));
            return Poll::Ready(Item::Message(message));
        }
        if let Some(end) = state.end.clone() {
            return Poll::Ready(Item::End(end));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What the whole messages that wait cost.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn free(&self, bytes: usize) {
        self.held.unread.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(on_freed) = self.on_freed.as_ref().filter(|_| bytes > 0) {
            on_freed();
        }
    }

    fn change(&self, readers: &mut Readers, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        readers.0.extend(state.reader.take());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.free(bytes);
    }
}

fn cost(message: &Bytes) -> usize {
    message.len() + PER_MESSAGE
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::task::{ArcWake, waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl ArcWake for Woken {
        fn wake_by_ref(woken: &Arc<Self>) {
            woken.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_comes_together_wakes_its_reader_once_and_when_all_is_in() {
        let (inbox, woken) = (Inbox::new(Arc::default()), Arc::new(Woken::default()));
        let waker = waker(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        assert!(inbox.poll_head(&mut cx).is_pending());
        let mut readers = Readers::default();
        inbox.put_head(HeaderMap::new(), &mut readers);
        inbox.put_message(Bytes::from_static(b"message"), &mut readers);
        inbox.put_end(End::HalfClose, &mut readers);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        readers.wake();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(inbox.poll_head(&mut cx).is_ready());
        assert!(matches!(inbox.poll_item(&mut cx), Poll::Ready(Item::Message(_))));
        assert!(matches!(inbox.poll_item(&mut cx), Poll::Ready(Item::End(End::HalfClose))));
    }
}
