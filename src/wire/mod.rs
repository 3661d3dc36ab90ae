//! What travels, as bytes and rules: the codec of gRPC over a data channel, and of signaling.
//!
//! Floor 0: no tokio, no I/O, no clock. Everything here is a function or a state machine over values, so
//! that it can be tested with tables and fuzzed. `tests/interop` and the golden bytes in the tests keep it
//! true to other people's peers.
//!
//! ```text
//!  http body ─▶ message::Splitter ─▶ packet ─▶ frame ─▶ data channel ─▶ frame ─▶ message::Assembler ─▶ http body
//!  headers   ─▶ metadata, timeout ─▶ frame                              frame ─▶ stream (what is legal now)
//!  trailers  ─▶ status            ─▶ frame
//! ```
//!
//! # Invariant
//! Nothing that a peer sends panics, and nothing it sends makes a value here grow beyond the limit that was
//! given to it.

pub mod frame;
pub mod message;
pub mod metadata;
pub mod sdp;
pub mod session;
pub mod status;
pub mod stream;
pub mod timeout;
