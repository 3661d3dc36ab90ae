//! SCTP for data channels (RFC 9260 as RFC 8831 uses it): one association, without I/O.
//!
//! Floor 1, engine. Below is DTLS, whose plaintext goes in and out; above is the connection, which knows what
//! streams mean; beside it `recovery` decides when chunks are sent, and sent again.
//!
//! ```text
//!           send ─▶ Outbound ─▶ Flight ─▶ ┐          ┌ ─▶ Inbound ─▶ receive
//!                   messages    chunks     packets: codec  messages
//!                                          └ Association ┘
//!            who may do what, and when: handshake, shutdown, resets, heartbeats
//! ```
//!
//! # Invariant
//! Nothing a peer sends panics, or takes more memory than [`Config::receive_window`] allows for (see
//! `inbound`). While anything is outstanding (a handshake, data, a shutdown, a reset),
//! [`Association::poll_timeout`] gives a time. What is wrong is counted, left out, or ends the association, as
//! RFC 9260 says.

mod association;
mod codec;
mod config;
mod event;
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(fuzzing), allow(unreachable_pub))]
pub(super) mod fuzzing;
mod inbound;
mod outbound;
#[cfg(test)]
mod tests;

pub(crate) use self::association::Association;
pub(crate) use self::config::{Config, Seed};
pub(crate) use self::event::{CloseReason, Event};
pub(crate) use self::outbound::{Priority, SendError};
