//! Stands in for SCTP until it is there: no loss, no order, no window.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

pub(super) struct Association {
    out: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    messages: HashMap<u16, VecDeque<(u32, Bytes)>>,
    connected: bool,
    resend: Option<Instant>,
}

pub(super) enum Event {
    Connected,
    Readable { stream: u16 },
    Low { stream: u16 },
    Reset { stream: u16, by_peer: bool },
    Closed(CloseReason),
}

pub(super) enum CloseReason {
    ByPeer,
}

#[derive(Debug)]
pub(super) struct SendError;

impl Association {
    pub(super) fn new(_now: Instant) -> Self {
        Self {
            out: VecDeque::new(),
            events: VecDeque::new(),
            messages: HashMap::new(),
            connected: false,
            resend: None,
        }
    }
    pub(super) fn connect(&mut self, now: Instant) {
        self.out.push_back(vec![0]);
        self.resend = Some(now + Duration::from_millis(100));
    }
    pub(super) fn handle_input(&mut self, _now: Instant, packet: &[u8]) {
        match packet {
            [0, ..] => self.out.push_back(vec![1]),
            [1, ..] if !self.connected => {
                self.connected = true;
                self.resend = None;
                self.events.push_back(Event::Connected);
            }
            [2, a, b, c, d, e, f, rest @ ..] => {
                let stream = u16::from_be_bytes([*a, *b]);
                let ppid = u32::from_be_bytes([*c, *d, *e, *f]);
                self.messages.entry(stream).or_default().push_back((ppid, Bytes::copy_from_slice(rest)));
                self.events.push_back(Event::Readable { stream });
            }
            [3, ..] => self.events.push_back(Event::Closed(CloseReason::ByPeer)),
            [4, a, b, ..] => {
                self.events.push_back(Event::Reset { stream: u16::from_be_bytes([*a, *b]), by_peer: true });
            }
            _ => {}
        }
    }
    pub(super) fn poll_transmit(&mut self, _now: Instant, packet: &mut Vec<u8>) -> bool {
        packet.clear();
        self.out.pop_front().is_some_and(|next| {
            packet.extend_from_slice(&next);
            true
        })
    }
    pub(super) fn poll_timeout(&self, _now: Instant) -> Option<Instant> {
        self.resend
    }
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.resend.is_some_and(|at| now >= at) {
            self.connect(now);
        }
    }
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
    pub(super) fn send(
        &mut self,
        _now: Instant,
        stream: u16,
        ppid: u32,
        message: Bytes,
    ) -> Result<(), SendError> {
        let mut packet = vec![2];
        packet.extend_from_slice(&stream.to_be_bytes());
        packet.extend_from_slice(&ppid.to_be_bytes());
        packet.extend_from_slice(&message);
        self.out.push_back(packet);
        Ok(())
    }
    pub(super) fn receive(&mut self, stream: u16) -> Option<(u32, Bytes)> {
        self.messages.get_mut(&stream)?.pop_front()
    }
    pub(super) fn buffered(&self, _stream: u16) -> usize {
        0
    }
    pub(super) fn set_low_water(&mut self, _stream: u16, _bytes: usize) {}
    pub(super) fn reset_stream(&mut self, _now: Instant, stream: u16) {
        let [a, b] = stream.to_be_bytes();
        self.out.push_back(vec![4, a, b]);
    }
    pub(super) fn abort(&mut self, _now: Instant) {
        self.out.push_back(vec![3]);
    }
    pub(super) fn rtt(&self) -> Option<Duration> {
        None
    }
}
