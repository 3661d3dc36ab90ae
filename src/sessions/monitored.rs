//! Which methods move something: those whose descriptor has the option `safety_heartbeat_monitored`.
//!
//! tonic's clients show a layer nothing but the path, and prost drops custom options, so this is a table of
//! paths. Contract: `viam.common.v1`, extension 84260 of `google.protobuf.MethodOptions`.

/// What is known about a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Monitoring {
    /// It moves something that must stop when the session that moved it last goes silent.
    Monitored,
    /// It does not.
    Unmonitored,
    /// No descriptor tells. Taken as unmonitored, and counted.
    Unknown,
}

/// A table of methods.
#[derive(Debug, Clone, Default)]
pub struct Monitored {}

impl Monitored {
    /// What farlink's own descriptors say.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known about this method, `/package.Service/Method`. Does not allocate.
    pub fn lookup(&self, _path: &str) -> Monitoring {
        Monitoring::Unknown
    }
}
