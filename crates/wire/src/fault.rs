//! Why a call to a role failed, as opposed to what the state refused.

use types::{ErrorKind, Kind};

/// A failure of the role, the disk or the way there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?}: {what}")]
pub struct Fault {
    /// What sort; `Unknown` is the only one after which the act may have taken effect.
    pub kind: ErrorKind,
    /// For the log: what and where.
    pub what: String,
}

impl Fault {
    /// A fault of `kind`.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
        }
    }
}

impl Kind for Fault {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}
