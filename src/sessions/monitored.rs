//! Which methods move something: those whose descriptor has the option `safety_heartbeat_monitored`.
//!
//! tonic's clients show a layer nothing but the path, and prost drops custom options, so this is a table of
//! paths. Contract: `viam.common.v1`, extension 84260 of `google.protobuf.MethodOptions`.
//!
//! Services, and the marked methods of each, are sorted by length first: a search compares numbers, and reads
//! a name only where the length is right.

mod descriptors;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use prost::Message as _;

use crate::proto::MONITORED;

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
    services: Arc<Vec<Service>>,
}

/// A service in the table.
#[derive(Debug, Clone)]
pub struct Service {
    name: Box<str>,
    /// Whether a descriptor told of it; else only of the methods that were added one by one anything is known.
    described: bool,
    monitored: Vec<Box<str>>,
}

impl Default for Monitored {
    fn default() -> Self {
        Self::new()
    }
}

impl Monitored {
    /// What farlink's own descriptors say: all marked methods of Viam's API as of July 2026, 20 in number.
    pub fn new() -> Self {
        let mut table = Self::empty();
        for (service, methods) in MONITORED {
            let service = table.service(service);
            service.described = true;
            methods.iter().for_each(|method| service.mark(method));
        }
        table
    }

    /// A table that knows nothing.
    pub fn empty() -> Self {
        Self { services: Arc::new(Vec::new()) }
    }

    /// Adds all services of an encoded `google.protobuf.FileDescriptorSet`, as `tonic-prost-build` writes it
    /// with `file_descriptor_set_path`, and `protoc` with `--descriptor_set_out`. What it says is taken over
    /// what was known: a mark that is `false` makes a method unmonitored. Where it says nothing, what was known
    /// stays, so that descriptors older than farlink's take no safety away.
    ///
    /// # Errors
    /// [`prost::DecodeError`] when it is not one.
    pub fn with_descriptors(mut self, encoded: impl AsRef<[u8]>) -> Result<Self, prost::DecodeError> {
        for file in &FileSet::decode(encoded.as_ref())?.file {
            for described in &file.service {
                let service = self.service(&file.full_name(described));
                service.described = true;
                for method in &described.method {
                    match method.mark() {
                        Some(true) => service.mark(&method.name),
                        Some(false) => service.unmark(&method.name),
                        None => {}
                    }
                }
            }
        }
        Ok(self)
    }

    /// Adds one monitored method, `/package.Service/Method`. Other methods of its service stay as they were.
    #[must_use]
    pub fn with_method(mut self, path: impl AsRef<str>) -> Self {
        let (service, method) = split(path.as_ref());
        self.service(service).mark(method);
        self
    }

    /// What is known about this method, `/package.Service/Method`. Does not allocate; some nanoseconds.
    pub fn lookup(&self, path: &str) -> Monitoring {
        let (service, method) = split(path);
        let Ok(at) = self.services.binary_search_by(|known| by_length(&known.name, service)) else {
            return Monitoring::Unknown;
        };
        let service = &self.services[at];
        match service.find(method) {
            Ok(_) => Monitoring::Monitored,
            Err(_) if service.described => Monitoring::Unmonitored,
            Err(_) => Monitoring::Unknown,
        }
    }

    /// The services that anything is known about, in no order that means something.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }

    fn service(&mut self, name: &str) -> &mut Service {
        let services = Arc::make_mut(&mut self.services);
        let at = services.binary_search_by(|known| by_length(&known.name, name)).unwrap_or_else(|at| {
            services.insert(at, Service { name: name.into(), described: false, monitored: Vec::new() });
            at
        });
        &mut services[at]
    }
}

impl fmt::Debug for Monitored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: usize = self.services().map(|service| service.monitored.len()).sum();
        f.debug_struct("Monitored")
            .field("services", &self.services.len())
            .field("methods", &methods)
            .finish()
    }
}

impl Service {
    /// Its full name, `package.Service`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of its methods that are monitored.
    pub fn monitored(&self) -> impl Iterator<Item = &str> {
        self.monitored.iter().map(AsRef::as_ref)
    }

    fn find(&self, method: &str) -> Result<usize, usize> {
        self.monitored.binary_search_by(|known| by_length(known, method))
    }

    fn mark(&mut self, method: &str) {
        if let Err(at) = self.find(method) {
            self.monitored.insert(at, method.into());
        }
    }

    fn unmark(&mut self, method: &str) {
        if let Ok(at) = self.find(method) {
            self.monitored.remove(at);
        }
    }
}

fn by_length(known: &str, wanted: &str) -> Ordering {
    known.len().cmp(&wanted.len()).then_with(|| known.as_bytes().cmp(wanted.as_bytes()))
}

/// Service and method of a path, with or without its first slash.
fn split(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.rsplit_once('/').unwrap_or((path, ""))
}

#[cfg(test)]
mod tests;
