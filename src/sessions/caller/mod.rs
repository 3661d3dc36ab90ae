//! The caller's side.
