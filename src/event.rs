//! What happens to a channel, as a stream.
//!
//! Floor 4. Made on demand from where the link stands: a channel that nobody watches pays nothing.
//!
//! # Invariant
//! Memory is bounded by one state: who reads too slowly gets [`Event::Lagged`], never a queue.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;

use crate::dial::Failure;
use crate::transport::{CloseReason, LinkState, LinkWatch, Path, Reconnected, Reconnecting, TransportKind};

/// Something that happened to a channel.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// WebRTC was tried and failed; the channel is direct. Comes first, if at all.
    FellBack {
        /// How WebRTC failed.
        reason: Box<Failure>,
    },
    /// How the channel stands when the stream begins.
    Connected {
        /// What carries it.
        transport: TransportKind,
        /// The pair of candidates in use. WebRTC only.
        path: Option<Path>,
    },
    /// Packets take another path.
    PathChanged {
        /// The pair of candidates in use now.
        path: Path,
    },
    /// Nothing has come from the robot for a while. Calls still wait: it may recover.
    Silent,
    /// The robot is heard again.
    Recovered,
    /// The connection was lost, and another one is being made. Comes again for every further attempt. Only
    /// from a channel that is dialed again ([`Redial`](crate::redial::Redial)), like the next two.
    Reconnecting {
        /// Why the connection was lost; from the second attempt on, how the one before it failed.
        reason: String,
        /// 1 for the first attempt.
        attempt: u32,
    },
    /// There is another connection.
    Reconnected {
        /// What carries it.
        transport: TransportKind,
        /// The pair of candidates in use. WebRTC only.
        path: Option<Path>,
        /// How many attempts it took, the last one included.
        attempts: u32,
        /// How long there was no connection.
        after: Duration,
    },
    /// No other connection could be made. Only [`Event::Closed`] follows.
    GaveUp {
        /// How many attempts failed.
        attempts: u32,
        /// How the last one failed.
        error: String,
    },
    /// Changes came faster than they were read; the next event tells how the channel stands now.
    Lagged {
        /// How many were missed.
        missed: u64,
    },
    /// The connection is gone. Comes last.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FellBack { reason } => write!(f, "fell back to direct gRPC: {reason}"),
            Self::Connected { transport, path: None } => write!(f, "connected over {transport}"),
            Self::Connected { transport, path: Some(path) } => {
                write!(f, "connected over {transport}: {path}")
            }
            Self::PathChanged { path } => write!(f, "path changed: {path}"),
            Self::Silent => f.write_str("the robot is silent"),
            Self::Recovered => f.write_str("the robot is heard again"),
            Self::Reconnecting { reason, attempt } => {
                write!(f, "reconnecting, attempt {attempt}: {reason}")
            }
            Self::Reconnected { transport, path, attempts, after } => {
                write!(
                    f,
                    "reconnected over {transport} after {:.1} s (attempts: {attempts})",
                    after.as_secs_f64()
                )?;
                path.iter().try_for_each(|path| write!(f, ": {path}"))
            }
            Self::GaveUp { attempts, error } => {
                write!(f, "gave up reconnecting (attempts: {attempts}): {error}")
            }
            Self::Lagged { missed } => write!(f, "{missed} events were missed"),
            Self::Closed { reason } => write!(f, "closed: {reason}"),
        }
    }
}

/// The events of one channel. Ends after [`Event::Closed`]. Does not keep the channel alive.
pub struct Events {
    ready: VecDeque<Event>,
    seen: LinkState,
    next: Option<NextState>,
}

type NextState = Pin<Box<dyn Future<Output = (Option<LinkState>, LinkWatch)> + Send + Sync>>;

impl Events {
    pub(crate) fn new(transport: TransportKind, fell_back: Option<Failure>, watch: LinkWatch) -> Self {
        let seen = watch.state();
        let mut ready = VecDeque::new();
        let fell_back = fell_back.filter(|_| transport == TransportKind::Direct);
        ready.extend(fell_back.map(|reason| Event::FellBack { reason: Box::new(reason) }));
        ready.push_back(match &seen.reconnecting {
            None => Event::Connected { transport, path: seen.path.clone() },
            Some(now) => reconnecting(now),
        });
        ready.extend(seen.silent.then_some(Event::Silent));
        let next = seen.closed.is_none().then(|| next_state(watch));
        ready.extend(seen.closed.iter().flat_map(ending));
        Self { ready, seen, next }
    }

    /// The next event; `None` after the last. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn take(&mut self, state: LinkState) {
        let missed = state.change.saturating_sub(self.seen.change + 1);
        if missed > 0 {
            self.ready.push_back(Event::Lagged { missed });
        }
        let was_silent = match (&state.reconnecting, state.reconnected) {
            (Some(now), _) => {
                let news = self.seen.reconnecting.as_ref() != Some(now);
                self.ready.extend(news.then(|| reconnecting(now)));
                false
            }
            (None, Some(how)) if state.connection != self.seen.connection => {
                let Reconnected { transport, attempts, after } = how;
                let path = state.path.clone();
                self.ready.push_back(Event::Reconnected { transport, path, attempts, after });
                false
            }
            _ => {
                let moved = state.path.clone().filter(|path| self.seen.path.as_ref() != Some(path));
                self.ready.extend(moved.map(|path| Event::PathChanged { path }));
                self.seen.silent
            }
        };
        match (was_silent, state.silent) {
            (false, true) => self.ready.push_back(Event::Silent),
            (true, false) => self.ready.push_back(Event::Recovered),
            _ => {}
        }
        self.ready.extend(state.closed.iter().flat_map(ending));
        self.seen = state;
    }
}

fn reconnecting(now: &Reconnecting) -> Event {
    Event::Reconnecting { reason: now.to_string(), attempt: now.attempt }
}

/// What comes last.
fn ending(reason: &CloseReason) -> impl Iterator<Item = Event> + use<> {
    let gave_up = match reason {
        CloseReason::GaveUp { attempts, last } => {
            Some(Event::GaveUp { attempts: *attempts, error: last.clone() })
        }
        _ => None,
    };
    gave_up.into_iter().chain([Event::Closed { reason: reason.clone() }])
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(event));
            }
            let Some(next) = &mut self.next else { return Poll::Ready(None) };
            let (state, watch) = ready!(next.as_mut().poll(cx));
            self.next = None;
            match state {
                None => self.ready.extend(ending(&CloseReason::Local)),
                Some(state) => {
                    if state.closed.is_none() {
                        self.next = Some(next_state(watch));
                    }
                    self.take(state);
                }
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("seen", &self.seen).finish_non_exhaustive()
    }
}

fn next_state(mut watch: LinkWatch) -> NextState {
    Box::pin(async move {
        let state = watch.changed().await;
        (state, watch)
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::peer::CandidateKind;

    fn state(change: u64, silent: bool, closed: Option<CloseReason>) -> LinkState {
        LinkState { change, silent, closed, ..LinkState::default() }
    }

    #[tokio::test]
    async fn a_channel_s_life_is_told_in_order_and_ends_with_closed() {
        let (sender, receiver) = watch::channel(LinkState::default());
        let mut events = Events::new(TransportKind::WebRtc, None, LinkWatch::new(receiver));
        assert!(matches!(events.next().await, Some(Event::Connected { path: None, .. })));
        let path = Path::new((CandidateKind::Host, "a:1"), (CandidateKind::Relay, "b:2"));
        let mut moved = state(1, false, None);
        moved.path = Some(path.clone());
        sender.send_replace(moved);
        assert!(matches!(events.next().await, Some(Event::PathChanged { path: new }) if new == path));
        let mut silent = state(2, true, None);
        silent.path = Some(path.clone());
        sender.send_replace(silent);
        assert!(matches!(events.next().await, Some(Event::Silent)));
        let mut closed = state(3, true, Some(CloseReason::Peer));
        closed.path = Some(path);
        sender.send_replace(closed);
        assert!(matches!(events.next().await, Some(Event::Closed { reason: CloseReason::Peer })));
        assert!(events.next().await.is_none());
    }

    #[tokio::test]
    async fn who_reads_too_slowly_is_told_how_much_was_missed() {
        let (sender, receiver) = watch::channel(LinkState::default());
        let mut events = Events::new(TransportKind::WebRtc, None, LinkWatch::new(receiver));
        events.next().await;
        for change in 1..=5 {
            sender.send_replace(state(change, change % 2 == 1, None));
        }
        assert!(matches!(events.next().await, Some(Event::Lagged { missed: 4 })));
        assert!(matches!(events.next().await, Some(Event::Silent)));
    }

    #[tokio::test]
    async fn a_channel_that_is_dialed_again_tells_every_attempt_and_its_end() {
        let (sender, receiver) = watch::channel(state(0, true, None));
        let mut events = Events::new(TransportKind::WebRtc, None, LinkWatch::new(receiver.clone()));
        assert!(matches!(events.next().await, Some(Event::Connected { .. })));
        assert!(matches!(events.next().await, Some(Event::Silent)));
        let mut now = state(0, false, None);
        for (number, failure) in [(1, None), (2, Some("no answer".to_owned()))] {
            now.change += 1;
            now.reconnecting = Some(Reconnecting::new(number, CloseReason::Peer, failure.clone()));
            sender.send_replace(now.clone());
            let told = events.next().await;
            let Some(Event::Reconnecting { reason, attempt }) = told else { panic!("{told:?}") };
            assert_eq!((attempt, reason), (number, failure.unwrap_or_else(|| CloseReason::Peer.to_string())));
        }
        // Who comes now is told how it stands now.
        let mut late = Events::new(TransportKind::WebRtc, None, LinkWatch::new(receiver));
        assert!(matches!(late.next().await, Some(Event::Reconnecting { attempt: 2, .. })));
        let path = Path::new((CandidateKind::Host, "a:1"), (CandidateKind::Relay, "b:2"));
        let after = Duration::from_secs(1);
        now.change += 1;
        now.reconnecting = None;
        (now.connection, now.path) = (2, Some(path.clone()));
        now.reconnected = Some(Reconnected::new(TransportKind::Direct, 2, after));
        sender.send_replace(now.clone());
        for events in [&mut events, &mut late] {
            let told = events.next().await;
            let Some(Event::Reconnected { transport, path: new, attempts, after: time }) = told else {
                panic!("{told:?}")
            };
            assert_eq!((transport, new, attempts), (TransportKind::Direct, Some(path.clone()), 2));
            assert_eq!(time, after);
        }
        now.change += 1;
        now.closed = Some(CloseReason::GaveUp { attempts: 3, last: "no answer".into() });
        sender.send_replace(now);
        let told = events.next().await;
        assert!(
            matches!(&told, Some(Event::GaveUp { attempts: 3, error }) if error == "no answer"),
            "{told:?}"
        );
        assert!(matches!(events.next().await, Some(Event::Closed { .. })));
        assert!(events.next().await.is_none());
    }
}
