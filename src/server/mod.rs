//! The robot's side, and what any server of farlink stands on.
//!
//! Floor 4. [`listener`] is the one exception: it imports nothing of farlink above floor 2, so that the
//! signaling server can use it as well.

pub mod listener;
