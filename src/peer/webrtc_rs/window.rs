//! Gets a sender going again that stood before a closed window.
//!
//! The crate's SCTP, like pion's, says how much room it has only in answer to data, and throws away what
//! comes while it has none. The sender then probes after 1 s, 2 s, 4 s: a reader that was busy for a moment
//! paid seconds. A bare update of the window would not help, because the sender's lost probe fills its
//! congestion window. So the gate below SCTP keeps what may have been thrown away, and hands it to SCTP
//! again once a good part was read: SCTP takes it, and its acknowledgement tells of the room.
//!
//! # Invariant
//! SCTP sees every packet when it comes; a kept one is only seen twice, which SCTP allows for. At most
//! [`KEPT`] packets are kept, and none while the window is open.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What SCTP takes in while nobody reads, in bytes; then its window is closed. pion's and the crate's value.
pub(super) const RECEIVE_WINDOW: u32 = 1 << 20;

/// How much room there has to be until it is worth telling. Less makes the sender send little pieces.
const WORTH_TELLING: u32 = RECEIVE_WINDOW / 4;

/// Packets kept. A sender that knows of the closed window has one under way.
const KEPT: usize = 8;

/// Of an SCTP packet: ports, verification tag, checksum.
const HEADER: usize = 12;
const CHECKSUM: std::ops::Range<usize> = 8..12;
/// Of a chunk of data: "acknowledge at once", RFC 7053.
const AT_ONCE: u8 = 8;
const DATA: u8 = 0;
const SACK: u8 = 3;

#[derive(Debug, Default)]
pub(super) struct Window {
    inner: Mutex<Inner>,
    opened: Notify,
}

#[derive(Debug)]
struct Inner {
    /// What SCTP told the peer last.
    told: u32,
    /// Bytes that came since, headers included.
    came: u32,
    /// Bytes of messages that were read since.
    read: u32,
    /// What may not have fitted, with its first TSN.
    kept: VecDeque<(u32, Vec<u8>)>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { told: RECEIVE_WINDOW, came: 0, read: 0, kept: VecDeque::new() }
    }
}

impl Window {
    /// Looks at a packet that SCTP sends.
    pub(super) fn sent(&self, packet: &[u8]) {
        let Some((acknowledged, room)) =
            chunk(packet, SACK).and_then(|sack| Some((word(sack, 4)?, word(sack, 8)?)))
        else {
            return;
        };
        let mut inner = self.inner();
        (inner.told, inner.came, inner.read) = (room, 0, 0);
        // TSNs wrap, RFC 9260 1.6.
        inner.kept.retain(|(tsn, _)| tsn.wrapping_sub(acknowledged).cast_signed() > 0);
    }

    /// Looks at a packet on its way to SCTP.
    pub(super) fn received(&self, packet: &[u8]) {
        let Some(tsn) = chunk(packet, DATA).and_then(|data| word(data, 4)) else { return };
        let mut inner = self.inner();
        inner.came = inner.came.saturating_add(u32::try_from(packet.len()).unwrap_or(u32::MAX));
        let is_new = inner.kept.iter().all(|(kept, _)| *kept != tsn);
        if inner.told.saturating_add(inner.read) < inner.came && is_new && inner.kept.len() < KEPT {
            inner.kept.push_back((tsn, packet.to_vec()));
        }
    }

    /// The channel's reader has taken a message of so many bytes.
    pub(super) fn read(&self, length: usize) {
        let mut inner = self.inner();
        inner.read = inner.read.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        if inner.is_worth_telling() {
            drop(inner);
            self.opened.notify_one();
        }
    }

    /// A packet for SCTP to see again, once there is room for it. Cancel safe.
    pub(super) async fn again(&self) -> Vec<u8> {
        loop {
            if let Some(packet) = self.inner().again() {
                return packet;
            }
            self.opened.notified().await;
        }
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.inner().told < 1200
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_worth_telling(&self) -> bool {
        !self.kept.is_empty() && self.told.saturating_add(self.read) >= WORTH_TELLING
    }

    fn again(&mut self) -> Option<Vec<u8>> {
        if !self.is_worth_telling() {
            return None;
        }
        let (_, mut packet) = self.kept.pop_front()?;
        let first = packet.get(HEADER..HEADER + 2)?;
        if let [DATA, flags] = *first {
            *packet.get_mut(HEADER + 1)? = flags | AT_ONCE;
            packet.get_mut(CHECKSUM)?.fill(0);
            let checksum = crc32c(&packet);
            packet.get_mut(CHECKSUM)?.copy_from_slice(&checksum.to_le_bytes());
        }
        Some(packet)
    }
}

/// The packet's first chunk of this kind.
fn chunk(packet: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut chunks = packet.get(HEADER..)?;
    while let [kind, _, high, low, ..] = *chunks {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind == wanted {
            return chunks.get(..length);
        }
        chunks = chunks.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}

fn word(chunk: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(chunk.get(at..at + 4)?.try_into().ok()?))
}

/// SCTP's checksum, RFC 9260 appendix A. Bit by bit: it is for one packet after a pause.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL * (crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sack(acknowledged: u32, room: u32) -> Vec<u8> {
        let mut packet = vec![7; HEADER];
        packet.extend([SACK, 0, 0, 16]);
        packet.extend(acknowledged.to_be_bytes());
        packet.extend(room.to_be_bytes());
        packet.extend([0; 4]);
        packet
    }

    fn data(tsn: u32) -> Vec<u8> {
        let mut packet = vec![7; HEADER];
        packet.extend([DATA, 3, 0, 17]);
        packet.extend(tsn.to_be_bytes());
        packet.extend([0; 12]);
        packet
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn what_did_not_fit_comes_again_once_enough_was_read() {
        let window = Window::default();
        window.sent(&sack(u32::MAX, 0));
        window.received(&data(0));
        window.received(&data(0));
        window.read(1000);
        assert_eq!(window.inner().again(), None);
        window.read(300_000);
        let again = window.inner().again().unwrap();
        assert_eq!(again[HEADER + 1], 3 | AT_ONCE);
        assert_eq!(again[HEADER + 4..], data(0)[HEADER + 4..]);
        let mut plain = again.clone();
        plain[CHECKSUM].fill(0);
        assert_eq!(again[CHECKSUM], crc32c(&plain).to_le_bytes());
        assert_eq!(window.inner().again(), None, "once is enough");
    }

    #[test]
    fn what_was_acknowledged_is_forgotten() {
        let window = Window::default();
        window.sent(&sack(u32::MAX - 1, 0));
        window.received(&data(u32::MAX));
        window.received(&data(0));
        window.sent(&sack(u32::MAX, 0));
        assert_eq!(window.inner().kept.len(), 1);
        window.sent(&sack(0, 0));
        assert!(window.inner().kept.is_empty());
    }

    #[test]
    fn nothing_is_kept_while_the_window_is_open_and_little_while_it_is_not() {
        let window = Window::default();
        window.received(&data(1));
        assert!(window.inner().kept.is_empty());
        window.sent(&sack(1, 0));
        for tsn in 2..100 {
            window.received(&data(tsn));
        }
        assert_eq!(window.inner().kept.len(), KEPT);
    }

    #[test]
    fn no_bytes_panic() {
        for packet in [sack(1, 1), data(1), vec![0; 40], vec![SACK; 40], vec![255; 40]] {
            for length in 0..packet.len() {
                let window = Window::default();
                window.sent(&packet[..length]);
                window.received(&packet[..length]);
            }
        }
    }
}
