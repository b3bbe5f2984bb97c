//! What the newest backup of a disk says of the copies that it has.

use crate::{ExtentCopy, Wanted};
use std::collections::BTreeMap;
use types::ExtentId;

/// Copies by their extents.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<ExtentId, ExtentCopy>);

impl Known {
    pub(crate) fn new(copies: impl IntoIterator<Item = ExtentCopy>) -> Self {
        Self(copies.into_iter().map(|copy| (copy.id(), copy)).collect())
    }

    /// A copy of an extent as it is now, by all that the store itself says of it: whether the bytes are the same is for them to say.
    pub fn of(&self, wanted: &Wanted) -> Option<&ExtentCopy> {
        self.0
            .get(&wanted.extent)
            .filter(|copy| copy.has_numbers_of(wanted))
    }
}
