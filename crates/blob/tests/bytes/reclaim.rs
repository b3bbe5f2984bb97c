//! What the byte path does for gc: extents let go without an error to anyone, and needles that were given up told.

use super::{Bench, Pieces, bench, bytes, get_all, owner, put};
use blob::PutError;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;
use types::limits::{ABANDONED_MAX, BLOCK_BYTES};
use types::{ErrorKind, ExtentId};
use wire::control::Control;
use wire::double::{Failure, On};

fn places(b: &Bench, max: usize) -> BTreeSet<(ExtentId, u64)> {
    let abandoned = b.blob.abandoned(max);
    assert!(
        abandoned
            .iter()
            .all(|a| a.doubt.owner == owner() && a.stored_length > 0)
    );
    abandoned
        .iter()
        .map(|a| (a.doubt.extent, a.doubt.needle.0))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_extent_is_let_go_after_the_large_append_on_it_and_nobody_sees_an_error() {
    let b = bench();
    // More than is kept to be sent again: sealed under it, the client would have to send it anew.
    let all = bytes(8 * BLOCK_BYTES);
    let mut pieces = Pieces::of(&all, BLOCK_BYTES);
    pieces.0.back_mut().unwrap().0 = 1_000;
    let (blob, length) = (b.blob.clone(), all.len() as u64);
    let slow = tokio::spawn(async move { blob.put(&owner(), length, &mut pieces).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let extent = ExtentId(1);
    assert!(!b.blob.release(extent), "an append is under way");
    let other = put(&b, &bytes(100), 100).await.unwrap();
    assert_ne!(other.chunks[0].place, extent.0, "no append begins on it any more");
    assert!(!b.blob.release(extent));
    let stored = slow.await.unwrap().unwrap();
    assert_eq!(stored.chunks[0].place, extent.0);
    assert!(b.blob.release(extent) && b.blob.open_extents() == 1);
    b.extents.seal(extent, types::Epoch(1)).await.unwrap();
    assert_eq!(get_all(&b, &stored).await.unwrap(), all);
    assert_eq!(places(&b, 9), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn an_idle_extent_is_let_go_at_once_and_one_that_nobody_holds_is_free() {
    let b = bench();
    put(&b, &bytes(100), 100).await.unwrap();
    assert!(b.blob.release(ExtentId(1)) && b.blob.open_extents() == 0);
    assert!(b.blob.release(ExtentId(1)) && b.blob.release(ExtentId(77)));
    assert_eq!(put(&b, &bytes(100), 100).await.unwrap().chunks[0].place, 2);
}

/// Sealed without a word, as after a lost answer: the writer finds out, takes another extent, and its client hears nothing of it.
#[tokio::test(start_paused = true)]
async fn an_extent_that_was_sealed_under_its_writer_costs_no_error() {
    let b = bench();
    put(&b, &bytes(100), 100).await.unwrap();
    b.extents.seal(ExtentId(1), types::Epoch(1)).await.unwrap();
    for length in [100, 20 * BLOCK_BYTES] {
        let all = bytes(length);
        let stored = put(&b, &all, 30_000).await.unwrap();
        assert_eq!(get_all(&b, &stored).await.unwrap(), all);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_down_of_a_put_that_fails_is_told_once() {
    let b = bench();
    let all = bytes(20 * BLOCK_BYTES);
    // Two chunks are down when the client goes away.
    let mut pieces = Pieces::of(&all, BLOCK_BYTES);
    pieces.0.truncate(18);
    pieces.0.push_back((0, Bytes::new()));
    let failed = b.blob.put(&owner(), all.len() as u64, &mut pieces).await;
    assert!(matches!(failed, Err(PutError::Source(()))), "{failed:?}");
    assert_eq!(places(&b, 1).len(), 1);
    assert_eq!(places(&b, 9).len(), 1);
    assert_eq!(places(&b, 9).len(), 0);
    // The same when its future is dropped, and when the disk is full under it.
    let mut pieces = Pieces::of(&all, BLOCK_BYTES);
    pieces.0[17].0 = 10_000;
    let owner = owner();
    let putting = b.blob.put(&owner, all.len() as u64, &mut pieces);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), putting)
            .await
            .is_err()
    );
    assert_eq!(places(&b, 9).len(), 2);
    b.node.plan(On::Finish, [Failure::After(ErrorKind::Full)]);
    put(&b, &all, BLOCK_BYTES).await.unwrap_err();
    assert_eq!(
        places(&b, 9).len(),
        0,
        "it is not known which needle: gc finds it when it walks"
    );
}

#[tokio::test]
async fn what_is_stored_is_its_callers_to_name_or_to_give_up() {
    let b = bench();
    let stored = put(&b, &bytes(100), 100).await.unwrap();
    b.blob.unnamed(&owner(), &stored).named();
    assert_eq!(places(&b, 9).len(), 0);
    drop(b.blob.unnamed(&owner(), &stored));
    assert_eq!(places(&b, 9), BTreeSet::from([(ExtentId(1), 1)]));
    for _ in 0..=ABANDONED_MAX {
        drop(b.blob.unnamed(&owner(), &stored));
    }
    assert_eq!(
        b.blob.abandoned(usize::MAX).len(),
        ABANDONED_MAX,
        "the queue has a bound"
    );
}
