//! What a connection promises, against another one.

mod cost;
mod hostile;
mod living;
mod opening;
mod relays;
mod world;
