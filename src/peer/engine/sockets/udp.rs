//! A UDP socket: trains of datagrams in one call of the kernel, both ways.
//!
//! Receiving uses recvmmsg and GRO, sending GSO, where the system has them; `quinn-udp` knows where. ECN is
//! not used: nothing above reads it.
//!
//! # Invariant
//! A datagram that the kernel refuses is a lost datagram; only the end of the socket is an error to the reader.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::debug;

use super::scratch::{self, SLOT, SLOTS};

/// The largest train that the kernel takes: the length of an IP packet, less its headers.
const MAX_TRAIN: usize = 65_507;

/// Sizes of a socket's buffers in the kernel, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buffers {
    pub(crate) receive: usize,
    pub(crate) send: usize,
}

impl Default for Buffers {
    /// 4 MB each: a window's worth of datagrams may arrive in one burst. The kernel takes memory only for what
    /// lies in them.
    fn default() -> Self {
        Self { receive: 4 << 20, send: 4 << 20 }
    }
}

/// A bound socket. Cheap while idle: it owns no buffer.
#[derive(Debug)]
pub(crate) struct Udp {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    #[cfg(test)]
    granted: Buffers,
}

impl Udp {
    /// Binds `local`, port 0 for any. Must run inside a tokio runtime.
    ///
    /// Systems cap the buffers, Linux at `net.core.rmem_max` and `wmem_max`; when they gave less, it is logged.
    ///
    /// # Errors
    /// When the system does not let it be bound.
    pub(crate) fn bind(local: SocketAddr, buffers: Buffers) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&local.into())?;
        let io = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        let local = io.local_addr()?;
        let granted = Buffers {
            receive: grow(
                buffers.receive,
                |bytes| state.set_recv_buffer_size(UdpSockRef::from(&io), bytes),
                || state.recv_buffer_size(UdpSockRef::from(&io)),
            ),
            send: grow(
                buffers.send,
                |bytes| state.set_send_buffer_size(UdpSockRef::from(&io), bytes),
                || state.send_buffer_size(UdpSockRef::from(&io)),
            ),
        };
        if granted.receive < buffers.receive || granted.send < buffers.send {
            debug!(%local, ?granted, asked = ?buffers, "the system caps a socket's buffers: bursts may be lost");
        }
        Ok(Self {
            io,
            state,
            local,
            #[cfg(test)]
            granted,
        })
    }

    /// What it is bound to.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// The buffers that the system gave.
    #[cfg(test)]
    pub(crate) fn granted(&self) -> Buffers {
        self.granted
    }

    /// How many datagrams of `size` bytes one [`poll_send`](Self::poll_send) takes in one call of the kernel.
    /// 1 where there is no GSO. More may be passed; they take more calls.
    pub(crate) fn max_train(&self, size: usize) -> usize {
        self.state.max_gso_segments().min(MAX_TRAIN.checked_div(size).unwrap_or(1)).max(1)
    }

    /// Receives what one call of the kernel gives, at most 8 trains, and hands it datagram by datagram to
    /// `take`, with the address it came from. Returns how many datagrams there were. Call it again until it is
    /// pending, or the task is not woken.
    ///
    /// # Errors
    /// When the socket itself has failed. ICMP errors are passed over.
    pub(crate) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(SocketAddr, &mut [u8]),
    ) -> Poll<io::Result<usize>> {
        scratch::lend(|buffer| {
            let mut metas = [RecvMeta::default(); SLOTS];
            loop {
                ready!(self.io.poll_recv_ready(cx))?;
                match self.receive(buffer, &mut metas) {
                    Ok(0) => {}
                    Ok(slots) => {
                        let trains = buffer.chunks_mut(SLOT).zip(&metas).take(slots);
                        return Poll::Ready(Ok(trains
                            .map(|(slot, meta)| split(slot, meta, &mut take))
                            .sum()));
                    }
                    Err(error) if is_passing(&error) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
    }

    /// One call of the kernel. 0 when there was nothing.
    fn receive(&self, buffer: &mut [u8], metas: &mut [RecvMeta; SLOTS]) -> io::Result<usize> {
        let mut slots = 0;
        let drained = self.io.try_io(Interest::READABLE, || {
            let mut chunks = buffer.chunks_mut(SLOT);
            let mut slices: [IoSliceMut<'_>; SLOTS] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            slots = self.state.recv(UdpSockRef::from(&self.io), &mut slices, metas)?;
            // recvmmsg stopped because the queue was empty. Saying so saves the call that would find out.
            if cfg!(any(target_os = "linux", target_os = "android")) && slots < SLOTS {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match drained {
            Err(error) if slots == 0 && error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(slots),
        }
    }

    /// Sends `contents` to `to`: one datagram, or a train of datagrams of `segment` bytes, the last of which may
    /// be shorter. `sent` counts the bytes that are gone; after `Pending` call it again with the same arguments.
    /// As many calls of the kernel as it takes; one where there is GSO.
    ///
    /// # Errors
    /// Of a datagram that the kernel refused, for the log: it and the rest of the train count as lost.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        to: SocketAddr,
        contents: &[u8],
        segment: Option<usize>,
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.try_send(to, contents, segment, sent) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.io.poll_send_ready(cx))?;
                }
                result => return Poll::Ready(result),
            }
        }
    }

    /// As [`poll_send`](Self::poll_send), with `WouldBlock` where that waits.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn try_send(
        &self,
        to: SocketAddr,
        contents: &[u8],
        segment: Option<usize>,
        sent: &mut usize,
    ) -> io::Result<()> {
        let size = segment.unwrap_or(contents.len()).max(1);
        let mut refused = false;
        while let Some(rest) = contents.get(*sent..).filter(|rest| !rest.is_empty()) {
            let train = rest.len().min(size.saturating_mul(self.max_train(size)));
            let Some(train) = rest.get(..train) else { break };
            let transmit = Transmit {
                destination: to,
                ecn: None,
                contents: train,
                segment_size: segment.filter(|size| *size < train.len()),
                src_ip: None,
            };
            let send = || self.state.try_send(UdpSockRef::from(&self.io), &transmit);
            // Asked first without the runtime, which does not know of a new socket that it is writable.
            let result = match send() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.io.try_io(Interest::WRITABLE, send)
                }
                result => result,
            };
            match result {
                Ok(()) => *sent = sent.saturating_add(train.len()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                // A kernel or driver without GSO says so by refusing a train; `state` has noted it, and from
                // now on every datagram goes alone.
                Err(_)
                    if transmit.segment_size.is_some() && self.state.max_gso_segments() == 1 && !refused =>
                {
                    refused = true;
                }
                Err(error) => {
                    *sent = contents.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// Hands out the datagrams of one train.
fn split(slot: &mut [u8], meta: &RecvMeta, take: &mut impl FnMut(SocketAddr, &mut [u8])) -> usize {
    let length = meta.len.min(slot.len());
    let Some(train) = slot.get_mut(..length).filter(|train| !train.is_empty()) else { return 0 };
    let mut datagrams = 0;
    for datagram in train.chunks_mut(meta.stride.max(1)) {
        take(meta.addr, datagram);
        datagrams += 1;
    }
    datagrams
}

/// Asks for `bytes`, and for less as long as the system refuses. Returns what it gave.
fn grow(bytes: usize, set: impl Fn(usize) -> io::Result<()>, get: impl Fn() -> io::Result<usize>) -> usize {
    /// What every system has.
    const LEAST: usize = 64 * 1024;
    let mut ask = bytes.min(1 << 30);
    while ask >= LEAST && set(ask).is_err() {
        ask /= 2;
    }
    // Linux doubles what was asked for, for its own bookkeeping.
    let doubled = cfg!(any(target_os = "linux", target_os = "android"));
    get().map_or(0, |bytes| if doubled { bytes / 2 } else { bytes })
}

/// Whether an error is about a datagram and not about the socket.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, PermissionDenied, WouldBlock,
    };
    matches!(
        error.kind(),
        WouldBlock
            | Interrupted
            | ConnectionRefused
            | ConnectionReset
            | ConnectionAborted
            | HostUnreachable
            | NetworkUnreachable
            | NetworkDown
            | PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    fn bind(ip: impl Into<IpAddr>) -> Udp {
        Udp::bind(SocketAddr::new(ip.into(), 0), Buffers::default()).unwrap()
    }

    async fn send(from: &Udp, to: SocketAddr, contents: &[u8], segment: Option<usize>) -> io::Result<()> {
        let mut sent = 0;
        poll_fn(|cx| from.poll_send(cx, to, contents, segment, &mut sent)).await
    }

    /// Waits for `count` datagrams.
    async fn receive(at: &Udp, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut all = Vec::new();
        while all.len() < count {
            poll_fn(|cx| at.poll_receive(cx, |from, datagram| all.push((from, datagram.to_vec()))))
                .await
                .unwrap();
        }
        all
    }

    #[tokio::test]
    async fn a_socket_sends_from_its_first_moment() {
        let (a, b) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::LOCALHOST));
        a.try_send(b.local(), b"now", None, &mut 0).unwrap();
        assert_eq!(receive(&b, 1).await.len(), 1);
    }

    #[tokio::test]
    async fn a_train_arrives_as_the_datagrams_it_was_made_of() {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let (a, b) = (bind(ip), bind(ip));
            // More than one call of the kernel takes, and a last one that is shorter.
            let contents: Vec<u8> = (0..150 * 1000 + 7).map(|byte: u32| byte as u8).collect();
            send(&a, b.local(), &contents, Some(1000)).await.unwrap();
            let datagrams = receive(&b, 151).await;
            assert!(datagrams.iter().all(|(from, _)| *from == a.local()));
            assert!(datagrams.iter().zip(contents.chunks(1000)).all(|((_, got), sent)| got == sent));
            assert_eq!(datagrams.len(), 151);
        }
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_does_not_end_the_socket() {
        let (a, b) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::LOCALHOST));
        let nobody = bind(Ipv4Addr::LOCALHOST).local();
        for _ in 0..3 {
            let _ = send(&a, nobody, b"hello", None).await;
        }
        send(&b, a.local(), b"still here?", None).await.unwrap();
        assert_eq!(receive(&a, 1).await, [(b.local(), b"still here?".to_vec())]);
    }

    #[tokio::test]
    async fn a_datagram_that_is_too_long_is_lost_and_said() {
        let (a, b) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::LOCALHOST));
        assert!(send(&a, b.local(), &[0; 70_000], None).await.is_err());
        send(&a, b.local(), b"short", None).await.unwrap();
        assert_eq!(receive(&b, 1).await.len(), 1);
    }

    #[tokio::test]
    async fn the_buffers_that_the_system_gave_are_told() {
        let asked = Buffers { receive: 100_000, send: 100_000 };
        let socket = Udp::bind((Ipv4Addr::LOCALHOST, 0).into(), asked).unwrap();
        assert_eq!(socket.granted(), asked);
        let most = Udp::bind((Ipv4Addr::LOCALHOST, 0).into(), Buffers { receive: 1 << 30, send: 0 }).unwrap();
        assert!(most.granted().receive >= 100_000 && most.granted().send > 0);
    }

    #[tokio::test]
    async fn a_reader_may_receive_on_another_socket_meanwhile() {
        let (a, b) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::LOCALHOST));
        send(&a, b.local(), b"outer", None).await.unwrap();
        send(&b, a.local(), b"inner", None).await.unwrap();
        b.io.readable().await.unwrap();
        a.io.readable().await.unwrap();
        let mut seen = Vec::new();
        poll_fn(|cx| {
            b.poll_receive(cx, |_, outer| {
                let _ = a.poll_receive(&mut Context::from_waker(std::task::Waker::noop()), |_, inner| {
                    seen.push(inner.to_vec());
                });
                seen.push(outer.to_vec());
            })
        })
        .await
        .unwrap();
        assert_eq!(seen, [b"inner".to_vec(), b"outer".to_vec()]);
    }
}
