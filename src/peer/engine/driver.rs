//! The task of a peer: reads its sockets, keeps its clock, and does what takes time.
//!
//! Floor 1, engine, on top. All rules are below it; it moves datagrams, and ends when the connection is over and
//! its last words are said.
//!
//! ```text
//!  sockets ─▶ gatherer, else connection ─▶ pump ─▶ sockets
//!                                            └──▶ owner of the channel, watchers of the state
//!  timer ───▶ handle_timeout ──────────────▶ pump
//!  errands (names, TCP, TLS) ─▶ gatherer
//! ```
//!
//! # Invariant
//! The lock is held for one batch of datagrams at a time, and never while waiting. When the task ends, sockets,
//! timers and connections of the peer are closed.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream as _;
use futures_core::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Sleep;
use tracing::debug;

use super::connection::NamedCandidate;
use super::core::{Core, Errand, Shared, now};
use super::gathering::{Handled, Resolved, ServerId, StreamId};
use super::outlet::Reach;
use super::settings::Settings;
use super::sockets::{self, IceTcp, Stream, StreamError};
use crate::peer::TransportProtocol;

/// Batches of datagrams that are read in one turn before others get to run.
const BATCHES: usize = 16;

/// How long one turn may take before others get to run.
const TURN: Duration = Duration::from_micros(500);

/// How long a candidate's name may take, and a TCP connection to one.
const ERRAND: Duration = Duration::from_secs(5);

/// How long the last words and the end of relays may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The task. Dropping it ends the peer.
pub(super) struct Driver {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    timer: Pin<Box<Sleep>>,
    errands: FuturesUnordered<BoxFuture<'static, Done>>,
    /// When it stays no longer for the last words.
    leave: Option<Instant>,
}

/// What became of an [`Errand`].
enum Done {
    Resolved(ServerId, Result<Vec<Resolved>, String>),
    Connected(StreamId, Result<Stream, StreamError>),
    LookedUp(NamedCandidate, Result<Vec<IpAddr>, String>),
    Reached(SocketAddr, Result<IceTcp, StreamError>),
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, settings: Arc<Settings>) -> Self {
        // Far off: the first turn sets it.
        let timer = Box::pin(tokio::time::sleep(Duration::from_secs(3600)));
        Self { shared, settings, timer, errands: FuturesUnordered::new(), leave: None }
    }

    fn begin(&self, errand: Errand) {
        let (trust, patience) = (self.settings.trust.clone(), self.settings.patience);
        self.errands.push(match errand {
            Errand::Resolve { server, host, port } => {
                Box::pin(async move { Done::Resolved(server, sockets::resolve(&host, port, patience).await) })
            }
            Errand::Connect { stream, to, name } => Box::pin(async move {
                Done::Connected(stream, Stream::connect(to, name.as_deref(), &trust, patience).await)
            }),
            Errand::LookUp(_) if !self.settings.resolve_mdns => return,
            Errand::LookUp(named) => Box::pin(async move {
                let found = sockets::resolve_local(named.name(), ERRAND).await;
                Done::LookedUp(named, found)
            }),
            Errand::Reach(to) => {
                Box::pin(async move { Done::Reached(to, IceTcp::connect(to, ERRAND).await) })
            }
        });
    }

    /// Begins what there is to begin, and takes in what came of it.
    fn poll_errands(&mut self, cx: &mut Context<'_>) {
        loop {
            for errand in self.shared.drive(|core| std::mem::take(&mut core.errands)) {
                self.begin(errand);
            }
            let Poll::Ready(Some(done)) = Pin::new(&mut self.errands).poll_next(cx) else { return };
            self.shared.drive(|core| {
                let now = now();
                take_in(core, now, done);
                core.pump(now);
            });
            // One more turn: new streams have to be polled, and what is read has to be handed on.
            cx.waker().wake_by_ref();
        }
    }

    /// Reads what has come and does what is due; whether there may be more.
    fn poll_sockets(&self, cx: &mut Context<'_>) -> bool {
        let began = Instant::now();
        for _ in 0..BATCHES {
            let progress = self.shared.drive(|core| {
                let now = now();
                let progress = receive(core, now, cx);
                let due = core.deadline.is_some_and(|deadline| deadline <= now);
                if due {
                    core.outlet.give_up(now);
                    core.connection.handle_timeout(now);
                    if let Some(gatherer) = &mut core.gatherer {
                        gatherer.handle_timeout(now);
                    }
                }
                if due || progress || core.is_touched() {
                    core.pump(now);
                }
                write(core, now, cx);
                progress
            });
            if !progress {
                return false;
            }
            if began.elapsed() >= TURN {
                break;
            }
        }
        true
    }

    /// Sets the timer, unless it goes off early enough anyway: for most packets the next deadline only moves
    /// away.
    fn poll_timer(&mut self, cx: &mut Context<'_>, fired: bool) {
        let sooner = self.shared.drive(|core| {
            if fired {
                core.armed = None;
            }
            let sooner = core.deadline.filter(|at| core.armed.is_none_or(|armed| *at < armed));
            core.armed = sooner.or(core.armed);
            sooner
        });
        if let Some(at) = sooner {
            self.timer.as_mut().reset(at.into());
        }
        if self.shared.drive(|core| core.armed.is_some()) && self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Whether nothing is left to be said.
    fn is_done(&mut self) -> bool {
        self.shared.drive(|core| {
            if !core.is_over() {
                return false;
            }
            let now = now();
            let leave = *self.leave.get_or_insert(now + GOODBYE);
            let said = core.connection.is_done() && core.gatherer.as_ref().is_none_or(|it| it.is_over());
            // Somebody has to come back for the leave.
            core.deadline = Some(core.deadline.map_or(leave, |deadline| deadline.min(leave)));
            said && !core.outlet.has_to_wait() || now >= leave
        })
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // First of all: a wake-up that comes while this runs must not be lost.
        this.shared.driver.register(cx.waker());
        let fired = this.timer.as_mut().poll(cx).is_ready();
        if this.poll_sockets(cx) {
            cx.waker().wake_by_ref();
        }
        this.poll_errands(cx);
        if this.is_done() {
            return Poll::Ready(());
        }
        this.poll_timer(cx, fired);
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.with(Core::end);
    }
}

/// Reads one batch from each socket. Whether there was any.
fn receive(core: &mut Core, now: Instant, cx: &mut Context<'_>) -> bool {
    let Core { connection, gatherer, outlet, .. } = core;
    let mut progress = false;
    outlet.udp.retain(|socket| {
        let local = socket.local();
        let polled = socket.poll_receive(cx, |from, datagram| {
            let handled = gatherer.as_mut().map(|it| it.handle_datagram(now, local, from, datagram));
            match handled {
                None | Some(Handled::NotMine) => {
                    connection.handle_input(now, from, local, TransportProtocol::Udp, datagram);
                }
                Some(Handled::Consumed) => {}
                Some(Handled::Relayed { relay, peer, payload }) => {
                    let payload = datagram.get_mut(payload).unwrap_or_default();
                    connection.handle_input(now, peer, relay, TransportProtocol::Udp, payload);
                }
            }
        });
        progress |= matches!(polled, Poll::Ready(Ok(_)));
        if let Poll::Ready(Err(error)) = &polled {
            debug!(%error, %local, "a socket failed");
        }
        !matches!(polled, Poll::Ready(Err(_)))
    });
    outlet.streams.retain_mut(|(id, stream)| {
        let Some(gatherer) = gatherer else { return false };
        let polled = stream.poll_read(cx, |bytes| {
            gatherer.handle_stream(now, *id, bytes, |relay, peer, payload| {
                connection.handle_input(now, peer, relay, TransportProtocol::Udp, payload);
            });
        });
        progress |= polled.is_ready();
        let Poll::Ready(Err(error)) = polled else { return true };
        gatherer.disconnected(now, *id, error.to_string());
        false
    });
    for Reach { peer, source, connection: tcp } in &mut outlet.tcp {
        let Some(open) = tcp else { continue };
        let polled = open.poll_receive(cx, |datagram| {
            connection.handle_input(now, *peer, *source, TransportProtocol::Tcp, datagram);
        });
        progress |= polled.is_ready();
        if matches!(polled, Poll::Ready(Err(_))) {
            // Its place stays taken, so that nobody connects again.
            *tcp = None;
        }
    }
    progress
}

/// Writes what waits for a socket, and what waited behind it.
fn write(core: &mut Core, now: Instant, cx: &mut Context<'_>) {
    while core.outlet.has_to_wait() {
        let blocked = core.outlet.is_blocked();
        if core.outlet.poll_written(cx).is_pending() || !blocked {
            return;
        }
        core.pump(now);
    }
}

fn take_in(core: &mut Core, now: Instant, done: Done) {
    let Core { connection, gatherer, outlet, .. } = core;
    match (done, gatherer) {
        (Done::LookedUp(named, Ok(addresses)), _) => {
            for address in addresses {
                let _ = connection.add_resolved_candidate(now, named.clone(), address);
            }
        }
        (Done::LookedUp(_, Err(error)), _) => debug!(%error, "cannot look up a .local candidate"),
        (Done::Reached(to, reached), _) => outlet.reached(to, reached),
        (Done::Resolved(server, found), Some(gatherer)) => gatherer.resolved(now, server, found),
        (Done::Connected(id, Ok(stream)), Some(gatherer)) => {
            outlet.streams.push((id, stream));
            gatherer.connected(now, id);
        }
        (Done::Connected(id, Err(error)), Some(gatherer)) => {
            gatherer.disconnected(now, id, error.to_string());
        }
        (Done::Resolved(..) | Done::Connected(..), None) => {}
    }
}
