//! A connection to a passive TCP candidate of the peer, RFC 6544: datagrams in frames of RFC 4571.
//!
//! # Invariant
//! Datagrams come out as they were sent, however the stream cuts them; one of them is kept at most.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::stream::{Stream, StreamError};
use super::tls::Trust;

/// The length before each datagram, RFC 4571 2.
const HEADER: usize = 2;
/// A buffer that grew beyond this is given back once it is empty.
const KEPT: usize = 4096;

/// A connection that carries datagrams.
#[derive(Debug)]
pub(crate) struct IceTcp {
    stream: Stream,
    framer: Framer,
}

impl IceTcp {
    /// Connects to the peer's candidate. Cancel safe.
    ///
    /// # Errors
    /// [`StreamError`].
    pub(crate) async fn connect(to: SocketAddr, deadline: Duration) -> Result<Self, StreamError> {
        let stream = Stream::connect(to, None, &Trust::platform(), deadline).await?;
        Ok(Self { stream, framer: Framer::default() })
    }

    /// What it is bound to.
    #[cfg(test)]
    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.local()
    }

    /// Reads what is there and hands each datagram that is whole to `take`. Call it again until it is pending.
    ///
    /// # Errors
    /// When the connection is over.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&mut [u8]),
    ) -> Poll<io::Result<()>> {
        let framer = &mut self.framer;
        ready!(self.stream.poll_read(cx, |bytes| framer.feed(bytes, &mut take)))?;
        Poll::Ready(Ok(()))
    }

    /// Queues a datagram, or drops it. `false` when dropped. Then [`poll_flush`](Self::poll_flush).
    pub(crate) fn send(&mut self, datagram: &[u8]) -> bool {
        let Ok(length) = u16::try_from(datagram.len()) else { return false };
        self.stream.send_datagram(&[&length.to_be_bytes(), datagram])
    }

    /// Writes what is queued. Ready when nothing is left.
    ///
    /// # Errors
    /// When the connection is over.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }
}

/// The reading side.
#[derive(Debug, Default)]
struct Framer {
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
}

impl Framer {
    fn feed(&mut self, mut bytes: &mut [u8], take: &mut impl FnMut(&mut [u8])) {
        while !bytes.is_empty() {
            if self.partial.is_empty()
                && let Some(end) = end(bytes)
                && end <= bytes.len()
            {
                let (frame, rest) = bytes.split_at_mut(end);
                take(frame.get_mut(HEADER..).unwrap_or_default());
                bytes = rest;
                continue;
            }
            let wanted = end(&self.partial).unwrap_or(HEADER);
            let missing = wanted.saturating_sub(self.partial.len()).min(bytes.len());
            let (piece, rest) = bytes.split_at_mut(missing);
            self.partial.extend_from_slice(piece);
            bytes = rest;
            if end(&self.partial) == Some(self.partial.len()) {
                take(self.partial.get_mut(HEADER..).unwrap_or_default());
                self.partial.clear();
                self.partial.shrink_to(KEPT);
            }
        }
    }
}

/// Where the first frame ends, once that can be told.
fn end(bytes: &[u8]) -> Option<usize> {
    let length = u16::from_be_bytes(*bytes.first_chunk::<HEADER>()?);
    HEADER.checked_add(length.into())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    proptest! {
        #[test]
        fn datagrams_come_out_as_sent_however_the_stream_is_cut(
            datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..900), 0..8),
            cuts in proptest::collection::vec(1_usize..1500, 1..20),
        ) {
            let mut stream = Vec::new();
            for datagram in &datagrams {
                stream.extend_from_slice(&(datagram.len() as u16).to_be_bytes());
                stream.extend_from_slice(datagram);
            }
            let (mut framer, mut got) = (Framer::default(), Vec::new());
            let (mut rest, mut cuts) = (stream.as_mut_slice(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at_mut(cuts.next().unwrap().min(rest.len()));
                framer.feed(piece, &mut |datagram: &mut [u8]| got.push(datagram.to_vec()));
                rest = after;
            }
            prop_assert_eq!(got, datagrams);
        }
    }

    #[tokio::test]
    async fn a_passive_candidate_gets_frames_and_its_frames_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let mut ours = IceTcp::connect(to, Duration::from_secs(10)).await.unwrap();
        let (mut theirs, from) = listener.accept().await.unwrap();
        assert_eq!(from, ours.local());
        assert!(ours.send(b"check") && !ours.send(&[0; 70_000]));
        poll_fn(|cx| ours.poll_flush(cx)).await.unwrap();
        let mut frame = [0; 7];
        theirs.read_exact(&mut frame).await.unwrap();
        assert_eq!(&frame, b"\x00\x05check");
        theirs.write_all(b"\x00\x02ok\x00\x00\x00\x04last").await.unwrap();
        let mut got = Vec::new();
        while got.len() < 3 {
            poll_fn(|cx| ours.poll_receive(cx, |datagram| got.push(datagram.to_vec()))).await.unwrap();
        }
        assert_eq!(got, [b"ok".to_vec(), Vec::new(), b"last".to_vec()]);
        drop(theirs);
        let end = poll_fn(|cx| ours.poll_receive(cx, |_| {})).await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
