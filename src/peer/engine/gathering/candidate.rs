//! What gathering finds, and why it does not.

use std::fmt;
use std::net::SocketAddr;

use crate::peer::{CandidateKind, IceUrl};

/// An address that this peer can be reached at, RFC 8445 5.1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalCandidate {
    /// Host, server-reflexive or relay.
    pub(crate) kind: CandidateKind,
    /// What the other side sends to. UDP always.
    pub(crate) address: SocketAddr,
    /// What our socket is bound to; of a relay the relayed address itself, which is the key to send through it.
    pub(crate) base: SocketAddr,
    /// How the relay is reached, of a relay. RFC 8445 5.1.2.2: prefer UDP to TCP to TLS.
    pub(crate) leg: Option<Leg>,
    /// The server that gave it, if any.
    pub(crate) server: Option<IceUrl>,
    /// What goes into `raddr` and `rport`: the base of a server-reflexive one, and of a relay the address that
    /// its server saw.
    pub(crate) related: Option<SocketAddr>,
}

impl LocalCandidate {
    /// An address of the machine itself.
    pub(super) fn host(base: SocketAddr) -> Self {
        Self { kind: CandidateKind::Host, address: base, base, leg: None, server: None, related: None }
    }

    /// Where a server saw `base`.
    pub(super) fn reflexive(address: SocketAddr, base: SocketAddr, server: IceUrl) -> Self {
        let (kind, server, related) = (CandidateKind::Srflx, Some(server), Some(base));
        Self { kind, address, base, leg: None, server, related }
    }
}

/// What carries the packets between us and a TURN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Leg {
    Udp,
    Tcp,
    Tls,
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        })
    }
}

/// A server that gave no candidate, or none any more. Never holds the credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{server}: {why}")]
pub(crate) struct ServerFailure {
    pub(crate) server: IceUrl,
    /// The relayed address that is gone with it: nothing takes that way any more.
    pub(crate) relay: Option<SocketAddr>,
    pub(crate) why: Why,
}

/// Why a server is of no use. What the server says is shortened and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Why {
    /// It has no address.
    #[error("its name does not resolve: {0}")]
    Name(String),
    /// No socket of ours has an address of its family.
    #[error("no address of this machine can reach it")]
    NoBase,
    /// TCP or TLS did not come about.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Nothing came back in time.
    #[error("it does not answer")]
    Silent,
    /// 401 or 441 although the credential was sent.
    #[error("it does not take the user name and credential: wrong or expired")]
    Unauthorized,
    /// A `turn:` URL without user name or credential.
    #[error("it has no user name or credential")]
    NoCredential,
    /// 486.
    #[error("this user has too many relays on it")]
    Quota,
    /// 508.
    #[error("it has no relays left")]
    Full,
    /// Any other refusal.
    #[error("it refuses: {code} {words}")]
    Refused { code: u16, words: String },
    /// 300, more often than is believed, or in a circle.
    #[error("it sends us from server to server")]
    Redirected,
    /// What it says is not STUN, is not signed, or lacks what it must have.
    #[error("its answer makes no sense")]
    Nonsense,
    /// A relay that worked is gone.
    #[error("the relay is gone: {0}")]
    Lost(String),
    /// A kind of server, or more servers than are used.
    #[error("not used: {0}")]
    NotUsed(&'static str),
}
