//! Where calls pass: to the connection that there is, or to a wait for the next one.
//!
//! # Invariant
//! A call passes once. Until it has, its request has been handed to nobody.

use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::WhileDown;
use crate::channel::Channel;
use crate::transport::{CloseReason, Link, LinkState, LinkWatch, OnConnection, Reconnected, Reconnecting};
use crate::transport::{Transport as _, TransportError, TransportKind};
use crate::wire::session::{SEND_SESSION_HEARTBEAT, SESSION_METADATA_KEY, START_SESSION};

/// How long, on a new connection, other calls let the waiting starts of sessions go first. Those need no time,
/// unless somebody who made one does not poll it.
const STARTS_FIRST: Duration = Duration::from_millis(250);

/// What the clones, the driver and the waiting calls share.
#[derive(Debug)]
pub(super) struct Gate {
    state: watch::Sender<State>,
    link: Link,
    while_down: WhileDown,
    cancel: CancellationToken,
}

#[derive(Debug)]
struct State {
    /// The present connection, or the last. `None` once nobody is left to ask.
    channel: Option<Channel>,
    kind: TransportKind,
    link: LinkWatch,
    connection: u64,
    /// Why calls cannot pass, though the connection's own link may not know it yet.
    shut: Option<Shut>,
    /// Since when there is this connection.
    since: Instant,
    /// Starts of sessions that wait.
    starts: u64,
}

#[derive(Debug)]
enum Shut {
    Down(String),
    Ended(CloseReason),
}

/// What matters about a request here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nature {
    /// It starts a session, or goes on with one.
    is_start: bool,
    /// It makes sense on the connection of its session only.
    is_bound: bool,
    /// The number of the connection that it is bound to, if it says so.
    on: Option<u64>,
}

impl Nature {
    pub(super) fn of(path: &str, headers: &HeaderMap, extensions: &Extensions) -> Self {
        let on = extensions.get::<OnConnection>().map(|OnConnection(number)| *number);
        let is_start = path == START_SESSION;
        let is_session_s = path == SEND_SESSION_HEARTBEAT || headers.contains_key(SESSION_METADATA_KEY);
        Self { is_start, is_bound: on.is_some() || (is_session_s && !is_start), on }
    }
}

/// What a call does now.
pub(super) enum Passage {
    Go(Channel),
    Wait,
    Refused(TransportError),
}

impl Gate {
    pub(super) fn new(channel: Channel, while_down: WhileDown) -> Self {
        let link = channel.watch();
        let (path, kind) = (link.state().path, channel.kind());
        let since = Instant::now();
        let state = State { channel: Some(channel), kind, link, connection: 1, shut: None, since, starts: 0 };
        Self {
            state: watch::Sender::new(state),
            link: Link::over(path),
            while_down,
            cancel: CancellationToken::new(),
        }
    }

    /// Whether this call may go, and over what.
    pub(super) fn pass(&self, nature: Nature) -> Passage {
        let state = self.state.borrow();
        if let Some(Shut::Ended(reason)) = &state.shut {
            return Passage::Refused(TransportError::not_sent(reason.status()));
        }
        let may_go = match nature.on {
            Some(number) => number == state.connection,
            None => nature.is_start || !state.lets_starts_first(),
        };
        match state.open() {
            Some(channel) if may_go => Passage::Go(channel.clone()),
            // Sessions are about to go on on this connection: what was bound to the old one has missed it.
            _ if nature.is_bound => Passage::Refused(refused(
                &state,
                "the connection that the call's session was made on is gone: go on with the session, then \
                 make the call again",
            )),
            None if self.while_down == WhileDown::Fail => Passage::Refused(refused(
                &state,
                "there is no connection to the robot, it is being dialed again: make the call again later",
            )),
            _ => Passage::Wait,
        }
    }

    /// Takes a place among those who wait. Starts of sessions are let out first.
    pub(super) fn place(self: &Arc<Self>, nature: Nature) -> Option<Place> {
        nature.is_start.then(|| {
            self.state.send_if_modified(|state| {
                state.starts += 1;
                false
            });
            Place { gate: Arc::clone(self) }
        })
    }

    /// Waits for a connection to make this call on. Cancel safe.
    pub(super) async fn wait(&self, nature: Nature) -> Result<Channel, TransportError> {
        let mut states = self.state.subscribe();
        loop {
            match self.pass(nature) {
                Passage::Go(channel) => return Ok(channel),
                Passage::Refused(error) => return Err(error),
                Passage::Wait => {}
            }
            // The sender is ours: this cannot end before the gate does.
            let _ = states.wait_for(|state| state.is_ended() || state.open().is_some()).await;
            if !nature.is_start {
                let first = states.wait_for(|state| !state.lets_starts_first() || state.open().is_none());
                let _ = timeout(STARTS_FIRST, first).await;
            }
        }
    }

    /// There is no connection.
    pub(super) fn down(&self, why: Reconnecting) {
        self.state.send_if_modified(|state| {
            if !state.is_ended() {
                state.shut = Some(Shut::Down(why.to_string()));
            }
            true
        });
        self.link.reconnecting(why);
    }

    /// There is another connection. Calls may pass before anybody is told.
    pub(super) fn up(&self, channel: Channel, connection: u64, attempts: u32, after: Duration) {
        let (kind, link) = (channel.kind(), channel.watch());
        let path = link.state().path;
        // Dropped outside the lock: the new one if this has ended meanwhile, else the old one.
        let mut other = Some(channel);
        self.state.send_if_modified(|state| {
            if !state.is_ended() {
                std::mem::swap(&mut state.channel, &mut other);
                (state.kind, state.link, state.connection, state.shut) = (kind, link, connection, None);
                state.since = Instant::now();
            }
            true
        });
        self.link.reconnected(connection, Reconnected::new(kind, attempts, after), path);
    }

    /// Something changed on the connection itself.
    pub(super) fn relay(&self, state: LinkState) {
        self.link.update(state.silent, state.path);
    }

    /// Ends it for good, with what is on its way; does nothing if it has ended.
    pub(super) fn end(&self, reason: CloseReason) {
        let mut channel = None;
        self.state.send_if_modified(|state| {
            if !state.is_ended() {
                state.shut = Some(Shut::Ended(reason.clone()));
                channel.clone_from(&state.channel);
            }
            true
        });
        self.link.close(reason);
        self.cancel.cancel();
        if let Some(channel) = channel {
            channel.close();
        }
    }

    /// Ends it because nobody is left to make calls. Those on their way go on.
    pub(super) fn abandon(&self) {
        let mut channel = None;
        self.state.send_if_modified(|state| {
            std::mem::swap(&mut state.channel, &mut channel);
            false
        });
        self.end(CloseReason::Local);
    }

    /// Waits until it has ended. Cancel safe.
    pub(super) async fn ended(&self) {
        self.cancel.cancelled().await;
    }

    pub(super) fn watch(&self) -> LinkWatch {
        self.link.watch()
    }

    pub(super) fn kind(&self) -> TransportKind {
        self.state.borrow().kind
    }

    /// The present connection, or the last.
    pub(super) fn channel(&self) -> Option<Channel> {
        self.state.borrow().channel.clone()
    }
}

impl State {
    fn is_ended(&self) -> bool {
        matches!(self.shut, Some(Shut::Ended(_)))
    }

    /// Whether starts of sessions have yet to go out on a connection that is new.
    fn lets_starts_first(&self) -> bool {
        self.starts > 0 && self.since.elapsed() < STARTS_FIRST
    }

    /// The connection, as far as anybody knows by now.
    fn open(&self) -> Option<&Channel> {
        self.channel.as_ref().filter(|_| self.shut.is_none() && !self.link.is_closed())
    }
}

/// A call that did not leave.
fn refused(state: &State, text: &str) -> TransportError {
    let why = match &state.shut {
        Some(Shut::Down(why)) => format!(" ({why})"),
        _ => state.link.state().closed.map(|reason| format!(" ({reason})")).unwrap_or_default(),
    };
    TransportError::not_sent(Status::unavailable(format!("{text}{why}")))
}

/// Where the start of a session waits. Given back once it is on its way, or dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.state.send_if_modified(|state| {
            state.starts = state.starts.saturating_sub(1);
            state.starts == 0
        });
    }
}
