//! The first bytes of the other side: only a SETTINGS frame means that somebody speaks HTTP/2 there.
//!
//! hyper hands out a connection before the server has said a word. A port that accepts and stays silent, or
//! speaks something else, would then count as reached, and the first call would wait for ever.
//!
//! # Invariant
//! What is read goes on unchanged; this only looks.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::connect::{ConnectError, Endpoint};

/// The length of a frame's header (RFC 9113, 4.1).
const HEADER: usize = 9;
/// The type of a SETTINGS frame; it has to come first (RFC 9113, 3.4).
const SETTINGS: u8 = 4;
/// The first byte of a TLS alert.
const ALERT: u8 = 0x15;

/// A stream whose first frame is looked at.
pub(super) struct Watched<S> {
    stream: S,
    seen: Vec<u8>,
    tell: Option<oneshot::Sender<Spoken>>,
}

/// What the other side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http2,
    Tls,
    Other,
}

/// Waits for the other side's first frame.
pub(super) struct Preface(oneshot::Receiver<Spoken>);

impl Preface {
    /// Ready when the other side speaks HTTP/2. Has no deadline of its own.
    pub(super) async fn wait(self, endpoint: &Endpoint, plaintext: bool) -> Result<(), ConnectError> {
        let endpoint = || endpoint.to_string();
        match self.0.await {
            Ok(Spoken::Http2) => Ok(()),
            Ok(Spoken::Tls) if plaintext => Err(ConnectError::NotPlaintext { endpoint: endpoint() }),
            Ok(_) => Err(ConnectError::NotHttp2 { endpoint: endpoint() }),
            Err(_) => {
                let hint = if plaintext { ": if it speaks TLS, leave insecure out" } else { "" };
                Err(ConnectError::HungUp { endpoint: endpoint(), hint })
            }
        }
    }
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S) -> (Self, Preface) {
        let (tell, spoken) = oneshot::channel();
        (Self { stream, seen: Vec::with_capacity(HEADER), tell: Some(tell) }, Preface(spoken))
    }

    /// Takes the bytes that were read; none is the end of the stream.
    fn look(&mut self, read: &[u8]) {
        let missing = HEADER.saturating_sub(self.seen.len()).min(read.len());
        self.seen.extend(read.iter().take(missing));
        let spoken = spoken(&self.seen);
        if read.is_empty() || spoken.is_some() {
            let tell = self.tell.take();
            if let (Some(tell), Some(spoken)) = (tell, spoken) {
                // Nobody waits any more: then nobody wants to know.
                let _ = tell.send(spoken);
            }
        }
    }
}

/// `None` while it may still become a SETTINGS frame.
fn spoken(bytes: &[u8]) -> Option<Spoken> {
    match bytes {
        [] => None,
        // No server may send a frame of 64 KiB first.
        [ALERT, ..] => Some(Spoken::Tls),
        [first, ..] if *first != 0 => Some(Spoken::Other),
        [_, _, _, SETTINGS, flags, 0, 0, 0, 0] if flags & 1 == 0 => Some(Spoken::Http2),
        bytes => (bytes.len() >= HEADER).then_some(Spoken::Other),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.tell.is_none() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let read = if result.is_ok() { buf.filled().get(before..).unwrap_or_default() } else { &[] };
        self.look(read);
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settings_frame_in_any_pieces_is_http2_and_all_else_is_told_apart() {
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3];
        for split in 1..settings.len() {
            let (mut watched, Preface(mut spoken)) = Watched::new(());
            watched.look(&settings[..split]);
            watched.look(&settings[split..]);
            assert_eq!(spoken.try_recv(), Ok(Spoken::Http2), "{split}");
        }
        for (bytes, expected) in [
            (b"\x15\x03\x01\x00\x02\x02\x46".as_slice(), Some(Spoken::Tls)),
            (b"HTTP/1.1 400", Some(Spoken::Other)),
            (b"SSH-2.0", Some(Spoken::Other)),
            (&[0, 0, 8, 6, 0, 0, 0, 0, 0], Some(Spoken::Other)),
            (&[0, 0, 0, 4, 1, 0, 0, 0, 0], Some(Spoken::Other)),
            (&settings[..8], None),
            (b"", None),
        ] {
            assert_eq!(spoken(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn an_end_without_a_frame_is_told() {
        let (mut watched, Preface(mut spoken)) = Watched::new(());
        watched.look(&[0, 0]);
        watched.look(&[]);
        assert_eq!(spoken.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
