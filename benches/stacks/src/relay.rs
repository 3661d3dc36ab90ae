//! A network in user space: between two peers it delays every datagram and loses some, in both directions.
//!
//! Each peer has a front: the address that the other one is told instead of its own. Datagrams travel in
//! batches (GRO in, GSO out), so that the relay carries more than what is measured. Rate and queue are not
//! limited. The relays have a thread of their own; timers are good to half a millisecond.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use serde_json::Value;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;

use crate::udp_pipe::tokio_socket;

/// Batches that one system call takes in, and how large one may be.
const BATCHES: usize = 8;
const BATCH: usize = 1 << 16;
/// What tokio's timer is off by at most, halved.
const SLACK: Duration = Duration::from_micros(500);

/// What a relay does to datagrams.
#[derive(Debug, Clone, Copy)]
pub struct Network {
    /// One way.
    pub delay: Duration,
    /// The share that is lost, each way.
    pub loss: f64,
}

/// The thread of all relays.
pub struct Relays(Handle);

impl Relays {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        Self(handle)
    }

    /// A new one; it ends when the last of it is dropped.
    pub fn between(&self, network: Network) -> Arc<Relay> {
        let _here = self.0.enter();
        let ends = [(); 2].map(|()| Arc::new(End::new()));
        let ways = [0, 1].map(|side| {
            let way = Way::new(Arc::clone(&ends[1 - side]), Arc::clone(&ends[side]), network, side);
            self.0.spawn(way.run()).abort_handle()
        });
        Arc::new(Relay { ends, ways })
    }
}

/// One network with two peers on it.
pub struct Relay {
    ends: [Arc<End>; 2],
    ways: [tokio::task::AbortHandle; 2],
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ways.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

/// A peer: its front, and where it really is once that is known.
struct End {
    front: UdpSocket,
    state: UdpSocketState,
    real: OnceLock<SocketAddr>,
}

impl End {
    fn new() -> Self {
        let front = tokio_socket();
        let state = UdpSocketState::new((&front).into()).expect("a socket");
        Self { front, state, real: OnceLock::new() }
    }
}

impl Relay {
    /// What this side said, with its front in place of its address. `None`: a candidate that has no way here.
    pub fn rewritten(&self, side: usize, mut said: Value) -> Option<Value> {
        if let Some(address) = said["address"].as_str() {
            said["address"] = self.front_for(side, address.parse().ok()?).to_string().into();
        }
        if let Some(candidate) = said["candidate"].as_str() {
            said["candidate"] = self.candidate(side, candidate)?.into();
        }
        if let Some(sdp) = said["sdp"].as_str() {
            let lines = sdp.lines().filter_map(|line| {
                if line.starts_with("a=candidate:") {
                    self.candidate(side, line)
                } else {
                    Some(line.to_owned())
                }
            });
            said["sdp"] = lines.map(|line| line + "\r\n").collect::<String>().into();
        }
        Some(said)
    }

    fn front_for(&self, side: usize, real: SocketAddr) -> SocketAddr {
        let _ = self.ends[side].real.set(real);
        self.ends[side].front.local_addr().expect("a socket")
    }

    /// RFC 8839 5.1: foundation, component, transport, priority, address, port, and the rest. Only the one on
    /// 127.0.0.1 is let through.
    fn candidate(&self, side: usize, text: &str) -> Option<String> {
        let mut words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        let [_, _, transport, _, address, port, ..] = &words[..] else { return None };
        if !transport.eq_ignore_ascii_case("udp") || address != "127.0.0.1" {
            return None;
        }
        let front = self.front_for(side, format!("{address}:{port}").parse().ok()?);
        words[5] = front.port().to_string();
        Some(words.join(" "))
    }
}

/// One direction.
struct Way {
    /// In whose front datagrams arrive.
    to: Arc<End>,
    /// Who has sent them.
    from: Arc<End>,
    network: Network,
    random: u64,
    under_way: VecDeque<(Instant, Vec<u8>, usize)>,
}

impl Way {
    fn new(to: Arc<End>, from: Arc<End>, network: Network, seed: usize) -> Self {
        Self { to, from, network, random: 0x9E37_79B9 + seed as u64, under_way: VecDeque::new() }
    }

    async fn run(mut self) {
        let mut buffers = vec![vec![0; BATCH]; BATCHES];
        loop {
            let due = self.under_way.front().map(|(due, ..)| *due - SLACK);
            let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due.into()) => self.put_out().await,
                ready = self.to.front.readable() => {
                    ready.expect("a socket");
                    self.take_in(&mut buffers);
                }
            }
        }
    }

    fn take_in(&mut self, buffers: &mut [Vec<u8>]) {
        let mut metas = [RecvMeta::default(); BATCHES];
        let due = Instant::now() + self.network.delay;
        let read = || {
            let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            self.to.state.recv((&self.to.front).into(), &mut slices, &mut metas)
        };
        let Ok(count) = self.to.front.try_io(Interest::READABLE, read) else { return };
        let Some(real) = self.from.real.get().copied() else { return };
        for (meta, buffer) in metas.iter().zip(buffers).take(count) {
            // Other sockets of the same peer have no way here.
            if meta.addr != real || meta.len == 0 {
                continue;
            }
            let mut kept = Vec::with_capacity(meta.len);
            for datagram in buffer[..meta.len].chunks(meta.stride) {
                if !self.is_lost() {
                    kept.extend_from_slice(datagram);
                }
            }
            if !kept.is_empty() {
                self.under_way.push_back((due, kept, meta.stride));
            }
        }
    }

    /// xorshift64*: the same losses in each run.
    fn is_lost(&mut self) -> bool {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let draw = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        (draw as f64) < self.network.loss * (1_u64 << 53) as f64
    }

    async fn put_out(&mut self) {
        let Some(destination) = self.to.real.get().copied() else { return self.under_way.clear() };
        while let Some((due, datagrams, stride)) = self.under_way.front() {
            if *due > Instant::now() + SLACK {
                break;
            }
            let transmit = |contents, segment_size| Transmit {
                destination,
                ecn: None,
                contents,
                segment_size,
                src_ip: None,
            };
            let segments = self.from.state.max_gso_segments().min(60_000 / stride).max(1);
            for part in datagrams.chunks(segments * stride) {
                let segment_size = (part.len() > *stride).then_some(*stride);
                loop {
                    let send =
                        || self.from.state.try_send((&self.from.front).into(), &transmit(part, segment_size));
                    match self.from.front.try_io(Interest::WRITABLE, send) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            self.from.front.writable().await.expect("a socket");
                        }
                        // Whoever has gone away needs nothing more.
                        _ => break,
                    }
                }
            }
            self.under_way.pop_front();
        }
    }
}
