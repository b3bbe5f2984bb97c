//! Names: what programs see, and which changes of them a power cut may take back.

use crate::SimRng;
use std::collections::{BTreeMap, BTreeSet};

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(u64),
    Dir,
}

#[derive(Default)]
pub(super) struct Names {
    pub(super) now: BTreeMap<String, Entry>,
    stable: BTreeMap<String, Entry>,
    /// Changes since, in order.
    pending: Vec<Change>,
}

/// One change, at once or not at all: names and what they lead to afterwards.
struct Change {
    sets: Vec<(String, Option<Entry>)>,
    promised: bool,
}

/// The directory that `path` is in; the root is `""`.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Names {
    pub(super) fn change(&mut self, sets: Vec<(String, Option<Entry>)>) {
        for (path, entry) in &sets {
            set(&mut self.now, path, *entry);
        }
        self.pending.push(Change {
            sets,
            promised: false,
        });
    }

    pub(super) fn is_dir(&self, path: &str) -> bool {
        path.is_empty() || self.now.get(path) == Some(&Entry::Dir)
    }

    /// The changes in `dir` are on stable storage now, and with them earlier ones of the same names.
    pub(super) fn sync(&mut self, dir: &str) {
        let mut names = BTreeSet::new();
        let mut due = vec![false; self.pending.len()];
        for (n, change) in self.pending.iter().enumerate().rev() {
            let here = |(path, _): &(String, _)| parent(path) == dir || names.contains(path);
            if change.sets.iter().any(here) {
                due[n] = true;
                names.extend(change.sets.iter().map(|(path, _)| path.clone()));
            }
        }
        let mut due = due.into_iter();
        let stable = &mut self.stable;
        self.pending.retain(|change| {
            let now = due.next() == Some(true);
            if now {
                apply(stable, change);
            }
            !now
        });
    }

    /// Whether some sync that was answered has not been done.
    pub(super) fn is_lied_to(&self) -> bool {
        self.pending.iter().any(|change| change.promised)
    }

    /// Answers a sync of `dir` without doing it.
    pub(super) fn lie(&mut self, dir: &str) {
        for change in &mut self.pending {
            change.promised |= change.sets.iter().any(|(path, _)| parent(path) == dir);
        }
    }

    /// The power went: changes not synced are lost or not; one that builds on a lost one is lost too. Answers how many
    /// were lost, and the names among them that a sync had promised.
    pub(super) fn crash(&mut self, rng: &SimRng) -> (u64, Vec<String>) {
        let percent = *rng.pick(&[0, 50, 90, 100]);
        let (mut lost, mut promised, mut gone) = (0, Vec::new(), BTreeSet::new());
        for change in std::mem::take(&mut self.pending) {
            let builds = change
                .sets
                .iter()
                .any(|(path, _)| gone.contains(path) || gone.contains(parent(path)));
            if !builds && rng.percent(percent) {
                apply(&mut self.stable, &change);
                continue;
            }
            lost += 1;
            for (path, _) in change.sets {
                if change.promised {
                    promised.push(path.clone());
                }
                gone.insert(path);
            }
        }
        // What is in a directory that is gone cannot be reached.
        let stable = self.stable.clone();
        self.stable.retain(|path, _| {
            let dir = parent(path);
            dir.is_empty() || stable.get(dir) == Some(&Entry::Dir)
        });
        self.now = self.stable.clone();
        (lost, promised)
    }
}

fn set(names: &mut BTreeMap<String, Entry>, path: &str, entry: Option<Entry>) {
    match entry {
        Some(entry) => names.insert(path.to_owned(), entry),
        None => names.remove(path),
    };
}

fn apply(names: &mut BTreeMap<String, Entry>, change: &Change) {
    for (path, entry) in &change.sets {
        set(names, path, *entry);
    }
}
