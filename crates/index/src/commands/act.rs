//! A command on one object key, under way: what it may look at, and what it has decided to do so far.

use super::usage::UsageChange;
use crate::rows::RowRef;
use crate::view::{Change, Now, Stop, View};
use prost::Message;
use types::{BlobId, BucketId, UploadId, VersionId};

/// A command on one object key.
pub(super) struct Act<'a> {
    pub(super) bucket: BucketId,
    pub(super) key: &'a str,
    pub(super) view: &'a View<'a>,
    pub(super) now: &'a Now,
    pub(super) change: &'a mut Change,
    /// Gathered, and written once at the end.
    pub(super) usage: UsageChange,
}

impl<'a> Act<'a> {
    /// The row of this key's visible object.
    pub(super) fn current(&self) -> RowRef<'a> {
        RowRef::Current(self.bucket, self.key)
    }

    /// The row of an older version, or delete marker, of this key.
    pub(super) fn version(&self, version: VersionId) -> RowRef<'a> {
        RowRef::Version(self.bucket, self.key, version)
    }

    /// The row that says which of `versions` is this key's null version.
    pub(super) fn null(&self) -> RowRef<'a> {
        RowRef::Null(self.bucket, self.key)
    }

    /// The row of an upload of this key.
    pub(super) fn upload(&self, upload: UploadId) -> RowRef<'a> {
        RowRef::Upload(self.bucket, self.key, upload)
    }

    /// The row of a part of an upload of this key.
    pub(super) fn part(&self, upload: UploadId, number: u32) -> RowRef<'a> {
        RowRef::Part(self.bucket, self.key, upload, number)
    }

    /// The row of a blob's booking.
    pub(super) fn garbage(&self, blob: BlobId) -> RowRef<'a> {
        RowRef::Garbage(self.bucket, self.key, blob)
    }

    /// The row of a version's inline bytes.
    pub(super) fn inline(&self, version: VersionId) -> RowRef<'a> {
        RowRef::Inline(self.bucket, self.key, version)
    }

    /// A row's message.
    pub(super) fn get<M: Message + Default>(&self, row: &RowRef) -> Result<Option<M>, Stop> {
        self.view.get(row)
    }

    /// Writes what was gathered.
    pub(super) fn finish(self) -> Result<(), Stop> {
        self.usage.apply(self.bucket, self.view, self.change)
    }
}
