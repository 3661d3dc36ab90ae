//! The caller's open streams: which frame belongs to which call.
//!
//! # Invariant
//! A call ends exactly once: by its trailers, by a violation, by its budget, by its caller, or with the
//! connection. One that has its trailers stays here until its reader lets it go, because what is unread
//! counts; any other end takes it out. Whoever takes it out has told its inbox, or is its reader.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::transport::CloseReason;
use crate::transport::webrtc::driver::Demux;
use crate::transport::webrtc::inbox::{End, Held, Inbox, Readers};
use crate::transport::webrtc::limits::{Limits, Overflow};
use crate::transport::webrtc::outbox::{Ending, Outbox};
use crate::wire::frame;
use crate::wire::stream::{ResponseEvent, ResponseStream};

/// All calls of one connection.
#[derive(Debug)]
pub(super) struct Table {
    state: Mutex<State>,
    held: Arc<Held>,
    limits: Limits,
    pub(super) outbox: Arc<Outbox>,
    /// One permit for each call that may be open.
    permits: Arc<Semaphore>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct State {
    calls: HashMap<u64, Call>,
    next: u64,
    closed: Option<CloseReason>,
}

#[derive(Debug)]
struct Call {
    /// `None` once it has its trailers.
    wire: Option<ResponseStream>,
    inbox: Arc<Inbox>,
}

impl Table {
    pub(super) fn new(limits: Limits, outbox: Arc<Outbox>) -> Self {
        // Ids start at 1 and stay small: micro-rdk keeps 32 bits of them.
        let state = State { calls: HashMap::new(), next: 1, closed: None };
        let dropped = AtomicU64::new(0);
        let permits = Arc::new(Semaphore::new(limits.max_streams.min(Semaphore::MAX_PERMITS)));
        Self { state: Mutex::new(state), held: Arc::default(), limits, outbox, permits, dropped }
    }

    /// Waits until one more call may be open. `None` when the connection is gone: opening the call says so.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Opens a call.
    ///
    /// # Errors
    /// UNAVAILABLE when the connection is gone.
    pub(super) fn open(&self) -> Result<(u64, Arc<Inbox>), Status> {
        let mut inbox = Inbox::new(Arc::clone(&self.held));
        if self.limits.overflow == Overflow::HoldConnection {
            let outbox = Arc::clone(&self.outbox);
            inbox = inbox.on_freed(move || outbox.wake_driver());
        }
        let inbox = Arc::new(inbox);
        let mut state = self.lock();
        if let Some(reason) = &state.closed {
            return Err(reason.status());
        }
        let stream = state.next;
        state.next += 1;
        let wire = Some(ResponseStream::new(self.limits.max_message));
        state.calls.insert(stream, Call { wire, inbox: Arc::clone(&inbox) });
        self.outbox.open(stream);
        Ok((stream, inbox))
    }

    /// The caller wants no more of this call. Tells the robot, unless the call had ended.
    pub(super) fn cancel(&self, stream: u64) {
        let call = self.lock().calls.remove(&stream);
        if let Some(wire) = call.and_then(|call| call.wire) {
            self.held.resize_partial(wire.buffered(), 0);
            self.outbox.end(stream, Ending::Cut, None, frame::request_reset(stream));
            self.outbox.flush();
        }
    }

    /// Fails one call from this side, unless it has ended.
    pub(super) fn fail(&self, stream: u64, status: Status) {
        let call = {
            let mut state = self.lock();
            match state.calls.get(&stream) {
                Some(Call { wire: Some(_), .. }) => state.calls.remove(&stream),
                _ => None,
            }
        };
        if let Some(Call { wire: Some(wire), inbox }) = call {
            self.held.resize_partial(wire.buffered(), 0);
            inbox.put_end(End::Failed(status), &mut Readers::default());
            self.outbox.end(stream, Ending::Cut, None, frame::request_reset(stream));
            self.outbox.flush();
        }
    }

    /// The connection holds too much: the call that holds the most fails, ended or not.
    fn evict(&self, bytes: usize) {
        let (stream, call) = {
            let mut state = self.lock();
            let most = state.calls.iter().max_by_key(|(_, call)| call.holds());
            let Some(stream) = most.map(|(stream, _)| *stream) else { return };
            let Some(call) = state.calls.remove(&stream) else { return };
            (stream, call)
        };
        call.inbox.overflow(over_budget(bytes));
        if let Some(wire) = call.wire {
            self.held.resize_partial(wire.buffered(), 0);
            self.outbox.end(stream, Ending::Cut, None, frame::request_reset(stream));
            self.outbox.flush();
        }
    }

    /// Fails all calls, and all later ones.
    pub(super) fn close(&self, reason: &CloseReason) {
        let calls = {
            let mut state = self.lock();
            state.closed.get_or_insert_with(|| reason.clone());
            std::mem::take(&mut state.calls)
        };
        self.permits.close();
        for call in calls.into_values() {
            self.held.resize_partial(call.wire.map_or(0, |wire| wire.buffered()), 0);
            call.inbox.put_end(End::Failed(reason.status()), &mut Readers::default());
        }
    }

    /// Calls open now, and calls opened so far.
    pub(super) fn counts(&self) -> (usize, u64) {
        let state = self.lock();
        (state.calls.values().filter(|call| call.wire.is_some()).count(), state.next - 1)
    }

    /// Frames that belonged to no call or could not be decoded.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn take(&self, frame: Bytes, readers: &mut Readers) {
        let Some((stream, kind)) = frame::decode_response(frame) else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut state = self.lock();
        let call = state.calls.get_mut(&stream);
        let Some(Call { wire: slot, inbox }) = call.filter(|call| call.wire.is_some()) else {
            // Late frames of a call that has ended here are the rule, not an error.
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let Some(wire) = slot else { return };
        let before = wire.buffered();
        let event = wire.step(kind);
        self.held.resize_partial(before, wire.buffered());
        let mut unread = 0;
        match event {
            Ok(None) => {}
            Ok(Some(ResponseEvent::Headers(head))) => inbox.put_head(head, readers),
            Ok(Some(ResponseEvent::Message(message))) => unread = inbox.put_message(message, readers),
            Ok(Some(ResponseEvent::Trailers { status, metadata, .. })) => {
                inbox.put_end(End::Trailers { status, metadata }, readers);
                self.held.resize_partial(wire.buffered(), 0);
                *slot = None;
                drop(state);
                self.outbox.forget(stream);
                return;
            }
            Err(violation) => {
                drop(state);
                self.fail(stream, violation.response_status());
                return;
            }
        }
        drop(state);
        if self.limits.stream_overflows(unread) {
            self.fail(stream, over_budget(unread));
        }
        if self.limits.connection_overflows(&self.held) {
            self.evict(self.held.bytes());
        }
    }

    fn holds(&self) -> bool {
        self.limits.overflow == Overflow::HoldConnection
            && (self.limits.connection_holds(&self.held)
                || self.lock().calls.values().any(|call| call.inbox.bytes() > self.limits.stream_budget))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    fn holds(&self) -> usize {
        self.inbox.bytes() + self.wire.as_ref().map_or(0, ResponseStream::buffered)
    }
}

fn over_budget(bytes: usize) -> Status {
    Status::resource_exhausted(format!(
        "{bytes} bytes are unread: read faster, raise Limits, or choose Overflow::HoldConnection"
    ))
}

impl Demux for Arc<Table> {
    fn frame(&mut self, frame: Bytes, readers: &mut Readers) {
        self.take(frame, readers);
    }

    fn holds(&self) -> bool {
        Table::holds(self)
    }

    fn ended(&mut self, reason: &CloseReason) {
        self.close(reason);
    }
}
