//! Whose frame goes next: the fair sender of one data channel.
//!
//! Pure; `outbox` puts a lock and wakers around it. Streams with data take turns packet by packet, so a
//! bulk stream delays another by one packet at a time. What is small and decides about calls (headers,
//! resets, trailers that nothing precedes) goes ahead of all data, in the order it came; so does all of an
//! urgent stream.
//!
//! # Invariant
//! Within a stream, frames leave in the order they came.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::wire::message::{Packet, Packets};

/// How much may wait ahead of all data, in bytes, for an urgent message to go there too.
const MAX_URGENT: usize = 64 * 1024;

/// What keeping one item takes beside its bytes: without it, empty messages would pile up for nothing.
const KEEPING: usize = 64;

/// Turns a packet into a frame; the flag ends the stream's messages with it (callers' half-close).
pub(super) type EncodePacket = fn(u64, Packet, bool) -> Bytes;

/// The frames that wait to be sent.
#[derive(Debug)]
pub(super) struct Scheduler {
    encode: EncodePacket,
    ahead: VecDeque<Bytes>,
    ahead_bytes: usize,
    turns: VecDeque<u64>,
    lanes: HashMap<u64, Lane>,
    lane_bytes: usize,
}

/// What waits on one stream.
#[derive(Debug, Default)]
struct Lane {
    items: VecDeque<Item>,
    bytes: usize,
}

#[derive(Debug)]
enum Item {
    Frame(Bytes),
    Message { packets: Packets, last: bool },
}

impl Scheduler {
    pub(super) fn new(encode: EncodePacket) -> Self {
        Self {
            encode,
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            turns: VecDeque::new(),
            lanes: HashMap::new(),
            lane_bytes: 0,
        }
    }

    /// Adds a frame that is sent as it is: headers, trailers, a half-close.
    pub(super) fn push_frame(&mut self, stream: u64, frame: Bytes) {
        if self.lanes.contains_key(&stream) {
            self.push_item(stream, frame.len(), Item::Frame(frame));
        } else {
            self.push_ahead(frame);
        }
    }

    /// Adds a message; `last` half-closes with it. Urgent messages go ahead while little does: an urgent
    /// stream that sends much takes its turns like any other.
    pub(super) fn push_message(&mut self, stream: u64, message: Bytes, last: bool, urgent: bool) {
        let little = self.ahead_bytes.saturating_add(message.len()) <= MAX_URGENT;
        if urgent && little && !self.lanes.contains_key(&stream) {
            for packet in Packets::new(message) {
                self.push_ahead((self.encode)(stream, packet, last));
            }
        } else {
            let length = message.len();
            self.push_item(stream, length, Item::Message { packets: Packets::new(message), last });
        }
    }

    /// Forgets what the stream has not sent, and sends this frame ahead of all data: a reset, or trailers
    /// that cut a stream short.
    pub(super) fn cut(&mut self, stream: u64, frame: Bytes) {
        self.forget(stream);
        self.push_ahead(frame);
    }

    /// Forgets what the stream has not sent.
    pub(super) fn forget(&mut self, stream: u64) {
        if let Some(lane) = self.lanes.remove(&stream) {
            self.lane_bytes = self.lane_bytes.saturating_sub(lane.bytes);
            self.turns.retain(|turn| *turn != stream);
        }
    }

    /// The next frame, and the stream that has room again for it.
    pub(super) fn pop(&mut self) -> Option<(Bytes, Option<u64>)> {
        if let Some(frame) = self.ahead.pop_front() {
            self.ahead_bytes = self.ahead_bytes.saturating_sub(frame.len() + KEEPING);
            return Some((frame, None));
        }
        let stream = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&stream)?;
        let before = lane.bytes;
        let frame = lane.pop(stream, self.encode);
        self.lane_bytes = self.lane_bytes.saturating_sub(before - lane.bytes);
        if lane.items.is_empty() {
            self.lanes.remove(&stream);
        } else {
            self.turns.push_back(stream);
        }
        frame.map(|frame| (frame, Some(stream)))
    }

    /// What waits on this stream costs.
    pub(super) fn queued(&self, stream: u64) -> usize {
        self.lanes.get(&stream).map_or(0, |lane| lane.bytes)
    }

    /// What waits ahead of all data costs.
    pub(super) fn bytes_ahead(&self) -> usize {
        self.ahead_bytes
    }

    /// What waits on all streams costs, those that have ended included.
    pub(super) fn bytes(&self) -> usize {
        self.ahead_bytes + self.lane_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.turns.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.ahead.clear();
        self.ahead_bytes = 0;
        self.turns.clear();
        self.lanes.clear();
        self.lane_bytes = 0;
    }

    fn push_ahead(&mut self, frame: Bytes) {
        self.ahead_bytes += frame.len() + KEEPING;
        self.ahead.push_back(frame);
    }

    fn push_item(&mut self, stream: u64, bytes: usize, item: Item) {
        let lane = self.lanes.entry(stream).or_default();
        if lane.items.is_empty() {
            self.turns.push_back(stream);
        }
        lane.bytes += bytes + KEEPING;
        self.lane_bytes += bytes + KEEPING;
        lane.items.push_back(item);
    }
}

impl Lane {
    fn pop(&mut self, stream: u64, encode: EncodePacket) -> Option<Bytes> {
        match self.items.front_mut()? {
            Item::Frame(_) => {
                let Some(Item::Frame(frame)) = self.items.pop_front() else { return None };
                self.bytes = self.bytes.saturating_sub(frame.len() + KEEPING);
                Some(frame)
            }
            Item::Message { packets, last } => {
                let last = *last;
                let packet = packets.next()?;
                self.bytes = self.bytes.saturating_sub(packet.data.len());
                if packet.eom {
                    self.bytes = self.bytes.saturating_sub(KEEPING);
                    self.items.pop_front();
                }
                Some(encode(stream, packet, last))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;
    use crate::wire::message::MAX_PACKET_DATA;

    /// Frames that tell who sent them: stream, length and the two flags.
    fn show(stream: u64, packet: Packet, last: bool) -> Bytes {
        format!(
            "{stream}:{}{}{}",
            packet.data.len(),
            if packet.eom { "." } else { "" },
            if last { "!" } else { "" }
        )
        .into()
    }

    fn drain(scheduler: &mut Scheduler) -> Vec<String> {
        std::iter::from_fn(|| scheduler.pop())
            .map(|(frame, _)| String::from_utf8(frame.to_vec()).unwrap())
            .collect()
    }

    fn bulk(packets: usize) -> Bytes {
        Bytes::from(vec![0; MAX_PACKET_DATA * packets])
    }

    #[test]
    fn streams_take_turns_packet_by_packet() {
        let mut scheduler = Scheduler::new(show);
        scheduler.push_message(1, bulk(3), true, false);
        scheduler.push_message(2, bulk(2), false, false);
        scheduler.push_message(3, Bytes::from_static(b"x"), true, false);
        let full = MAX_PACKET_DATA;
        assert_eq!(
            drain(&mut scheduler),
            [
                format!("1:{full}!"),
                format!("2:{full}"),
                "3:1.!".into(),
                format!("1:{full}!"),
                format!("2:{full}."),
                format!("1:{full}.!"),
            ]
        );
        assert!(scheduler.is_empty());
    }

    #[test]
    fn headers_go_ahead_of_data_and_trailers_do_not_overtake_their_own() {
        let mut scheduler = Scheduler::new(show);
        scheduler.push_message(1, bulk(2), false, false);
        scheduler.push_frame(1, "trailers of 1".into());
        scheduler.push_frame(2, "headers of 2".into());
        let order = drain(&mut scheduler);
        assert_eq!(order[0], "headers of 2");
        assert_eq!(order[3], "trailers of 1");
    }

    #[test]
    fn an_urgent_message_overtakes_a_saturating_upload() {
        let mut scheduler = Scheduler::new(show);
        scheduler.push_message(1, bulk(100), false, false);
        scheduler.push_message(2, Bytes::from_static(b"beat"), true, true);
        assert_eq!(drain(&mut scheduler)[0], "2:4.!");
    }

    #[test]
    fn an_urgent_stream_that_sends_much_takes_turns_and_waits_for_room() {
        let mut scheduler = Scheduler::new(|stream, packet, _| frame::response_packet(stream, packet));
        for _ in 0..100 {
            scheduler.push_message(2, bulk(1), false, true);
        }
        assert!(scheduler.bytes_ahead() < MAX_URGENT + 1024, "frames cost a little more than their data");
        assert!(scheduler.queued(2) > 90 * MAX_PACKET_DATA);
        assert_eq!(std::iter::from_fn(|| scheduler.pop()).count(), 100);
        assert_eq!(scheduler.bytes_ahead(), 0);
    }

    #[test]
    fn a_cut_stream_sends_nothing_more_and_the_others_go_on() {
        let mut scheduler = Scheduler::new(show);
        scheduler.push_message(1, bulk(5), false, false);
        scheduler.push_message(2, Bytes::from_static(b"y"), false, false);
        scheduler.pop();
        scheduler.cut(1, "reset of 1".into());
        assert_eq!(scheduler.queued(1), 0);
        assert_eq!(drain(&mut scheduler), ["reset of 1", "2:1."]);
    }

    #[test]
    fn queued_counts_what_is_left_and_the_lane_goes_when_it_is_empty() {
        let mut scheduler = Scheduler::new(show);
        scheduler.push_message(1, bulk(2), false, false);
        assert_eq!(scheduler.queued(1), 2 * MAX_PACKET_DATA + KEEPING);
        assert_eq!(scheduler.pop().unwrap().1, Some(1));
        assert_eq!(scheduler.queued(1), MAX_PACKET_DATA + KEEPING);
        scheduler.pop();
        assert_eq!(scheduler.queued(1), 0);
        assert!(scheduler.lanes.is_empty() && scheduler.turns.is_empty());
        assert_eq!(scheduler.bytes(), 0);
    }

    #[test]
    fn empty_messages_cost_something_and_ended_streams_still_count() {
        let mut scheduler = Scheduler::new(show);
        for _ in 0..100 {
            scheduler.push_message(1, Bytes::new(), false, false);
        }
        assert_eq!(scheduler.queued(1), 100 * KEEPING);
        scheduler.push_message(2, bulk(2), true, false);
        assert_eq!(scheduler.bytes(), 101 * KEEPING + 2 * MAX_PACKET_DATA);
        scheduler.pop();
        scheduler.forget(1);
        assert_eq!(scheduler.bytes(), KEEPING + 2 * MAX_PACKET_DATA);
        drain(&mut scheduler);
        assert_eq!(scheduler.bytes(), 0);
    }
}
