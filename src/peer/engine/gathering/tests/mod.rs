//! The gatherer against a server that follows a script, in virtual time, and against coturn.

mod coturn;
mod driven;
mod hostile;
mod lost;
mod relays;
mod servers;

use super::script;
