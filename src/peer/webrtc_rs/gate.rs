//! What stands between DTLS and SCTP, so that a close cannot overtake what came before it.
//!
//! The crate's SCTP throws unread messages away at the moment it learns of a close. The gate learns first:
//! it tells the driver (`Life::gone`) and keeps SCTP waiting until the reader has
//! collected everything.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use webrtc::dtls::conn::DTLSConn;
use webrtc::util::{Conn, Error};

use super::window::Window;

/// How long a reset of the channel waits for a reader that has no more to read.
const RESET_WAIT: Duration = Duration::from_millis(50);

pub(super) struct Gate {
    dtls: Arc<DTLSConn>,
    /// Cancelled here when the peer has closed.
    gone: CancellationToken,
    /// Cancelled by the driver: SCTP may end.
    ending: CancellationToken,
    reader: Arc<Reader>,
    window: Arc<Window>,
    reset_passed: AtomicBool,
}

/// Asks the channel's reader whether it has read all there is.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) asked: Notify,
    pub(super) idle: AtomicBool,
}

impl Reader {
    async fn caught_up(&self) {
        self.idle.store(false, Ordering::SeqCst);
        while !self.idle.load(Ordering::SeqCst) {
            self.asked.notify_one();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Gate {
    pub(super) fn new(
        dtls: Arc<DTLSConn>,
        gone: CancellationToken,
        ending: CancellationToken,
        reader: Arc<Reader>,
        window: Arc<Window>,
    ) -> Self {
        Self { dtls, gone, ending, reader, window, reset_passed: AtomicBool::new(false) }
    }

    /// The peer's next packet, or one of before that SCTP had no room for.
    async fn next(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        tokio::select! {
            biased;
            () = self.ending.cancelled() => Err(closed()),
            packet = self.window.again() => {
                buffer.get_mut(..packet.len()).ok_or_else(closed)?.copy_from_slice(&packet);
                Ok(packet.len())
            }
            received = self.dtls.read(buffer, None) => {
                let length = received.map_err(|_| closed())?;
                self.window.received(buffer.get(..length).unwrap_or_default());
                Ok(length)
            }
        }
    }

    async fn receive(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.reset_passed.load(Ordering::SeqCst) {
            self.gone.cancel();
        }
        let received = self.next(buffer).await;
        if self.ending.is_cancelled() {
            return Err(closed());
        }
        let last_word = match &received {
            Ok(length) => news(buffer.get(..*length).unwrap_or_default()),
            Err(_) => News::Closed,
        };
        if let Ok(length) = received {
            if last_word == News::None {
                return Ok(length);
            }
            // SCTP may know of packets that are missing, and waits for them. A slow reader's messages are
            // safe only when SCTP learns nothing.
            if last_word == News::ChannelReset
                && tokio::time::timeout(RESET_WAIT, self.reader.caught_up()).await.is_ok()
            {
                self.reset_passed.store(true, Ordering::SeqCst);
                return Ok(length);
            }
        }
        self.gone.cancel();
        self.ending.cancelled().await;
        Err(closed())
    }
}

fn closed() -> Error {
    Error::Other("closed".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    None,
    /// The peer resets stream 0, the way to close one channel.
    ChannelReset,
    /// The peer has left the association.
    Closed,
}

/// Reads the chunk types of an SCTP packet, RFC 9260 3.2. DTLS has proved whose it is.
fn news(packet: &[u8]) -> News {
    const HEADER: usize = 12;
    let mut chunks = packet.get(HEADER..).unwrap_or_default();
    while let [kind, _, high, low, ..] = *chunks {
        let length = usize::from(u16::from_be_bytes([high, low]));
        match kind {
            // ABORT, SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE
            6 | 7 | 8 | 14 => return News::Closed,
            130 if resets_data(chunks.get(4..length).unwrap_or_default()) => return News::ChannelReset,
            _ => {}
        }
        chunks = chunks.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    News::None
}

/// Whether a RE-CONFIG chunk's parameters reset stream 0, RFC 6525 4.1.
fn resets_data(mut parameters: &[u8]) -> bool {
    const FIXED: usize = 16;
    while let [_, kind, high, low, ..] = *parameters {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind == 13 {
            let streams = parameters.get(FIXED..length).unwrap_or_default();
            return streams.is_empty() || streams.chunks_exact(2).any(|stream| stream == [0, 0]);
        }
        parameters = parameters.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

type Future_<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Written out, as `async_trait` would: the crate's trait is one of its.
impl Conn for Gate {
    fn connect<'a, 'b>(&'a self, _: SocketAddr) -> Future_<'b, ()>
    where
        'a: 'b,
    {
        Box::pin(async { Err(closed()) })
    }

    fn recv<'a, 'b, 'c>(&'a self, buffer: &'b mut [u8]) -> Future_<'c, usize>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(self.receive(buffer))
    }

    fn recv_from<'a, 'b, 'c>(&'a self, _: &'b mut [u8]) -> Future_<'c, (usize, SocketAddr)>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async { Err(closed()) })
    }

    fn send<'a, 'b, 'c>(&'a self, packet: &'b [u8]) -> Future_<'c, usize>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async move {
            if self.ending.is_cancelled() {
                return Err(closed());
            }
            self.window.sent(packet);
            match self.dtls.write(packet, None).await {
                Ok(length) => Ok(length),
                // Upstream gives the association up at the first error, and a full socket or a route that
                // flaps is one. For SCTP it is a lost packet; ICE finds out when it is more.
                Err(_) => Ok(packet.len()),
            }
        })
    }

    fn send_to<'a, 'b, 'c>(&'a self, _: &'b [u8], _: SocketAddr) -> Future_<'c, usize>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async { Err(closed()) })
    }

    fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.dtls.local_addr()
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        self.dtls.remote_addr()
    }

    /// The driver closes DTLS.
    fn close<'a, 'b>(&'a self) -> Future_<'b, ()>
    where
        'a: 'b,
    {
        Box::pin(async { Ok(()) })
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(chunks: &[&[u8]]) -> Vec<u8> {
        let mut packet = vec![0; 12];
        for chunk in chunks {
            packet.extend_from_slice(chunk);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    #[test]
    fn a_close_is_seen_among_other_chunks() {
        let data = [0, 3, 0, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
        let reset = |stream| [130, 0, 0, 22, 0, 13, 0, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, stream];
        assert_eq!(news(&packet(&[&data])), News::None);
        assert_eq!(news(&packet(&[&data, &[6, 0, 0, 4]])), News::Closed);
        assert_eq!(news(&packet(&[&data, &reset(0)])), News::ChannelReset);
        assert_eq!(news(&packet(&[&reset(1)])), News::None);
        let response = [130, 0, 0, 16, 0, 16, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1];
        assert_eq!(news(&packet(&[&response])), News::None);
    }

    #[test]
    fn no_bytes_panic_or_loop() {
        for length in 0..64 {
            for byte in [0, 6, 13, 130, 255] {
                let _ = news(&vec![byte; length]);
                let mut packet = vec![0; 12];
                packet.extend([130, 0, 0, byte, 0, 13, 0, byte]);
                packet.truncate(length);
                let _ = news(&packet);
            }
        }
    }
}
