//! The webrtc crate.
