//! Versions of a key: which one is meant, what a new one does to the others, and what is left when one goes.
//!
//! ```text
//!   visible:   current = newest                          versions = the others, newest first
//!   deleted:   no current; the first of `versions` is a delete marker
//!   nulls  =   id of the null version while it stands in `versions`; absent while it is `current`, or there is none
//! ```
//! A key has at most one null version. It is made while versioning is not enabled and takes the place of the one before;
//! with `nulls` that costs the same however many versions there are. A record and its bytes stay as they are when it
//! moves between `current` and `versions`: inline bytes are kept under its version id.

use super::act::Act;
use super::copy;
use crate::rows::{BadRow, Range, decode};
use crate::view::{Stop, refuse};
use bytes::Bytes;
use types::{BlobId, VersionId};
use wire::index::{Reason, VersionRef, Versioning};
use wire::records::ObjectRecord;

/// A version where it stands.
pub(super) struct Standing {
    pub(super) record: ObjectRecord,
    /// It is the visible object.
    pub(super) is_current: bool,
}

fn id_of(record: &ObjectRecord) -> Result<VersionId, Stop> {
    VersionId::from_slice(&record.version).ok_or_else(|| BadRow::new("a record without version id").into())
}

impl Act<'_> {
    /// The bucket's versioning.
    pub(super) fn versioning(&self) -> Result<Versioning, Stop> {
        copy::versioning(self.bucket, self.view)
    }

    /// Which of `versions` is the null version.
    fn null_among_versions(&self) -> Result<Option<VersionId>, Stop> {
        let Some(value) = self.view.row(&self.null().key())? else {
            return Ok(None);
        };
        match VersionId::from_slice(&value) {
            Some(version) => Ok(Some(version)),
            None => Err(BadRow::new("a row of `nulls` that is no version id").into()),
        }
    }

    /// The version that is meant, a delete marker too where it is not the newest that is asked for.
    pub(super) fn find(&self, version: VersionRef) -> Result<Option<Standing>, Stop> {
        let current: Option<ObjectRecord> = self.get(&self.current())?;
        let is_meant = match (&current, version) {
            (None, _) => false,
            (Some(_), VersionRef::Current) => true,
            (Some(current), VersionRef::Id(id)) => id_of(current)? == id,
            (Some(current), VersionRef::Null) => current.null_version,
        };
        if is_meant {
            return Ok(current.map(|record| Standing {
                record,
                is_current: true,
            }));
        }
        let id = match version {
            VersionRef::Current => None,
            VersionRef::Id(id) => Some(id),
            VersionRef::Null => self.null_among_versions()?,
        };
        let Some(id) = id else { return Ok(None) };
        let older: Option<ObjectRecord> = self.get(&self.version(id))?;
        Ok(older.map(|record| Standing {
            record,
            is_current: false,
        }))
    }

    /// Makes room for a version that is newer than all: what was visible moves to `versions`, or goes where a null version
    /// takes the place of another.
    pub(super) fn make_room(
        &mut self,
        current: Option<&ObjectRecord>,
        is_null: bool,
        kept: Option<BlobId>,
    ) -> Result<(), Stop> {
        if let Some(old) = current {
            let (was, is) = (id_of(old)?, self.now.version());
            if was <= is {
                return Err(BadRow::new(format!("{was:?} is not older than the later {is:?}")).into());
            }
            self.usage.visible(old, -1);
            if is_null && old.null_version {
                self.unname(old, kept);
                self.usage.version(old, -1);
                return Ok(());
            }
            if kept.is_some_and(|blob| BlobId::from_slice(&old.blob) == Some(blob)) {
                return refuse(Reason::BlobGone, "a version has these bytes");
            }
            self.change.put(&self.version(was), old);
            if old.null_version {
                self.change
                    .put_bytes(&self.null(), Bytes::copy_from_slice(&old.version));
            }
        }
        // While versioning was never enabled the null version is the only one, and nobody asks for another.
        if is_null && self.versioning()? != Versioning::Never {
            self.remove_older_null(kept)?;
        }
        Ok(())
    }

    fn remove_older_null(&mut self, kept: Option<BlobId>) -> Result<(), Stop> {
        let Some(id) = self.null_among_versions()? else {
            return Ok(());
        };
        let row = self.version(id);
        let Some(old) = self.get::<ObjectRecord>(&row)? else {
            return Err(BadRow::new(format!("`nulls` names {id:?}, which is not there")).into());
        };
        self.unname(&old, kept);
        self.usage.version(&old, -1);
        self.change.remove(&row);
        self.change.remove(&self.null());
        Ok(())
    }

    /// Removes one version. If it was the newest, the next one is what the key names, unless that is a delete marker.
    pub(super) fn remove_version(&mut self, gone: &Standing) -> Result<(), Stop> {
        let record = &gone.record;
        self.unname(record, None);
        self.usage.version(record, -1);
        if gone.is_current {
            self.usage.visible(record, -1);
            self.change.remove(&self.current());
            if self.versioning()? != Versioning::Never {
                self.promote_first(0)?;
            }
            return Ok(());
        }
        let id = id_of(record)?;
        let is_newest = record.delete_marker
            && self.get::<ObjectRecord>(&self.current())?.is_none()
            && self.first_version(0)?.is_some_and(|(first, _)| first == id);
        self.change.remove(&self.version(id));
        if record.null_version {
            self.change.remove(&self.null());
        }
        if is_newest {
            self.promote_first(1)?;
        }
        Ok(())
    }

    /// Whether a delete marker is what the key names, of which nothing is visible.
    pub(super) fn is_deleted(&self) -> Result<bool, Stop> {
        Ok(self.versioning()? != Versioning::Never && self.first_version(0)?.is_some())
    }

    /// The first of `versions` past the `skip` newest (0 or 1).
    fn first_version(&self, skip: usize) -> Result<Option<(VersionId, ObjectRecord)>, Stop> {
        let range = Range::versions(self.bucket, self.key);
        let rows = self.view.scan(&range, 2)?;
        let Some((row, value)) = rows.get(skip) else {
            return Ok(None);
        };
        let record: ObjectRecord = decode(row, value)?;
        Ok(Some((id_of(&record)?, record)))
    }

    /// Makes the first of `versions` past the `skip` newest visible, unless it is a delete marker.
    fn promote_first(&mut self, skip: usize) -> Result<(), Stop> {
        let Some((id, next)) = self.first_version(skip)?.filter(|(_, next)| !next.delete_marker) else {
            return Ok(());
        };
        self.usage.visible(&next, 1);
        self.change.put(&self.current(), &next);
        self.change.remove(&self.version(id));
        if next.null_version {
            self.change.remove(&self.null());
        }
        Ok(())
    }
}
