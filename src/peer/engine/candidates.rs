//! The candidates of both sides, between the gatherer, the connection, and whoever tells the peer.
//!
//! Floor 1, engine, part of the core.
//!
//! # Invariant
//! What the connection knows of candidates, our relays know too, whichever came first.

use std::time::Instant;

use tracing::debug;

use super::connection::{LocalCandidate, RemoteCandidate};
use super::core::{Core, Errand};
use super::gathering::{self, Gatherer};
use super::sockets::Udp;
use crate::peer::{Candidate, PeerError};

impl Core {
    /// Starts gathering from these sockets, for this section of the description.
    pub(super) fn gather(&mut self, now: Instant, gatherer: Gatherer, udp: Vec<Udp>, section: (String, u32)) {
        self.section = section;
        for socket in &udp {
            self.connection.add_tcp_address(now, socket.local().ip());
        }
        self.outlet.udp = udp;
        self.gatherer = Some(gatherer);
        // It has to read from them.
        self.wakes.driver = true;
        self.pump(now);
    }

    /// Takes a candidate of the peer.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn add_remote_candidate(&mut self, now: Instant, candidate: &str) -> Result<(), PeerError> {
        let added = self.connection.add_remote_candidate(now, candidate);
        self.pump(now);
        match added {
            Ok(RemoteCandidate::Resolve(named)) => {
                self.errands.push(Errand::LookUp(named));
                self.wakes.driver = true;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(cause) => Err(PeerError::because("cannot use the candidate", cause)),
        }
    }

    /// Has our relays let the peer through, before either side checks: a check is lost otherwise, or waits.
    pub(super) fn permit(&mut self, now: Instant) {
        while let Some((relay, peer)) = self.connection.poll_relayed_pair() {
            let permitted = self.gatherer.as_mut().is_some_and(|gatherer| gatherer.permit(now, relay, peer));
            if !permitted {
                debug!(%relay, %peer, "a relay does not wait for this address of the peer");
            }
        }
    }

    /// The gatherer found something, or wants something.
    pub(super) fn gathered(&mut self, now: Instant, event: gathering::Event) {
        match event {
            gathering::Event::Candidate(found) => {
                let gathering::LocalCandidate { kind, address, base, .. } = found;
                let line = self.connection.add_local_candidate(now, &LocalCandidate { kind, address, base });
                let (Some(line), Some(candidates)) = (line, &self.candidates) else { return };
                let (mid, index) = self.section.clone();
                let candidate = Candidate {
                    candidate: line,
                    sdp_mid: Some(mid),
                    sdp_mline_index: Some(index),
                    ..Candidate::default()
                };
                if candidates.try_send(candidate).is_err() {
                    debug!("a candidate is not told: nobody reads them");
                }
            }
            gathering::Event::Complete => {
                self.connection.end_of_local_candidates(now);
                self.candidates = None;
            }
            gathering::Event::Failed(failure) => {
                debug!(%failure, "an ICE server is of no use");
                if let Some(relay) = failure.relay {
                    self.connection.lose_relay(now, relay, &failure.to_string());
                }
                self.blame(failure.to_string());
            }
            gathering::Event::Resolve { server, host, port } => {
                self.errands.push(Errand::Resolve { server, host, port });
            }
            gathering::Event::Connect { stream, to, name } => {
                self.errands.push(Errand::Connect { stream, to, name });
            }
            gathering::Event::Disconnect(stream) => self.outlet.hang_up(stream),
        }
    }
}
