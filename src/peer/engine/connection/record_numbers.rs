//! Numbers of handshake records that travel in the clear.
//!
//! Below `dtls`, for clients. Crate `dimpl` repeats its first hello under the number that it had (in 0.9). Peers that
//! look for replays (RFC 6347 4.1.2.6) drop that, pion among them; where they have forgotten the hello, since they
//! answered it with a cookie that got lost and that nobody repeats (4.2.1), hands are never shaken. So the records
//! get their numbers here: nothing protects their headers, and no hash has them in it.
//!
//! # Invariant
//! No number comes twice (RFC 6347 4.1), and they rise by one. Protected records stay as they are.

use std::ops::Range;

/// Header of a record in the clear, and of every record before DTLS 1.3, in bytes: type, version, epoch, number,
/// length.
const HEADER: usize = 13;
const EPOCH: Range<usize> = 3..5;
const NUMBER: Range<usize> = 5..11;
const LENGTH: Range<usize> = 11..13;

/// Record types that are in the clear before there are keys, up to `application_data`. DTLS 1.3 has another header
/// for protected records, which begins with a larger byte.
const TYPES: Range<u8> = 20..27;

/// Counts the records of one client.
#[derive(Debug, Default)]
pub(super) struct RecordNumbers {
    next: u64,
}

impl RecordNumbers {
    /// Numbers the records in a datagram that is about to leave.
    pub(super) fn number(&mut self, datagram: &mut [u8]) {
        let mut rest = datagram;
        while let Some((header, after)) = rest.split_first_chunk_mut::<HEADER>() {
            if !TYPES.contains(&header[0]) {
                return;
            }
            if header[EPOCH] == [0, 0] {
                let [_, _, number @ ..] = self.next.to_be_bytes();
                header[NUMBER].copy_from_slice(&number);
                self.next = self.next.wrapping_add(1);
            }
            let length = usize::from(u16::from_be_bytes([header[LENGTH.start], header[LENGTH.start + 1]]));
            rest = after.get_mut(length..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u16, number: u8, length: u8) -> Vec<u8> {
        let [high, low] = epoch.to_be_bytes();
        let mut record = vec![22, 0xfe, 0xfd, high, low, 0, 0, 0, 0, 0, number, 0, length];
        record.resize(HEADER + usize::from(length), 7);
        record
    }

    #[test]
    fn what_comes_again_gets_a_number_of_its_own() {
        let mut numbers = RecordNumbers::default();
        for expected in 0..3 {
            let mut hello = record(0, 0, 40);
            numbers.number(&mut hello);
            assert_eq!(hello, record(0, expected, 40));
        }
        // What follows it goes on from there, two in a datagram, and protected records keep theirs.
        let mut flight = [record(0, 1, 5), record(1, 0, 9), record(0, 2, 0)].concat();
        numbers.number(&mut flight);
        assert_eq!(flight, [record(0, 3, 5), record(1, 0, 9), record(0, 4, 0)].concat());
    }

    #[test]
    fn what_is_no_record_stays_as_it_is() {
        let mut numbers = RecordNumbers::default();
        for odd in
            [vec![], vec![22; 12], vec![0x2f; 60], vec![0; 40], [record(1, 9, 2), vec![0x2c; 50]].concat()]
        {
            let mut after = odd.clone();
            numbers.number(&mut after);
            assert_eq!(after, odd);
        }
        // One that says to be longer than it is.
        let mut cut = record(0, 9, 20);
        cut.truncate(20);
        numbers.number(&mut cut);
        assert_eq!(cut[..HEADER], record(0, 0, 20)[..HEADER]);
    }
}
