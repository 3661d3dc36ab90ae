//! The last flight of a handshake, sent again until the client is heard.
//!
//! Below `dtls`, for servers. RFC 6347 4.2.4 has no timer for it: a client that misses it repeats its own flight, pion
//! after 1 s, 3 s and 7 s, and is answered then. The datagrams here are those that left, byte by byte: copies as a
//! network makes them, which whoever had the first one drops.
//!
//! # Invariant
//! Nothing new is said: what was said is said [`AGAIN`] at most. A few datagrams are kept, for less than a second.

use std::time::{Duration, Instant};

/// From one time to the next. A client whose way is shorter than the first is heard before that.
const AGAIN: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];

/// Datagrams that may have been lost.
pub(super) struct LastFlight {
    datagrams: Vec<Vec<u8>>,
    waits: std::slice::Iter<'static, Duration>,
    due: Option<Instant>,
}

impl LastFlight {
    /// These leave now.
    pub(super) fn new(datagrams: Vec<Vec<u8>>, now: Instant) -> Self {
        let mut flight = Self { datagrams, waits: AGAIN.iter(), due: None };
        if !flight.datagrams.is_empty() {
            flight.wait(now);
        }
        flight
    }

    /// When it is to be sent again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be sent again now.
    pub(super) fn again(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.wait(now);
        match self.due {
            Some(_) => self.datagrams.clone(),
            None => std::mem::take(&mut self.datagrams),
        }
    }

    fn wait(&mut self, now: Instant) {
        self.due = self.waits.next().map(|wait| now + *wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_three_times_more_and_then_forgotten() {
        let now = Instant::now();
        let mut flight = LastFlight::new(vec![vec![1], vec![2]], now);
        let mut said = Vec::new();
        for ms in 0..5000 {
            let time = now + Duration::from_millis(ms);
            assert!(flight.due().is_none_or(|due| due >= time), "it is late");
            let again = flight.again(time);
            if !again.is_empty() {
                assert_eq!(again, [[1], [2]]);
                said.push(ms);
            }
        }
        assert_eq!(said, [100, 300, 700]);
        assert!(flight.due().is_none() && flight.datagrams.is_empty());
    }
}
