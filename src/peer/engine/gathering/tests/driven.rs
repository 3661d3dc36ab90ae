//! A gatherer with real sockets, driven as the driver of a peer does.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::peer::engine::gathering::{
    Config, Event, Gatherer, Handled, LocalCandidate, ServerFailure, StreamId, Via, Why,
};
use crate::peer::engine::sockets::{Buffers, Stream, Trust, Udp, resolve};
use crate::peer::{CandidateKind, IceServer};

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Driven {
    pub(super) gatherer: Gatherer,
    pub(super) socket: Udp,
    streams: Vec<(StreamId, Stream)>,
    trust: Trust,
    pub(super) candidates: Vec<LocalCandidate>,
    pub(super) failures: Vec<ServerFailure>,
    pub(super) complete: bool,
    /// Relay, peer, payload.
    pub(super) received: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Driven {
    pub(super) fn new(servers: Vec<IceServer>, trust: Trust) -> Self {
        let socket = Udp::bind((Ipv4Addr::LOCALHOST, 0).into(), Buffers::default()).unwrap();
        let config = Config { servers, ..Config::default() };
        let gatherer = Gatherer::new(config, &[socket.local()], Instant::now());
        Self {
            gatherer,
            socket,
            streams: Vec::new(),
            trust,
            candidates: Vec::new(),
            failures: Vec::new(),
            complete: false,
            received: Vec::new(),
        }
    }

    /// Gathers to the end.
    pub(super) async fn gathered(servers: Vec<IceServer>, trust: Trust) -> Self {
        let mut driven = Self::new(servers, trust);
        driven.until(|driven| driven.complete).await;
        driven
    }

    pub(super) fn relay(&self) -> Option<&LocalCandidate> {
        self.candidates.iter().find(|candidate| candidate.kind == CandidateKind::Relay)
    }

    pub(super) fn relayed(&self) -> SocketAddr {
        self.relay().unwrap_or_else(|| panic!("no relay: {:?}", self.failures)).address
    }

    /// What was received, STUN apart, of which copies may come late.
    pub(super) fn data(&self) -> Vec<&(SocketAddr, SocketAddr, Vec<u8>)> {
        self.received.iter().filter(|(_, _, payload)| payload[0] > 3).collect()
    }

    pub(super) fn why(&self) -> Option<&Why> {
        self.failures.first().map(|failure| &failure.why)
    }

    pub(super) fn send(&mut self, peer: SocketAddr, payload: &[u8]) {
        let (now, relay, mut out) = (Instant::now(), self.relayed(), Vec::new());
        if let Some((via, to)) = self.gatherer.send_relayed(now, relay, peer, payload, &mut out) {
            self.transmit(via, to, &out);
        }
    }

    fn transmit(&mut self, via: Via, to: SocketAddr, bytes: &[u8]) {
        match via {
            Via::Udp(_) => {
                let _ = self.socket.try_send(to, bytes, None, &mut 0);
            }
            Via::Stream(id) => {
                if let Some((_, stream)) = self.streams.iter_mut().find(|(each, _)| *each == id) {
                    stream.send(bytes);
                }
            }
        }
    }

    /// Runs until `done`.
    pub(super) async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let run = async {
            loop {
                self.act().await;
                if done(self) {
                    return;
                }
                self.wait().await;
            }
        };
        tokio::time::timeout(PATIENCE, run).await.expect("it never came to that");
    }

    /// Runs two of them until `done`.
    pub(super) async fn both(a: &mut Self, b: &mut Self, done: impl Fn(&Self, &Self) -> bool) {
        let run = async {
            loop {
                a.act().await;
                b.act().await;
                if done(a, b) {
                    return;
                }
                tokio::select! {
                    () = a.wait() => {}
                    () = b.wait() => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, run).await.expect("it never came to that");
    }

    /// Does what the gatherer says.
    async fn act(&mut self) {
        while let Some(event) = self.gatherer.poll_event() {
            match event {
                Event::Resolve { server, host, port } => {
                    let found = resolve(&host, port, PATIENCE).await;
                    self.gatherer.resolved(Instant::now(), server, found);
                }
                Event::Connect { stream, to, name } => {
                    match Stream::connect(to, name.as_deref(), &self.trust, PATIENCE).await {
                        Ok(io) => {
                            self.streams.push((stream, io));
                            self.gatherer.connected(Instant::now(), stream);
                        }
                        Err(error) => {
                            self.gatherer.disconnected(Instant::now(), stream, error.to_string());
                        }
                    }
                }
                Event::Disconnect(id) => self.streams.retain(|(each, _)| *each != id),
                Event::Candidate(candidate) => self.candidates.push(candidate),
                Event::Failed(failure) => self.failures.push(failure),
                Event::Complete => {
                    assert!(!self.complete, "complete twice");
                    self.complete = true;
                }
            }
            while let Some(transmit) = self.gatherer.poll_transmit() {
                self.transmit(transmit.via, transmit.to, &transmit.bytes);
            }
        }
        while let Some(transmit) = self.gatherer.poll_transmit() {
            self.transmit(transmit.via, transmit.to, &transmit.bytes);
        }
    }

    /// Waits for the network or the clock, and tells the gatherer.
    async fn wait(&mut self) {
        let Self { gatherer, socket, streams, received, .. } = self;
        let timeout = gatherer.poll_timeout().unwrap_or_else(|| Instant::now() + PATIENCE);
        let network = poll_fn(|cx| {
            let mut busy = false;
            let local = socket.local();
            while socket
                .poll_receive(cx, |from, datagram| {
                    let handled = gatherer.handle_datagram(Instant::now(), local, from, datagram);
                    if let Handled::Relayed { relay, peer, payload } = handled {
                        received.push((relay, peer, datagram[payload].to_vec()));
                    }
                })
                .is_ready()
            {
                busy = true;
            }
            streams.retain_mut(|(id, stream)| {
                let _ = stream.poll_flush(cx);
                loop {
                    let read = stream.poll_read(cx, |bytes| {
                        gatherer.handle_stream(Instant::now(), *id, bytes, |relay, peer, payload| {
                            received.push((relay, peer, payload.to_vec()));
                        });
                    });
                    match read {
                        Poll::Pending => return true,
                        Poll::Ready(Ok(())) => busy = true,
                        Poll::Ready(Err(error)) => {
                            busy = true;
                            gatherer.disconnected(Instant::now(), *id, error.to_string());
                            return false;
                        }
                    }
                }
            });
            if busy { Poll::Ready(()) } else { Poll::Pending }
        });
        let elapsed = tokio::time::timeout_at(timeout.into(), network).await.is_err();
        if elapsed {
            self.gatherer.handle_timeout(Instant::now());
        }
    }
}
