//! gRPC over a WebRTC data channel: both ends of it.
//!
//! Floor 2. Below is the [peer](crate::peer) with an open data channel, above are tonic's clients
//! ([`WebRtcTransport`]) and tonic's servers ([`RobotConnection`]).
//!
//! | file | what it does |
//! |---|---|
//! | `driver` | the one task: frames in and out, the end |
//! | `client/` | the caller's calls, their table, their bodies |
//! | `server/` | the robot's calls, their table, their handlers |
//! | `outbox`, `scheduler` | whose frame goes next |
//! | `line`, `backlog` | the channel, and how much may lie in it |
//! | `rtt` | the round trip time, as acknowledgements show it |
//! | `inbox` | what was received and not read, and its budgets |
//! | `pump` | an HTTP body becomes messages |
//! | `limits` | the bounds that users can set |

mod backlog;
mod client;
mod driver;
mod inbox;
mod limits;
mod line;
mod outbox;
mod pump;
mod rtt;
mod scheduler;
mod server;
mod urgent;

pub use self::client::WebRtcTransport;
pub use self::limits::{Limits, Overflow};
pub use self::server::{Methods, RobotConnection, RobotService};
