//! Our own candidates, on their way into the ICE crate.

use std::net::{IpAddr, SocketAddr};

use is::{Candidate, Protocol};

use crate::peer::{CandidateKind, TransportProtocol};

/// The port that an active TCP candidate is said to have (RFC 6544 4.5): each connection has its own.
pub(crate) const ACTIVE_PORT: u16 = 9;

/// An address of ours at which the peer may reach us. UDP always: a relay reached over TCP relays UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalCandidate {
    /// Host, server-reflexive or relay.
    pub(crate) kind: CandidateKind,
    /// What the peer is told.
    pub(crate) address: SocketAddr,
    /// What packets are sent from and arrive at: the socket's own address, or for a relay the relayed address
    /// itself.
    pub(crate) base: SocketAddr,
}

impl LocalCandidate {
    /// As the ICE crate has it; `None` for what it refuses: link-local IPv4, multicast, families mixed.
    pub(super) fn candidate(&self) -> Option<Candidate> {
        let Self { kind, address, base } = *self;
        match kind {
            CandidateKind::Host => Candidate::host(address, Protocol::Udp).ok(),
            CandidateKind::Srflx => Candidate::server_reflexive(address, base, Protocol::Udp).ok(),
            CandidateKind::Relay => Candidate::relayed(address, address, Protocol::Udp).ok(),
            CandidateKind::Prflx => None,
        }
    }
}

/// All connections that are made from this address.
pub(super) fn active_tcp(address: IpAddr) -> Option<Candidate> {
    Candidate::host(SocketAddr::new(address, ACTIVE_PORT), Protocol::Tcp).ok()
}

pub(super) fn protocol(protocol: TransportProtocol) -> Protocol {
    match protocol {
        TransportProtocol::Udp => Protocol::Udp,
        TransportProtocol::Tcp => Protocol::Tcp,
    }
}

pub(super) fn transport(protocol: Protocol) -> Option<TransportProtocol> {
    match protocol {
        Protocol::Udp => Some(TransportProtocol::Udp),
        Protocol::Tcp => Some(TransportProtocol::Tcp),
        Protocol::SslTcp | Protocol::Tls => None,
    }
}
