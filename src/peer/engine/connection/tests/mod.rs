//! What a connection promises, against another one.

mod cost;
mod living;
mod opening;
mod world;
