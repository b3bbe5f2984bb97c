//! Operations over an index and a node in memory: what is named, what is refused, what happens to lost answers.
#![allow(clippy::disallowed_methods, reason = "the paused clock is tokio's")]

mod support;

use objects::{BodyError, Caller, DeleteObject, Expect, ListBuckets, ObjectsError, PutPart, StartUpload};
use proptest::prelude::*;
use std::sync::Arc;
use support::*;
use types::limits::INLINE_BYTES_MAX;
use types::{AccountId, ByteRange, Checksum, ChecksumAlgorithm, ErrorKind, Kind as _, UploadId};
use wire::double::{Failure, On};
use wire::index::{Command, Match, Precondition, Reason, VersionRef, Versioning};
use wire::records::{BucketRecord, ContentHeaders};

fn crc32c(all: &[u8]) -> Checksum {
    Checksum {
        algorithm: ChecksumAlgorithm::Crc32c,
        value: crc_fast::crc32_iscsi(all).to_be_bytes().to_vec(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_is_put_is_got(
        size in prop_oneof![0..2 * INLINE_BYTES_MAX, 0..300_000usize, Just(1 << 20), (1 << 20)..(5 << 20) as usize],
        a in any::<u64>(), z in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let b = bench().await;
            let all = bytes(size);
            b.put("k", &all).await.unwrap();
            prop_assert_eq!(&b.get("k").await.unwrap(), &all);
            let (a, z) = (a % (size as u64 + 1), z % (size as u64 + 1));
            let range = ByteRange { start: a.min(z), end: a.max(z) };
            let mut opened = b.objects.get(&CALLER, &name(), &key("k"), VersionRef::Current).await.unwrap();
            prop_assert_eq!(opened.record.size, size as u64);
            opened.reader.select(range).unwrap();
            let mut got = Vec::new();
            while let Some(piece) = opened.reader.next().await.unwrap() {
                prop_assert!(!piece.is_empty());
                got.extend_from_slice(&piece);
            }
            prop_assert_eq!(&got[..], &all[range.start as usize..range.end as usize]);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn small_bodies_ride_in_the_commit() {
    let b = bench().await;
    b.put("a", &bytes(INLINE_BYTES_MAX)).await.unwrap();
    assert_eq!(b.node.calls(On::Append), 0);
    b.put("b", &bytes(INLINE_BYTES_MAX + 1)).await.unwrap();
    assert_eq!(b.node.calls(On::Append), 1);
}

#[tokio::test]
async fn a_range_past_the_end_is_refused() {
    let b = bench().await;
    b.put("k", &bytes(10)).await.unwrap();
    let mut opened = b
        .objects
        .get(&CALLER, &name(), &key("k"), VersionRef::Current)
        .await
        .unwrap();
    let range = ByteRange { start: 5, end: 11 };
    assert_eq!(opened.reader.select(range), Err(ObjectsError::BadRange(10)));
}

#[tokio::test]
async fn a_body_that_is_not_what_was_said_is_not_named() {
    let b = bench().await;
    for size in [10, 200_000] {
        let all = bytes(size);
        let wrong = crc32c(b"other");
        let expects = [
            (
                Expect {
                    md5: Some([1; 16]),
                    ..Expect::default()
                },
                ObjectsError::BadDigest,
            ),
            (
                Expect {
                    checksums: vec![wrong.clone()],
                    ..Expect::default()
                },
                ObjectsError::BadChecksum(ChecksumAlgorithm::Crc32c),
            ),
            (
                Expect {
                    trailing: vec![ChecksumAlgorithm::Sha1],
                    ..Expect::default()
                },
                ObjectsError::BadChecksum(ChecksumAlgorithm::Sha1),
            ),
        ];
        for (expect, error) in expects {
            let mut put = put_of("k", size as u64, pieces(&all));
            put.expect = expect;
            assert_eq!(b.objects.put(&CALLER, put).await, Err(error));
        }
        let mut body = pieces(&all);
        body.trailer = vec![wrong];
        let mut put = put_of("k", size as u64, body);
        put.expect.trailing = vec![ChecksumAlgorithm::Crc32c];
        let refused = ObjectsError::BadChecksum(ChecksumAlgorithm::Crc32c);
        assert_eq!(b.objects.put(&CALLER, put).await, Err(refused));
        let short = put_of("k", size as u64 + 1, pieces(&all));
        assert_eq!(
            b.objects.put(&CALLER, short).await,
            Err(BodyError::Incomplete.into())
        );
        let long = put_of("k", size as u64 - 1, pieces(&all));
        assert!(matches!(
            b.objects.put(&CALLER, long).await,
            Err(ObjectsError::Body(BodyError::Refused(_)))
        ));
        let mut body = pieces(&all);
        body.error = Some(BodyError::Refused("signature".into()));
        let refused = Err(BodyError::Refused("signature".into()).into());
        assert_eq!(
            b.objects.put(&CALLER, put_of("k", size as u64, body)).await,
            refused
        );
    }
    assert!(b.index.state().objects.is_empty(), "nothing was named");
}

#[tokio::test]
async fn checksums_that_fit_are_kept_and_one_is_made_where_none_came() {
    let b = bench().await;
    let all = bytes(1000);
    b.put("plain", &all).await.unwrap();
    let mut body = pieces(&all);
    body.trailer = vec![crc32c(&all)];
    let mut put = put_of("trailer", 1000, body);
    put.expect.trailing = vec![ChecksumAlgorithm::Crc32c];
    b.objects.put(&CALLER, put).await.unwrap();
    let kept = |k: &str| {
        let state = b.index.state();
        let found = &state.objects[&(1, k.to_owned())];
        found
            .record
            .checksums
            .iter()
            .map(|c| (c.algorithm, c.value.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kept("plain"),
        [(3, crc_fast::crc64_nvme(&all).to_be_bytes().to_vec())]
    );
    assert_eq!(kept("trailer"), [(2, crc32c(&all).value)]);
}

#[tokio::test]
async fn a_precondition_is_the_commits() {
    let b = bench().await;
    b.put("k", b"one").await.unwrap();
    let mut put = put_of("k", 3, pieces(b"two"));
    put.precondition = Precondition {
        if_none_match: Some(Match::Any),
        ..Precondition::default()
    };
    let refused = b.objects.put(&CALLER, put).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::PreconditionFailed));
    assert_eq!(b.get("k").await.unwrap(), b"one");
}

#[tokio::test]
async fn a_large_body_is_not_read_for_a_precondition_that_fails_already() {
    let b = bench().await;
    b.put("k", b"one").await.unwrap();
    let mut body = pieces(b"");
    body.hang = true;
    let mut put = put_of("k", 5 << 30, body);
    put.precondition.if_none_match = Some(Match::Any);
    let refused = b.objects.put(&CALLER, put).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::PreconditionFailed));
}

/// I11
#[tokio::test(start_paused = true)]
async fn lost_answers_are_asked_for_under_the_same_id() {
    let b = bench().await;
    for failures in [
        vec![Failure::After(ErrorKind::Unknown)],
        vec![
            Failure::Before(ErrorKind::Unknown),
            Failure::After(ErrorKind::Unknown),
        ],
        vec![
            Failure::Before(ErrorKind::Busy),
            Failure::Before(ErrorKind::Unavailable),
        ],
    ] {
        let before = b.index.state().calls.len();
        let tries = failures.len() + 1;
        b.index.plan(failures);
        b.put("k", b"bytes").await.unwrap();
        let state = b.index.state();
        let ids: Vec<_> = state.calls[before..].iter().map(|c| c.id).collect();
        assert_eq!(ids, vec![ids[0]; tries]);
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_the_fate_is_unknown_and_the_watermark_stays() {
    let b = bench().await;
    b.index.plan([Failure::After(ErrorKind::Unknown); 5]);
    let error = b.put("k", b"bytes").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    let lost = b.index.state().calls.last().unwrap().id.serial();
    for _ in 0..3 {
        b.put("k", b"bytes").await.unwrap();
        assert_eq!(
            b.index.state().calls.last().unwrap().done_below,
            lost,
            "its answer is kept for ever"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_unknown_try_is_still_unknown() {
    let b = bench().await;
    b.index.plan([
        Failure::Before(ErrorKind::Unknown),
        Failure::Before(ErrorKind::Fault),
    ]);
    assert_eq!(b.put("k", b"bytes").await.unwrap_err().kind(), ErrorKind::Unknown);
    b.index.plan([Failure::Before(ErrorKind::Full)]);
    assert_eq!(b.put("k", b"bytes").await.unwrap_err().kind(), ErrorKind::Full);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_vanishes_is_followed_up_before_the_watermark_passes() {
    let b = bench().await;
    let no_answers = b.index.answers.lock().await;
    let objects = Arc::clone(&b.objects);
    let mut put = Box::pin(objects.put(&CALLER, put_of("k", 5, pieces(b"bytes"))));
    while b.index.state().objects.is_empty() {
        assert!(futures_util::poll!(put.as_mut()).is_pending());
    }
    let vanished = b.index.state().calls.last().unwrap().id.serial();
    drop(put);
    let next = tokio::spawn({
        let objects = Arc::clone(&b.objects);
        async move { objects.put(&CALLER, put_of("other", 5, pieces(b"bytes"))).await }
    });
    while b.index.state().calls.last().unwrap().id.serial() == vanished {
        tokio::task::yield_now().await;
    }
    assert_eq!(b.index.state().calls.last().unwrap().done_below, vanished);
    drop(no_answers);
    next.await.unwrap().unwrap();
    // The follow-up has its answer in the end, and the watermark moves on.
    b.objects.shutdown().await;
    b.put("k", b"bytes").await.unwrap();
    assert!(b.index.state().calls.last().unwrap().done_below > vanished);
}

#[tokio::test(start_paused = true)]
async fn a_put_dropped_before_its_command_names_nothing() {
    let b = bench().await;
    let mut body = pieces(&bytes(300_000));
    body.hang = true;
    let calls = b.index.state().calls.len();
    let mut put = Box::pin(b.objects.put(&CALLER, put_of("k", 300_001, body)));
    for _ in 0..50 {
        assert!(futures_util::poll!(put.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    drop(put);
    assert_eq!(b.index.state().calls.len(), calls);
    b.put("k", &bytes(300_000)).await.unwrap();
}

#[tokio::test]
async fn buckets_come_and_go() {
    let b = bare().await;
    let (record, existed) = b.objects.create_bucket(&CALLER, &name()).await.unwrap();
    assert_eq!(
        (record.state, record.region.as_str(), existed),
        (2, "us-east-1", false)
    );
    assert!(b.objects.create_bucket(&CALLER, &name()).await.unwrap().1);
    let stranger = Caller {
        account: AccountId(2),
    };
    assert_eq!(
        b.objects
            .create_bucket(&stranger, &name())
            .await
            .unwrap_err()
            .reason(),
        Some(Reason::BucketExists)
    );
    assert_eq!(
        b.objects.head_bucket(&stranger, &name()).await,
        Err(ObjectsError::Denied)
    );
    assert_eq!(
        b.objects.delete_bucket(&stranger, &name()).await,
        Err(ObjectsError::Denied)
    );
    assert_eq!(
        b.objects
            .list_buckets(&stranger, ListBuckets::default())
            .await
            .unwrap(),
        []
    );
    b.put("k", b"1").await.unwrap();
    assert_eq!(
        b.objects
            .delete_bucket(&CALLER, &name())
            .await
            .unwrap_err()
            .reason(),
        Some(Reason::BucketNotEmpty)
    );
    b.put("k", b"2").await.unwrap();
    let gone = b
        .objects
        .delete_many(
            &CALLER,
            &name(),
            ["k", "none"].map(|k| DeleteObject::current(key(k))).to_vec(),
        )
        .await
        .unwrap();
    assert_eq!(
        gone.into_iter().map(|a| a.unwrap().existed).collect::<Vec<_>>(),
        [true, false]
    );
    b.objects.delete_bucket(&CALLER, &name()).await.unwrap();
    assert_eq!(b.get("k").await.unwrap_err().reason(), Some(Reason::NoSuchBucket));
    assert_eq!(
        b.objects
            .delete_bucket(&CALLER, &name())
            .await
            .unwrap_err()
            .reason(),
        Some(Reason::NoSuchBucket)
    );
}

/// A gateway that died between a change of versioning and the partitions' hearing of it: nobody acts by the row alone.
#[tokio::test(start_paused = true)]
async fn whoever_finds_versioning_half_told_tells_it() {
    let told = |b: &Bench| b.index.state().versioning.get(&1).copied();
    let b = bench().await;
    b.objects
        .set_versioning(&CALLER, &name(), Versioning::Enabled)
        .await
        .unwrap();
    assert_eq!(told(&b), Some(1), "told before it is answered");
    assert_eq!(
        b.objects.head_bucket(&CALLER, &name()).await.unwrap().versioning,
        1
    );
    {
        let mut state = b.index.state();
        let record = state.buckets.get_mut("bucket").unwrap();
        record.versioning = Versioning::Suspended as u32;
        record.configuration += 1;
    }
    assert_eq!(told(&b), Some(1));
    b.put("k", b"1").await.unwrap();
    assert_eq!(told(&b), Some(2), "before the put");
    let record = b.objects.head_bucket(&CALLER, &name()).await.unwrap();
    assert_eq!(record.configured, record.configuration);
}

/// A crash after each step of a creation and of a deletion, of an empty bucket and of one with an object.
#[tokio::test(start_paused = true)]
async fn whoever_finds_a_half_done_bucket_finishes_it() {
    let half_done = |turn, state, open: Option<bool>| async move {
        let b = bench().await;
        {
            let mut state_of = b.index.state();
            let record: &mut BucketRecord = state_of.buckets.get_mut("bucket").unwrap();
            (record.turn, record.state) = (turn, state);
            match open {
                Some(open) => drop(state_of.copies.insert(1, (turn, open))),
                None => drop(state_of.copies.remove(&1)),
            }
        }
        b
    };
    for (turn, state, open) in [(1, 1, None), (1, 1, Some(true))] {
        let b = half_done(turn, state, open).await;
        assert_eq!(b.objects.head_bucket(&CALLER, &name()).await.unwrap().state, 2);
        b.put("k", b"1").await.unwrap();
    }
    for open in [true, false] {
        let b = half_done(2, 3, Some(open)).await;
        let head = b.objects.head_bucket(&CALLER, &name()).await;
        assert_eq!(
            head.unwrap_err().reason(),
            Some(Reason::NoSuchBucket),
            "it was empty"
        );
        let b = half_done(2, 3, Some(open)).await;
        let (record, existed) = b.objects.create_bucket(&CALLER, &name()).await.unwrap();
        assert_eq!(
            (record.bucket, existed),
            (2, false),
            "another bucket of that name"
        );
        let b = half_done(2, 3, Some(open)).await;
        b.objects.delete_bucket(&CALLER, &name()).await.unwrap();
        assert!(b.index.state().buckets.is_empty(), "asked for again, it is done");
        // With an object in it.
        let b = half_done(1, 2, Some(true)).await;
        b.put("k", b"1").await.unwrap();
        {
            let mut state = b.index.state();
            let record = state.buckets.get_mut("bucket").unwrap();
            (record.turn, record.state) = (2, 3);
            state.copies.insert(1, (2, open));
        }
        assert_eq!(b.get("k").await.unwrap(), b"1");
        b.put("k", b"2").await.unwrap();
        assert_eq!(b.objects.head_bucket(&CALLER, &name()).await.unwrap().turn, 3);
    }
}

/// Another gateway goes on between a look at the row and the step that follows it.
// I2
#[tokio::test(start_paused = true)]
async fn what_another_gateway_made_anew_is_not_removed() {
    let left = |bucket, turn, state| BucketRecord {
        bucket,
        turn,
        state,
        name: "bucket".into(),
        owner: 1,
        ..BucketRecord::default()
    };
    // The row is bucket 1, open at turn 1, since; it was another bucket or another turn when it was looked at.
    for seen in [left(7, 2, 3), left(7, 1, 3), left(1, 0, 3), left(1, 1, 3)] {
        let b = bench().await;
        b.index.state().seen = Some(seen.clone());
        let head = b.objects.head_bucket(&CALLER, &name()).await.unwrap();
        assert_eq!((head.bucket, head.turn, head.state), (1, 1, 2), "seen {seen:?}");
        b.index.state().seen = Some(seen.clone());
        b.put("k", b"1").await.unwrap();
    }
    for seen in [left(7, 2, 3), left(7, 1, 2), left(7, 4, 2)] {
        let b = bench().await;
        b.index.state().seen = Some(seen.clone());
        let gone = b.objects.delete_bucket(&CALLER, &name()).await.unwrap_err();
        assert_eq!(gone.reason(), Some(Reason::NoSuchBucket), "seen {seen:?}");
        assert!(b.index.state().buckets.contains_key("bucket"), "seen {seen:?}");
    }
    // The same bucket at another turn is still what is to be removed.
    for seen in [left(1, 0, 2), left(1, 2, 3)] {
        let b = bench().await;
        b.index.state().seen = Some(seen);
        b.objects.delete_bucket(&CALLER, &name()).await.unwrap();
        assert!(b.index.state().buckets.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_never_succeeds_in_a_bucket_that_is_removed() {
    for round in 0..40 {
        let b = bench().await;
        let put = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            b.put("k", b"1").await
        };
        let name = name();
        let (put, deleted) = tokio::join!(put, b.objects.delete_bucket(&CALLER, &name));
        assert!(
            put.is_ok() != deleted.is_ok(),
            "round {round}: {put:?} {deleted:?}"
        );
        assert_eq!(b.get("k").await.is_ok(), put.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn bucket_changes_survive_lost_answers() {
    for at in 0..3 {
        let b = bare().await;
        b.index.plan_after(at, Failure::After(ErrorKind::Unknown));
        b.objects.create_bucket(&CALLER, &name()).await.unwrap();
        b.put("k", b"1").await.unwrap();
        b.index.plan_after(at, Failure::After(ErrorKind::Unknown));
        let refused = b.objects.delete_bucket(&CALLER, &name()).await.unwrap_err();
        assert_eq!(refused.reason(), Some(Reason::BucketNotEmpty));
        b.put("k", b"2").await.unwrap();
        b.objects
            .delete(&CALLER, &name(), DeleteObject::current(key("k")))
            .await
            .unwrap();
        b.index.plan_after(at, Failure::After(ErrorKind::Unknown));
        b.objects.delete_bucket(&CALLER, &name()).await.unwrap();
        assert!(b.index.state().buckets.is_empty());
    }
}

#[tokio::test]
async fn parts_carry_the_uploads_checksum() {
    let b = bench().await;
    let start = StartUpload {
        bucket: name(),
        key: key("k"),
        headers: ContentHeaders::default(),
        metadata: Vec::new(),
        tags: Vec::new(),
        checksum: None,
        checksum_kind: None,
    };
    assert_eq!(b.objects.start_upload(&CALLER, start).await.unwrap(), UPLOAD);
    let part = |number, upload, all: &[u8]| PutPart {
        bucket: name(),
        key: key("k"),
        upload,
        number,
        length: all.len() as u64,
        body: Box::new(pieces(all)),
        expect: Expect {
            checksums: vec![crc32c(all)],
            ..Expect::default()
        },
    };
    let all = bytes(100);
    let (etag, record) = b.objects.put_part(&CALLER, part(1, UPLOAD, &all)).await.unwrap();
    assert_eq!((etag.md5.to_vec(), record.modified_ms), (record.etag_md5, 7));
    let algorithms: Vec<_> = record.checksums.iter().map(|c| c.algorithm).collect();
    assert_eq!(
        algorithms,
        [2, 3],
        "the client's own, and the one the object's is made of"
    );
    assert!(matches!(
        b.index.state().calls.last().unwrap().command,
        Command::PutPart { .. }
    ));
    let none = b
        .objects
        .put_part(&CALLER, part(1, UploadId(1), &all))
        .await
        .unwrap_err();
    assert_eq!(none.reason(), Some(Reason::NoSuchUpload));
    for number in [0, 10_001] {
        let error = b
            .objects
            .put_part(&CALLER, part(number, UPLOAD, &all))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

/// I5
#[tokio::test]
async fn damage_is_never_handed_out() {
    let b = bench().await;
    b.put("small", &bytes(100)).await.unwrap();
    b.put("large", &bytes(200_000)).await.unwrap();
    {
        let mut state = b.index.state();
        let found = state.objects.get_mut(&(1, "small".to_owned())).unwrap();
        let mut inline = found.inline.take().unwrap().to_vec();
        inline[50] ^= 1;
        found.inline = Some(inline.into());
    }
    b.node.damage(types::ExtentId(1), types::NeedleId(1), 150_000);
    for k in ["small", "large"] {
        assert_eq!(b.get(k).await.unwrap_err().kind(), ErrorKind::Corrupt, "{k}");
    }
    let found = b.index.state().objects[&(1, "large".to_owned())].clone();
    let mut longer = found;
    longer.record.size += 1;
    b.index.state().objects.insert((1, "longer".to_owned()), longer);
    assert_eq!(b.get("longer").await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_body_may_have_fewer_bytes_by_its_slack_and_no_more() {
    let b = bench().await;
    const MIB: u64 = 1 << 20;
    for (most, slack, size) in [
        (1000, 1000, 0),
        (1000, 1000, INLINE_BYTES_MAX as u64),
        (1000, 1000, 700),
        (3 * MIB, 60_000, 3 * MIB),
        (3 * MIB, 60_000, 3 * MIB - 60_000),
        (3 * MIB, 60_000, 3 * MIB - 1),
    ] {
        let all = bytes(size as usize);
        let put = put_of("k", most, pieces(&all));
        let answer = b.objects.put_within(&CALLER, put, slack).await.unwrap();
        assert_eq!(answer.size, size);
        assert!(b.get("k").await.unwrap() == all, "{size} of {most} less {slack}");
    }
    for (most, slack, size) in [
        (1000, 100, 899),
        (1000, 100, 1001),
        (3 * MIB, 60_000, 3 * MIB - 60_001),
    ] {
        let put = put_of("other", most, pieces(&bytes(size as usize)));
        let answer = b.objects.put_within(&CALLER, put, slack).await;
        assert!(matches!(answer, Err(ObjectsError::Body(_))), "{size} of {most}");
    }
    assert!(b.get("other").await.is_err());
}
