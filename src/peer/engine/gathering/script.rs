//! A STUN and TURN server without a network, that does as it is told, and a clock that is turned by hand.
//!
//! In `gathering`, for its tests and its fuzzing.
//!
//! # Invariant
//! Every event of the gatherer is taken at once, and the clock never goes back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::peer::engine::gathering::stun::{Class, Key, Message, Writer, attribute, method};
use crate::peer::engine::gathering::{
    Config, Event, Gatherer, Handled, LocalCandidate, Resolved, ServerFailure, ServerId, StreamId, Transmit,
    Via,
};
use crate::peer::{CandidateKind, IceServer};

pub(super) fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// The gatherer and its clock.
pub(super) struct Script {
    pub(super) gatherer: Gatherer,
    began: Instant,
    pub(super) now: Instant,
    pub(super) resolve: Vec<(ServerId, String)>,
    pub(super) connect: Vec<(StreamId, SocketAddr, Option<String>)>,
    pub(super) disconnect: Vec<StreamId>,
    pub(super) candidates: Vec<LocalCandidate>,
    pub(super) failures: Vec<ServerFailure>,
    /// When it was complete, after the start.
    pub(super) complete: Option<Duration>,
}

impl Script {
    pub(super) fn new(servers: Vec<IceServer>, bases: &[&str]) -> Self {
        Self::with(Config { servers, ..Config::default() }, bases)
    }

    pub(super) fn with(config: Config, bases: &[&str]) -> Self {
        let now = Instant::now();
        let bases: Vec<SocketAddr> = bases.iter().map(|base| at(base)).collect();
        let mut script = Self {
            gatherer: Gatherer::new(config, &bases, now),
            began: now,
            now,
            resolve: Vec::new(),
            connect: Vec::new(),
            disconnect: Vec::new(),
            candidates: Vec::new(),
            failures: Vec::new(),
            complete: None,
        };
        script.events();
        script
    }

    /// Takes what happened. Whoever calls the gatherer itself calls this too.
    pub(super) fn events(&mut self) {
        while let Some(event) = self.gatherer.poll_event() {
            match event {
                Event::Resolve { server, host, .. } => self.resolve.push((server, host)),
                Event::Connect { stream, to, name } => self.connect.push((stream, to, name)),
                Event::Disconnect(stream) => self.disconnect.push(stream),
                Event::Candidate(candidate) => self.candidates.push(candidate),
                Event::Failed(failure) => self.failures.push(failure),
                Event::Complete => assert_eq!(self.complete.replace(self.now - self.began), None, "twice"),
            }
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    /// The name that was asked for n-th has these addresses.
    pub(super) fn resolved(&mut self, n: usize, addresses: &[&str]) {
        let resolve = |address: &&str| Resolved { address: at(address), route: None };
        let found = addresses.iter().map(resolve).collect();
        self.gatherer.resolved(self.now, self.resolve[n].0, Ok(found));
        self.events();
    }

    pub(super) fn disconnected(&mut self, stream: StreamId, why: &str) {
        self.gatherer.disconnected(self.now, stream, why.to_owned());
        self.events();
    }

    /// What is to be sent now.
    pub(super) fn sent(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.gatherer.poll_transmit()).collect()
    }

    /// What is to be sent to this server now.
    pub(super) fn sent_to(&mut self, server: &str) -> Vec<Transmit> {
        self.sent().into_iter().filter(|transmit| transmit.to == at(server)).collect()
    }

    /// The server's answer arrives where its request came from.
    pub(super) fn answer(&mut self, request: &Transmit, answer: Vec<u8>) -> Handled {
        let handled = match request.via {
            Via::Udp(base) => self.gatherer.handle_datagram(self.now, base, request.to, &answer),
            Via::Stream(stream) => {
                self.gatherer.handle_stream(self.now, stream, &mut answer.clone(), |_, _, _| {});
                Handled::Consumed
            }
        };
        self.events();
        handled
    }

    /// Turns the clock to the next time-out. `false` when there is none.
    pub(super) fn tick(&mut self) -> bool {
        let Some(timeout) = self.gatherer.poll_timeout() else { return false };
        self.now = self.now.max(timeout);
        self.gatherer.handle_timeout(self.now);
        self.events();
        true
    }

    /// Turns the clock by `by`, time-out by time-out.
    pub(super) fn pass(&mut self, by: Duration) {
        let until = self.now + by;
        while self.gatherer.poll_timeout().is_some_and(|timeout| timeout <= until) {
            let before = self.gatherer.poll_timeout();
            self.tick();
            assert!(self.gatherer.poll_timeout() != before || self.now < until, "a time-out that stays");
        }
        self.now = until;
    }

    pub(super) fn of_kind(&self, kind: CandidateKind) -> Vec<&LocalCandidate> {
        self.candidates.iter().filter(|candidate| candidate.kind == kind).collect()
    }
}

/// How a TURN server answers.
pub(super) struct Turn {
    pub(super) nonce: &'static str,
    pub(super) relayed: SocketAddr,
    pub(super) mapped: SocketAddr,
    pub(super) lifetime: u32,
    pub(super) password: &'static str,
}

impl Turn {
    pub(super) fn new() -> Self {
        let (relayed, mapped) = (at("203.0.113.1:50000"), at("198.51.100.7:1234"));
        Self { nonce: "first", relayed, mapped, lifetime: 600, password: "wonder" }
    }

    pub(super) fn server(url: &str) -> IceServer {
        IceServer::with_credential(url, "alice", "wonder").unwrap()
    }

    /// What the server signs with.
    pub(super) fn key(&self) -> Key {
        Key::new("alice", self.password, "lab")
    }

    /// A refusal with this code, and what else it takes.
    pub(super) fn refuse(&self, request: &Transmit, code: u16, alternate: Option<&str>) -> Vec<u8> {
        let request = Message::read(&request.bytes).unwrap();
        let code = [0, 0, (code / 100) as u8, (code % 100) as u8, b'n', b'o', b'\n'];
        let mut answer = Writer::new(Class::Error, request.method, request.id)
            .add(attribute::ERROR_CODE, &code)
            .add(attribute::REALM, b"lab")
            .add(attribute::NONCE, self.nonce.as_bytes());
        if let Some(SocketAddr::V4(alternate)) = alternate.map(at) {
            let [p0, p1] = alternate.port().to_be_bytes();
            let [a, b, c, d] = alternate.ip().octets();
            answer = answer.add(attribute::ALTERNATE_SERVER, &[0, 1, p0, p1, a, b, c, d]);
        }
        answer.finish()
    }

    /// What a server says: 401 or 438 until the request is signed with the present nonce, then yes.
    pub(super) fn answer(&self, request: &Transmit) -> Vec<u8> {
        let message = Message::read(&request.bytes).unwrap();
        assert_eq!(message.class, Class::Request);
        if message.attribute(attribute::USERNAME).is_none() {
            return self.refuse(request, 401, None);
        }
        if message.attribute(attribute::NONCE) != Some(self.nonce.as_bytes()) {
            return self.refuse(request, 438, None);
        }
        if !message.is_signed_with(&self.key()) {
            return self.refuse(request, 401, None);
        }
        self.accept(request).sign(&self.key())
    }

    /// A success, not yet signed.
    pub(super) fn accept(&self, request: &Transmit) -> Writer {
        let message = Message::read(&request.bytes).unwrap();
        let answer = Writer::new(Class::Success, message.method, message.id);
        match message.method {
            method::ALLOCATE => answer
                .add_xor_address(attribute::XOR_RELAYED_ADDRESS, self.relayed)
                .add_xor_address(attribute::XOR_MAPPED_ADDRESS, self.mapped)
                .add(attribute::LIFETIME, &self.lifetime.to_be_bytes()),
            method::REFRESH => answer.add(attribute::LIFETIME, &self.lifetime.to_be_bytes()),
            _ => answer,
        }
    }

    /// Answers everything that is sent to this server until nothing more is. Returns what that was.
    pub(super) fn serve(&self, script: &mut Script, server: &str) -> Vec<u16> {
        let mut methods = Vec::new();
        loop {
            let requests = script.sent_to(server);
            if requests.is_empty() {
                return methods;
            }
            for request in requests {
                let message = Message::read(&request.bytes).unwrap();
                methods.push(message.method);
                if message.class == Class::Request {
                    let answer = self.answer(&request);
                    assert_eq!(script.answer(&request, answer), Handled::Consumed);
                }
            }
        }
    }
}

/// What a STUN server says.
pub(super) fn binding(request: &Transmit, mapped: &str) -> Vec<u8> {
    let request = Message::read(&request.bytes).unwrap();
    Writer::new(Class::Success, method::BINDING, request.id)
        .add_xor_address(attribute::XOR_MAPPED_ADDRESS, at(mapped))
        .finish()
}
