//! The two handles of a peer in memory, and the task that lets time pass for it.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::time::Instant;

use super::Shared;
use crate::peer::{
    Candidate, ChannelClosed, DataChannel, Description, MAX_CHANNEL_MESSAGE, PeerConnection, PeerError,
    PeerStats,
};

/// Lets time pass for one end until it is closed.
pub(super) async fn drive(world: Weak<Shared>, id: u64) {
    loop {
        let Some(shared) = world.upgrade() else { return };
        let Some(changed) = shared.with(|world| world.changed(id)) else { return };
        let due = shared.with(|world| world.advance(id, Instant::now()));
        drop(shared);
        match due {
            Some(due) => {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = changed.notified() => {}
                }
            }
            None => changed.notified().await,
        }
    }
}

#[derive(Debug)]
pub(super) struct MemoryConnection {
    world: Arc<Shared>,
    id: u64,
}

impl MemoryConnection {
    pub(super) fn new(world: Arc<Shared>, id: u64) -> Self {
        Self { world, id }
    }
}

impl PeerConnection for MemoryConnection {
    fn create_offer(&self) -> BoxFuture<'_, Result<Description, PeerError>> {
        Box::pin(async { self.world.with(|world| world.offer(self.id, Instant::now())) })
    }

    fn accept_offer(&self, offer: Description) -> BoxFuture<'_, Result<Description, PeerError>> {
        Box::pin(async move { self.world.with(|world| world.answer(self.id, &offer, Instant::now())) })
    }

    fn set_answer(&self, answer: Description) -> BoxFuture<'_, Result<(), PeerError>> {
        Box::pin(async move { self.world.with(|world| world.accept(self.id, &answer, Instant::now())) })
    }

    fn local_description(&self) -> BoxFuture<'_, Option<Description>> {
        Box::pin(async { self.world.with(|world| world.description(self.id)) })
    }

    fn add_remote_candidate(&self, candidate: Candidate) -> BoxFuture<'_, Result<(), PeerError>> {
        Box::pin(async move { self.world.with(|world| world.hear(self.id, &candidate.candidate)) })
    }

    fn stats(&self) -> BoxFuture<'_, PeerStats> {
        Box::pin(async {
            self.world.with(|world| {
                let Some(end) = world.end(self.id) else { return PeerStats::default() };
                let (bytes_sent, bytes_received) = end.counters();
                PeerStats { path: end.path(), rtt: None, bytes_sent, bytes_received }
            })
        })
    }

    fn close(&self) {
        self.world.with(|world| world.close(self.id, Instant::now()));
    }
}

/// Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct MemoryChannel {
    world: Arc<Shared>,
    id: u64,
}

impl MemoryChannel {
    pub(super) fn new(world: Arc<Shared>, id: u64) -> Self {
        Self { world, id }
    }

    fn poll_until(
        &self,
        cx: &Context<'_>,
        is_so: impl FnOnce(usize) -> bool,
    ) -> Poll<Result<(), ChannelClosed>> {
        self.world.with(|world| {
            let Some(end) = world.end(self.id) else { return Poll::Ready(Err(ChannelClosed)) };
            if end.is_live() {
                if is_so(world.buffered(self.id)) {
                    return Poll::Ready(Ok(()));
                }
            } else if end.is_gone() {
                return Poll::Ready(Err(ChannelClosed));
            }
            world.watch(self.id, cx.waker());
            Poll::Pending
        })
    }
}

impl DataChannel for MemoryChannel {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        self.poll_until(cx, |_| true)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<(), ChannelClosed>> {
        self.poll_until(cx, |buffered| buffered < limit.max(1))
    }

    fn send(&mut self, message: Bytes) -> Result<(), ChannelClosed> {
        debug_assert!(message.len() <= MAX_CHANNEL_MESSAGE, "the caller splits messages");
        let sent = self.world.with(|world| world.send(self.id, message, Instant::now()));
        if sent { Ok(()) } else { Err(ChannelClosed) }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        self.poll_until(cx, |buffered| buffered == 0)
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.world.with(|world| {
            if let Some(message) = world.recv(self.id, Instant::now()) {
                return Poll::Ready(Some(message));
            }
            match world.end(self.id) {
                Some(end) if !end.is_gone() => {
                    world.watch(self.id, cx.waker());
                    Poll::Pending
                }
                _ => Poll::Ready(None),
            }
        })
    }

    fn buffered(&self) -> usize {
        self.world.with(|world| world.buffered(self.id))
    }
}

impl Drop for MemoryChannel {
    fn drop(&mut self) {
        self.world.with(|world| world.close(self.id, Instant::now()));
    }
}
