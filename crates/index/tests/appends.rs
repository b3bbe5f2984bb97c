//! Appends through the whole role: every form an object's bytes can have, what is refused, and that no needle is lost or
//! named twice on the way.

mod gateway;

use bytes::Bytes;
use gateway::{Gateway, key, record, stored, walked};
use md5::{Digest as _, Md5};
use std::collections::BTreeSet;
use std::sync::Arc;
use types::limits::{INLINE_BYTES_MAX, PART_NUMBER_MAX};
use types::{BucketId, ChecksumAlgorithm, VersionId};
use wire::index::{
    AppendData, Command, Found, Index, Match, Named, Precondition, Reason, StoredData, VersionRef,
};
use wire::records::{BucketCopy, Checksum, ObjectRecord, answer::Kind, object_record::Data};

const K: &str = "log";

struct Log {
    g: Gateway,
    bucket: BucketId,
}

fn size_of(data: &StoredData) -> u64 {
    match data {
        StoredData::Empty => 0,
        StoredData::Inline(b) => b.len() as u64,
        StoredData::Chunks(c) => c.chunks.iter().map(|c| c.length).sum(),
    }
}

fn inline(n: usize) -> StoredData {
    StoredData::Inline(Bytes::from(vec![b'x'; n]))
}

fn crc32(all: &[u8]) -> Vec<Checksum> {
    let value = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, all) as u32;
    vec![Checksum {
        algorithm: ChecksumAlgorithm::Crc32 as u32,
        value: value.to_be_bytes().to_vec(),
    }]
}

impl Log {
    async fn new() -> Self {
        let g = Gateway::new().await;
        let bucket = BucketId(g.bucket("bucket").await.bucket);
        Self { g, bucket }
    }

    async fn found(&self) -> Option<Found> {
        let found = self
            .g
            .index
            .get(self.bucket, &key(K), VersionRef::Current, true)
            .await;
        found.unwrap().ok()
    }

    fn chunks(&self, n: u64) -> StoredData {
        StoredData::Chunks(stored(self.g.blob(), n))
    }

    /// As a gateway does that has just looked.
    async fn append(&self, data: StoredData) -> Result<Kind, Reason> {
        let seen = self.found().await;
        let offset = seen.as_ref().map_or(0, |f| f.record.size);
        let was_inline = matches!(seen.as_ref().map(|f| &f.record.data), Some(Some(Data::Inline(_))));
        let whole = was_inline && matches!(data, StoredData::Chunks(_));
        let size = size_of(&data) - if whole { offset } else { 0 };
        let data = AppendData {
            offset,
            seen: seen.and_then(|f| VersionId::from_slice(&f.record.version)),
            data,
            whole,
        };
        self.append_as(record(size), data).await
    }

    async fn append_as(&self, piece: Box<ObjectRecord>, data: AppendData) -> Result<Kind, Reason> {
        let command = Command::Append {
            bucket: self.bucket,
            key: key(K),
            piece,
            data: Box::new(data),
            precondition: Precondition::default(),
        };
        self.g.call(command).await
    }

    /// Needles named in the whole partition, each once (I3).
    async fn needles(&self) -> BTreeSet<u64> {
        let mut all = BTreeSet::new();
        for named in walked(&*self.g.index).await {
            let chunks = match named {
                Named::Object { found, .. } => match &found.record.data {
                    Some(Data::Chunks(c)) => c.chunks.clone(),
                    _ => found.manifest.iter().flat_map(|p| p.chunks.clone()).collect(),
                },
                Named::Garbage { garbage, .. } => garbage.chunks,
                Named::Part { part, .. } => part.chunks,
                Named::Stray { what } => panic!("{what}"),
            };
            for chunk in chunks {
                assert!(
                    all.insert(chunk.needle),
                    "I3: needle {:x} is named twice",
                    chunk.needle
                );
            }
        }
        all
    }
}

/// Chunk lengths, and the part table's (number, size).
fn tables(found: &Found) -> (Vec<u64>, Vec<(u32, u64)>) {
    let pages = &found.manifest;
    let (chunks, parts): (Vec<_>, Vec<_>) = match &found.record.data {
        Some(Data::Chunks(c)) => (c.chunks.clone(), found.record.parts.clone()),
        Some(Data::Manifest(_)) => (
            pages.iter().flat_map(|p| p.chunks.clone()).collect(),
            pages.iter().flat_map(|p| p.parts.clone()).collect(),
        ),
        _ => (Vec::new(), found.record.parts.clone()),
    };
    let lengths = chunks.iter().map(|c| c.length).collect();
    (lengths, parts.iter().map(|p| (p.number, p.size)).collect())
}

#[tokio::test]
async fn bytes_join_in_every_form() {
    let log = Log::new().await;
    // Inline, inline and inline, then too much for that, then needle after needle past a record and past a page.
    log.append(inline(100)).await.unwrap();
    assert_eq!(
        log.found().await.unwrap().record.etag_parts,
        0,
        "the first is a put"
    );
    log.append(inline(412)).await.unwrap();
    let found = log.found().await.unwrap();
    assert_eq!(found.inline.as_ref().map(Bytes::len), Some(INLINE_BYTES_MAX));
    assert_eq!(tables(&found).1, [(1, 100), (2, 412)]);
    log.append(log.chunks(1)).await.unwrap();
    let found = log.found().await.unwrap();
    assert_eq!((found.record.size, found.inline.is_some()), (4096, false));
    assert_eq!(
        tables(&found),
        (vec![4096], vec![(1, 100), (2, 412), (3, 4096 - 512)])
    );
    let mut version = found.record.version;
    for n in 1..1100u64 {
        let Ok(Kind::Put(answer)) = log.append(log.chunks(1)).await else {
            panic!("append {n}")
        };
        assert_eq!(
            (answer.size, u64::from(answer.etag_parts)),
            (4096 * (n + 1), n + 3)
        );
        assert!(answer.version < version, "newer versions sort first");
        version = answer.version;
        if [13, 14, 15, 16, 508, 509, 510, 511, 512, 1023, 1024].contains(&n) {
            let found = log.found().await.unwrap();
            let (chunks, parts) = tables(&found);
            assert_eq!(chunks, vec![4096; n as usize + 1], "after {n}");
            assert_eq!(parts.len() as u64, n + 3);
            assert!(parts.iter().zip(1u32..).all(|(p, number)| p.0 == number));
            assert_eq!(parts.iter().map(|p| p.1).sum::<u64>(), found.record.size);
            assert_eq!(log.needles().await.len() as u64, n + 1);
        }
    }
    let usage = log.g.index.usage(log.bucket).await.unwrap();
    assert_eq!((usage[0].1.objects, usage[0].1.bytes), (1, 4096 * 1100));
    log.g.delete(log.bucket, K).await;
    assert_eq!(log.needles().await.len(), 1100, "each is garbage once");
    let usage = log.g.index.usage(log.bucket).await.unwrap();
    assert_eq!((usage[0].1.objects, usage[0].1.bytes), (0, 0));
}

#[tokio::test]
async fn large_objects_take_appends_too() {
    let log = Log::new().await;
    for n in [1u64, 16, 17, 511, 512, 513] {
        log.g.put(log.bucket, K, log.chunks(n)).await.unwrap();
        log.append(log.chunks(80)).await.unwrap();
        log.append(log.chunks(2)).await.unwrap();
        let found = log.found().await.unwrap();
        let (chunks, parts) = tables(&found);
        assert_eq!(chunks.len() as u64, n + 82, "onto {n}");
        assert_eq!(parts, [(1, 4096 * n), (2, 4096 * 80), (3, 4096 * 2)]);
        log.g.delete(log.bucket, K).await;
    }
}

#[tokio::test]
async fn the_etag_goes_on_and_a_crc_is_of_all_bytes() {
    let log = Log::new().await;
    let (mut all, mut etag, mut seen) = (Vec::new(), Vec::new(), None);
    for n in 1..5u8 {
        let bytes = vec![n; 10 * usize::from(n)];
        let mut piece = record(bytes.len() as u64);
        (piece.etag_md5, piece.checksums) = (vec![n; 16], crc32(&bytes));
        piece.checksum_kind = 1;
        let data = AppendData {
            offset: all.len() as u64,
            seen,
            data: StoredData::Inline(bytes.clone().into()),
            whole: false,
        };
        let Ok(Kind::Put(answer)) = log.append_as(piece.clone(), data).await else {
            panic!("append {n}")
        };
        all.extend_from_slice(&bytes);
        etag = match n {
            1 => piece.etag_md5.clone(),
            _ => Md5::digest([&etag[..], &piece.etag_md5[..]].concat()).to_vec(),
        };
        assert_eq!(
            (&answer.etag_md5, answer.etag_parts),
            (&etag, if n == 1 { 0 } else { u32::from(n) })
        );
        assert_eq!((&answer.checksums, answer.checksum_kind), (&crc32(&all), 1));
        seen = VersionId::from_slice(&answer.version);
    }
    assert_eq!(log.found().await.unwrap().inline.unwrap(), all);
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let log = Log::new().await;
    let at = |offset, seen| AppendData {
        offset,
        seen,
        data: inline(5),
        whole: false,
    };
    assert_eq!(
        log.append_as(record(5), at(1, None)).await,
        Err(Reason::InvalidWriteOffset)
    );
    log.append(inline(10)).await.unwrap();
    let seen = log
        .found()
        .await
        .map(|f| VersionId::from_slice(&f.record.version).unwrap());
    for (offset, seen, reason) in [
        (9, seen, Reason::InvalidWriteOffset),
        (11, seen, Reason::InvalidWriteOffset),
        (0, None, Reason::InvalidWriteOffset),
        (10, Some(VersionId(7)), Reason::AppendRaced),
        (10, None, Reason::AppendRaced),
    ] {
        assert_eq!(
            log.append_as(record(5), at(offset, seen)).await,
            Err(reason),
            "{offset}"
        );
    }
    // Needles where the bytes stand inline, and bytes where there are needles: another form than was seen.
    let needles = AppendData {
        data: log.chunks(1),
        ..at(10, seen)
    };
    assert_eq!(
        log.append_as(record(4096), needles).await,
        Err(Reason::AppendRaced)
    );
    let mut full = record(10);
    full.etag_parts = PART_NUMBER_MAX;
    let put = Command::Put {
        bucket: log.bucket,
        key: key(K),
        record: full,
        data: inline(10),
        precondition: Precondition::default(),
    };
    log.g.call(put).await.unwrap();
    assert_eq!(log.append(inline(5)).await, Err(Reason::TooManyParts));
    assert_eq!(log.found().await.unwrap().record.size, 10, "nothing was changed");
}

#[tokio::test]
async fn preconditions_hold_for_appends() {
    let log = Log::new().await;
    log.append(inline(10)).await.unwrap();
    let seen = log.found().await.unwrap().record;
    let append = |precondition| Command::Append {
        bucket: log.bucket,
        key: key(K),
        piece: record(5),
        data: Box::new(AppendData {
            offset: 10,
            seen: VersionId::from_slice(&seen.version),
            data: inline(5),
            whole: false,
        }),
        precondition,
    };
    let failed = log.g.call(append(Precondition {
        if_none_match: Some(Match::Any),
        ..Precondition::default()
    }));
    assert_eq!(failed.await, Err(Reason::PreconditionFailed));
    let held = log.g.call(append(Precondition {
        if_match: Some(Match::Any),
        ..Precondition::default()
    }));
    held.await.unwrap();
}

#[tokio::test]
async fn where_versions_are_kept_nothing_is_appended() {
    let log = Log::new().await;
    log.append(inline(10)).await.unwrap();
    for versioning in [1, 2] {
        let copy = BucketCopy {
            turn: 1,
            configuration: 1 + u64::from(versioning),
            versioning,
            ..BucketCopy::default()
        };
        let bucket = log.bucket;
        log.g.call(Command::OpenBucket { bucket, copy }).await.unwrap();
        assert_eq!(log.append(inline(5)).await, Err(Reason::AppendVersioned));
    }
}

#[tokio::test]
async fn of_appends_at_one_offset_one_is_taken() {
    let log = Log::new().await;
    log.append(inline(10)).await.unwrap();
    let seen = log
        .found()
        .await
        .map(|f| VersionId::from_slice(&f.record.version).unwrap());
    let data = || AppendData {
        offset: 10,
        seen,
        data: inline(5),
        whole: false,
    };
    // All at once, so that they share a batch. I2
    let log = Arc::new(log);
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (log, data) = (Arc::clone(&log), data());
            tokio::spawn(async move { log.append_as(record(5), data).await })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    assert_eq!(all.iter().filter(|a| a.is_ok()).count(), 1);
    assert!(
        all.iter()
            .all(|a| a.is_ok() || *a == Err(Reason::InvalidWriteOffset))
    );
    assert_eq!(log.found().await.unwrap().record.size, 15);
}

#[tokio::test]
async fn an_empty_object_keeps_what_it_is() {
    let log = Log::new().await;
    let mut empty = record(0);
    empty.headers = Some(wire::records::ContentHeaders {
        content_type: "text/x".into(),
        ..Default::default()
    });
    let put = Command::Put {
        bucket: log.bucket,
        key: key(K),
        record: empty,
        data: StoredData::Empty,
        precondition: Precondition::default(),
    };
    log.g.call(put).await.unwrap();
    log.append(log.chunks(3)).await.unwrap();
    let record = log.found().await.unwrap().record;
    assert_eq!(record.headers.unwrap().content_type, "text/x");
    assert_eq!((record.size, record.etag_parts), (3 * 4096, 0));
}
