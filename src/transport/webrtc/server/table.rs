//! The robot's open calls: which frame belongs to which call, and what ends one.
//!
//! # Invariant
//! A call leaves the table exactly once, by its reply's end, a reset, a violation, its budget or the
//! connection's end; from then on its frames are dropped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Extensions;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::Status;
use tracing::Instrument as _;

use super::call::{self, Reply};
use super::{Methods, RobotService};
use crate::proto::webrtc::{Metadata, RequestHeaders, request};
use crate::transport::webrtc::driver::Demux;
use crate::transport::webrtc::inbox::{End, Held, Inbox, Readers};
use crate::transport::webrtc::limits::{Limits, Overflow};
use crate::transport::webrtc::outbox::{Ending, Outbox};
use crate::transport::webrtc::urgent::{self, URGENT_BEYOND_LIMIT};
use crate::transport::{Arrived, CloseReason};
use crate::wire::frame::{self, RequestKind};
use crate::wire::stream::{RequestEvent, RequestStream};

/// Bytes of headers and trailers that wait to be sent, above which no more frames are read: a caller that
/// opens calls and does not read what becomes of them must not fill our memory with refusals.
const MAX_AHEAD: usize = 1024 * 1024;

/// What an open call costs beside its headers' own bytes: the map that they become, a task, an inbox.
const HEAD: usize = 24 * 1024;

/// All calls of one connection.
pub(super) struct Table {
    state: Mutex<State>,
    held: Arc<Held>,
    pub(super) limits: Limits,
    pub(super) outbox: Arc<Outbox>,
    service: RobotService,
    extensions: Extensions,
    methods: Methods,
    open: watch::Sender<usize>,
    opened: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    calls: HashMap<u64, Call>,
    refusing: bool,
}

struct Call {
    wire: RequestStream,
    /// What its headers cost, for as long as it is open.
    head: usize,
    /// The request is whole with its first message, whatever the caller says.
    one_message: bool,
    inbox: Arc<Inbox>,
    handler: Option<AbortHandle>,
}

impl Table {
    pub(super) fn new(
        limits: Limits,
        outbox: Arc<Outbox>,
        service: RobotService,
        extensions: Extensions,
        methods: Methods,
    ) -> Self {
        Self {
            state: Mutex::default(),
            held: Arc::default(),
            limits,
            outbox,
            service,
            extensions,
            methods,
            open: watch::Sender::new(0),
            opened: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// From now on new calls get UNAVAILABLE.
    pub(super) fn refuse_new(&self) {
        self.lock().refusing = true;
    }

    /// Waits until no call is open.
    pub(super) async fn idle(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Ends a call with this status, if it has not ended: its handler is cancelled, what it has not sent is
    /// dropped.
    pub(super) fn end(&self, stream: u64, status: &Status) {
        if let Some(call) = self.remove(stream) {
            self.finish(stream, call, status);
            self.outbox.flush();
        }
    }

    /// Ends all calls with this status.
    pub(super) fn end_all(&self, status: &Status) {
        let calls = std::mem::take(&mut self.lock().calls);
        for (stream, call) in calls {
            self.finish(stream, call, status);
        }
        self.outbox.flush();
    }

    /// The reply is complete, or its handler gave up: the call leaves the table. Its trailers go after all
    /// that it has sent.
    pub(super) fn complete(&self, stream: u64, status: &Status, metadata: Metadata) {
        if let Some(call) = self.remove(stream) {
            self.held.resize_partial(call.head + call.wire.buffered(), 0);
            // Whoever still reads the request, in a task of the handler's say, must not wait for ever.
            let ended = End::Failed(Status::cancelled("the call has ended"));
            call.inbox.put_end(ended, &mut Readers::default());
            let trailers = frame::response_trailers(stream, status, metadata);
            self.outbox.end(stream, Ending::InOrder, empty_head(stream), trailers);
            self.outbox.flush();
            self.left();
        }
    }

    /// Calls open now, and calls opened so far.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.lock().calls.len(), self.opened.load(Ordering::Relaxed))
    }

    /// Frames that belonged to no call or could not be decoded.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Takes a call out. Whoever does tells [`left`](Self::left) when its trailers are on their way: a drain
    /// that waits for the last call must not close before.
    fn remove(&self, stream: u64) -> Option<Call> {
        self.lock().calls.remove(&stream)
    }

    fn left(&self) {
        self.open.send_modify(|open| *open = open.saturating_sub(1));
    }

    fn finish(&self, stream: u64, call: Call, status: &Status) {
        self.held.resize_partial(call.head + call.wire.buffered(), 0);
        if let Some(handler) = &call.handler {
            handler.abort();
        }
        call.inbox.put_end(End::Failed(status.clone()), &mut Readers::default());
        let trailers = frame::response_trailers(stream, status, Metadata::default());
        self.outbox.end(stream, Ending::Cut, empty_head(stream), trailers);
        self.left();
    }

    /// Lets a call in. Under one lock, so that a drain sees every call that was let in before it.
    fn insert(&self, stream: u64, call: Call, urgent: bool) -> Result<(), Status> {
        let beyond = if urgent { URGENT_BEYOND_LIMIT } else { 0 };
        let mut state = self.lock();
        let open = state.calls.len();
        if state.refusing {
            return Err(Status::unavailable("the robot is shutting down"));
        }
        if open >= self.limits.max_streams.saturating_add(beyond) {
            let text = format!("{open} calls are in flight on this connection already");
            return Err(Status::resource_exhausted(text));
        }
        self.held.resize_partial(0, call.head);
        self.open.send_modify(|open| *open += 1);
        state.calls.insert(stream, call);
        Ok(())
    }

    /// Starts a call whose headers have come; keeping them costs `head` bytes.
    fn start(self: &Arc<Self>, stream: u64, headers: RequestHeaders, head: usize) {
        let arrived = Arrived(Instant::now());
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.outbox.open(stream);
        let mut inbox = Inbox::new(Arc::clone(&self.held));
        if self.limits.overflow == Overflow::HoldConnection {
            let outbox = Arc::clone(&self.outbox);
            inbox = inbox.on_freed(move || outbox.wake_driver());
        }
        let inbox = Arc::new(inbox);
        let wire = RequestStream::new(self.limits.max_message);
        let one_message = self.methods.ends_with_first_message(&headers);
        let call = Call { wire, head, one_message, inbox: Arc::clone(&inbox), handler: None };
        if let Err(status) = self.insert(stream, call, urgent::is_urgent(&headers.method)) {
            let trailers = frame::response_trailers(stream, &status, Metadata::default());
            self.outbox.end(stream, Ending::Cut, empty_head(stream), trailers);
            self.outbox.flush();
            return;
        }

        // A peer's text: cut short, and quoted.
        let method: String = headers.method.chars().take(128).collect();
        let span = tracing::debug_span!("rpc", stream, ?method);
        let reply = Reply::new(Arc::clone(self), stream);
        let service = self.service.clone();
        let mut extensions = self.extensions.clone();
        extensions.insert(arrived);
        let handler = call::run(service, headers, inbox, extensions, reply);
        let handler = tokio::spawn(handler.instrument(span)).abort_handle();
        match self.lock().calls.get_mut(&stream) {
            Some(call) => call.handler = Some(handler),
            // It has ended already: on another worker, before we got here.
            None => handler.abort(),
        }
    }

    fn take(self: &Arc<Self>, frame: Bytes, readers: &mut Readers) {
        let length = frame.len();
        let Some((stream, kind)) = frame::decode_request(frame) else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut state = self.lock();
        let Some(call) = state.calls.get_mut(&stream) else {
            drop(state);
            match kind {
                Some(request::Type::Headers(headers)) => {
                    self.start(stream, headers, length + HEAD);
                    self.keep_budget();
                }
                // The handler is done and its answer on the way: nobody wants the rest of it.
                Some(request::Type::RstStream(_)) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    self.outbox.forget(stream);
                }
                // Late frames of a call that has ended are the rule, not an error.
                _ => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            return;
        };
        let ending = self.step(call, kind, readers);
        drop(state);
        if let Some(status) = ending {
            self.end(stream, &status);
        }
        self.keep_budget();
    }

    fn keep_budget(&self) {
        if self.limits.connection_overflows(&self.held) {
            self.evict();
        }
    }

    /// The connection holds too much: the call that holds the most fails.
    fn evict(&self) {
        let holds = |call: &Call| call.head + call.inbox.bytes() + call.wire.buffered();
        let most = self.lock().calls.iter().max_by_key(|(_, call)| holds(call)).map(|(stream, _)| *stream);
        if let Some(stream) = most {
            self.end(stream, &over_budget(self.held.bytes()));
        }
    }

    /// Feeds a frame to its call; returns the status that must end it.
    fn step(&self, call: &mut Call, kind: RequestKind, readers: &mut Readers) -> Option<Status> {
        let before = call.wire.buffered();
        let event = call.wire.step(kind);
        self.held.resize_partial(before, call.wire.buffered());
        let RequestEvent { message, half_close, reset } = match event {
            Ok(event) => event,
            Err(violation) => return Some(violation.request_status()),
        };
        if reset {
            return Some(Status::cancelled("request cancelled"));
        }
        let half_close = half_close || (call.one_message && message.is_some());
        let unread = message.map_or(0, |message| call.inbox.put_message(message, readers));
        if half_close {
            call.inbox.put_end(End::HalfClose, readers);
        }
        self.limits.stream_overflows(unread).then(|| over_budget(unread))
    }

    fn holds(&self) -> bool {
        // What calls have left to be sent when they ended counts too: a caller that asks and does not read the
        // answers is not read either.
        if self.outbox.bytes_ahead() > MAX_AHEAD || self.outbox.bytes() > self.limits.connection_budget {
            return true;
        }
        self.limits.overflow == Overflow::HoldConnection
            && (self.limits.connection_holds(&self.held)
                || self.lock().calls.values().any(|call| call.inbox.bytes() > self.limits.stream_budget))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over_budget(bytes: usize) -> Status {
    Status::resource_exhausted(format!("the robot has {bytes} unread bytes: send slower"))
}

/// The headers of a reply that ends before its handler sent any.
fn empty_head(stream: u64) -> Option<Bytes> {
    frame::response_headers(stream, Metadata::default()).ok()
}

impl Demux for Arc<Table> {
    fn frame(&mut self, frame: Bytes, readers: &mut Readers) {
        self.take(frame, readers);
    }

    fn holds(&self) -> bool {
        Table::holds(self)
    }

    fn ended(&mut self, reason: &CloseReason) {
        self.end_all(&reason.status());
    }
}
