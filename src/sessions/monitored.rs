//! Which methods move something: those whose descriptor has the option `safety_heartbeat_monitored`.
//!
//! tonic's clients show a layer nothing but the path, and prost drops custom options, so this is a table of
//! paths. Contract: `viam.common.v1`, extension 84260 of `google.protobuf.MethodOptions`.

mod descriptors;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use prost::Message as _;
use rustc_hash::FxBuildHasher;

use crate::proto::{METHODS, MONITORED};

use self::descriptors::FileSet;

/// What is known about a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Monitoring {
    /// It moves something that must stop when the session that moved it last goes silent.
    Monitored,
    /// It does not: its service is known, and does not mark it.
    Unmonitored,
    /// Its service is not known. Taken as unmonitored, and counted.
    Unknown,
}

/// A table of methods. Clones share it.
///
/// [`Monitored::new`] knows the methods of Viam's own components. Tell it about services of your own with
/// [`with_descriptors`](Self::with_descriptors) or [`with_method`](Self::with_method); without that, what they
/// move goes on moving when its operator is gone.
#[derive(Clone)]
pub struct Monitored {
    known: Arc<Known>,
}

/// With a quick hash: every call asks. Keys come from the program and its descriptors; a peer's path is only
/// looked for.
#[derive(Clone, Default)]
struct Known {
    /// Whether a method is monitored, by its path.
    methods: HashMap<Box<str>, bool, FxBuildHasher>,
    /// The services that a descriptor told of, `/package.Service`: of these, methods that are newer than the
    /// descriptor are not unknown.
    services: HashSet<Box<str>, FxBuildHasher>,
}

impl Default for Monitored {
    fn default() -> Self {
        Self::new()
    }
}

impl Monitored {
    /// What farlink's own descriptors say: all marked methods of Viam's API as of July 2026, 20 in number.
    pub fn new() -> Self {
        // One for all clients of a process: a table for each would be a third of what an idle session takes.
        static OWN: LazyLock<Arc<Known>> = LazyLock::new(|| Arc::new(Known::own()));
        Self { known: Arc::clone(&OWN) }
    }

    /// A table that knows nothing.
    pub fn empty() -> Self {
        Self { known: Arc::default() }
    }

    /// Adds all services of an encoded `google.protobuf.FileDescriptorSet`, as `tonic-prost-build` writes it
    /// with `file_descriptor_set_path`, and `protoc` with `--descriptor_set_out`. A mark that is `false` makes
    /// a method unmonitored. Where the set says nothing, a method stays as it was: descriptors that are older
    /// than farlink's take no safety away.
    ///
    /// # Errors
    /// [`prost::DecodeError`] when it is not one.
    pub fn with_descriptors(mut self, encoded: impl AsRef<[u8]>) -> Result<Self, prost::DecodeError> {
        let set = FileSet::decode(encoded.as_ref())?;
        let known = Arc::make_mut(&mut self.known);
        set.for_each_method(|path, mark| known.describe(path, mark));
        Ok(self)
    }

    /// Adds one monitored method, `/package.Service/Method`. Says nothing about other methods of its service.
    #[must_use]
    pub fn with_method(mut self, path: impl Into<String>) -> Self {
        let path = path.into();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        Arc::make_mut(&mut self.known).methods.insert(path.into(), true);
        self
    }

    /// What is known about this method, `/package.Service/Method`. Does not allocate; some nanoseconds.
    pub fn lookup(&self, path: &str) -> Monitoring {
        match self.known.methods.get(path) {
            Some(true) => Monitoring::Monitored,
            Some(false) => Monitoring::Unmonitored,
            None if self.known.services.contains(service(path)) => Monitoring::Unmonitored,
            None => Monitoring::Unknown,
        }
    }

    /// The paths of all monitored methods, in no order.
    pub fn monitored(&self) -> impl Iterator<Item = &str> {
        self.known.methods.iter().filter(|(_, monitored)| **monitored).map(|(path, _)| &**path)
    }
}

impl fmt::Debug for Monitored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitored").field("methods", &self.monitored().count()).finish_non_exhaustive()
    }
}

impl Known {
    fn own() -> Self {
        let mut known = Self::default();
        for (path, _) in METHODS {
            known.describe(path, None);
        }
        for path in MONITORED {
            known.describe(path, Some(true));
        }
        known
    }

    /// A descriptor has this method, and a mark on it or none.
    fn describe(&mut self, path: &str, mark: Option<bool>) {
        let monitored = self.methods.entry(path.into()).or_default();
        *monitored = mark.unwrap_or(*monitored);
        self.services.insert(service(path).into());
    }
}

/// The path without its method.
fn service(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(service, _)| service)
}

#[cfg(test)]
mod tests;
