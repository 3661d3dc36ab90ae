//! Our own WebRTC stack, as a [`Stack`](super::Stack).
//!
//! Floor 1, beside the other stacks. In the making: the rooms below are pure but for `sockets` and the driver.

#![allow(dead_code)]

mod certificate;
mod congestion;
mod connection;
mod gathering;
mod recovery;
mod sctp;
mod sockets;
