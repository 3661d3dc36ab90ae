//! The sockets of a peer.
