//! A request to a TURN server that has not been answered.

use std::time::{Duration, Instant};

use super::LIFETIME;
use super::auth::Auth;
use super::peers::Ask;
use crate::peer::engine::gathering::resend::Resend;
use crate::peer::engine::gathering::stun::{Class, TransactionId, Writer, attribute, method, transaction_id};

/// UDP's number, RFC 8656 18.8: what is relayed is datagrams, however we reach the server.
const UDP: u8 = 17;

pub(super) struct Request {
    pub(super) id: TransactionId,
    pub(super) kind: Kind,
    /// As sent, to be sent again.
    pub(super) bytes: Vec<u8>,
    pub(super) signed: bool,
    /// How many times it was made anew because of its signature.
    pub(super) retries: u8,
    pub(super) resend: Resend,
}

/// What is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Allocate,
    Refresh,
    /// A refresh by nothing, RFC 8656 7.1.
    Delete,
    Ask(Ask),
}

impl Kind {
    fn method(self) -> u16 {
        match self {
            Self::Allocate => method::ALLOCATE,
            Self::Refresh | Self::Delete => method::REFRESH,
            Self::Ask(Ask::Permission(_)) => method::CREATE_PERMISSION,
            Self::Ask(Ask::Channel(..)) => method::CHANNEL_BIND,
        }
    }
}

impl Request {
    pub(super) fn new(
        now: Instant,
        kind: Kind,
        auth: &Auth,
        retries: u8,
        patience: Duration,
        stream: bool,
    ) -> Self {
        let id = transaction_id();
        let empty = Writer::new(Class::Request, kind.method(), id);
        let lifetime =
            |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).to_be_bytes();
        let request = match kind {
            Kind::Allocate => empty
                .add(attribute::REQUESTED_TRANSPORT, &[UDP, 0, 0, 0])
                .add(attribute::LIFETIME, &lifetime(LIFETIME)),
            Kind::Refresh => empty.add(attribute::LIFETIME, &lifetime(LIFETIME)),
            Kind::Delete => empty.add(attribute::LIFETIME, &lifetime(Duration::ZERO)),
            Kind::Ask(Ask::Permission(ip)) => {
                empty.add_xor_address(attribute::XOR_PEER_ADDRESS, (ip, 0).into())
            }
            Kind::Ask(Ask::Channel(number, peer)) => {
                let [n0, n1] = number.to_be_bytes();
                empty
                    .add(attribute::CHANNEL_NUMBER, &[n0, n1, 0, 0])
                    .add_xor_address(attribute::XOR_PEER_ADDRESS, peer)
            }
        };
        let (bytes, signed) = (auth.finish(request), auth.is_challenged());
        Self { id, kind, bytes, signed, retries, resend: Resend::new(now, patience, stream) }
    }

    pub(super) fn method(&self) -> u16 {
        self.kind.method()
    }
}
