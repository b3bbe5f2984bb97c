//! Rows of an index that is made anew from what needles say of whom they belong to. Pure: what is known comes in, rows go out.
//!
//! What no needle says is not in them: headers, metadata, tags, inline objects, deletes, uploads under way.

use crate::commands::point;
use crate::rows::{BadRow, Row, RowRef, decode, encode};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use types::{AccountId, BlobId, BucketId, Hlc, PartitionId, SessionId, StampId, VersionId};
use wire::index::Versioning;
use wire::records::{BucketCopy, BucketRecord, Chunk, ObjectRecord, Part, PartitionState, UsageRecord};

/// `BucketRecord::state` and `BucketCopy::state` of a bucket that takes puts.
const OPEN: u32 = 2;
const COPY_OPEN: u32 = 1;
/// Those of a bucket that is being deleted: whoever comes next ends that, or opens the bucket again.
const DELETING: u32 = 3;
const COPY_CLOSING: u32 = 2;

/// An object as its needles tell of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Remains {
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// The blob that its record is to name: the upload's id for one of parts.
    pub blob: BlobId,
    /// When its last needle was written.
    pub time: Hlc,
    /// Where its bytes are, in order.
    pub chunks: Vec<Chunk>,
    /// Its parts, where it has some.
    pub parts: Vec<Part>,
    /// Of its bytes, or of its parts' sums.
    pub etag_md5: [u8; 16],
}

/// Numbers that were given and of which nothing tells any more are among these, so that none is given twice.
const NUMBERS_PASSED: u64 = 1 << 20;

/// The rows of the directory and of the objects' partition, as they come to be.
#[derive(Debug, Default)]
pub struct Rebuilt {
    rows: BTreeMap<(PartitionId, Bytes), Bytes>,
    /// What is known of buckets.
    buckets: BTreeMap<BucketId, BucketRecord>,
    /// What the objects' partition knows of them.
    copies: BTreeMap<BucketId, BucketCopy>,
    /// Buckets of which it has objects, versions or uploads.
    filled: BTreeSet<BucketId>,
    usage: BTreeMap<BucketId, UsageRecord>,
    last_session: SessionId,
    newest: Hlc,
    serial: u64,
}

impl Rebuilt {
    /// Takes over a row of a partition that is whole. The place in its log that its state says is not taken over: the log begins anew.
    ///
    /// # Errors
    /// It is no row of this build's.
    pub fn keep(&mut self, partition: PartitionId, key: Bytes, mut value: Bytes) -> Result<(), String> {
        let bad = |e: BadRow| e.to_string();
        match Row::parse(&key).map_err(bad)? {
            Row::BucketName(_) => {
                let record: BucketRecord = decode(&key, &value).map_err(bad)?;
                self.buckets.insert(BucketId(record.bucket), record);
            }
            Row::Bucket(bucket) => {
                let copy: BucketCopy = decode(&key, &value).map_err(bad)?;
                self.saw_bucket(bucket);
                self.copies.insert(bucket, copy);
            }
            Row::State => {
                let state: PartitionState = decode(&key, &value).map_err(bad)?;
                self.saw_session(state.sessions_ended_below);
                value = encode(&PartitionState {
                    epoch: 0,
                    sequence: 0,
                    ..state
                });
            }
            Row::Current(bucket, _) | Row::Version(bucket, ..) | Row::Upload(bucket, ..) => {
                self.filled.insert(bucket);
            }
            Row::Session(session) => self.saw_session(session.0),
            Row::Done(command) => self.saw_session(command.session().0),
            _ => {}
        }
        self.rows.insert((partition, key), value);
        Ok(())
    }

    /// Takes note of a bucket that was, named again or not: its number is not given again.
    pub fn saw_bucket(&mut self, bucket: BucketId) {
        self.serial = self.serial.max(bucket.0 & ((1 << 48) - 1));
    }

    fn saw_session(&mut self, session: u64) {
        self.last_session = self.last_session.max(SessionId(session));
    }

    /// The last session of which rows that were taken over tell.
    pub fn last_session(&self) -> SessionId {
        self.last_session
    }

    /// Buckets that the objects' partition knows, where that was taken over. Not those that were deleted: it keeps what it knew of them.
    pub fn copied_buckets(&self) -> impl Iterator<Item = BucketId> {
        let is_there = |(bucket, copy): &(&BucketId, &BucketCopy)| {
            copy.state != COPY_CLOSING || self.filled.contains(bucket)
        };
        self.copies.iter().filter(is_there).map(|(bucket, _)| *bucket)
    }

    /// The bucket that has a name.
    pub fn named(&self, name: &str) -> Option<BucketId> {
        self.buckets()
            .find(|(_, record)| record.name == name)
            .map(|(id, _)| id)
    }

    /// The buckets that are known.
    pub fn buckets(&self) -> impl Iterator<Item = (BucketId, &BucketRecord)> {
        self.buckets.iter().map(|(id, record)| (*id, record))
    }

    /// Whether all versions of a key of this bucket were to be kept, as far as is known.
    pub fn keeps_versions(&self, bucket: BucketId) -> bool {
        let known = self.buckets.get(&bucket);
        known.is_some_and(|b| Versioning::from_number(b.versioning) == Versioning::Enabled)
    }

    /// A bucket of which only the number is known, under a name that was found for it and that no other bucket has.
    pub fn name_bucket(&mut self, bucket: BucketId, name: &str, region: &str, now_ms: u64) {
        let new = BucketCopy {
            turn: 1,
            state: COPY_OPEN,
            configuration: 1,
            versioning: 0,
            owner: AccountId::ROOT.0,
        };
        let copy = self.copies.get(&bucket).copied().unwrap_or(new);
        let record = BucketRecord {
            bucket: bucket.0,
            name: name.to_owned(),
            owner: copy.owner,
            created_ms: now_ms,
            region: region.to_owned(),
            turn: copy.turn,
            state: if copy.state == COPY_CLOSING {
                DELETING
            } else {
                OPEN
            },
            configuration: copy.configuration,
            versioning: copy.versioning,
            configured: copy.configuration,
        };
        let mut row = |key: Bytes, value: Bytes| self.rows.insert((PartitionId::DIRECTORY, key), value);
        row(RowRef::BucketName(name).key(), encode(&record));
        row(
            RowRef::AccountBucket(AccountId(copy.owner), name).key(),
            Bytes::new(),
        );
        self.saw_bucket(bucket);
        self.buckets.insert(bucket, record);
    }

    /// An object; `visible`: it is what its key names, else it is an older version.
    pub fn object(&mut self, object: Remains, visible: bool) {
        let keeps_versions = self.keeps_versions(object.bucket);
        self.serial += 1;
        let version = VersionId::new(object.time, StampId::FIRST, self.serial);
        let size = object.chunks.iter().map(|chunk| chunk.length).sum();
        let mut record = ObjectRecord {
            size,
            etag_md5: object.etag_md5.to_vec(),
            etag_parts: object.parts.len() as u32,
            modified_ms: object.time.wall_ms(),
            owner: self
                .buckets
                .get(&object.bucket)
                .map_or(AccountId::ROOT.0, |b| b.owner),
            version: version.to_bytes().to_vec(),
            null_version: !keeps_versions,
            ..ObjectRecord::default()
        };
        let (bucket, key) = (object.bucket, object.key.as_str());
        let pages = point(object.blob, object.chunks, object.parts, &mut record);
        for (page, message) in (0..).zip(&pages) {
            self.put(&RowRef::Manifest(bucket, key, object.blob, page), encode(message));
        }
        let row = match visible {
            true => RowRef::Current(bucket, key),
            false => RowRef::Version(bucket, key, version),
        };
        self.put(&row, encode(&record));
        let usage = self.usage.entry(bucket).or_default();
        usage.bytes += size as i64;
        usage.versions += 1;
        usage.objects += i64::from(visible);
        self.newest = self.newest.max(object.time);
    }

    fn put(&mut self, row: &RowRef<'_>, value: Bytes) {
        self.rows.insert((PartitionId::FIRST_DATA, row.key()), value);
    }

    /// Everything, sorted as a store wants it. `below`: sessions that have ended, which is all that there were; `newest`: no time that was
    /// given is above it. Of a partition that is whole the own row is there already.
    pub fn rows(
        mut self,
        below: SessionId,
        newest: Hlc,
        (directory_is_whole, data_is_whole): (bool, bool),
    ) -> BTreeMap<(PartitionId, Bytes), Bytes> {
        let state = PartitionState {
            hlc: self.newest.max(newest).0,
            serial: self.serial + NUMBERS_PASSED,
            sessions_ended_below: below.0,
            ..PartitionState::default()
        };
        let state = (RowRef::State.key(), encode(&state));
        if !directory_is_whole {
            self.rows
                .insert((PartitionId::DIRECTORY, state.0.clone()), state.1.clone());
        }
        if data_is_whole {
            return self.rows;
        }
        for (bucket, record) in std::mem::take(&mut self.buckets) {
            let copy = BucketCopy {
                turn: record.turn,
                state: COPY_OPEN,
                configuration: record.configuration,
                versioning: record.versioning,
                owner: record.owner,
            };
            self.put(&RowRef::Bucket(bucket), encode(&copy));
        }
        for (bucket, usage) in std::mem::take(&mut self.usage) {
            self.put(&RowRef::Usage(bucket, 0), encode(&usage));
        }
        self.rows.insert((PartitionId::FIRST_DATA, state.0), state.1);
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Range;
    use types::limits::CHUNKS_INLINE_MAX;
    use wire::records::ManifestPage;
    use wire::records::object_record::Data;

    const BUCKET: BucketId = BucketId(1 << 48 | 7);

    fn remains(key: &str, blob: u128, time_ms: u64, chunks: usize) -> Remains {
        let chunk = |n| Chunk {
            place: 1,
            needle: n as u64 + 1,
            length: 10,
            ..Chunk::default()
        };
        Remains {
            bucket: BUCKET,
            key: key.into(),
            blob: BlobId(blob),
            time: Hlc::at(time_ms),
            chunks: (0..chunks).map(chunk).collect(),
            parts: Vec::new(),
            etag_md5: [3; 16],
        }
    }

    fn value<M: prost::Message + Default>(
        rows: &BTreeMap<(PartitionId, Bytes), Bytes>,
        partition: PartitionId,
        row: &RowRef<'_>,
    ) -> M {
        let key = row.key();
        let value = &rows[&(partition, key.clone())];
        decode(&key, value).unwrap()
    }

    #[test]
    fn objects_buckets_and_what_they_hold_have_their_rows() {
        let mut rebuilt = Rebuilt::default();
        rebuilt.name_bucket(BUCKET, "found", "us-east-1", 5);
        rebuilt.object(remains("a", 1, 100, 2), true);
        rebuilt.object(remains("b", 2, 50, CHUNKS_INLINE_MAX + 1), true);
        let rows = rebuilt.rows(SessionId(9), Hlc::at(20), (false, false));
        let data = PartitionId::FIRST_DATA;
        let a: ObjectRecord = value(&rows, data, &RowRef::Current(BUCKET, "a"));
        assert_eq!((a.size, a.modified_ms, a.null_version), (20, 100, true));
        assert!(matches!(&a.data, Some(Data::Chunks(c)) if c.chunks.len() == 2));
        let b: ObjectRecord = value(&rows, data, &RowRef::Current(BUCKET, "b"));
        assert!(matches!(b.data, Some(Data::Manifest(m)) if m.pages == 1));
        let page: ManifestPage = value(&rows, data, &RowRef::Manifest(BUCKET, "b", BlobId(2), 0));
        assert_eq!(page.chunks.len(), CHUNKS_INLINE_MAX + 1);
        let usage: UsageRecord = value(&rows, data, &RowRef::Usage(BUCKET, 0));
        assert_eq!(
            (usage.objects, usage.versions, usage.bytes),
            (2, 2, 20 + 10 * (CHUNKS_INLINE_MAX as i64 + 1))
        );
        let copy: BucketCopy = value(&rows, data, &RowRef::Bucket(BUCKET));
        let record: BucketRecord = value(&rows, PartitionId::DIRECTORY, &RowRef::BucketName("found"));
        assert_eq!(
            (copy.turn, copy.configuration),
            (record.turn, record.configuration)
        );
        for partition in [PartitionId::DIRECTORY, data] {
            let state: PartitionState = value(&rows, partition, &RowRef::State);
            assert_eq!(
                (state.epoch, state.sequence, state.sessions_ended_below),
                (0, 0, 9)
            );
            assert!(
                state.hlc >= Hlc::at(100).0 && state.serial >= 7,
                "no number is given twice"
            );
        }
    }

    #[test]
    fn a_bucket_that_keeps_versions_gets_them_newest_visible() {
        let mut rebuilt = Rebuilt::default();
        let record = BucketRecord {
            bucket: BUCKET.0,
            name: "kept".into(),
            versioning: Versioning::Enabled as u32,
            turn: 4,
            state: OPEN,
            configuration: 2,
            ..BucketRecord::default()
        };
        let row = RowRef::BucketName("kept").key();
        rebuilt
            .keep(PartitionId::DIRECTORY, row, encode(&record))
            .unwrap();
        assert!(rebuilt.keeps_versions(BUCKET));
        // Three of one moment, the oldest first, each longer than the one before: versions are sorted newest first.
        for (chunks, visible) in [(1, false), (2, false), (3, true)] {
            rebuilt.object(remains("k", chunks as u128, 50, chunks), visible);
        }
        let rows = rebuilt.rows(SessionId(9), Hlc(0), (true, false));
        let versions = Range::versions(BUCKET, "k");
        let at = |key: Bytes| (PartitionId::FIRST_DATA, key);
        let older: Vec<_> = rows.range(at(versions.start)..at(versions.end)).collect();
        let current: ObjectRecord = value(&rows, PartitionId::FIRST_DATA, &RowRef::Current(BUCKET, "k"));
        let mut all = vec![current];
        all.extend(older.iter().map(|((_, key), value)| decode(key, value).unwrap()));
        let sizes: Vec<u64> = all.iter().map(|record: &ObjectRecord| record.size).collect();
        assert_eq!(sizes, [30, 20, 10]);
        assert!(all.is_sorted_by_key(|record| record.version.clone()));
        let copy: BucketCopy = value(&rows, PartitionId::FIRST_DATA, &RowRef::Bucket(BUCKET));
        assert_eq!((copy.turn, copy.configuration, copy.versioning), (4, 2, 1));
    }

    #[test]
    fn a_partition_that_is_kept_begins_a_new_log() {
        let mut rebuilt = Rebuilt::default();
        let state = PartitionState {
            epoch: 7,
            sequence: 900,
            hlc: 5,
            sessions_ended_below: 30,
            ..PartitionState::default()
        };
        let data = PartitionId::FIRST_DATA;
        rebuilt.keep(data, RowRef::State.key(), encode(&state)).unwrap();
        assert_eq!(rebuilt.last_session(), SessionId(30));
        let rows = rebuilt.rows(SessionId(31), Hlc(9), (false, true));
        let kept: PartitionState = value(&rows, data, &RowRef::State);
        assert_eq!((kept.epoch, kept.sequence, kept.hlc), (0, 0, 5));
        assert!(
            Rebuilt::default()
                .keep(data, Bytes::from_static(b"\xee"), Bytes::new())
                .is_err()
        );
    }

    #[test]
    fn a_bucket_that_was_deleted_is_left_out_and_one_that_is_not_empty_is_being_deleted() {
        let mut rebuilt = Rebuilt::default();
        let data = PartitionId::FIRST_DATA;
        let deleted = BucketId(1 << 48 | 3 << 21);
        let open = BucketId(1 << 48 | 9);
        for (bucket, state) in [(BUCKET, COPY_CLOSING), (deleted, COPY_CLOSING), (open, COPY_OPEN)] {
            let copy = BucketCopy {
                turn: 2,
                state,
                configuration: 1,
                ..BucketCopy::default()
            };
            rebuilt
                .keep(data, RowRef::Bucket(bucket).key(), encode(&copy))
                .unwrap();
        }
        let object = encode(&ObjectRecord::default());
        rebuilt
            .keep(data, RowRef::Current(BUCKET, "k").key(), object)
            .unwrap();
        let there: Vec<BucketId> = rebuilt.copied_buckets().collect();
        assert_eq!(there, [BUCKET, open], "{there:?}");
        rebuilt.name_bucket(BUCKET, "half", "us-east-1", 5);
        rebuilt.name_bucket(open, "whole", "us-east-1", 5);
        assert_eq!(
            (rebuilt.named("half"), rebuilt.named("other")),
            (Some(BUCKET), None)
        );
        let rows = rebuilt.rows(SessionId(9), Hlc(20), (false, true));
        let given: PartitionState = value(&rows, PartitionId::DIRECTORY, &RowRef::State);
        assert!(
            given.serial >= 3 << 21,
            "the numbers of buckets that are left out are not given again"
        );
        let state = |name| {
            let record: BucketRecord = value(&rows, PartitionId::DIRECTORY, &RowRef::BucketName(name));
            (record.state, record.turn)
        };
        assert_eq!((state("half"), state("whole")), ((DELETING, 2), (OPEN, 2)));
    }
}
