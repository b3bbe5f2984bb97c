//! Targets for the fuzzer: arbitrary bytes as keys and values of rows.

use crate::rows::{Place, Range, Row, RowRef, decode, encode};
use crate::verify::{verify, walk_on};
use bytes::Bytes;
use futures_util::FutureExt as _;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Rows, Scan, Snapshot, StoreError};
use types::{AccountId, BlobId, BucketId, CommandId, ExtentId, NeedleId, SessionId, UploadId, VersionId};
use wire::records::*;

const BUCKET: BucketId = BucketId(7);
const UPLOAD: UploadId = UploadId(9);
const BLOB: BlobId = BlobId(11);
/// Rows that one input makes at most.
const ROWS_MAX: usize = 12;

/// The first byte says how the others are read: as two row keys, or as two object keys; the second, where the first of them ends.
pub fn row_key(data: &[u8]) {
    let Some(([how, at], bytes)) = data.split_first_chunk::<2>() else {
        return;
    };
    let (a, b) = bytes.split_at(usize::from(*at).min(bytes.len()));
    if how % 2 == 0 {
        two_rows(a, b);
    } else if let (Ok(a), Ok(b)) = (std::str::from_utf8(a), std::str::from_utf8(b)) {
        two_keys(a, b);
        two_keys(
            &a[..a
                .char_indices()
                .nth(usize::from(how / 2))
                .map_or(a.len(), |(at, _)| at)],
            a,
        );
    }
}

/// Keys of every table.
pub fn row_key_seeds() -> Vec<Vec<u8>> {
    let rows: Vec<Bytes> = (0..=u8::MAX).step_by(13).map(|n| sample(n).key()).collect();
    let two = |how: u8, a: &[u8], b: &[u8]| [&[how, a.len() as u8], a, b].concat();
    let mut seeds: Vec<_> = rows.windows(2).map(|w| two(0, &w[0], &w[1])).collect();
    for (a, b) in [
        ("a", "a\0"),
        ("a/b", "a"),
        ("é\u{1}", "é\u{10ffff}"),
        ("", "\0\u{1}\u{ff}"),
    ] {
        seeds.push(two(3, a.as_bytes(), b.as_bytes()));
    }
    seeds
}

fn two_rows(a: &[u8], b: &[u8]) {
    let rows = [a, b].map(|bytes| Row::parse(bytes).ok());
    for (row, bytes) in rows.iter().zip([a, b]) {
        let Some(row) = row else { continue };
        assert_eq!(row.key(), bytes, "{row:?} is written otherwise");
        assert!(Row::parse(&[bytes, &[9]].concat()).is_err(), "a longer key");
        assert!(Row::parse(&bytes[..bytes.len() - 1]).is_err(), "a shorter key");
    }
    if let [Some(first), Some(second)] = &rows
        && a[0] == b[0]
    {
        assert_eq!(
            fields(first).cmp(&fields(second)),
            a.cmp(b),
            "{first:?} beside {second:?}"
        );
    }
}

/// A row's fields in the order that it sorts by.
fn fields(row: &Row) -> (u128, String, u128, u128) {
    let n = |bucket: &BucketId| u128::from(bucket.0);
    let k = |key: &String| key.clone();
    match row {
        Row::State => (0, String::new(), 0, 0),
        Row::Bucket(b) => (n(b), String::new(), 0, 0),
        Row::Done(CommandId(id)) => (*id, String::new(), 0, 0),
        Row::Session(SessionId(id)) => (u128::from(*id), String::new(), 0, 0),
        Row::Usage(b, class) => (n(b), String::new(), u128::from(*class), 0),
        Row::BucketSetting(b, kind) => (n(b), String::new(), u128::from(*kind), 0),
        Row::Current(b, key) | Row::Null(b, key) => (n(b), k(key), 0, 0),
        Row::Version(b, key, id) | Row::Inline(b, key, id) => (n(b), k(key), id.0, 0),
        Row::Upload(b, key, id) | Row::Ended(b, key, id) => (n(b), k(key), id.0, 0),
        Row::Part(b, key, id, number) => (n(b), k(key), id.0, u128::from(*number)),
        Row::Manifest(b, key, blob, page) => (n(b), k(key), blob.0, u128::from(*page)),
        Row::Garbage(b, key, blob) | Row::Intent(b, key, blob) => (n(b), k(key), blob.0, 0),
        Row::Condemned(b, key, extent, needle) => (n(b), k(key), u128::from(extent.0), u128::from(needle.0)),
        Row::BucketName(name) => (0, k(name), 0, 0),
        Row::AccountBucket(AccountId(id), name) => (u128::from(*id), k(name), 0, 0),
    }
}

/// Rows of two object keys sort as S3 sorts them, and ranges have the rows that they are for.
fn two_keys(a: &str, b: &str) {
    let order = a.as_bytes().cmp(b.as_bytes());
    let (row, other) = (RowRef::Current(BUCKET, a).key(), RowRef::Current(BUCKET, b).key());
    assert_eq!(row.cmp(&other), order);
    let has = |range: &Range, row: &Bytes| range.start <= *row && *row < range.end;
    assert_eq!(
        has(&Place::Current.with_prefix(BUCKET, a), &other),
        b.starts_with(a)
    );
    let upload = RowRef::Upload(BUCKET, b, UPLOAD).key();
    assert_eq!(upload >= Place::Uploads.after_key(BUCKET, a), b > a);
    let version = RowRef::Version(BUCKET, b, VersionId(5)).key();
    assert_eq!(has(&Range::versions(BUCKET, a), &version), a == b);
    let part = RowRef::Part(BUCKET, b, UPLOAD, 3).key();
    assert_eq!(has(&Range::parts(BUCKET, a, UPLOAD), &part), a == b);
    let page = RowRef::Manifest(BUCKET, b, BLOB, 3).key();
    assert_eq!(has(&Range::pages((BUCKET, a), BLOB, 3), &page), a == b);
    assert!(!has(&Range::pages((BUCKET, a), BLOB, 4), &page));
}

/// A row of the table that `n` stands for.
fn sample(n: u8) -> Row {
    let k = ["", "k", "a/b", "a\0"][usize::from(n / 32) % 4].to_owned();
    match n % 19 {
        0 => Row::State,
        1 => Row::Bucket(BUCKET),
        2 => Row::Done(CommandId(u128::from(n))),
        3 => Row::Session(SessionId(3)),
        4 => Row::Usage(BUCKET, 0),
        5 => Row::Current(BUCKET, k),
        6 => Row::Version(BUCKET, k, VersionId(u128::from(n))),
        7 => Row::Upload(BUCKET, k, UPLOAD),
        8 => Row::Part(BUCKET, k, UPLOAD, u32::from(n)),
        9 => Row::Manifest(BUCKET, k, BLOB, u32::from(n / 64)),
        10 => Row::Inline(BUCKET, k, VersionId(1)),
        11 => Row::Garbage(BUCKET, k, BLOB),
        12 => Row::Condemned(BUCKET, k, ExtentId(1), NeedleId(2)),
        13 => Row::Intent(BUCKET, k, BLOB),
        14 => Row::BucketName(k),
        15 => Row::AccountBucket(AccountId(1), k),
        16 => Row::BucketSetting(BUCKET, 1),
        17 => Row::Ended(BUCKET, k, UPLOAD),
        _ => Row::Null(BUCKET, k),
    }
}

/// Rows, each a byte for its key, one for its value's length, and the value. They are read by themselves, and walked as a store.
pub fn record(data: &[u8]) {
    let (mut rest, mut rows) = (data, BTreeMap::new());
    while rows.len() < ROWS_MAX
        && let Some(([table, length], after)) = rest.split_first_chunk::<2>()
    {
        let (value, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let (row, value) = (sample(*table), Bytes::copy_from_slice(value));
        reads_back(&row, &value);
        rows.insert(row.key(), value);
    }
    let (count, snapshot) = (rows.len() as u64, Arc::new(Held(rows)));
    let verified = verify(snapshot.clone(), Bytes::new())
        .now_or_never()
        .expect("all is in memory");
    let verified = verified.expect("damage is told, not returned");
    assert_eq!(verified.rows, count);
    let (mut cursor, mut pages) = (Bytes::new(), 0);
    loop {
        let walked = walk_on(snapshot.clone(), cursor.clone())
            .now_or_never()
            .expect("all is in memory");
        let (_, _, next) = walked.expect("damage is told, not returned");
        if next.is_empty() {
            return;
        }
        assert!(next > cursor, "a walk that stands still");
        (cursor, pages) = (next, pages + 1);
        assert!(pages <= 8 + 2 * count, "a walk without end");
    }
}

/// Records as commits write them.
pub fn record_seeds() -> Vec<Vec<u8>> {
    let chunk = Chunk {
        needle: 3,
        ..Chunk::default()
    };
    let object = |data| ObjectRecord {
        size: 100,
        version: vec![0; 16],
        data: Some(data),
        ..ObjectRecord::default()
    };
    let chunks = vec![chunk, chunk];
    let whole = object(object_record::Data::Chunks(Chunks {
        chunks: chunks.clone(),
    }));
    let paged = object(object_record::Data::Manifest(Manifest {
        pages: 1,
        chunks: 2,
        parts: 1,
    }));
    let inline = object(object_record::Data::Inline(Inline { length: 2, crc32c: 1 }));
    let page = ManifestPage {
        chunks: chunks.clone(),
        ..ManifestPage::default()
    };
    let garbage = GarbageRecord {
        chunks,
        ..GarbageRecord::default()
    };
    let row = |table: u8, value: Vec<u8>| [&[table, value.len() as u8], &value[..]].concat();
    vec![
        row(5, whole.encode_to_vec()),
        [row(5, paged.encode_to_vec()), row(9, page.encode_to_vec())].concat(),
        [row(5, inline.encode_to_vec()), row(10, b"ab".to_vec())].concat(),
        [row(6, whole.encode_to_vec()), row(11, garbage.encode_to_vec())].concat(),
        [
            row(7, UploadRecord::default().encode_to_vec()),
            row(8, PartRecord::default().encode_to_vec()),
        ]
        .concat(),
        [
            row(0, PartitionState::default().encode_to_vec()),
            row(14, BucketRecord::default().encode_to_vec()),
        ]
        .concat(),
        [
            row(2, DoneRecord::default().encode_to_vec()),
            row(1, BucketCopy::default().encode_to_vec()),
            row(19, vec![9, 9]),
        ]
        .concat(),
    ]
}

/// What is a message is one that reads as the same when it is written again.
fn reads_back(row: &Row, value: &Bytes) {
    match row {
        Row::State => again::<PartitionState>(value),
        Row::Bucket(_) => again::<BucketCopy>(value),
        Row::Done(_) => again::<DoneRecord>(value),
        Row::Session(_) => again::<SessionFloor>(value),
        Row::Usage(..) => again::<UsageRecord>(value),
        Row::Current(..) | Row::Version(..) => again::<ObjectRecord>(value),
        Row::Upload(..) => again::<UploadRecord>(value),
        Row::Part(..) => again::<PartRecord>(value),
        Row::Manifest(..) => again::<ManifestPage>(value),
        Row::Ended(..) => again::<EndedUpload>(value),
        Row::Garbage(..) => again::<GarbageRecord>(value),
        Row::Condemned(..) => again::<CondemnedRecord>(value),
        Row::Intent(..) => again::<IntentRecord>(value),
        Row::BucketName(_) => again::<BucketRecord>(value),
        Row::BucketSetting(..) => again::<BucketSetting>(value),
        Row::Inline(..) | Row::Null(..) | Row::AccountBucket(..) => {}
    }
}

fn again<M: Message + Default + PartialEq + std::fmt::Debug>(value: &Bytes) {
    if let Ok(message) = decode::<M>(&[], value) {
        let written = encode(&message);
        let back = decode::<M>(&[], &written);
        assert!(
            back.is_ok_and(|back| back == message && encode(&back) == written),
            "{message:?}"
        );
    }
}

struct Held(BTreeMap<Bytes, Bytes>);

#[async_trait::async_trait]
impl Snapshot for Held {
    async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
        Ok(keys.iter().map(|key| self.0.get(key).cloned()).collect())
    }
    async fn scan(&self, scan: &Scan) -> Result<Rows, StoreError> {
        let range = self
            .0
            .range(scan.start.clone()..scan.end.clone().max(scan.start.clone()));
        Ok(range
            .take(scan.max)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}
