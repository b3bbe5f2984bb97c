//! Bookings of garbage, in rows of which some are missing: they are not laid.
//!
//! A commit books bytes together with taking away what named them. Where rows are missing the two may be of different moments: the files are
//! written behind in steps, so they can have the booking of a commit whose other rows only the log had, and that lost it. What is booked there is
//! named, too, and would go once reclaim is released. Bytes that are garbage need no booking to go: without one they are orphans, which are asked
//! for whether anything names them.
//!
//! Pages of a booking's manifest go with it, unless an object or an upload that is there has them.

use crate::rows::{Row, decode};
use crate::strays::named_pages;
use bytes::Bytes;
use std::collections::BTreeSet;
use types::{BlobId, PartitionId};
use wire::records::{GarbageRecord, ObjectRecord, UploadRecord};

/// What rows tell of bookings.
#[derive(Clone, Default)]
pub struct Bookings {
    /// Blobs that are booked and have pages: all that is told when rows are read for the first time, those that nothing else has when they are laid.
    paged: BTreeSet<BlobId>,
}

impl Bookings {
    /// Takes what a row tells. What does not decode tells nothing.
    pub fn take(&mut self, partition: PartitionId, key: &Bytes, value: &Bytes) {
        if partition != PartitionId::FIRST_DATA {
            return;
        }
        if let Ok(Row::Garbage(_, _, blob)) = Row::parse(key)
            && decode::<GarbageRecord>(key, value).is_ok_and(|garbage| garbage.manifest.is_some())
        {
            self.paged.insert(blob);
        }
    }

    /// Whether a row is neither a booking nor a page of one. Of all rows, ascending: what names pages comes before them.
    pub fn is_other(&mut self, partition: PartitionId, key: &Bytes, value: &Bytes) -> bool {
        if partition != PartitionId::FIRST_DATA {
            return true;
        }
        match Row::parse(key) {
            Ok(Row::Garbage(..)) => return false,
            Ok(Row::Manifest(_, _, blob, _)) => return !self.paged.contains(&blob),
            // Records are looked into where there is something to be kept.
            _ if self.paged.is_empty() => {}
            Ok(Row::Current(..) | Row::Version(..)) => {
                let record = decode::<ObjectRecord>(key, value).ok();
                if let Some((blob, _)) = record.as_ref().and_then(named_pages) {
                    self.paged.remove(&blob);
                }
            }
            Ok(Row::Upload(_, _, upload)) => {
                let record = decode::<UploadRecord>(key, value);
                if record.is_ok_and(|upload| upload.laying.is_some()) {
                    self.paged.remove(&BlobId(upload.0));
                }
            }
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{RowRef, encode};
    use types::{BucketId, UploadId, VersionId};
    use wire::records::object_record::Data;
    use wire::records::{Laying, Manifest};

    const BUCKET: BucketId = BucketId(1);

    fn manifest() -> Manifest {
        Manifest {
            pages: 2,
            chunks: 5,
            parts: 0,
        }
    }

    fn object(blob: BlobId) -> Bytes {
        encode(&ObjectRecord {
            blob: blob.to_bytes().to_vec(),
            data: Some(Data::Manifest(manifest())),
            ..ObjectRecord::default()
        })
    }

    /// What is booked and named both, of commits of which some rows are missing, stays named, whole; what is only booked is left out, whole. // I3
    #[test]
    fn what_is_booked_is_left_out_and_what_is_named_beside_it_stays() {
        let [current, version, laid, gone, short] = [1, 2, 3, 4, 5].map(BlobId);
        let none = Bytes::new;
        let booked = |blob: BlobId, manifest: Option<Manifest>| {
            let record = GarbageRecord {
                blob: blob.to_bytes().to_vec(),
                manifest,
                ..GarbageRecord::default()
            };
            (RowRef::Garbage(BUCKET, "k", blob).key(), encode(&record))
        };
        let laying = UploadRecord {
            laying: Some(Laying::default()),
            ..UploadRecord::default()
        };
        let older = VersionId::from_slice(&[9; 16]).unwrap();
        let mut rows = vec![
            (RowRef::Current(BUCKET, "k").key(), object(current)),
            (RowRef::Version(BUCKET, "k", older).key(), object(version)),
            (
                RowRef::Upload(BUCKET, "k", UploadId(laid.0)).key(),
                encode(&laying),
            ),
        ];
        for blob in [current, version, laid, gone] {
            rows.extend([0, 1].map(|page| (RowRef::Manifest(BUCKET, "k", blob, page).key(), none())));
        }
        rows.extend([current, version, laid, gone].map(|blob| booked(blob, Some(manifest()))));
        rows.push(booked(short, None));
        rows.sort();
        let mut bookings = Bookings::default();
        for (key, value) in &rows {
            bookings.take(PartitionId::FIRST_DATA, key, value);
        }
        let all = rows.iter().map(|(key, _)| key.clone());
        let expected = all.filter(|key| match Row::parse(key) {
            Ok(Row::Garbage(..)) => false,
            Ok(Row::Manifest(_, _, blob, _)) => blob != gone,
            _ => true,
        });
        let expected: Vec<Bytes> = expected.collect();
        assert_eq!((rows.len(), expected.len()), (16, 9));
        let is_other = |(key, value): &(Bytes, Bytes)| bookings.is_other(PartitionId::FIRST_DATA, key, value);
        let left: Vec<Bytes> = rows.into_iter().filter(is_other).map(|(key, _)| key).collect();
        assert_eq!(left, expected);
    }
}
