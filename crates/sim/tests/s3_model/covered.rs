//! What the sequences came to, counted.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// An operation and how it ended, or something else that is worth seeing happen.
pub(crate) type Item = (&'static str, &'static str);

/// How often each item came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Covered {
    items: BTreeMap<Item, u64>,
    /// Of every step there was, in order: the same seeds come to the same.
    pub trace: u64,
}

impl Covered {
    pub(crate) fn count(&mut self, operation: &'static str, outcome: &'static str) {
        *self.items.entry((operation, outcome)).or_default() += 1;
    }

    pub(crate) fn count_if(&mut self, is_so: bool, operation: &'static str, outcome: &'static str) {
        if is_so {
            self.count(operation, outcome);
        }
    }

    /// Notes a step, for the trace.
    pub(crate) fn trace(&mut self, what: &str) {
        let mut hash = DefaultHasher::new();
        (self.trace, what).hash(&mut hash);
        self.trace = hash.finish();
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.trace(&other.trace.to_string());
        for (item, n) in &other.items {
            *self.items.entry(*item).or_default() += n;
        }
    }

    pub(crate) fn print(&self, title: &str) {
        println!("{title}");
        for ((operation, outcome), n) in &self.items {
            println!("{n:>10}  {operation}: {outcome}");
        }
    }

    /// What of `floors` was seen less often than it says there.
    pub(crate) fn short_of(
        &self,
        floors: &[(&'static str, &'static [&'static str])],
        floor: u64,
    ) -> Vec<String> {
        let mut missing = Vec::new();
        for (operation, outcomes) in floors {
            for outcome in *outcomes {
                let n = self.items.get(&(*operation, *outcome)).copied().unwrap_or(0);
                if n < floor {
                    missing.push(format!("{operation}: {outcome} ({n})"));
                }
            }
        }
        missing
    }
}
