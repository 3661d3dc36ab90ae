//! Parts of a network in virtual time, for tests of every room of the engine.

mod link;

pub(crate) use link::{Link, LinkConfig};
