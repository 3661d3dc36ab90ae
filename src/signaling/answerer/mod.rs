//! The answerer.
