//! Signaling: where a caller and an answerer exchange descriptions and candidates.
//!
//! Floor 3. Here is the meeting place itself: [`queue`] holds the calls, [`service`] puts them on gRPC.
//! Both serve the signaling server's program and a robot's own listener alike.

pub mod queue;
pub mod service;
