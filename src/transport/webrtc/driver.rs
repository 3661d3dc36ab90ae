//! The one task that owns a data channel: frames in, frames out, and the end of it.
//!
//! ```text
//!  DataChannel::poll_recv ─▶ Demux::frame ─▶ stream table ─▶ inbox ─▶ body
//!  DataChannel::send ◀─ backlog ◀─ outbox (scheduler) ◀─ pumps of the bodies
//!  peer state ─▶ link
//! ```
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
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::DropGuard;

use super::backlog::Backlog;
use super::outbox::Outbox;
use super::rtt::Rtt;
use crate::peer::{DataChannel, PeerConnection, PeerState, Phase};
use crate::transport::CloseReason;
use crate::transport::link::Link;

/// Frames that are read in one turn before others get to run.
const BATCH: usize = 64;

/// How long a close waits for the next of the last frames to reach the peer.
const LINGER: Duration = Duration::from_millis(500);

/// How long a close waits for the last frames in all.
const MAX_LINGER: Duration = Duration::from_secs(5);

/// How long frames that came before the peer's close may take to be read after it.
const LAST_FRAMES: Duration = Duration::from_millis(50);

/// What the two ends do with the frames that come.
pub(super) trait Demux: Send + Unpin + 'static {
    /// Takes a frame of the peer. Must not block.
    fn frame(&mut self, frame: Bytes);

    /// Whether to read nothing for now. Whoever changes the answer wakes the driver through the outbox,
    /// unless it is the driver, by sending.
    fn holds(&self) -> bool;

    /// The connection is gone: fails every call.
    fn ended(&mut self, reason: &CloseReason);
}

/// What went through one data channel.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
    /// Nanoseconds; zero before the first measurement.
    rtt: AtomicU64,
}

impl Traffic {
    /// Bytes of frames sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of frames received.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The round trip time as acknowledgements show it.
    pub(super) fn rtt(&self) -> Option<Duration> {
        let nanos = self.rtt.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }
}

/// The task. Ends when the connection does.
pub(super) struct Driver<D: Demux> {
    channel: Box<dyn DataChannel>,
    connection: Arc<dyn PeerConnection>,
    state: WatchStream<PeerState>,
    outbox: Arc<Outbox>,
    link: Arc<Link>,
    traffic: Arc<Traffic>,
    demux: D,
    backlog: Backlog,
    rtt: Rtt,
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
        channel: Box<dyn DataChannel>,
        connection: Arc<dyn PeerConnection>,
        state: tokio::sync::watch::Receiver<PeerState>,
        outbox: Arc<Outbox>,
        link: Arc<Link>,
        traffic: Arc<Traffic>,
        demux: D,
    ) -> Self {
        let state = WatchStream::new(state);
        let backlog = Backlog::new();
        Self {
            channel,
            connection,
            state,
            outbox,
            link,
            traffic,
            demux,
            backlog,
            rtt: Rtt::default(),
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
        for _ in 0..BATCH {
            if self.demux.holds() {
                return Poll::Pending;
            }
            let Some(frame) = ready!(self.channel.poll_recv(cx)) else {
                return Poll::Ready(CloseReason::Peer);
            };
            self.traffic.received.fetch_add(frame.len() as u64, Ordering::Relaxed);
            self.demux.frame(frame);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what there is, as far as the backlog allows. Ready with a reason when the channel is over.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            let now = Instant::now();
            let sent = self.traffic.sent();
            let acknowledged = sent.saturating_sub(self.channel.buffered() as u64);
            if let Some(rtt) = self.rtt.acknowledged(now, acknowledged) {
                let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
                self.traffic.rtt.store(nanos, Ordering::Relaxed);
            }
            self.backlog.observe(now, acknowledged, !self.outbox.is_empty(), self.rtt.shortest());
            if ready!(self.channel.poll_ready(cx, self.backlog.limit())).is_err() {
                return Poll::Ready(CloseReason::Peer);
            }
            let Poll::Ready(frame) = self.outbox.poll_pop() else {
                self.channel.push();
                return Poll::Pending;
            };
            let length = frame.len() as u64;
            if self.channel.send(frame).is_err() {
                return Poll::Ready(CloseReason::Peer);
            }
            self.traffic.sent.fetch_add(length, Ordering::Relaxed);
            self.rtt.sent(now, sent + length);
        }
    }

    /// After a local close: lets the last frames out, for a while.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Linger::new(self.channel.buffered()));
        if linger.poll(cx, self.channel.buffered()).is_ready() {
            return Poll::Ready(());
        }
        if self.poll_write(cx).is_ready() {
            return Poll::Ready(());
        }
        if !self.outbox.is_empty() {
            return Poll::Pending;
        }
        self.channel.poll_flush(cx).map(|_| ())
    }

    /// After the connection's end: reads what had come before, which may be the trailers of every call.
    fn poll_last_frames(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let Some((reason, until)) = &mut self.last_frames else { return Poll::Pending };
        while let Poll::Ready(frame) = self.channel.poll_recv(cx) {
            let Some(frame) = frame else { return Poll::Ready(reason.clone()) };
            self.traffic.received.fetch_add(frame.len() as u64, Ordering::Relaxed);
            self.demux.frame(frame);
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
        drop(self.done.take());
    }
}
