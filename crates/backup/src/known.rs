//! What the newest backup of a disk says of the copies that it has.

use crate::{ExtentCopy, Wanted};
use std::collections::BTreeMap;
use types::DiskId;

/// Copies by their files.
#[derive(Debug, Default)]
pub struct Known {
    disk: String,
    copies: BTreeMap<String, ExtentCopy>,
}

impl Known {
    pub(crate) fn new(disk: DiskId, copies: impl IntoIterator<Item = ExtentCopy>) -> Self {
        let disk = disk.to_string();
        let copies = copies.into_iter().map(|copy| (copy.file(&disk), copy)).collect();
        Self { disk, copies }
    }

    /// What is said of a file.
    pub(crate) fn file(&self, path: &str) -> Option<&ExtentCopy> {
        self.copies.get(path)
    }

    /// A copy of an extent as it is now, by all that the store itself says of it: whether the bytes are the same is for its last needle to say.
    pub fn of(&self, wanted: &Wanted) -> Option<&ExtentCopy> {
        let prefix = wanted.prefix(&self.disk);
        let from = self.copies.range(prefix.clone()..).next();
        from.filter(|(path, _)| path.starts_with(&prefix))
            .map(|(_, copy)| copy)
    }
}
