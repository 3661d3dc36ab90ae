//! What STUN servers see of us: server-reflexive candidates, RFC 8445 5.1.1.2.
//!
//! Every server is asked from every base at once.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::candidate::Why;
use super::resend::{Due, Resend};
use super::stun::{Class, Message, TransactionId, Writer, attribute, method, transaction_id};
use super::{ServerId, Transmit, Via};

/// How long other bases and servers may still take once one has answered. A server that is dead, or that a base
/// cannot reach, does not show by anything else.
const GRACE: Duration = Duration::from_millis(500);

/// The requests to STUN servers.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    under_way: Vec<Binding>,
    outgoing: VecDeque<Transmit>,
    /// Whether any server has answered.
    answered: bool,
}

#[derive(Debug)]
struct Binding {
    server: ServerId,
    base: SocketAddr,
    to: SocketAddr,
    id: TransactionId,
    resend: Resend,
}

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) server: ServerId,
    pub(super) base: SocketAddr,
    /// Where the server sees `base`.
    pub(super) mapped: Result<SocketAddr, Why>,
}

impl Bindings {
    /// Asks `to` where it sees `base`.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        server: ServerId,
        base: SocketAddr,
        to: SocketAddr,
        patience: Duration,
    ) {
        let id = transaction_id();
        let patience = if self.answered { patience.min(GRACE) } else { patience };
        self.send(base, to, id);
        self.under_way.push(Binding { server, base, to, id, resend: Resend::new(now, patience, false) });
    }

    fn send(&mut self, base: SocketAddr, to: SocketAddr, id: TransactionId) {
        let bytes = Writer::new(Class::Request, method::BINDING, id).finish();
        self.outgoing.push_back(Transmit { via: Via::Udp(base), to, bytes });
    }

    /// Takes the answer to one of the requests. `None` when it is none.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        on: SocketAddr,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<Answer> {
        if self.under_way.is_empty() {
            return None;
        }
        let message = Message::read(bytes)?;
        let mine = |each: &Binding| each.id == message.id && each.base == on && each.to == from;
        let at = self.under_way.iter().position(mine)?;
        let mapped = match (message.class, message.method) {
            (Class::Success, method::BINDING) => message
                .xor_address(attribute::XOR_MAPPED_ADDRESS)
                .or_else(|| message.address(attribute::MAPPED_ADDRESS))
                .ok_or(Why::Nonsense),
            (Class::Error, method::BINDING) => {
                Err(message.error().map_or(Why::Nonsense, |(code, words)| Why::Refused { code, words }))
            }
            _ => return None,
        };
        let Binding { server, base, .. } = self.under_way.swap_remove(at);
        if mapped.is_ok() {
            self.answered = true;
            self.under_way.iter_mut().for_each(|each| each.resend.hurry(now + GRACE));
        }
        Some(Answer { server, base, mapped })
    }

    /// Whether answers are still waited for.
    pub(super) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether this server has requests that may still be answered.
    pub(super) fn has(&self, server: ServerId) -> bool {
        self.under_way.iter().any(|each| each.server == server)
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outgoing.pop_front()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.under_way.iter().map(|each| each.resend.deadline()).min()
    }

    /// Sends again what is due. Returns the next request that nobody answered, `None` when there is no more.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Answer> {
        let mut at = 0;
        while let Some(binding) = self.under_way.get_mut(at) {
            match binding.resend.due(now) {
                Due::Nothing => at += 1,
                Due::Again => {
                    let (base, to, id) = (binding.base, binding.to, binding.id);
                    self.send(base, to, id);
                    at += 1;
                }
                Due::GiveUp => {
                    let Binding { server, base, .. } = self.under_way.swap_remove(at);
                    return Some(Answer { server, base, mapped: Err(Why::Silent) });
                }
            }
        }
        None
    }

    /// How many things it keeps.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held(&self) -> usize {
        self.under_way.len() + self.outgoing.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
