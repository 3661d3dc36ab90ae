//! Ends, links and time.

use std::time::{Duration, Instant};

use super::end::{AROUND, End, Packet};
use super::receiver::ReceiverConfig;
use crate::peer::engine::recovery::RecoveryConfig;
use crate::peer::engine::simulator::{Link, LinkConfig};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Several flows over one link in each direction.
pub(super) struct World {
    pub(super) now: Instant,
    /// To the far end, and back. With the number of the flow.
    pub(super) there: Link<(usize, Packet)>,
    pub(super) back: Link<(usize, Packet)>,
    pub(super) flows: Vec<Flow>,
}

pub(super) struct Flow {
    pub(super) near: End,
    pub(super) far: End,
    /// Serial calls: sizes of request and reply, pause between them.
    pub(super) calls: Option<Calls>,
    pub(super) took: Vec<Duration>,
}

pub(super) struct Calls {
    pub(super) request: usize,
    pub(super) reply: usize,
    pub(super) pause: Duration,
    next: u64,
    began: Option<Instant>,
    next_at: Instant,
}

impl World {
    pub(super) fn new(there: LinkConfig, back: LinkConfig, seed: u64) -> Self {
        println!("seed {seed}");
        let now = Instant::now() + Duration::from_secs(3600);
        let (there, back) = (Link::new(there, seed), Link::new(back, seed ^ 0x5eed));
        Self { now, there, back, flows: Vec::new() }
    }

    /// A path that is the same in both directions.
    pub(super) fn even(link: LinkConfig, seed: u64) -> Self {
        Self::new(link, link, seed)
    }

    pub(super) fn flow(&mut self, config: &RecoveryConfig) -> &mut Flow {
        self.flow_with(config, ReceiverConfig::default())
    }

    pub(super) fn flow_with(&mut self, config: &RecoveryConfig, receiver: ReceiverConfig) -> &mut Flow {
        // A receiver counts from the same first number as its sender.
        let number = self.flows.len() as u32;
        let [near, far] = [0, 1].map(|_| End::new(config, receiver, self.now, number));
        self.flows.push(Flow { near, far, calls: None, took: Vec::new() });
        self.flows.last_mut().unwrap()
    }

    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut overdue = 0;
        loop {
            self.settle();
            let now = self.now;
            let next = self
                .flows
                .iter()
                .flat_map(|flow| {
                    let call =
                        flow.calls.as_ref().filter(|calls| calls.began.is_none()).map(|calls| calls.next_at);
                    [flow.near.deadline(now), flow.far.deadline(now), call]
                })
                .chain([self.there.next_arrival(), self.back.next_arrival()])
                .flatten()
                .min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            // A deadline that has passed and stays would keep a task busy.
            overdue = if next <= self.now { overdue + 1 } else { 0 };
            assert!(overdue < 10, "a deadline that does not go away");
            self.now = self.now.max(next);
            let now = self.now;
            for flow in &mut self.flows {
                flow.tick(now);
            }
        }
    }

    /// Everything that happens now.
    fn settle(&mut self) {
        let now = self.now;
        while let Some((number, packet)) = self.there.receive(now) {
            let flow = &mut self.flows[number];
            for (message, _) in flow.far.on_packet(now, &packet) {
                let reply = flow.calls.as_ref().map_or(1, |calls| calls.reply);
                flow.far.call(message, reply);
            }
        }
        while let Some((number, packet)) = self.back.receive(now) {
            let flow = &mut self.flows[number];
            for (message, _) in flow.near.on_packet(now, &packet) {
                flow.on_reply(now, message);
            }
        }
        for (number, flow) in self.flows.iter_mut().enumerate() {
            while let Some(packet) = flow.near.poll(now) {
                let bytes = packet.bytes + AROUND;
                self.there.send(now, (number, packet), bytes);
            }
            while let Some(packet) = flow.far.poll(now) {
                let bytes = packet.bytes + AROUND;
                self.back.send(now, (number, packet), bytes);
            }
        }
    }
}

impl Flow {
    pub(super) fn start_calls(&mut self, now: Instant, request: usize, reply: usize, pause: Duration) {
        let next = self.calls.as_ref().map_or(1, |calls| calls.next);
        self.calls = Some(Calls { request, reply, pause, next, began: None, next_at: now });
    }

    fn tick(&mut self, now: Instant) {
        self.near.on_deadline(now);
        self.far.on_deadline(now);
        if let Some(calls) = &mut self.calls
            && calls.began.is_none()
            && calls.next_at <= now
        {
            calls.began = Some(now);
            self.near.call(calls.next, calls.request);
        }
    }

    fn on_reply(&mut self, now: Instant, message: u64) {
        let Some(calls) = &mut self.calls else { return };
        if message != calls.next {
            return;
        }
        if let Some(began) = calls.began.take() {
            self.took.push(now - began);
        }
        calls.next += 1;
        calls.next_at = now + calls.pause;
    }
}

/// A share of sorted times.
pub(super) fn quantile(took: &[Duration], share: f64) -> Duration {
    let mut sorted = took.to_vec();
    sorted.sort();
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Megabytes a second.
pub(super) fn rate(bytes: u64, during: Duration) -> f64 {
    bytes as f64 / during.as_secs_f64() / 1e6
}
