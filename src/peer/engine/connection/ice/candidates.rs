//! The candidates of both sides, and how many of them are taken.
//!
//! # Invariant
//! At most [`MAX_CANDIDATES`] of each side and [`MAX_NAMES`] names are kept; each address comes once.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::local::{self, LocalCandidate};
use super::remote::{self, Host, Read};
use super::{Ice, Place};
use crate::peer::engine::connection::failure::CandidateError;
use crate::peer::{CandidateKind, TransportProtocol};

/// The most candidates of one peer, and of ours. Each makes a pair with each of the other side's; the crate
/// keeps the 100 best pairs.
pub(super) const MAX_CANDIDATES: usize = 100;

/// The most `.local` names of one peer that are looked up.
const MAX_NAMES: usize = 8;

/// What becomes of a candidate of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RemoteCandidate {
    /// It is checked, now or when its turn comes.
    Added,
    /// Somebody has to look its name up, and give the address to
    /// [`Connection::add_resolved_candidate`](crate::peer::engine::connection::Connection::add_resolved_candidate).
    Resolve(NamedCandidate),
    /// Known already, of a generation that is over, or the mark of the end.
    Ignored,
}

/// A candidate whose address only its neighbours can find out, by multicast DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedCandidate {
    read: Read,
}

impl NamedCandidate {
    /// The name, which ends in `.local`.
    pub(crate) fn name(&self) -> &str {
        match &self.read.host {
            Host::Name(name) => name,
            Host::Address(_) => "",
        }
    }
}

impl Ice {
    /// Our candidates as lines of SDP, and whether there will be no more.
    pub(in crate::peer::engine::connection) fn local(&self) -> (&[String], bool) {
        (&self.local, self.complete)
    }

    /// How many candidates the peer has told us.
    pub(in crate::peer::engine::connection) fn known(&self) -> usize {
        self.remote.len()
    }

    /// One of our relays with an address of the peer in its family, for each two once.
    pub(in crate::peer::engine::connection) fn poll_relayed_pair(
        &mut self,
    ) -> Option<(SocketAddr, SocketAddr)> {
        self.relayed_pairs.pop_front()
    }

    fn pair_relay(&mut self, relay: SocketAddr, (protocol, peer): Place) {
        if protocol == TransportProtocol::Udp && relay.is_ipv4() == peer.is_ipv4() {
            self.relayed_pairs.push_back((relay, peer));
        }
    }

    /// Adds a candidate of ours; its line of SDP if it is new and the peer is to know it.
    pub(in crate::peer::engine::connection) fn add_local(
        &mut self,
        now: Instant,
        candidate: &LocalCandidate,
    ) -> Option<String> {
        if self.local.len() >= MAX_CANDIDATES {
            return None;
        }
        if self.relay_only && candidate.kind != CandidateKind::Relay {
            return None;
        }
        let text = self.agent.add_local_candidate(candidate.candidate()?)?.to_sdp_string();
        self.advance(now);
        // Which generation it is of, the description around it says.
        let line = text.split_once(" ufrag ").map_or(text.as_str(), |(line, _)| line).to_owned();
        if candidate.kind == CandidateKind::Relay {
            self.relays.push(candidate.base);
            for at in 0..self.remote.len() {
                self.pair_relay(candidate.base, self.remote[at].0);
            }
        }
        self.local.push(line.clone());
        Some(line)
    }

    /// From this address of ours we connect to the peer's passive TCP candidates. The peer is not told: it meets
    /// us when we connect, and some peers choke on the line.
    pub(in crate::peer::engine::connection) fn add_tcp(&mut self, now: Instant, address: IpAddr) {
        if !self.relay_only && self.tcp < MAX_CANDIDATES {
            self.tcp += 1;
            if let Some(candidate) = local::active_tcp(address) {
                self.agent.add_local_candidate(candidate);
                self.advance(now);
            }
        }
    }

    /// There will be no more of ours.
    pub(in crate::peer::engine::connection) fn end_of_local(&mut self) {
        self.complete = true;
    }

    /// Takes a candidate of the peer, in any spelling.
    pub(in crate::peer::engine::connection) fn add_remote(
        &mut self,
        now: Instant,
        text: &str,
    ) -> Result<RemoteCandidate, CandidateError> {
        let Some(read) = remote::read(text)? else { return Ok(RemoteCandidate::Ignored) };
        if read.ufrag.is_some() && read.ufrag == self.outdated {
            return Ok(RemoteCandidate::Ignored);
        }
        if matches!(read.host, Host::Name(_)) {
            if self.names >= MAX_NAMES {
                return Err(CandidateError::TooMany);
            }
            self.names += 1;
            return Ok(RemoteCandidate::Resolve(NamedCandidate { read }));
        }
        self.add_read(now, &read)
    }

    /// Takes a candidate whose name was looked up.
    pub(in crate::peer::engine::connection) fn add_resolved(
        &mut self,
        now: Instant,
        candidate: NamedCandidate,
        address: IpAddr,
    ) -> Result<RemoteCandidate, CandidateError> {
        let read = candidate.read.resolved(address)?;
        self.add_read(now, &read)
    }

    fn add_read(&mut self, now: Instant, read: &Read) -> Result<RemoteCandidate, CandidateError> {
        let (Some(address), Some(candidate)) = (read.address(), read.candidate()) else {
            return Err(CandidateError::Unusable);
        };
        let place = (read.protocol, address);
        if self.remote.iter().any(|(known, _)| *known == place) {
            return Ok(RemoteCandidate::Ignored);
        }
        if self.remote.len() >= MAX_CANDIDATES {
            return Err(CandidateError::TooMany);
        }
        self.remote.push((place, read.kind));
        for at in 0..self.relays.len() {
            self.pair_relay(self.relays[at], place);
        }
        match &mut self.held {
            Some(held) => held.waiting.push(candidate),
            None => self.agent.add_remote_candidate(candidate),
        }
        self.advance(now);
        Ok(RemoteCandidate::Added)
    }

    /// Whether we have any address.
    pub(in crate::peer::engine::connection) fn can_be_reached(&self) -> bool {
        !self.local.is_empty() || self.tcp > 0
    }
}
