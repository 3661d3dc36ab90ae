//! Which calls go ahead of everybody's data by themselves: those that keep motors safe.

use crate::wire::session::{SEND_SESSION_HEARTBEAT, START_SESSION};

/// Methods whose frames never wait behind bulk. Each is a few hundred bytes.
const URGENT: &[&str] = &[SEND_SESSION_HEARTBEAT, START_SESSION, "/viam.robot.v1.RobotService/StopAll"];

/// Whether a call of this method is urgent without being marked.
pub(super) fn is_urgent(method: &str) -> bool {
    URGENT.contains(&method)
}

/// Urgent calls that a robot takes beyond its limit: a caller whose other calls fill the connection still keeps
/// its session.
pub(super) const URGENT_BEYOND_LIMIT: usize = 64;
