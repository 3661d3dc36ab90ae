//! Where a peer's datagrams leave: its sockets, its connections to relays, and what they do not take at once.
//!
//! Floor 1, engine, below the core. It decides nothing: a datagram names its source, which is a socket's
//! address or a relayed one.
//!
//! # Invariant
//! At most one train of datagrams waits for a socket, and the connection is not asked for more before it is
//! gone: a full socket is felt by whoever makes datagrams. Streams drop what they have no room for.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tracing::{debug, trace};

use super::connection::{self, Connection};
use super::gathering::{Gatherer, StreamId, Via};
use super::sockets::{IceTcp, Stream, StreamError, Udp};
use crate::peer::TransportProtocol;

/// The most TCP connections to candidates of one peer.
const MAX_TCP: usize = 8;

/// How long a full socket may keep what it has not taken.
const STUCK: Duration = Duration::from_millis(200);

thread_local! {
    /// What a train is made in: one buffer for all peers of a thread, so that idle ones have none.
    static TRAIN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The same in the frames of a relay.
    static FRAMED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The sockets of one peer.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    pub(super) udp: Vec<Udp>,
    /// Connections to relays.
    pub(super) streams: Vec<(StreamId, Stream)>,
    /// Passive TCP candidates of the peer, each of them connected to once.
    pub(super) tcp: Vec<Reach>,
    /// Those that nobody has begun to connect.
    unreached: Vec<SocketAddr>,
    blocked: Option<Blocked>,
    /// Whether a stream has something to write.
    written: bool,
}

/// A passive TCP candidate of the peer.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) peer: SocketAddr,
    /// Which candidate of ours last sent there: all of them share the connection, which the system routes.
    pub(super) source: SocketAddr,
    /// `None` while connecting, and when it is over.
    pub(super) connection: Option<IceTcp>,
}

/// A train that its socket did not take whole.
#[derive(Debug)]
struct Blocked {
    from: SocketAddr,
    to: SocketAddr,
    contents: Vec<u8>,
    segment: Option<usize>,
    sent: usize,
    since: Instant,
}

impl Outlet {
    /// Sends all that the gatherer and the connection have, as far as the sockets take it.
    pub(super) fn send_all(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        mut gatherer: Option<&mut Gatherer>,
    ) {
        // A thread that ends may have none any more.
        let mut train = TRAIN.try_with(Cell::take).unwrap_or_default();
        while self.blocked.is_none()
            && let Some(transmit) = connection.poll_transmit(now, &mut train)
        {
            self.send(now, &transmit, &train, gatherer.as_deref_mut());
        }
        let _ = TRAIN.try_with(|kept| kept.set(train));
        while let Some(message) = gatherer.as_mut().and_then(|gatherer| gatherer.poll_transmit()) {
            self.raw(now, (message.via, message.to), &message.bytes, None, false);
        }
    }

    fn send(
        &mut self,
        now: Instant,
        transmit: &connection::Transmit,
        contents: &[u8],
        gatherer: Option<&mut Gatherer>,
    ) {
        let connection::Transmit { source, destination, protocol, segment } = *transmit;
        if protocol == TransportProtocol::Tcp {
            return self.over_tcp(source, destination, contents);
        }
        if self.udp.iter().any(|socket| socket.local() == source) {
            return self.datagrams(now, source, destination, contents, segment);
        }
        let Some(gatherer) = gatherer else { return };
        let mut framed = FRAMED.try_with(Cell::take).unwrap_or_default();
        framed.clear();
        let (mut way, mut frame) = (None, None);
        for datagram in contents.chunks(segment.unwrap_or(contents.len()).max(1)) {
            match gatherer.send_relayed(now, source, destination, datagram, &mut framed) {
                Some(next) => way = Some(next),
                None => trace!("a relay took no datagram"),
            }
            // All but the last are of one length, framed or not.
            if !framed.is_empty() {
                frame.get_or_insert(framed.len());
            }
        }
        if let Some((via, to)) = way {
            let segment = frame.filter(|length| *length > 0 && *length < framed.len());
            self.raw(now, (via, to), &framed, segment, true);
        }
        let _ = FRAMED.try_with(|kept| kept.set(framed));
    }

    /// Sends what is for a server. What `may_be_lost` is dropped by a stream that is full.
    fn raw(
        &mut self,
        now: Instant,
        (via, to): (Via, SocketAddr),
        contents: &[u8],
        segment: Option<usize>,
        may_be_lost: bool,
    ) {
        let id = match via {
            Via::Udp(from) => return self.datagrams(now, from, to, contents, segment),
            Via::Stream(id) => id,
        };
        let Some((_, stream)) = self.streams.iter_mut().find(|(stream, _)| *stream == id) else { return };
        if !may_be_lost {
            stream.send(contents);
        } else {
            for frame in contents.chunks(segment.unwrap_or(contents.len()).max(1)) {
                if !stream.send_datagram(&[frame]) {
                    trace!("the stream to a relay is full");
                }
            }
        }
        self.written = true;
    }

    fn datagrams(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        contents: &[u8],
        segment: Option<usize>,
    ) {
        let Some(socket) = self.udp.iter().find(|socket| socket.local() == from) else { return };
        let mut sent = 0;
        match socket.try_send(to, contents, segment, &mut sent) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // A copy: the buffer is the thread's. A second train that finds the socket full is lost.
                self.blocked.get_or_insert_with(|| Blocked {
                    from,
                    to,
                    contents: contents.to_vec(),
                    segment,
                    sent,
                    since: now,
                });
            }
            Err(error) => debug!(%error, %to, "a datagram was not sent"),
        }
    }

    fn over_tcp(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let room = self.tcp.len() < MAX_TCP;
        match self.tcp.iter_mut().find(|reach| reach.peer == to) {
            Some(Reach { source, connection: Some(connection), .. }) => {
                *source = from;
                if !connection.send(datagram) {
                    trace!("a TCP connection is full");
                }
                self.written = true;
            }
            // Lost, and sent again when the connection stands.
            Some(Reach { connection: None, .. }) => {}
            None if room => {
                self.tcp.push(Reach { peer: to, source: from, connection: None });
                self.unreached.push(to);
            }
            None => {}
        }
    }

    /// The TCP candidates that somebody has to connect to, once each.
    pub(super) fn unreached(&mut self) -> impl Iterator<Item = SocketAddr> {
        std::mem::take(&mut self.unreached).into_iter()
    }

    /// What became of one of them.
    pub(super) fn reached(&mut self, to: SocketAddr, reached: Result<IceTcp, StreamError>) {
        match reached {
            Ok(connection) => {
                if let Some(reach) = self.tcp.iter_mut().find(|reach| reach.peer == to) {
                    reach.connection = Some(connection);
                }
            }
            // It stays in the list, so that nobody tries again.
            Err(error) => debug!(%error, %to, "cannot reach a TCP candidate"),
        }
    }

    /// Whether a socket is full, so that nothing may follow.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// When what waits for a socket counts as lost: an interface that takes nothing must not keep the others, which
    /// may have a path.
    pub(super) fn gives_up(&self) -> Option<Instant> {
        self.blocked.as_ref().map(|blocked| blocked.since + STUCK)
    }

    /// Forgets what has waited too long.
    pub(super) fn give_up(&mut self, now: Instant) {
        if self.gives_up().is_some_and(|at| at <= now) {
            debug!("a socket took nothing for {STUCK:?}");
            self.blocked = None;
        }
    }

    /// Whether something waits for a socket, so that the driver has to.
    pub(super) fn has_to_wait(&self) -> bool {
        self.blocked.is_some() || self.written
    }

    /// Closes a connection to a relay, after what was written last.
    pub(super) fn hang_up(&mut self, id: StreamId) {
        self.streams.retain_mut(|(stream, connection)| {
            if *stream == id {
                // What the kernel takes at once; the relay is gone in any case.
                let _ = connection.poll_shutdown(&mut Context::from_waker(std::task::Waker::noop()));
            }
            *stream != id
        });
    }

    /// Writes what waits. Ready when nothing waits for a socket any more, so that the connection can be asked for
    /// more. Streams that failed are left to their readers.
    pub(super) fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.written) {
            for (_, stream) in &mut self.streams {
                self.written |= stream.poll_flush(cx).is_pending();
            }
            for connection in self.tcp.iter_mut().filter_map(|reach| reach.connection.as_mut()) {
                self.written |= connection.poll_flush(cx).is_pending();
            }
        }
        let Some(Blocked { from, to, contents, segment, sent, .. }) = &mut self.blocked else {
            return Poll::Ready(());
        };
        if let Some(socket) = self.udp.iter().find(|socket| socket.local() == *from)
            && let Err(error) = std::task::ready!(socket.poll_send(cx, *to, contents, *segment, sent))
        {
            debug!(%error, %to, "a datagram was not sent");
        }
        self.blocked = None;
        Poll::Ready(())
    }
}
