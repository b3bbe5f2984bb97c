//! What a bucket holds, counted in the commit that changes it.

use crate::rows::RowRef;
use crate::view::{Change, Stop, View};
use std::collections::BTreeMap;
use types::BucketId;
use wire::records::{ObjectRecord, PartRecord, UsageRecord};

/// What a command adds and takes away, by storage class.
#[derive(Default)]
pub(super) struct UsageChange(BTreeMap<u32, UsageRecord>);

impl UsageChange {
    fn class(&mut self, class: u32) -> &mut UsageRecord {
        self.0.entry(class).or_default()
    }

    /// An object becomes visible (`sign` 1) or is no longer (-1).
    pub(super) fn visible(&mut self, object: &ObjectRecord, sign: i64) {
        self.class(object.storage_class).objects += sign;
    }

    /// A version or delete marker comes to be (`sign` 1) or goes (-1).
    pub(super) fn version(&mut self, version: &ObjectRecord, sign: i64) {
        let usage = self.class(version.storage_class);
        usage.versions += sign;
        usage.bytes += sign * version.size as i64;
    }

    /// An upload begins or ends.
    pub(super) fn upload(&mut self, class: u32, sign: i64) {
        self.class(class).uploads += sign;
    }

    /// A part comes or goes.
    pub(super) fn part(&mut self, class: u32, part: &PartRecord, sign: i64) {
        self.class(class).part_bytes += sign * part.size as i64;
    }

    /// Moves the rows.
    pub(super) fn apply(self, bucket: BucketId, view: &View, change: &mut Change) -> Result<(), Stop> {
        for (class, delta) in self.0 {
            if delta == UsageRecord::default() {
                continue;
            }
            let row = RowRef::Usage(bucket, class);
            let old: UsageRecord = view.get(&row)?.unwrap_or_default();
            let new = UsageRecord {
                bytes: old.bytes + delta.bytes,
                objects: old.objects + delta.objects,
                versions: old.versions + delta.versions,
                uploads: old.uploads + delta.uploads,
                part_bytes: old.part_bytes + delta.part_bytes,
            };
            change.put(&row, &new);
        }
        Ok(())
    }
}
