//! The versions of a key, newest first, kept by number so that a state of the model stays small. Pure.
//!
//! ```text
//!   versioning     a put, a completion              a delete of the key
//!   never          the only version is replaced     the only version goes
//!   enabled        one more, with an id             a marker, with an id
//!   suspended      the null one goes, a null one    the null one goes, a null marker
//! ```

use crate::op::{OpId, Which};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The operation that made it. 0, of a marker that was seen: one of whose id nobody was told.
    pub op: OpId,
    /// It says that the object is deleted.
    pub marker: bool,
    /// It is the null version.
    pub null: bool,
    /// The operation that tagged it last; 0: none.
    pub tags: OpId,
}

/// A stack of versions, by number; 0 is the empty one.
pub type StackId = u32;

/// All stacks that were ever met.
#[derive(Default)]
pub struct Stacks(RefCell<Met>);

#[derive(Default)]
struct Met {
    ids: BTreeMap<Vec<Entry>, StackId>,
    stacks: Vec<Vec<Entry>>,
}

impl Stacks {
    /// The number of a stack.
    pub fn id(&self, stack: Vec<Entry>) -> StackId {
        if stack.is_empty() {
            return 0;
        }
        let mut met = self.0.borrow_mut();
        if let Some(id) = met.ids.get(&stack) {
            return *id;
        }
        met.stacks.push(stack.clone());
        let id = StackId::try_from(met.stacks.len()).expect("a run is short");
        met.ids.insert(stack, id);
        id
    }

    /// Its versions, newest first.
    pub fn get(&self, id: StackId) -> Vec<Entry> {
        match id.checked_sub(1) {
            None => Vec::new(),
            Some(at) => self.0.borrow().stacks[at as usize].clone(),
        }
    }

    /// The newest version.
    pub fn newest(&self, id: StackId) -> Option<Entry> {
        let at = id.checked_sub(1)?;
        self.0.borrow().stacks[at as usize].first().copied()
    }

    /// The operation whose object a key names; 0: none.
    pub fn visible(&self, id: StackId) -> OpId {
        let newest = self.newest(id).filter(|newest| !newest.marker);
        newest.map_or(0, |newest| newest.op)
    }

    /// With a version of `op` put on top.
    pub fn push(&self, id: StackId, versioning: u32, op: OpId, marker: bool) -> StackId {
        let null = versioning != 1;
        let mut stack = self.get(id);
        stack.retain(|entry| !(null && entry.null));
        let tags = 0;
        stack.insert(
            0,
            Entry {
                op,
                marker,
                null,
                tags,
            },
        );
        self.id(stack)
    }

    /// The version that is meant.
    pub fn find(&self, id: StackId, which: Which) -> Option<Entry> {
        self.get(id).into_iter().find(|entry| meant(entry, which))
    }

    /// Without the version that is meant.
    pub fn without(&self, id: StackId, which: Which) -> StackId {
        let mut stack = self.get(id);
        stack.retain(|entry| !meant(entry, which));
        self.id(stack)
    }

    /// With the newest version tagged by `op`.
    pub fn tagged(&self, id: StackId, op: OpId) -> StackId {
        let mut stack = self.get(id);
        if let Some(newest) = stack.first_mut() {
            newest.tags = op;
        }
        self.id(stack)
    }

    /// Whether what was seen is this stack: a marker whose id nobody was told may be any.
    pub fn is_seen(&self, id: StackId, seen: StackId) -> bool {
        id == seen || {
            let (stack, seen) = (self.get(id), self.get(seen));
            stack.len() == seen.len()
                && stack
                    .iter()
                    .zip(&seen)
                    .all(|(entry, seen)| looks_like(entry, seen))
        }
    }
}

/// Whether a version that is seen so can be this one.
pub fn looks_like(entry: &Entry, seen: &Entry) -> bool {
    let op = if seen.marker && seen.op == 0 {
        entry.op
    } else {
        seen.op
    };
    *entry == Entry { op, ..*seen }
}

fn meant(entry: &Entry, which: Which) -> bool {
    match which {
        Which::Null => entry.null,
        Which::Of(op) => entry.op == op,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_version_takes_the_place_of_the_one_before() {
        let s = Stacks::default();
        let plain = s.push(0, 0, 1, false);
        assert_eq!(s.get(s.push(plain, 0, 2, false)).len(), 1);
        let kept = s.push(plain, 1, 2, false);
        assert_eq!((s.get(kept).len(), s.visible(kept)), (2, 2));
        let hidden = s.push(kept, 2, 3, true);
        assert_eq!((s.get(hidden).len(), s.visible(hidden)), (2, 0));
        assert_eq!(s.find(hidden, Which::Null).map(|e| e.op), Some(3));
        let shown = s.without(hidden, Which::Of(3));
        assert_eq!((s.visible(shown), s.without(shown, Which::Of(2))), (2, 0));
    }

    #[test]
    fn a_marker_of_unknown_id_may_be_any() {
        let s = Stacks::default();
        let made = s.push(s.push(0, 1, 1, false), 1, 2, true);
        let seen = s.push(s.push(0, 1, 1, false), 1, 0, true);
        assert!(s.is_seen(made, seen) && s.is_seen(made, made));
        assert!(!s.is_seen(made, s.push(0, 1, 0, true)));
        assert!(!s.is_seen(made, s.push(s.push(0, 1, 3, false), 1, 0, true)));
    }
}
