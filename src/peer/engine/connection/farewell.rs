//! The last words: SCTP's ABORT and DTLS's `close_notify`, said three times because nobody acknowledges them.
//!
//! They are the same bytes each time: whoever got them once drops the rest as replays.

use std::collections::VecDeque;
use std::time::Instant;

use super::Connection;
use super::timing;
use crate::peer::Phase;

/// The most datagrams of last words.
const MAX_WORDS: usize = 4;

pub(super) struct Farewell {
    words: Vec<Vec<u8>>,
    /// Those to be said now, by index.
    now: VecDeque<usize>,
    again: VecDeque<Instant>,
}

impl Farewell {
    fn new(words: Vec<Vec<u8>>, now: Instant) -> Self {
        let again =
            if words.is_empty() { VecDeque::new() } else { timing::GOODBYES.map(|at| now + at).into() };
        Self { now: (0..words.len()).collect(), words, again }
    }
}

impl Connection {
    /// Closes the connection, telling the peer. What was sent and not yet acknowledged may be lost; what was
    /// received can still be read. Idempotent.
    ///
    /// The last words come out of [`poll_transmit`](Self::poll_transmit) at once and twice more within 200 ms;
    /// until [`is_done`](Self::is_done) the driver does well to stay.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.life.phase().is_final() {
            return;
        }
        self.say_goodbye(now);
        self.enter(Phase::Closed);
    }

    /// Whether nothing will be sent any more.
    pub(crate) fn is_done(&self) -> bool {
        let said = |farewell: &Farewell| farewell.now.is_empty() && farewell.again.is_empty();
        self.life.phase().is_final() && self.farewell.as_ref().is_none_or(said)
    }

    /// Ends the association and DTLS, and prepares their last words.
    pub(super) fn say_goodbye(&mut self, now: Instant) {
        let mut words = Vec::new();
        let (Some(dtls), true) = (&mut self.dtls, self.ice.path().is_some()) else { return };
        if let Some(association) = &mut self.association {
            association.abort(now, "closed");
            while words.len() + 1 < MAX_WORDS && association.poll_transmit(now, &mut self.packet) {
                let mut datagram = Vec::new();
                if dtls.send(now, &self.packet, &mut datagram).is_err() || datagram.is_empty() {
                    break;
                }
                words.push(datagram);
            }
        }
        dtls.close();
        words.extend(std::iter::from_fn(|| dtls.poll_flight()));
        words.truncate(MAX_WORDS);
        self.farewell = Some(Farewell::new(words, now));
    }

    pub(super) fn last_words(&mut self) -> Option<Vec<u8>> {
        let farewell = self.farewell.as_mut()?;
        let index = farewell.now.pop_front()?;
        farewell.words.get(index).cloned()
    }

    pub(super) fn next_goodbye(&self) -> Option<Instant> {
        self.farewell.as_ref()?.again.front().copied()
    }

    pub(super) fn repeat_goodbye(&mut self, now: Instant) {
        if let Some(farewell) = &mut self.farewell
            && farewell.again.front().is_some_and(|at| now >= *at)
        {
            farewell.again.pop_front();
            farewell.now = (0..farewell.words.len()).collect();
        }
    }
}
