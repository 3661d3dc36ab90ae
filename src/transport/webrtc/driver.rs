//! The one task that owns a data channel: frames in, frames out, and the end of it.
//!
//! ```text
//!  line (data channel) ─▶ Demux::frame ─▶ stream table ─▶ inbox ─▶ body
//!  line (backlog) ◀─ outbox (scheduler) ◀─ pumps of the bodies
//!  peer state ─▶ link
//! ```
//! Whoever has frames to send sends them himself, if the channel has room: see [`Line`].
//!
//! # Invariant
//! **The driver never waits for a consumer.** The wire has no flow control per stream, so waiting for one
//! reader would stop every call on the connection, heartbeats included. Only a user who asked for
//! `Overflow::HoldConnection` gets that.
//!
//! When it ends, for whatever reason, the link is closed, every call has failed and the peer connection is
//! closing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::DropGuard;

use super::inbox::Readers;
use super::line::Line;
use super::outbox::Outbox;
use crate::peer::{ChannelClosed, PeerConnection, PeerState, Phase};
use crate::transport::CloseReason;
use crate::transport::link::Link;

/// Frames that are read in one turn before others get to run.
const BATCH: usize = 64;

/// Frames after which their readers are woken, though more have come: a reader that keeps up must not run out of its
/// budget while it is not told. 128 KiB at most; a whole answer is three frames.
const TOGETHER: usize = 8;

/// How long a close waits for the next of the last frames to reach the peer.
const LINGER: Duration = Duration::from_millis(500);

/// How long a close waits for the last frames in all.
const MAX_LINGER: Duration = Duration::from_secs(5);

/// How long frames that came before the peer's close may take to be read after it.
const LAST_FRAMES: Duration = Duration::from_millis(50);

/// What the two ends do with the frames that come.
pub(super) trait Demux: Send + Unpin + 'static {
    /// Takes a frame of the peer. Must not block. The driver wakes the readers when it has read what came.
    fn frame(&mut self, frame: Bytes, readers: &mut Readers);

    /// Whether to read nothing for now. Whoever changes the answer wakes the driver through the outbox, which
    /// does so itself when something leaves it.
    fn holds(&self) -> bool;

    /// The connection is gone: fails every call.
    fn ended(&mut self, reason: &CloseReason);
}

/// The task. Ends when the connection does.
pub(super) struct Driver<D: Demux> {
    connection: Arc<dyn PeerConnection>,
    state: WatchStream<PeerState>,
    outbox: Arc<Outbox>,
    link: Arc<Link>,
    demux: D,
    /// Empty between polls; kept for its room.
    readers: Readers,
    linger: Option<Linger>,
    /// The connection is over, for this reason; frames that came before may be read until then.
    last_frames: Option<(CloseReason, Pin<Box<Sleep>>)>,
    ended: bool,
    /// Held only to be dropped.
    done: Option<DropGuard>,
}

/// The patience of a close: it lasts while the peer takes what is left.
struct Linger {
    until: Instant,
    least: usize,
    timer: Pin<Box<Sleep>>,
}

impl Linger {
    fn new(buffered: usize) -> Self {
        Self { until: Instant::now() + MAX_LINGER, least: buffered, timer: Box::pin(sleep(LINGER)) }
    }

    /// Ready when it has an end.
    fn poll(&mut self, cx: &mut Context<'_>, buffered: usize) -> Poll<()> {
        if buffered < self.least {
            self.least = buffered;
            let next = (Instant::now() + LINGER).min(self.until);
            self.timer.as_mut().reset(next);
        }
        self.timer.as_mut().poll(cx)
    }
}

impl<D: Demux> Driver<D> {
    pub(super) fn new(
        line: Line,
        connection: Arc<dyn PeerConnection>,
        state: tokio::sync::watch::Receiver<PeerState>,
        outbox: Arc<Outbox>,
        link: Arc<Link>,
        demux: D,
    ) -> Self {
        outbox.attach(line);
        Self {
            connection,
            state: WatchStream::new(state),
            outbox,
            link,
            demux,
            readers: Readers::default(),
            linger: None,
            last_frames: None,
            ended: false,
            done: None,
        }
    }

    /// Drops this when nothing more will be sent.
    pub(super) fn guarding(mut self, done: DropGuard) -> Self {
        self.done = Some(done);
        self
    }

    /// Follows the peer connection. Ready with a reason when it is over.
    fn poll_state(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            let Some(state) = ready!(Pin::new(&mut self.state).poll_next(cx)) else {
                return Poll::Ready(CloseReason::Lost("the peer connection is gone".into()));
            };
            match state.phase {
                Phase::Failed(how) => return Poll::Ready(CloseReason::Lost(how)),
                Phase::ClosedByPeer => return Poll::Ready(CloseReason::Peer),
                Phase::Closed => return Poll::Ready(CloseReason::Local),
                phase => self.link.update(phase == Phase::Disconnected, state.path),
            }
        }
    }

    /// Reads what has come, one batch at most. Ready with a reason when the channel is over.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let mut readers = std::mem::take(&mut self.readers);
        self.outbox.set_reading(true);
        let over = self.poll_batch(cx, &mut readers);
        // From here on flushes send again; what was added before is seen by `poll_write`, which comes next.
        self.outbox.set_reading(false);
        readers.wake();
        self.readers = readers;
        over
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>, readers: &mut Readers) -> Poll<CloseReason> {
        for frames in 0..BATCH {
            let read = match self.outbox.is_held(|| self.demux.holds()) {
                true => Poll::Pending,
                false => self.outbox.poll_recv(cx),
            };
            match read {
                Poll::Ready(Some(frame)) => {
                    self.demux.frame(frame, readers);
                    if frames % TOGETHER == TOGETHER - 1 {
                        readers.wake();
                    }
                }
                Poll::Ready(None) => return Poll::Ready(CloseReason::Peer),
                Poll::Pending => {
                    self.outbox.came(frames);
                    return Poll::Pending;
                }
            }
        }
        self.outbox.came(BATCH);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what there is, as far as the backlog allows. Ready with a reason when the channel is over.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        match ready!(self.outbox.poll_send(cx)) {
            Ok(()) => Poll::Pending,
            Err(ChannelClosed) => Poll::Ready(CloseReason::Peer),
        }
    }

    /// After a local close: lets the last frames out, for a while.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let buffered = self.outbox.buffered();
        let linger = self.linger.get_or_insert_with(|| Linger::new(buffered));
        if linger.poll(cx, buffered).is_ready() {
            return Poll::Ready(());
        }
        if self.poll_write(cx).is_ready() {
            return Poll::Ready(());
        }
        if !self.outbox.is_empty() {
            return Poll::Pending;
        }
        self.outbox.poll_flush(cx).map(|_| ())
    }

    /// After the connection's end: reads what had come before, which may be the trailers of every call.
    fn poll_last_frames(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let Some((reason, until)) = &mut self.last_frames else { return Poll::Pending };
        while let Poll::Ready(frame) = self.outbox.poll_recv(cx) {
            let Some(frame) = frame else { return Poll::Ready(reason.clone()) };
            self.demux.frame(frame, &mut Readers::default());
        }
        until.as_mut().poll(cx).map(|()| reason.clone())
    }

    fn end(&mut self, reason: CloseReason) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.link.close(reason);
        self.outbox.close();
        let reason = self.link.closed().unwrap_or(CloseReason::Local);
        self.demux.ended(&reason);
        self.connection.close();
    }
}

impl<D: Demux> Future for Driver<D> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // First of all: a wake-up that comes while the channel is full must not be lost.
        this.outbox.register_driver(cx);
        if this.last_frames.is_none()
            && let Poll::Ready(reason) = this.poll_state(cx)
        {
            this.last_frames = Some((reason, Box::pin(sleep(LAST_FRAMES))));
        }
        if this.last_frames.is_some() {
            let reason = ready!(this.poll_last_frames(cx));
            this.end(reason);
            return Poll::Ready(());
        }
        if this.link.closed().is_some() {
            ready!(this.poll_linger(cx));
            this.end(CloseReason::Local);
            return Poll::Ready(());
        }
        let over = match this.poll_read(cx) {
            Poll::Ready(reason) => Poll::Ready(reason),
            Poll::Pending => {
                let held = this.demux.holds();
                let over = this.poll_write(cx);
                if held && !this.demux.holds() {
                    cx.waker().wake_by_ref();
                }
                over
            }
        };
        let reason = ready!(over);
        // The state may know more than the channel: a failure that closed it, say.
        let reason = match this.poll_state(cx) {
            Poll::Ready(better) => better,
            Poll::Pending => reason,
        };
        // Sending may have failed before all that had come was read.
        this.last_frames = Some((reason, Box::pin(sleep(LAST_FRAMES))));
        let reason = ready!(this.poll_last_frames(cx));
        this.end(reason);
        Poll::Ready(())
    }
}

impl<D: Demux> Drop for Driver<D> {
    fn drop(&mut self) {
        self.end(CloseReason::Local);
        self.outbox.detach();
        drop(self.done.take());
    }
}
