//! What is measured: two ends that exchange messages in order, and how they meet.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::farlink_stacks;
use crate::quinn_pipe::{Congestion, QuinnPipe};
use crate::relay::{Network, Relay, Relays};
use crate::str0m_pipe::Str0mPipe;
use crate::udp_pipe::UdpPipe;

/// One end. Polled by one task, which is what drives those that have no task of their own.
pub trait Pipe: Send {
    /// Takes the message out once it was handed over.
    fn poll_send(&mut self, cx: &mut Context<'_>, message: &mut Option<Bytes>) -> Poll<()>;
    /// The next message; `None` at the end.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

pub async fn send(pipe: &mut dyn Pipe, message: Bytes) {
    let mut message = Some(message);
    poll_fn(|cx| pipe.poll_send(cx, &mut message)).await;
}

pub async fn recv(pipe: &mut dyn Pipe) -> Option<Bytes> {
    poll_fn(|cx| pipe.poll_recv(cx)).await
}

/// Who begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Caller,
    Answerer,
}

/// What one side tells the other before they are connected: `sdp`, `candidate` or `address`, as JSON.
pub struct Signal {
    pub to: UnboundedSender<Value>,
    pub from: UnboundedReceiver<Value>,
}

/// A row of the tables.
#[derive(Clone)]
pub enum Row {
    Farlink(farlink_stacks::Named),
    Str0m,
    Quinn(Congestion),
    Udp,
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let mut rows: Vec<_> = farlink_stacks::stacks().into_iter().map(Row::Farlink).collect();
    rows.extend([Row::Str0m, Row::Quinn(Congestion::Cubic), Row::Quinn(Congestion::Bbr), Row::Udp]);
    rows
}

/// The row of this name.
pub fn named(name: &str) -> Row {
    let all = || rows().iter().map(Row::name).collect::<Vec<_>>().join(", ");
    rows()
        .into_iter()
        .find(|row| row.name() == name)
        .unwrap_or_else(|| panic!("no {name:?}; there are {}", all()))
}

impl Row {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Farlink(named) => named.name,
            Self::Str0m => "str0m",
            Self::Quinn(Congestion::Cubic) => "quinn",
            Self::Quinn(Congestion::Bbr) => "quinn-bbr",
            Self::Udp => "udp",
        }
    }

    /// Differs from another row only where packets are lost.
    pub fn only_through_relay(&self) -> bool {
        matches!(self, Self::Quinn(Congestion::Bbr))
    }

    /// Whether what is lost comes again, and whoever sends is slowed down.
    pub fn is_reliable(&self) -> bool {
        !matches!(self, Self::Udp)
    }

    pub async fn connect(&self, side: Side, signal: Signal) -> Box<dyn Pipe> {
        match self {
            Self::Farlink(named) => Box::new(farlink_stacks::connect(&named.stack, side, signal).await),
            Self::Str0m => Box::new(Str0mPipe::connect(side, signal).await),
            Self::Quinn(congestion) => Box::new(QuinnPipe::connect(*congestion, side, signal).await),
            Self::Udp => Box::new(UdpPipe::connect(signal).await),
        }
    }

    /// Both ends in this process, through a network or straight.
    pub async fn pair(&self, through: Option<(&Relays, Network)>) -> (Box<dyn Pipe>, Box<dyn Pipe>) {
        let ((caller, to_caller), (answerer, to_answerer)) = (signal(), signal());
        let relay = through.map(|(relays, network)| relays.between(network));
        let forward = |mut said: UnboundedReceiver<Value>, to: UnboundedSender<Value>, side: usize| {
            let relay = relay.clone();
            tokio::spawn(async move {
                while let Some(said) = said.recv().await {
                    let said = match &relay {
                        Some(relay) => relay.rewritten(side, said),
                        None => Some(said),
                    };
                    if said.is_some_and(|said| to.send(said).is_err()) {
                        break;
                    }
                }
            });
        };
        forward(caller.1, to_answerer, 0);
        forward(answerer.1, to_caller, 1);
        let (caller, answerer) =
            tokio::join!(self.connect(Side::Caller, caller.0), self.connect(Side::Answerer, answerer.0));
        match relay {
            Some(relay) => {
                (Box::new(Through(caller, Arc::clone(&relay))), Box::new(Through(answerer, relay)))
            }
            None => (caller, answerer),
        }
    }
}

/// Keeps the network beneath it.
struct Through(Box<dyn Pipe>, #[expect(dead_code, reason = "kept")] Arc<Relay>);

impl Pipe for Through {
    fn poll_send(&mut self, cx: &mut Context<'_>, message: &mut Option<Bytes>) -> Poll<()> {
        self.0.poll_send(cx, message)
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(cx)
    }
}

/// A side's signal and what it says, and the way to it.
fn signal() -> ((Signal, UnboundedReceiver<Value>), UnboundedSender<Value>) {
    let (to, said) = unbounded_channel();
    let (to_it, from) = unbounded_channel();
    ((Signal { to, from }, said), to_it)
}
