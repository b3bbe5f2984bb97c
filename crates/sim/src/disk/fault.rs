//! What can go wrong with a simulated disk, when, and how often it did.

use std::collections::BTreeMap;

/// A kind of fault that the disk can be told to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A read answers EIO.
    ReadError,
    /// A write answers EIO; any of its sectors may have been written.
    WriteError,
    /// A sync answers EIO; what it should have synced is lost in silence, though reads still show it.
    SyncError,
    /// A sync answers ok and does nothing; a later honest one makes it good.
    LyingSync,
    /// The power goes: this operation and all later ones fail until [`super::SimDisk::crash`].
    PowerOff,
}

/// A fault to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub kind: FaultKind,
    /// How many operations of its sort go well before it (reads, writes, syncs; for the power: any that change).
    pub after: u64,
    /// Only operations on paths that begin so.
    pub on: String,
}

impl Fault {
    /// `kind` after `after` operations on any path.
    pub fn new(kind: FaultKind, after: u64) -> Self {
        Self {
            kind,
            after,
            on: String::new(),
        }
    }

    /// The same on paths that begin with `prefix` only.
    #[must_use]
    pub fn on(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.on);
        self
    }
}

/// What an operation does, for the fault plan.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Read,
    Write,
    Sync,
    Name,
    /// Asks what the file system knows in memory: it always answers.
    Look,
}

impl FaultKind {
    fn meets(self, act: Act) -> bool {
        match self {
            Self::ReadError => act == Act::Read,
            Self::WriteError => act == Act::Write,
            Self::SyncError | Self::LyingSync => act == Act::Sync,
            Self::PowerOff => !matches!(act, Act::Read | Act::Look),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ReadError => "disk.read_error",
            Self::WriteError => "disk.write_error",
            Self::SyncError => "disk.sync_error",
            Self::LyingSync => "disk.lying_sync",
            Self::PowerOff => "disk.power_off",
        }
    }
}

/// How often each kind of thing happened, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<String, u64>);

impl Counts {
    /// `n` more of `name`.
    pub fn add(&mut self, name: &str, n: u64) {
        match self.0.get_mut(name) {
            Some(count) => *count += n,
            None if n > 0 => {
                self.0.insert(name.to_owned(), n);
            }
            None => {}
        }
    }

    /// How many of `name`.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// How many of all whose names begin so.
    pub fn sum(&self, prefix: &str) -> u64 {
        let all = self.0.iter().filter(|(name, _)| name.starts_with(prefix));
        all.map(|(_, n)| n).sum()
    }

    /// All of `other` too.
    pub fn merge(&mut self, other: &Self) {
        for (name, n) in &other.0 {
            self.add(name, *n);
        }
    }
}

/// The faults still to come.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) faults: Vec<Fault>,
    pub(super) counts: Counts,
}

impl Plan {
    /// Whether `act` on `path` meets a fault: the first due one is spent. All others come one operation nearer.
    pub(super) fn meet(&mut self, act: Act, path: &str) -> Option<FaultKind> {
        let mut met = None;
        self.faults.retain_mut(|fault| {
            if !fault.kind.meets(act) || !path.starts_with(&fault.on) {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            if met.is_some() {
                return true;
            }
            met = Some(fault.kind);
            false
        });
        if let Some(kind) = met {
            self.counts.add(kind.name(), 1);
        }
        met
    }
}
