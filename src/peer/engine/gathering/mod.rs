//! Where a peer can be reached.

mod interfaces;

pub(crate) use self::interfaces::{Filter, interfaces};
