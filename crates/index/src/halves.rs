//! Rows of which some are missing: what is not laid of them, because it may be of another moment than what stands beside it.
//!
//! A commit takes away what named bytes together with booking them, and an upload together with naming the object that it became. Where rows are missing
//! the two may be of different moments: the files are written behind in steps, so they can have some rows of a commit whose others only the log had,
//! and that lost them; and of a commit that was lost whole, a later one can have written one row again. What is booked there is named, too, and would go
//! once reclaim is released; and an upload that an object has come of would book that object's bytes when it is aborted, or completed again.
//!
//! | row | is laid |
//! |---|---|
//! | `garbage` | never: bytes that are garbage need no booking to go. They are orphans without one, which are asked for whether anything names them |
//! | `uploads`, `parts`, `ended` | where no object has the blob of that upload |
//! | `manifests` | where an object, an upload that lays it or one that ended has the blob |

use crate::rows::{Row, decode};
use crate::strays::named_pages;
use bytes::Bytes;
use std::collections::BTreeSet;
use types::{BlobId, PartitionId, UploadId};
use wire::records::{ObjectRecord, UploadRecord};

/// What rows tell of that.
#[derive(Clone, Default)]
pub struct Halves {
    /// Uploads that there are, begun or ended: all that is told when rows are read for the first time.
    uploads: BTreeSet<UploadId>,
    /// Those of them that ended.
    ended: BTreeSet<UploadId>,
    /// Those that an object has come of.
    completed: BTreeSet<UploadId>,
    /// Blobs that something has by pages.
    paged: BTreeSet<BlobId>,
}

impl Halves {
    /// Takes what a row tells.
    pub fn take(&mut self, partition: PartitionId, key: &Bytes) {
        if partition != PartitionId::FIRST_DATA {
            return;
        }
        match Row::parse(key) {
            Ok(Row::Upload(_, _, upload)) => drop(self.uploads.insert(upload)),
            Ok(Row::Ended(_, _, upload)) => {
                self.uploads.insert(upload);
                self.ended.insert(upload);
            }
            _ => {}
        }
    }

    /// Whether a row is to be laid. Of all rows, ascending, after all were taken: objects come first, then uploads, then what is theirs.
    pub fn is_laid(&mut self, partition: PartitionId, key: &Bytes, value: &Bytes) -> bool {
        if partition != PartitionId::FIRST_DATA {
            return true;
        }
        match Row::parse(key) {
            Ok(Row::Garbage(..)) => false,
            Ok(Row::Manifest(_, _, blob, _)) => {
                self.paged.contains(&blob) || self.ended.contains(&UploadId(blob.0))
            }
            Ok(Row::Part(_, _, upload, _) | Row::Ended(_, _, upload)) => !self.completed.contains(&upload),
            Ok(Row::Upload(_, _, upload)) => {
                let record = decode::<UploadRecord>(key, value);
                if record.is_ok_and(|upload| upload.laying.is_some()) {
                    self.paged.insert(BlobId(upload.0));
                }
                !self.completed.contains(&upload)
            }
            Ok(Row::Current(..) | Row::Version(..)) => {
                if let Ok(record) = decode::<ObjectRecord>(key, value) {
                    self.object(&record);
                }
                true
            }
            _ => true,
        }
    }

    fn object(&mut self, record: &ObjectRecord) {
        let upload = BlobId::from_slice(&record.blob).map(|blob| UploadId(blob.0));
        if let Some(upload) = upload.filter(|upload| self.uploads.contains(upload)) {
            self.completed.insert(upload);
            self.ended.remove(&upload);
        }
        self.paged.extend(named_pages(record).map(|(blob, _)| blob));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{RowRef, encode};
    use types::{BucketId, VersionId};
    use wire::records::object_record::Data;
    use wire::records::{EndedUpload, GarbageRecord, Laying, Manifest, PartRecord};

    const BUCKET: BucketId = BucketId(1);

    fn object(blob: u128) -> Bytes {
        let manifest = Manifest {
            pages: 2,
            chunks: 5,
            parts: 0,
        };
        encode(&ObjectRecord {
            blob: BlobId(blob).to_bytes().to_vec(),
            data: Some(Data::Manifest(manifest)),
            ..ObjectRecord::default()
        })
    }

    /// An upload, its part and its pages.
    fn upload(id: u128, is_ended: bool) -> Vec<(Bytes, Bytes)> {
        let (blob, id) = (BlobId(id), UploadId(id));
        let begun = UploadRecord {
            laying: Some(Laying::default()),
            ..UploadRecord::default()
        };
        let own = match is_ended {
            false => (RowRef::Upload(BUCKET, "k", id).key(), encode(&begun)),
            true => (
                RowRef::Ended(BUCKET, "k", id).key(),
                encode(&EndedUpload::default()),
            ),
        };
        let part = RowRef::Part(BUCKET, "k", id, 1).key();
        let mut rows = vec![own, (part, encode(&PartRecord::default()))];
        rows.extend([0, 1].map(|page| (RowRef::Manifest(BUCKET, "k", blob, page).key(), Bytes::new())));
        rows
    }

    fn laid(rows: &[(Bytes, Bytes)]) -> BTreeSet<Bytes> {
        let mut halves = Halves::default();
        let mut rows = rows.to_vec();
        rows.sort();
        for (key, _) in &rows {
            halves.take(PartitionId::FIRST_DATA, key);
        }
        let is_laid = |(key, value): &(Bytes, Bytes)| halves.is_laid(PartitionId::FIRST_DATA, key, value);
        rows.into_iter().filter(is_laid).map(|(key, _)| key).collect()
    }

    fn keys<'a>(rows: impl IntoIterator<Item = &'a (Bytes, Bytes)>) -> BTreeSet<Bytes> {
        rows.into_iter().map(|(key, _)| key.clone()).collect()
    }

    /// What is booked and named both stays named, whole; what is only booked is left out, whole, also where the booking itself is missing. // I3
    #[test]
    fn what_is_booked_is_left_out_and_what_is_named_beside_it_stays() {
        let older = VersionId::from_slice(&[9; 16]).unwrap();
        let pages = |blob| {
            [0, 1].map(|page| {
                (
                    RowRef::Manifest(BUCKET, "k", BlobId(blob), page).key(),
                    Bytes::new(),
                )
            })
        };
        let booked = |blob| {
            let record = GarbageRecord::default();
            (RowRef::Garbage(BUCKET, "k", BlobId(blob)).key(), encode(&record))
        };
        let mut named = vec![
            (RowRef::Current(BUCKET, "k").key(), object(1)),
            (RowRef::Version(BUCKET, "k", older).key(), object(2)),
        ];
        named.extend(pages(1).into_iter().chain(pages(2)));
        let mut rows = named.clone();
        rows.extend(pages(3).into_iter().chain(pages(4)));
        rows.extend([1, 2, 3, 5].map(booked));
        assert_eq!(laid(&rows), keys(&named));
    }

    /// An upload that an object has come of is none any more: aborting it, or completing it again, would book the object's bytes. // I3
    #[test]
    fn an_upload_that_an_object_has_come_of_is_left_out() {
        for is_ended in [false, true] {
            let (completed, other) = (upload(1, is_ended), upload(2, is_ended));
            let mut rows = [completed.clone(), other.clone()].concat();
            assert_eq!(laid(&rows), keys(&rows), "without an object");
            let current = (RowRef::Current(BUCKET, "k").key(), object(1));
            rows.push(current.clone());
            // Its pages are the object's.
            let kept = other.iter().chain([&current]).chain(&completed[2..]);
            assert_eq!(laid(&rows), keys(kept), "{is_ended}");
        }
    }
}
