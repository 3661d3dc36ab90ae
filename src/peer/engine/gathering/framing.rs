//! STUN and ChannelData in a byte stream, RFC 8656 12.5 and RFC 8489 6.2.2: where one message ends.
//!
//! # Invariant
//! Messages come out as they were sent, however the stream cuts them. At most one message is kept, 64 KiB; one
//! that arrived whole is not copied.

/// The shortest piece that tells how long a message is.
const HEADER: usize = 4;
/// A buffer that grew beyond this is given back once it is empty.
const KEPT: usize = 4096;

/// The reading side of one stream.
#[derive(Debug, Default)]
pub(super) struct Framer {
    /// The beginning of a message whose end has not come.
    partial: Vec<u8>,
}

/// What came is neither STUN nor ChannelData, so that nobody knows where the next message begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfStep;

impl Framer {
    /// Hands each message that is whole by now to `take`, without its padding.
    pub(super) fn feed(
        &mut self,
        mut bytes: &mut [u8],
        mut take: impl FnMut(&mut [u8]),
    ) -> Result<(), OutOfStep> {
        while !bytes.is_empty() {
            if self.partial.is_empty() {
                if let Some(frame) = Frame::of(bytes)?
                    && frame.padded <= bytes.len()
                {
                    let (whole, rest) = bytes.split_at_mut(frame.padded);
                    take(whole.get_mut(..frame.length).unwrap_or_default());
                    bytes = rest;
                    continue;
                }
                self.partial.extend_from_slice(bytes);
                return Ok(());
            }
            let missing = match Frame::of(&self.partial)? {
                None => HEADER.saturating_sub(self.partial.len()),
                Some(frame) => frame.padded.saturating_sub(self.partial.len()),
            };
            let (piece, rest) = bytes.split_at_mut(missing.min(bytes.len()));
            self.partial.extend_from_slice(piece);
            bytes = rest;
            if let Some(frame) = Frame::of(&self.partial)?
                && frame.padded <= self.partial.len()
            {
                take(self.partial.get_mut(..frame.length).unwrap_or_default());
                self.partial.clear();
                self.partial.shrink_to(KEPT);
            }
        }
        Ok(())
    }

    /// What is kept until more comes.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held(&self) -> &[u8] {
        &self.partial
    }
}

/// How long a message is.
struct Frame {
    length: usize,
    padded: usize,
}

impl Frame {
    /// `None` when there is too little of it to tell.
    fn of(bytes: &[u8]) -> Result<Option<Self>, OutOfStep> {
        let Some([first, _, l0, l1]) = bytes.first_chunk::<HEADER>() else {
            return if bytes.first().is_none_or(|first| *first < 0x80) { Ok(None) } else { Err(OutOfStep) };
        };
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let header = match first >> 6 {
            0 if length.is_multiple_of(4) => 20,
            1 => HEADER,
            _ => return Err(OutOfStep),
        };
        let length = length.saturating_add(header);
        Ok(Some(Self { length, padded: length.next_multiple_of(4) }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::stun::{Class, Writer, attribute, method};
    use super::*;

    fn message(kind: usize, size: usize) -> (Vec<u8>, Vec<u8>) {
        let payload: Vec<u8> = (0..size).map(|byte| byte as u8).collect();
        let plain = if kind == 0 {
            Writer::new(Class::Indication, method::DATA, [3; 12]).add(attribute::DATA, &payload).finish()
        } else {
            let mut plain = vec![0x40, kind as u8, (size >> 8) as u8, size as u8];
            plain.extend_from_slice(&payload);
            plain
        };
        let mut padded = plain.clone();
        padded.resize(plain.len().next_multiple_of(4), 0xee);
        (plain, padded)
    }

    proptest! {
        #[test]
        fn messages_come_out_as_sent_however_the_stream_is_cut(
            messages in proptest::collection::vec((0_usize..3, 0_usize..2000), 0..8),
            cuts in proptest::collection::vec(1_usize..3000, 1..20),
        ) {
            let messages: Vec<_> = messages.into_iter().map(|(kind, size)| message(kind, size)).collect();
            let mut stream = messages.iter().flat_map(|(_, padded)| padded.clone()).collect::<Vec<u8>>();
            let (mut framer, mut got) = (Framer::default(), Vec::new());
            let (mut rest, mut cuts) = (stream.as_mut_slice(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at_mut(cuts.next().unwrap().min(rest.len()));
                prop_assert_eq!(framer.feed(piece, |message| got.push(message.to_vec())), Ok(()));
                rest = after;
            }
            prop_assert_eq!(got, messages.into_iter().map(|(plain, _)| plain).collect::<Vec<_>>());
            prop_assert!(framer.partial.is_empty() && framer.partial.capacity() <= KEPT);
        }

        #[test]
        fn a_stream_of_anything_keeps_at_most_one_message(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..500), 0..50),
        ) {
            let mut framer = Framer::default();
            for mut piece in pieces {
                if framer.feed(&mut piece, |_| {}).is_err() {
                    break;
                }
                prop_assert!(framer.partial.len() <= 20 + 65536);
            }
        }
    }

    #[test]
    fn what_cannot_be_in_step_is_said() {
        for mut bytes in [vec![0x80], vec![0xff, 0, 0, 0], vec![0, 1, 0, 3], vec![0xc0, 1]] {
            assert_eq!(Framer::default().feed(&mut bytes, |_| {}), Err(OutOfStep));
        }
    }
}
