//! What goes out: one datagram, or several of one size for the kernel to cut.

use std::net::SocketAddr;
use std::time::Instant;

use super::Connection;
use super::ice::Route;
use crate::peer::TransportProtocol;

/// The most bytes in one buffer: a UDP datagram's, which the kernel's segmentation keeps to as well.
const MAX_BUFFER: usize = 65_000;

/// Where a buffer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transmit {
    /// From this base or relayed address of ours.
    pub(crate) source: SocketAddr,
    /// To this address of the peer.
    pub(crate) destination: SocketAddr,
    /// Over UDP, or a TCP connection from `source`'s IP address.
    pub(crate) protocol: TransportProtocol,
    /// The buffer holds several datagrams of this size, the last of which may be shorter. `None`: one datagram.
    pub(crate) segment: Option<usize>,
}

impl Transmit {
    fn new(route: Route, segment: Option<usize>) -> Self {
        let Route { protocol, source, destination } = route;
        Self { source, destination, protocol, segment }
    }
}

impl Connection {
    /// Fills `buffer`, which is cleared first, with what is to be sent next; `None` when nothing is. To be asked
    /// after everything that was handed in, until there is none.
    ///
    /// Several datagrams come only over UDP; those from a relayed address are cut before they are relayed.
    pub(crate) fn poll_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit> {
        buffer.clear();
        let transmit = self.next_transmit(now, buffer);
        self.sent += buffer.len() as u64;
        transmit
    }

    fn next_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit> {
        if self.life.phase().is_final() {
            let last = self.last_words()?;
            buffer.extend_from_slice(&last);
            return self.ice.path().map(|route| Transmit::new(route, None));
        }
        if let Some(route) = self.ice.poll_transmit(now, buffer) {
            return Some(Transmit::new(route, None));
        }
        let route = self.ice.path()?;
        if let Some(flight) = self.dtls.as_mut()?.poll_flight() {
            buffer.extend_from_slice(&flight);
            return Some(Transmit::new(route, None));
        }
        let segment = self.fill(now, route, buffer);
        (!buffer.is_empty()).then(|| Transmit::new(route, segment))
    }

    /// Packets of SCTP, protected, as many as may share a buffer.
    fn fill(&mut self, now: Instant, route: Route, buffer: &mut Vec<u8>) -> Option<usize> {
        let (Some(dtls), Some(association)) = (&mut self.dtls, &mut self.association) else { return None };
        let limit = if route.protocol == TransportProtocol::Udp { self.config.segments } else { 1 };
        // The size of the first datagram, and how much of it is not the packet.
        let mut first: Option<(usize, usize)> = None;
        let mut count = 0;
        let failure = loop {
            if !self.waits && !association.poll_transmit(now, &mut self.packet) {
                break None;
            }
            self.waits = first.is_some_and(|(size, added)| self.packet.len() + added > size);
            if self.waits {
                break None;
            }
            let start = buffer.len();
            if let Err(failure) = dtls.send(now, &self.packet, buffer) {
                break Some(failure);
            }
            let size = buffer.len() - start;
            let (segment, _) = *first.get_or_insert_with(|| (size, size.saturating_sub(self.packet.len())));
            if size > segment {
                // Not with the two versions of DTLS that there are. It goes out alone.
                dtls.put_back(buffer.split_off(start));
                break None;
            }
            count += 1;
            if size < segment || size == 0 || count >= limit || buffer.len() + segment > MAX_BUFFER {
                break None;
            }
        };
        if let Some(failure) = failure {
            self.fail(now, failure);
        }
        first.map(|(size, _)| size).filter(|_| count > 1)
    }
}
