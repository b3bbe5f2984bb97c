//! Copies: what arrives under the new name, and that it is never other bytes than the source's record says.

#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use objects::{CopyObject, ObjectsError, Opened};
use support::*;
use types::limits::INLINE_BYTES_MAX;
use types::{ChecksumAlgorithm, ErrorKind, ExtentId, Kind as _, NeedleId};
use wire::index::{Precondition, VersionRef};
use wire::records::{ContentHeaders, ObjectRecord, Pair, object_record::Data};

fn to(k: &str) -> CopyObject {
    CopyObject {
        bucket: name(),
        key: key(k),
        headers: ContentHeaders::default(),
        metadata: vec![Pair {
            name: "m".into(),
            value: "1".into(),
        }],
        tags: Vec::new(),
        checksum: None,
        precondition: Precondition::default(),
    }
}

fn needles(record: &ObjectRecord) -> Vec<(ExtentId, NeedleId)> {
    match &record.data {
        Some(Data::Chunks(c)) => c
            .chunks
            .iter()
            .map(|c| (ExtentId(c.place), NeedleId(c.needle)))
            .collect(),
        _ => Vec::new(),
    }
}

async fn open(b: &Bench, k: &str) -> Opened {
    b.objects
        .get(&CALLER, &name(), &key(k), VersionRef::Current)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_copy_has_needles_of_its_own() {
    let b = bench().await;
    for size in [0, INLINE_BYTES_MAX, 200_000, 3 << 20] {
        let all = bytes(size);
        b.put("from", &all).await.unwrap();
        let source = open(&b, "from").await;
        let (needles, etag) = (needles(&source.record), source.record.etag_md5.clone());
        let answer = b.objects.copy(&CALLER, source, to("to")).await.unwrap();
        assert_eq!(answer.etag_md5, etag);
        assert_eq!(b.get("to").await.unwrap(), all);
        let copy = open(&b, "to").await.record;
        let shared = self::needles(&copy).into_iter().any(|n| needles.contains(&n));
        assert!(!shared, "I3: one record names a needle");
        assert_eq!(copy.metadata, to("to").metadata);
        // Onto itself.
        let source = open(&b, "to").await;
        b.objects.copy(&CALLER, source, to("to")).await.unwrap();
        assert_eq!(b.get("to").await.unwrap(), all);
    }
}

#[tokio::test]
async fn a_copy_keeps_the_algorithm_or_gets_the_one_asked_for() {
    let b = bench().await;
    b.put("from", &bytes(1000)).await.unwrap();
    b.objects
        .copy(&CALLER, open(&b, "from").await, to("a"))
        .await
        .unwrap();
    let checksums = open(&b, "a").await.record.checksums;
    assert_eq!(checksums, open(&b, "from").await.record.checksums);
    let asked = CopyObject {
        checksum: Some(ChecksumAlgorithm::Sha256),
        ..to("b")
    };
    b.objects
        .copy(&CALLER, open(&b, "from").await, asked)
        .await
        .unwrap();
    let checksums = open(&b, "b").await.record.checksums;
    let algorithms: Vec<_> = checksums.iter().map(|c| c.algorithm).collect();
    assert_eq!(algorithms, [ChecksumAlgorithm::Sha256 as u32]);
}

#[tokio::test]
async fn what_the_sources_record_denies_is_not_copied() {
    let b = bench().await;
    b.put("from", &bytes(1000)).await.unwrap();
    for spoil in [0, 1] {
        let mut source = open(&b, "from").await;
        if spoil == 0 {
            source.record.etag_md5[0] ^= 1;
        } else {
            source.record.checksums[0].value[0] ^= 1;
        }
        let refused = b.objects.copy(&CALLER, source, to("to")).await.unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::Corrupt,
            "no client is to blame: {refused:?}"
        );
    }
    assert!(b.get("to").await.is_err(), "nothing was named");
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_a_fault() {
    let b = bench().await;
    b.put("from", &bytes(200_000)).await.unwrap();
    let source = open(&b, "from").await;
    let (extent, needle) = needles(&source.record)[0];
    b.node.damage(extent, needle, 100_000);
    let error = b.objects.copy(&CALLER, source, to("to")).await.unwrap_err();
    assert!(matches!(error, ObjectsError::Fault(_)), "{error:?}");
    assert!(b.index.state().objects.len() == 1, "nothing was named");
}
