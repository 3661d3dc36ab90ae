//! The calls in flight, as GetOperations lists them.
//!
//! Floor 4. Invariant: bounded; calls beyond [`MAX`] are served and not listed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use uuid::Uuid;

/// Calls that are listed.
const MAX: usize = 1024;

/// The longest path that is kept, in characters.
const MAX_METHOD: usize = 128;

/// All of them. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub(super) struct Operations {
    list: Arc<Mutex<List>>,
}

#[derive(Debug, Default)]
struct List {
    operations: BTreeMap<u64, Operation>,
    next: u64,
}

/// A call in flight.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) id: Uuid,
    /// Its path.
    pub(super) method: String,
    /// For people: never used to reckon with.
    pub(super) started: SystemTime,
    pub(super) session: Option<Uuid>,
}

/// Listed until dropped.
#[derive(Debug)]
pub(super) struct Listed {
    operations: Operations,
    number: Option<u64>,
}

impl Operations {
    pub(super) fn begin(&self, method: &str) -> Listed {
        let (id, method, started) = (Uuid::new_v4(), method_of(method), SystemTime::now());
        let mut list = self.lock();
        let number = (list.operations.len() < MAX).then(|| {
            list.next += 1;
            let number = list.next;
            let operation = Operation { id, method, started, session: None };
            list.operations.insert(number, operation);
            number
        });
        drop(list);
        Listed { operations: self.clone(), number }
    }

    pub(super) fn list(&self) -> Vec<Operation> {
        self.lock().operations.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// The call runs under this session.
    pub(super) fn under(&self, session: Uuid) {
        let mut list = self.operations.lock();
        if let Some(operation) = self.number.and_then(|number| list.operations.get_mut(&number)) {
            operation.session = Some(session);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.operations.lock().operations.remove(&number);
        }
    }
}

/// A path, as it is kept: a peer's text.
pub(super) fn method_of(path: &str) -> String {
    path.chars().take(MAX_METHOD).collect()
}
