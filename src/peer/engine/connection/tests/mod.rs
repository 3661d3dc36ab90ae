//! What a connection promises, against another one.

mod opening;
mod world;
