//! Raw UDP: the floor. Nothing comes again, nobody slows down.

use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use serde_json::json;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::pipe::{Pipe, Signal};

/// What every socket here asks of the kernel, for both directions.
const BUFFER: usize = 4 << 20;

pub struct UdpPipe {
    socket: UdpSocket,
    buffer: Box<[u8]>,
}

/// A socket on loopback.
pub fn socket() -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    let it = socket2::SockRef::from(&socket);
    it.set_recv_buffer_size(BUFFER).expect("a socket");
    it.set_send_buffer_size(BUFFER).expect("a socket");
    socket
}

pub fn tokio_socket() -> UdpSocket {
    UdpSocket::from_std(socket()).expect("a runtime")
}

/// Tells ours and hears the other side's.
pub async fn exchange(ours: SocketAddr, signal: &mut Signal) -> SocketAddr {
    let _ = signal.to.send(json!({"address": ours.to_string()}));
    let said = signal.from.recv().await.expect("the other side lives");
    said["address"].as_str().and_then(|text| text.parse().ok()).expect("an address")
}

impl UdpPipe {
    pub async fn connect(mut signal: Signal) -> Self {
        let socket = tokio_socket();
        let theirs = exchange(socket.local_addr().expect("a socket"), &mut signal).await;
        socket.connect(theirs).await.expect("loopback");
        Self { socket, buffer: vec![0; 2048].into() }
    }
}

impl Pipe for UdpPipe {
    fn poll_send(&mut self, cx: &mut Context<'_>, message: &mut Option<Bytes>) -> Poll<()> {
        let _ = ready!(self.socket.poll_send(cx, message.as_ref().expect("a message")));
        *message = None;
        Poll::Ready(())
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut buffer = ReadBuf::new(&mut self.buffer);
        if ready!(self.socket.poll_recv(cx, &mut buffer)).is_err() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Bytes::copy_from_slice(buffer.filled())))
    }
}
