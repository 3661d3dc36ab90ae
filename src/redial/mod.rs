//! A channel that is dialed again when its connection is lost.
//!
//! Floor 4, between [`Channel`](crate::Channel) and sessions.
