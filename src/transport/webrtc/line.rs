//! The data channel and what paces it: whoever has something to send sends it here, in his own task.
//!
//! Floor 2, below the driver. The [outbox](super::outbox) holds it under a lock: the driver reads and, when
//! the channel has room again, writes; a call that has frames to send writes without waking the driver, which would
//! cost two changes of task for each request and each answer.
//!
//! # Invariant
//! The channel only ever knows the driver's waker: it is one task's, whoever calls. Once a frame could not be sent, none
//! ever can: who met the error may be a call, and the driver has to hear of it before a later frame takes the lost
//! one's place.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use super::backlog::Backlog;
use super::outbox::Outbox;
use super::rtt::Rtt;
use crate::peer::{ChannelClosed, DataChannel};

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

/// One data channel. Dropping it closes the channel.
pub(super) struct Line {
    channel: Box<dyn DataChannel>,
    traffic: Arc<Traffic>,
    backlog: Backlog,
    rtt: Rtt,
    /// The driver's, once it has run.
    driver: Option<Waker>,
    runtime: Option<Id>,
    failed: bool,
}

impl Line {
    pub(super) fn new(channel: Box<dyn DataChannel>, traffic: Arc<Traffic>) -> Self {
        Self {
            channel,
            traffic,
            backlog: Backlog::new(),
            rtt: Rtt::default(),
            driver: None,
            runtime: None,
            failed: false,
        }
    }

    /// The driver is this task, here.
    pub(super) fn register_driver(&mut self, cx: &Context<'_>) {
        match &mut self.driver {
            Some(driver) => driver.clone_from(cx.waker()),
            None => {
                self.driver = Some(cx.waker().clone());
                self.runtime = here();
            }
        }
    }

    /// The driver, if whoever calls may stand in for it: a stack may need the runtime that it was made in.
    pub(super) fn stand_in(&self) -> Option<Waker> {
        self.driver.clone().filter(|_| self.runtime.is_some() && self.runtime == here())
    }

    /// The next frame of the peer; `None` after the last one.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let frame = ready!(self.channel.poll_recv(cx));
        if let Some(frame) = &frame {
            self.traffic.received.fetch_add(frame.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    /// Sends what the outbox has, until `most` bytes of it are sent, as far as the backlog allows; what is sent has
    /// left when this returns. Ready when there is nothing more, or so much was sent.
    ///
    /// # Errors
    /// [`ChannelClosed`] when nothing can be sent any more; from then on always.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Outbox,
        most: usize,
    ) -> Poll<Result<(), ChannelClosed>> {
        if self.failed {
            return Poll::Ready(Err(ChannelClosed));
        }
        let sent = self.poll_burst(cx, outbox, most);
        self.failed = matches!(sent, Poll::Ready(Err(ChannelClosed)));
        sent
    }

    fn poll_burst(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Outbox,
        most: usize,
    ) -> Poll<Result<(), ChannelClosed>> {
        let mut burst = 0;
        while burst < most {
            let now = Instant::now();
            let sent = self.traffic.sent();
            let acknowledged = sent.saturating_sub(self.channel.buffered() as u64);
            if let Some(rtt) = self.rtt.acknowledged(now, acknowledged) {
                let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
                self.traffic.rtt.store(nanos, Ordering::Relaxed);
            }
            self.backlog.observe(now, acknowledged, !outbox.is_empty(), self.rtt.shortest());
            ready!(self.channel.poll_ready(cx, self.backlog.limit()))?;
            let Some(frame) = outbox.pop() else { break };
            let length = frame.len() as u64;
            burst = burst.saturating_add(frame.len());
            self.channel.send_more(frame)?;
            self.traffic.sent.fetch_add(length, Ordering::Relaxed);
            self.rtt.sent(now, sent + length);
        }
        self.channel.push();
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer has acknowledged all that was sent.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        self.channel.poll_flush(cx)
    }

    /// Bytes sent and not yet acknowledged.
    pub(super) fn buffered(&self) -> usize {
        self.channel.buffered()
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("channel", &self.channel).finish_non_exhaustive()
    }
}

fn here() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}
