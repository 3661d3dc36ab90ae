//! What must hold of a fuzzed gatherer, after every order and in the end.
//!
//! In `gathering`, part of its fuzzing, beside `world`.
//!
//! # Invariant
//! Everything that the gatherer hands out goes through here, and nothing else takes from it.

use std::time::Duration;

use super::world::{CLOSING, PATIENCE, URLS, World};
use crate::peer::IceUrl;
use crate::peer::engine::gathering::Via;
use crate::peer::engine::gathering::stun::{Class, Message};

/// Requests that can still be answered.
const UNDER_WAY: usize = 64;
/// What may be kept: of each relay that stands 64 permissions with 4 datagrams each, 64 channels, and a request for
/// each of both; a handful of requests and addresses besides.
const HELD: usize = 3 * (64 * 5 + 64 + 128) + 200;

impl World {
    /// Takes what is to be done, and checks what always holds.
    pub(super) fn settle(&mut self) {
        self.script.events();
        self.connecting.extend(self.script.connect.drain(..).map(|(stream, ..)| stream));
        for gone in self.script.disconnect.drain(..) {
            self.connecting.retain(|stream| *stream != gone);
            self.streams.retain(|stream| *stream != gone);
        }
        let sent = self.script.sent();
        assert!(sent.len() < 1000, "{} messages at once", sent.len());
        for transmit in sent {
            let message = Message::read(&transmit.bytes).expect("we send STUN");
            let length = usize::from(u16::from_be_bytes([transmit.bytes[2], transmit.bytes[3]]));
            assert_eq!(length + 20, transmit.bytes.len());
            match transmit.via {
                Via::Udp(base) => assert_eq!(base.is_ipv4(), transmit.to.is_ipv4()),
                Via::Stream(stream) => assert!(self.streams.contains(&stream), "into a stream that is gone"),
            }
            if !self.routes.contains(&(transmit.via, transmit.to)) {
                self.routes.push((transmit.via, transmit.to));
            }
            if message.class == Class::Request {
                self.requests.push(transmit);
            }
        }
        let many = self.requests.len().saturating_sub(UNDER_WAY);
        self.requests.drain(..many);
        self.check();
    }

    fn check(&mut self) {
        let script = &self.script;
        let held = script.gatherer.held();
        assert!(held <= HELD, "{held} things are kept");
        for (n, failure) in script.failures.iter().enumerate() {
            let before = &script.failures[..n];
            assert!(before.iter().all(|each| each.server != failure.server), "{failure} is told twice");
        }
        if let Some((when, told)) = self.closed {
            assert_eq!(self.told(), told, "told after the end");
            assert!(script.now < when + CLOSING || script.gatherer.is_over(), "closing takes too long");
            return;
        }
        match script.complete {
            Some(complete) => {
                assert!(complete <= PATIENCE);
                // Only a socket that is bound later finds more.
                let found = *self.found.get_or_insert(script.candidates.len());
                assert!(self.grew || found == script.candidates.len(), "a candidate after the last one");
            }
            None => assert!(script.elapsed() <= PATIENCE, "gathering does not end"),
        }
    }

    /// How much was told.
    pub(super) fn told(&self) -> [usize; 3] {
        [
            self.script.candidates.len(),
            self.script.failures.len(),
            usize::from(self.script.complete.is_some()),
        ]
    }

    /// Whatever has happened: left alone it has told all, runs on without haste, and closes.
    pub(super) fn end(&mut self) {
        self.pass(PATIENCE);
        assert!(self.closed.is_some() || self.script.complete.is_some());
        for url in self.closed.map_or(&URLS[1..3], |_| &[]) {
            let is = |server: &IceUrl| *server == url.parse().unwrap();
            let found = self.script.candidates.iter().filter_map(|each| each.server.as_ref()).any(is);
            assert!(found || self.script.failures.iter().any(|each| is(&each.server)), "{url} is not told");
        }
        let (began, mut turns) = (self.script.now, 0);
        while self.script.now - began < Duration::from_secs(3600) && self.tick() {
            turns += 1;
            assert!(turns < 6000, "it runs hot");
            if self.repents {
                self.stand();
                self.tell_the_truth();
            }
        }
        self.close();
        self.pass(CLOSING);
        assert!(self.script.gatherer.is_over() && self.script.gatherer.poll_timeout().is_none());
        assert!(self.connecting.is_empty() && self.streams.is_empty(), "a stream stays");
    }
}
