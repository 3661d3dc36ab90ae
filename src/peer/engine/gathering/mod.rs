//! Where a peer can be reached: host, server-reflexive and relayed candidates, RFC 8445 5.1.1 and RFC 8656.
//!
//! Floor 1, engine, beside `connection` and below the driver, without I/O. The driver binds a socket for each
//! of [`interfaces`], tells the [`Gatherer`], and does what its events say: resolve a name, connect a stream,
//! trickle a candidate. Everything is asked for at once; nothing waits for anything else.
//!
//! ```text
//!  IceServer ─▶ Resolve ─▶ resolved ─┬─ STUN: a Binding from every base ────────────▶ Candidate
//!                                    ├─ TURN over UDP: Allocate ────────────────────▶ Candidate
//!                                    └─ TURN over TCP, TLS: Connect ─▶ connected ─▶ Allocate ─▶ Candidate
//! ```
//!
//! # Invariant
//! [`Event::Complete`] comes once, at the latest [`Config::patience`] after the start, whatever servers do; every
//! server that was of no use is told before, with the reason. No credential is in an event or a log.

mod bindings;
mod candidate;
mod framing;
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(fuzzing), allow(unreachable_pub))]
pub(super) mod fuzzing;
mod gatherer;
mod interfaces;
mod relays;
mod resend;
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), allow(dead_code, reason = "tests use more of it than fuzzing"))]
mod script;
mod stun;
#[cfg(test)]
mod tests;
mod turn;

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

// Until the driver is there.
#[allow(unused_imports)]
pub(crate) use self::candidate::{Leg, LocalCandidate, ServerFailure, Why};
#[allow(unused_imports)]
pub(crate) use self::gatherer::Gatherer;
#[allow(unused_imports)]
pub(crate) use self::interfaces::{Filter, interfaces};
use crate::peer::{IceServer, IceUrl};

/// What is gathered, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// STUN and TURN servers. At most 16 URLs are used.
    pub(crate) servers: Vec<IceServer>,
    /// Only relays: no other candidate is made, and no STUN server is asked.
    pub(crate) relay_only: bool,
    /// How long servers may take. Default 5 s.
    pub(crate) patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { servers: Vec::new(), relay_only: false, patience: Duration::from_secs(5) }
    }
}

/// A server of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ServerId(u32);

/// A connection to a TURN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct StreamId(u32);

/// What carries a message to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Via {
    /// The socket that is bound to this address.
    Udp(SocketAddr),
    /// A connection. Bytes go into it as they are.
    Stream(StreamId),
}

/// A message to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transmit {
    pub(crate) via: Via,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// An address of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) address: SocketAddr,
    /// The address of this machine that the system sends from to get there, if it can tell. A relay is asked for
    /// from there only.
    pub(crate) route: Option<IpAddr>,
}

/// What a datagram was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Handled {
    /// It is not from a server: the connection's.
    NotMine,
    /// A server's. There may be events and messages now.
    Consumed,
    /// A peer's, through a relay: these bytes of the datagram.
    Relayed { relay: SocketAddr, peer: SocketAddr, payload: Range<usize> },
}

/// What the driver is to do or to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Look this name up, or take it for the address that it is, and call [`Gatherer::resolved`].
    Resolve { server: ServerId, host: String, port: u16 },
    /// Connect, with TLS when there is a name to check, and call [`Gatherer::connected`] or
    /// [`Gatherer::disconnected`].
    Connect { stream: StreamId, to: SocketAddr, name: Option<String> },
    /// Flush and close this connection, or stop connecting it.
    Disconnect(StreamId),
    /// A candidate. Each comes once.
    Candidate(LocalCandidate),
    /// A server is of no use, or a relay is gone.
    Failed(ServerFailure),
    /// There will be no more candidates. Comes once.
    Complete,
}

impl Event {
    fn failed(server: IceUrl, why: Why) -> Self {
        Self::Failed(ServerFailure { server, relay: None, why })
    }

    fn lost(server: IceUrl, relay: SocketAddr, why: Why) -> Self {
        Self::Failed(ServerFailure { server, relay: Some(relay), why })
    }
}

/// The base that reaches this address: the one the system would use, or the first of the same reach.
fn base_for(bases: &[SocketAddr], to: SocketAddr, route: Option<IpAddr>) -> Option<SocketAddr> {
    let routed = bases.iter().find(|base| Some(base.ip()) == route);
    routed.copied().or_else(|| bases_for(bases, to).next())
}

/// The bases that may reach this address: of its family, and loopback only for loopback where both are to be had.
fn bases_for(bases: &[SocketAddr], to: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    let family = move |base: &SocketAddr| base.is_ipv4() == to.is_ipv4();
    let same = move |base: &SocketAddr| family(base) && base.ip().is_loopback() == to.ip().is_loopback();
    let any = bases.iter().any(same);
    bases.iter().copied().filter(move |base| if any { same(base) } else { family(base) })
}
