//! What the parts of one peer share: the connection, its sockets, and who waits for what.
//!
//! Floor 1, engine. The driver reads the sockets; whoever holds a handle (the owner of the channel, the
//! negotiator) works on the same object under its lock and sends at once, in its own task: a message needs no
//! other task to leave.
//!
//! # Invariant
//! After [`Core::pump`] nothing is left to be done before [`Core::deadline`], a datagram, or a call from
//! outside. The owner's waker and the driver's are called after the lock is free; those who watch the state or read
//! candidates are tokio's to wake.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::sync::{mpsc, watch};
use tracing::debug;

use super::connection::{Connection, DATA, Event, Failure, Message, NamedCandidate};
use super::gathering::{Gatherer, ServerId, StreamId};
use super::outlet::Outlet;
use crate::peer::{Candidate, ChannelClosed, PeerState, Phase};

/// Bytes that a reader takes until the peer is told of the room, at the latest.
const TELL_ROOM: usize = 64 * 1024;

/// Servers whose failure a failed connection tells.
const TOLD: usize = 4;

/// The one object of a peer, and its task's waker.
pub(super) struct Shared {
    core: Mutex<Core>,
    /// The task of the peer.
    pub(super) driver: AtomicWaker,
}

/// Who has to be woken once the lock is free.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wakes {
    pub(super) owner: bool,
    pub(super) driver: bool,
}

impl Shared {
    pub(super) fn new(core: Core) -> Self {
        Self { core: Mutex::new(core), driver: AtomicWaker::new() }
    }

    /// Works on the core, then wakes whom that concerns.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Core) -> T) -> T {
        let (result, driver) = self.work(work);
        if driver {
            self.driver.wake();
        }
        result
    }

    /// The same for the driver, which looks at all that concerns it before it sleeps.
    pub(super) fn drive<T>(&self, work: impl FnOnce(&mut Core) -> T) -> T {
        self.work(work).0
    }

    fn work<T>(&self, work: impl FnOnce(&mut Core) -> T) -> (T, bool) {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut core);
        let Wakes { owner, driver } = std::mem::take(&mut core.wakes);
        let owner = if owner { core.owner.take() } else { None };
        drop(core);
        if let Some(owner) = owner {
            owner.wake();
        }
        (result, driver)
    }
}

/// A peer, but for the task that drives it.
pub(super) struct Core {
    pub(super) connection: Connection,
    /// From the moment that gathering starts.
    pub(super) gatherer: Option<Gatherer>,
    pub(super) outlet: Outlet,
    /// What the driver has to begin.
    pub(super) errands: Vec<Errand>,
    /// When the driver has to come back, and when it will.
    pub(super) deadline: Option<Instant>,
    pub(super) armed: Option<Instant>,
    /// Until the last candidate.
    pub(super) candidates: Option<mpsc::Sender<Candidate>>,
    /// Until the driver ends, so that its end is seen.
    state: Option<watch::Sender<PeerState>>,
    /// The media section that our candidates belong to: its id and index.
    pub(super) section: (String, u32),
    /// The owner of the channel, when it waits.
    owner: Option<Waker>,
    opened: bool,
    /// Bytes read since the peer was last told of the room.
    read: usize,
    /// Whether something was sent or read since all was last quiet.
    touched: bool,
    /// Servers that were of no use, and why: what a failure says.
    useless: Vec<String>,
    pub(super) wakes: Wakes,
}

/// Something that takes time and needs a runtime.
#[derive(Debug)]
pub(super) enum Errand {
    /// Look a server up: [`super::gathering::Event::Resolve`].
    Resolve { server: ServerId, host: String, port: u16 },
    /// Connect to a relay: [`super::gathering::Event::Connect`].
    Connect { stream: StreamId, to: SocketAddr, name: Option<String> },
    /// Look up a candidate's `.local` name.
    LookUp(NamedCandidate),
    /// Connect to a passive TCP candidate.
    Reach(SocketAddr),
}

impl Core {
    pub(super) fn new(
        connection: Connection,
        candidates: mpsc::Sender<Candidate>,
        state: watch::Sender<PeerState>,
    ) -> Self {
        Self {
            connection,
            gatherer: None,
            outlet: Outlet::default(),
            errands: Vec::new(),
            deadline: None,
            armed: None,
            candidates: Some(candidates),
            state: Some(state),
            section: ("0".to_owned(), 0),
            owner: None,
            opened: false,
            read: 0,
            touched: false,
            useless: Vec::new(),
            wakes: Wakes::default(),
        }
    }

    /// Ready once both sides may send.
    pub(super) fn poll_open(&mut self, cx: &Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        if self.is_over() {
            Poll::Ready(Err(ChannelClosed))
        } else if self.opened {
            Poll::Ready(Ok(()))
        } else {
            self.wait(cx)
        }
    }

    /// Ready when fewer than `limit` bytes wait to be sent or acknowledged.
    pub(super) fn poll_below(&mut self, cx: &Context<'_>, limit: usize) -> Poll<Result<(), ChannelClosed>> {
        std::task::ready!(self.poll_open(cx))?;
        if self.buffered() < limit {
            return Poll::Ready(Ok(()));
        }
        self.connection.set_low_water(DATA, limit.saturating_sub(1));
        self.wait(cx)
    }

    /// Takes a message; it leaves with the next [`push`](Self::push) or [`pump`](Self::pump).
    pub(super) fn send(&mut self, message: Bytes) -> Result<(), ChannelClosed> {
        if !self.opened || self.is_over() {
            return Err(ChannelClosed);
        }
        self.touched = true;
        let now = now();
        self.connection.send(now, DATA, Message::binary(message)).map_err(|error| {
            // What came before it leaves, what comes after it must not take its place, and whoever waits hears why.
            self.pump(now);
            self.connection.fail(now, Failure::Message(error));
            self.pump(now);
            ChannelClosed
        })
    }

    /// Lets out what waits.
    pub(super) fn push(&mut self) {
        self.pump(now());
    }

    /// The next message; `None` after the last one.
    pub(super) fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let Some(message) = self.connection.receive(DATA) else {
            if self.is_over() {
                return Poll::Ready(None);
            }
            return self.wait(cx);
        };
        self.touched = true;
        self.read += message.data.len();
        if self.read >= TELL_ROOM {
            self.push();
        }
        Poll::Ready(Some(message.data))
    }

    /// Bytes sent and not yet acknowledged.
    pub(super) fn buffered(&self) -> usize {
        self.connection.buffered(DATA)
    }

    /// Closes the connection, and tells the peer.
    pub(super) fn close(&mut self) {
        let now = now();
        self.connection.close(now);
        self.pump(now);
    }

    /// Whether nothing new will come, and nothing can be sent.
    pub(super) fn is_over(&self) -> bool {
        self.connection.is_over()
    }

    /// Whether something was sent or read that nobody handed on.
    pub(super) fn is_touched(&self) -> bool {
        self.touched
    }

    /// Some address of this machine cannot be used.
    pub(super) fn blame(&mut self, why: String) {
        if self.useless.len() < TOLD {
            self.useless.push(why);
        }
    }

    /// The driver is gone: so is everything that it held.
    pub(super) fn end(&mut self) {
        // A runtime that shuts down asks nobody.
        self.close();
        self.state = None;
        self.outlet = Outlet::default();
        self.gatherer = None;
        self.wakes.owner = true;
    }

    /// Hands everybody's work on until all is quiet.
    pub(super) fn pump(&mut self, now: Instant) {
        self.read = 0;
        self.touched = false;
        loop {
            self.permit(now);
            self.outlet.send_all(now, &mut self.connection, self.gatherer.as_mut());
            let mut quiet = true;
            while let Some(event) = self.connection.poll_event() {
                quiet = false;
                self.happened(event);
            }
            while let Some(event) = self.gatherer.as_mut().and_then(Gatherer::poll_event) {
                quiet = false;
                self.gathered(now, event);
            }
            if quiet {
                break;
            }
        }
        self.errands.extend(self.outlet.unreached().map(Errand::Reach));
        let gathering = self.gatherer.as_ref().and_then(Gatherer::poll_timeout);
        self.deadline = [self.connection.poll_timeout(now), gathering].into_iter().flatten().min();
        if let Some(gives_up) = self.outlet.gives_up() {
            // What is due now cannot be sent: the socket's readiness wakes the driver, or this does.
            self.deadline = Some(gives_up);
        }
        let sooner = self.deadline.is_some_and(|at| self.armed.is_none_or(|armed| at < armed));
        self.wakes.driver |= sooner || !self.errands.is_empty() || self.outlet.has_to_wait();
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::State(mut state) => {
                if let Phase::Failed(why) = &mut state.phase
                    && state.path.is_none()
                    && !self.useless.is_empty()
                {
                    *why = format!("{why} ({})", self.useless.join("; "));
                }
                if state.phase.is_final() {
                    self.wakes.owner = true;
                    self.wakes.driver = true;
                    self.candidates = None;
                    if let Some(gatherer) = &mut self.gatherer {
                        gatherer.close(now());
                    }
                }
                if let Some(watched) = &self.state {
                    watched.send_replace(state);
                }
            }
            Event::Opened { stream: DATA } => {
                self.opened = true;
                self.wakes.owner = true;
            }
            Event::Readable { stream: DATA }
            | Event::Low { stream: DATA }
            | Event::Closed { stream: DATA } => {
                self.wakes.owner = true;
            }
            // The user of a peer has one channel.
            event => debug!(?event, "nobody asked for this channel"),
        }
    }

    /// Before its owner sleeps: what was sent leaves.
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if self.touched {
            self.push();
        }
        match &mut self.owner {
            Some(owner) => owner.clone_from(cx.waker()),
            owner => *owner = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// The runtime's clock, which tests pause.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
