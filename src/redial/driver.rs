//! Carries events to the machine and does what it says: watches the connection, dials, sleeps.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use super::Dialer;
use super::gate::Gate;
use super::machine::{Input, Machine, Output};
use crate::channel::Channel;
use crate::dial::DialError;
use crate::transport::{CloseReason, LinkWatch, Transport as _};

/// Keeps a channel connected until it ends.
pub(super) async fn run(gate: Arc<Gate>, mut machine: Machine, dialer: Arc<dyn Dialer>, link: LinkWatch) {
    // Whatever ends this task, nobody waits for it.
    let gate = Ending(gate);
    let mut doing = Doing::Watching(link);
    loop {
        let (input, mut dialed) = tokio::select! {
            biased;
            () = gate.0.ended() => (Input::Close, None),
            happened = doing.next(&gate.0) => happened,
        };
        for output in machine.step(input, Instant::now()) {
            match output {
                Output::Dial => doing = Doing::Dialing(dialer.dial()),
                Output::SleepUntil(until) => doing = Doing::Sleeping(until),
                Output::Down(why) => {
                    tracing::info!(attempt = why.attempt, reason = %why, "reconnecting");
                    gate.0.down(why);
                }
                Output::Up { connection, attempts, after } => {
                    let Some(channel) = dialed.take() else { return };
                    tracing::info!(connection, attempts, ?after, transport = %channel.kind(), "reconnected");
                    doing = Doing::Watching(channel.watch());
                    gate.0.up(channel, connection, attempts, after);
                }
                Output::End(reason) => {
                    tracing::info!(%reason, "reconnecting no more");
                    return gate.0.end(reason);
                }
            }
        }
    }
}

/// The one thing that goes on.
enum Doing {
    Watching(LinkWatch),
    Dialing(BoxFuture<'static, Result<Channel, DialError>>),
    Sleeping(Instant),
}

impl Doing {
    /// What comes of it, and the connection if that is what comes.
    async fn next(&mut self, gate: &Gate) -> (Input, Option<Channel>) {
        match self {
            Self::Watching(link) => (Input::Lost(follow(link, gate).await), None),
            Self::Dialing(dialing) => match dialing.await {
                Ok(channel) => (Input::Dialed, Some(channel)),
                Err(error) => {
                    let permanent = matches!(error, DialError::Config(_) | DialError::Denied(_));
                    (Input::DialFailed { why: error.to_string(), permanent }, None)
                }
            },
            Self::Sleeping(until) => {
                sleep_until(*until).await;
                (Input::Timer, None)
            }
        }
    }
}

/// Passes on what happens to a connection, until it is gone.
async fn follow(link: &mut LinkWatch, gate: &Gate) -> CloseReason {
    let mut state = link.state();
    loop {
        if let Some(reason) = state.closed {
            return reason;
        }
        gate.relay(state);
        match link.changed().await {
            Some(next) => state = next,
            None => return link.closed().await,
        }
    }
}

/// Ends the gate with the task, also when the task panics in somebody's dialer or its runtime ends.
struct Ending(Arc<Gate>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(CloseReason::Lost("reconnecting has stopped".into()));
    }
}
