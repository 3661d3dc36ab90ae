//! What a connection promises, against another one.

mod living;
mod opening;
mod world;
