//! The sockets of a peer: UDP in batches, byte streams towards relays, and the names of servers.
//!
//! Floor 1, engine, beside `gathering`: the only rooms of the engine that touch the system, the driver apart.
//! Nothing here knows a protocol above the framing of a stream, and nothing decides; `gathering` says what to
//! open and what to send.
//!
//! # Invariant
//! What the network says never ends a socket that can go on: an ICMP error is a lost datagram. No buffer
//! belongs to an idle peer: receiving goes through one that the thread's peers share. Whatever waits has a
//! deadline.

mod ice_tcp;
mod local_names;
mod names;
mod scratch;
mod stream;
mod tls;
mod udp;

pub(crate) use self::ice_tcp::IceTcp;
pub(crate) use self::local_names::resolve_local;
pub(crate) use self::names::resolve;
pub(crate) use self::stream::{Stream, StreamError};
pub(crate) use self::tls::Trust;
pub(crate) use self::udp::{Buffers, Udp};
