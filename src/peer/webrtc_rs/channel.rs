//! The `data` channel: SCTP's stream 0, polled by its owner.
//!
//! Nothing is read ahead: a message stays in SCTP until the owner asks, so its window closes on a sender
//! that is faster. What is sent and not acknowledged is counted by SCTP.
//!
//! # Invariant
//! Writes reach SCTP in the order of `send`: one is under way at a time, later messages wait for it. They
//! count as buffered, so the limit of `poll_ready` bounds them.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;
use tokio_util::sync::WaitForCancellationFutureOwned;
use webrtc::sctp;
use webrtc::sctp::chunk::chunk_payload_data::PayloadProtocolIdentifier as Kind;
use webrtc::sctp::stream::Stream;

use super::driver::Life;
use crate::peer::{ChannelClosed, DataChannel, MAX_CHANNEL_MESSAGE};

/// How long the last look for messages takes after the peer is gone. They are there; only a lock may not be
/// free.
const LAST_LOOK: Duration = Duration::from_millis(10);

type Write = BoxFuture<'static, Result<usize, sctp::Error>>;

/// Dropping it closes the connection.
pub(super) struct Channel {
    opening: oneshot::Receiver<Arc<Stream>>,
    stream: Option<Arc<Stream>>,
    life: Life,
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Woken when few enough bytes are left to acknowledge.
    low: Arc<AtomicWaker>,
    /// The limit of a `poll_ready` that waits.
    ready_below: Option<usize>,
    /// Who polled last.
    owner: Waker,
    writing: Option<Write>,
    /// Messages whose write has not begun, and their bytes.
    queue: VecDeque<Bytes>,
    queued: usize,
    reading: Option<BoxFuture<'static, (Vec<u8>, Option<Bytes>)>>,
    buffer: Option<Vec<u8>>,
    ended: bool,
}

impl Channel {
    pub(super) fn new(opening: oneshot::Receiver<Arc<Stream>>, life: Life) -> Self {
        Self {
            opening,
            stream: None,
            gone: Box::pin(life.gone.clone().cancelled_owned()),
            life,
            low: Arc::default(),
            ready_below: None,
            owner: Waker::noop().clone(),
            writing: None,
            queue: VecDeque::new(),
            queued: 0,
            reading: None,
            buffer: None,
            ended: false,
        }
    }

    /// For tests that do what this stack never does.
    #[cfg(test)]
    pub(super) fn stream(&self) -> Arc<Stream> {
        Arc::clone(self.stream.as_ref().unwrap())
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Stream>, ChannelClosed>> {
        if let Some(stream) = &self.stream {
            return Poll::Ready(Ok(Arc::clone(stream)));
        }
        if self.ended {
            return Poll::Ready(Err(ChannelClosed));
        }
        let Ok(stream) = std::task::ready!(Pin::new(&mut self.opening).poll(cx)) else {
            self.end();
            return Poll::Ready(Err(ChannelClosed));
        };
        let low = Arc::clone(&self.low);
        stream.on_buffered_amount_low(Box::new(move || {
            low.wake();
            Box::pin(async {})
        }));
        self.stream = Some(Arc::clone(&stream));
        Poll::Ready(Ok(stream))
    }

    /// The stream, while something can be sent on it; moves on what waits to be written.
    fn poll_sending(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Stream>, ChannelClosed>> {
        let stream = std::task::ready!(self.poll_stream(cx))?;
        if self.ended || self.gone.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ChannelClosed));
        }
        self.owner.clone_from(cx.waker());
        self.write(cx, &stream)?;
        Poll::Ready(Ok(stream))
    }

    /// Writes until SCTP's queue is full.
    fn write(&mut self, cx: &mut Context<'_>, stream: &Arc<Stream>) -> Result<(), ChannelClosed> {
        loop {
            if let Some(writing) = &mut self.writing {
                let Poll::Ready(written) = writing.as_mut().poll(cx) else { return Ok(()) };
                self.writing = None;
                if written.is_err() {
                    self.queue.clear();
                    self.queued = 0;
                    return Err(ChannelClosed);
                }
            }
            let Some(message) = self.queue.pop_front() else { return Ok(()) };
            self.queued -= message.len();
            let stream = Arc::clone(stream);
            self.writing = Some(Box::pin(async move {
                match message.is_empty() {
                    // RFC 8831 6.6: SCTP has no empty messages.
                    true => stream.write_sctp(&Bytes::from_static(&[0]), Kind::BinaryEmpty).await,
                    false => stream.write_sctp(&message, Kind::Binary).await,
                }
            }));
        }
    }

    /// Ready when at most `left` bytes are not acknowledged. The order matters: the waker and the threshold
    /// stand before the amount is read, so that no acknowledgement goes unnoticed. What is queued here moves
    /// by the write's own waker.
    fn poll_low(&self, cx: &Context<'_>, stream: &Stream, left: usize) -> Poll<()> {
        self.low.register(cx.waker());
        // There is one threshold: first the higher one, of a poll_ready that waits or was given up, and
        // below that the one of this call.
        let higher = self.ready_below.map_or(left, |limit| limit - 1).max(left);
        for threshold in [higher, left] {
            stream.set_buffered_amount_low_threshold(threshold.saturating_sub(self.queued));
            if self.buffered() > threshold {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    fn end(&mut self) {
        self.ended = true;
        self.life.gone.cancel();
        self.life.drained.cancel();
    }
}

impl DataChannel for Channel {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        self.poll_stream(cx).map_ok(|_| ())
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<(), ChannelClosed>> {
        let stream = std::task::ready!(self.poll_sending(cx))?;
        let limit = limit.max(1);
        self.ready_below = Some(limit);
        std::task::ready!(self.poll_low(cx, &stream, limit - 1));
        self.ready_below = None;
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, message: Bytes) -> Result<(), ChannelClosed> {
        debug_assert!(message.len() <= MAX_CHANNEL_MESSAGE, "the caller splits messages");
        let stream = self.stream.clone().filter(|_| !self.ended && !self.life.gone.is_cancelled());
        let stream = stream.ok_or(ChannelClosed)?;
        self.queued += message.len();
        self.queue.push_back(message);
        // What does not go at once wakes the owner, and goes with its next poll of anything.
        let waker = self.owner.clone();
        self.write(&mut Context::from_waker(&waker), &stream)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        let stream = std::task::ready!(self.poll_sending(cx))?;
        self.poll_low(cx, &stream, 0).map(Ok)
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Ok(stream) = std::task::ready!(self.poll_stream(cx)) else { return Poll::Ready(None) };
        // An owner that only reads still gets its messages out; one that cannot write may still read.
        self.owner.clone_from(cx.waker());
        let _ = self.write(cx, &stream);
        let reading = self.reading.get_or_insert_with(|| {
            let buffer = self.buffer.take().unwrap_or_else(|| vec![0; MAX_CHANNEL_MESSAGE]);
            Box::pin(read(stream, self.life.clone(), buffer))
        });
        let (buffer, message) = std::task::ready!(reading.as_mut().poll(cx));
        self.reading = None;
        self.buffer = Some(buffer);
        if message.is_none() {
            self.end();
        }
        Poll::Ready(message)
    }

    fn buffered(&self) -> usize {
        self.stream.as_ref().map_or(0, |stream| stream.buffered_amount()) + self.queued
    }
}

/// The next message; `None` after the last one.
async fn read(stream: Arc<Stream>, life: Life, mut buffer: Vec<u8>) -> (Vec<u8>, Option<Bytes>) {
    loop {
        let next = next(&stream, &life, &mut buffer).await;
        let message = match next {
            Some(Ok((0, Kind::Unknown)) | Err(_)) | None => None,
            Some(Ok((_, Kind::Dcep))) => continue, // The channels need no opening.
            Some(Ok((_, Kind::BinaryEmpty | Kind::StringEmpty))) => Some(Bytes::new()),
            Some(Ok((length, _))) => {
                life.window.read(length);
                buffer.get(..length).map(Bytes::copy_from_slice)
            }
        };
        return (buffer, message);
    }
}

async fn next(stream: &Stream, life: &Life, buffer: &mut [u8]) -> Option<Result<(usize, Kind), sctp::Error>> {
    loop {
        let idle = async {
            // Polled after the stream was, and had nothing.
            life.reader.asked.notified().await;
        };
        tokio::select! {
            biased;
            read = stream.read_sctp(buffer) => return Some(read),
            () = idle => {}
            () = life.gone.cancelled() => {
                return tokio::time::timeout(LAST_LOOK, stream.read_sctp(buffer)).await.ok();
            }
        }
        // The gate asks whether all was read: look once more, and say so.
        match tokio::time::timeout(LAST_LOOK, stream.read_sctp(buffer)).await {
            Ok(read) => return Some(read),
            Err(_) => life.reader.idle.store(true, Ordering::SeqCst),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.life.end.cancel();
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.stream, self.ended) {
            (_, true) => "closed",
            (None, false) => "opening",
            (Some(_), false) => "open",
        };
        f.debug_struct("Channel").field("state", &state).field("buffered", &self.buffered()).finish()
    }
}
