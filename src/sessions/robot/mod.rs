//! The robot's side.
