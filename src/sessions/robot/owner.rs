//! Whose a session is: who the caller has proven to be, over which kind of transport, and which connection it
//! is on right now.
//!
//! Floor 4, pure. Invariant: two callers are the same owner only if both the identity and the kind of transport
//! are the same; whoever has proven nothing is nobody in particular, and all of those are one owner.

use std::net::{IpAddr, SocketAddr};

use http::Extensions;

use crate::server::{CallInfo, Identity};
use crate::transport::TransportKind;

/// Who may go on with a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Owner {
    /// What the caller has proven to be; `None`: nobody in particular.
    pub(crate) identity: Option<String>,
    /// Whether it is a data channel. A session never moves from one kind of transport to the other.
    pub(crate) transport: Transport,
}

/// The kinds of transports, as sessions tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Transport {
    /// gRPC over a data channel.
    WebRtc,
    /// gRPC over HTTP/2.
    Direct,
    /// Requests that say nothing of it: the services are called without a [`Server`](crate::server::Server).
    Unknown,
}

/// Who calls, from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) owner: Owner,
    /// The connection's number; 0 if the request does not tell.
    pub(crate) connection: u64,
    /// The host at the other end, as this side sees it.
    pub(crate) host: Option<IpAddr>,
}

/// Both ends of a caller's connection, as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Addresses {
    pub(crate) remote: Option<String>,
    pub(crate) local: Option<String>,
}

impl Addresses {
    /// What rdk tells: of direct callers the remote address, of those on a data channel both.
    pub(super) fn of(info: &CallInfo) -> Self {
        let local = (info.transport == TransportKind::WebRtc).then(|| info.local.clone());
        Self { remote: info.remote.clone(), local: local.flatten() }
    }
}

impl Caller {
    /// What a request's extensions say.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let identity = extensions.get::<Identity>().map(|identity| identity.0.clone());
        let info = extensions.get::<CallInfo>();
        let transport = match info.map(|info| info.transport) {
            Some(TransportKind::WebRtc) => Transport::WebRtc,
            Some(TransportKind::Direct) => Transport::Direct,
            None => Transport::Unknown,
        };
        Self {
            owner: Owner { identity, transport },
            connection: info.map_or(0, |info| info.connection.id()),
            host: info.and_then(|info| host(info.remote.as_deref()?)),
        }
    }

    /// Whom this caller's sessions are counted for. Callers who have proven nothing are told apart by their
    /// host, so that one of them cannot take the room of all.
    pub(super) fn payer(&self) -> Payer {
        let host = if self.owner.identity.is_none() { self.host } else { None };
        Payer { owner: self.owner.clone(), host }
    }
}

/// Whom sessions are counted for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Payer {
    owner: Owner,
    host: Option<IpAddr>,
}

/// The host of `ip:port`.
fn host(address: &str) -> Option<IpAddr> {
    let address: Option<SocketAddr> = address.parse().ok();
    address.map(|address| address.ip().to_canonical())
}
