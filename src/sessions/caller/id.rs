//! A session's id, which is as good as the session: who has it can pose as its owner.

use std::fmt;
use std::sync::Arc;

/// A session's id. `Debug` and `Display` show its first eight characters; [`as_str`](Self::as_str) all.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    pub(super) fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// All of it. A secret towards other callers.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.char_indices().nth(8).map_or(self.0.len(), |(end, _)| end);
        f.write_str(&self.0[..shown])?;
        f.write_str(if shown < self.0.len() { "…" } else { "" })
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
