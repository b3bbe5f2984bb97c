//! Needles that may be orphans: who is reached, who is condemned, and that what is condemned is never named.

use crate::gateway::{Gateway, key, part, record, stored};
use crate::store::{BUCKETS, CONDEMNED, K, Store, reach_of};
use Reach::{Booked, Condemned, Named};
use bytes::Bytes;
use types::VersionId;
use types::limits::PART_BYTES_MIN;
use wire::index::{Command, Index, Precondition, Reach, Reason, Reclaim, StoredChunks, StoredData, Unnamed};
use wire::records::answer::Kind;

/// A needle of the same blob that is in no list: a chunk that was sent again.
fn sent_twice(stored: &StoredChunks) -> StoredChunks {
    let mut again = stored.clone();
    again.chunks[0].needle += 4000;
    again
}

fn version_of(answer: Result<Kind, Reason>) -> VersionId {
    match answer {
        Ok(Kind::Put(put)) => VersionId::from_slice(&put.version).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_names_a_needle_is_found_wherever_it_stands() {
    let s = Store::new().await;
    s.versioning(1).await;
    let (short, long, newest) = (
        stored(s.g.blob(), 2),
        stored(s.g.blob(), 1300),
        stored(s.g.blob(), 1),
    );
    let mut versions = Vec::new();
    for data in [&short, &long, &newest] {
        versions.push(version_of(s.put(K, data).await));
        assert_eq!(s.reach(&s.of(K, data)).await, Named);
    }
    let last = s.doubt(K, None, long.blob, &long.chunks[1299]);
    for doubt in [&s.of(K, &short), &s.of(K, &long), &last, &s.of(K, &newest)] {
        assert_eq!(s.reach(doubt).await, Named);
        assert_eq!(s.condemn_one(doubt).await, [Named], "by the commit too");
    }
    assert_eq!(
        s.reach(&s.of("other", &short)).await,
        Reach::Unnamed,
        "another key's needle"
    );
    for data in [&short, &long, &newest] {
        assert_eq!(s.reach(&s.of(K, &sent_twice(data))).await, Reach::Unnamed);
    }
    for version in versions {
        s.delete_version(K, version).await;
    }
    for doubt in [&s.of(K, &short), &last, &s.of(K, &newest)] {
        assert_eq!(s.reach(doubt).await, Booked);
        assert_eq!(s.condemn_one(doubt).await, [Booked]);
    }
    assert_eq!(s.rows(CONDEMNED).await, 0);
    s.collect(2).await;
    assert_eq!(s.reach(&last).await, Reach::Unnamed);
}

#[tokio::test]
async fn parts_and_what_is_made_of_them_name_needles() {
    let s = Store::new().await;
    let upload = s.g.upload(s.bucket, K).await;
    let (taken, left) = (stored(s.g.blob(), 20), stored(s.g.blob(), 1));
    let (first, named) = part(1, PART_BYTES_MIN, 1);
    s.g.part((s.bucket, K, upload), first, taken.clone())
        .await
        .unwrap();
    let (second, _) = part(2, PART_BYTES_MIN, 2);
    s.g.part((s.bucket, K, upload), second, left.clone())
        .await
        .unwrap();
    let of_taken = s.doubt(K, Some((upload, 1)), taken.blob, &taken.chunks[19]);
    let of_left = s.doubt(K, Some((upload, 2)), left.blob, &left.chunks[0]);
    let lost = s.doubt(K, Some((upload, 2)), left.blob, &sent_twice(&left).chunks[0]);
    let all = vec![of_taken.clone(), of_left.clone(), lost.clone()];
    let reached = s.g.index.reached(all.clone()).await.unwrap();
    assert_eq!(reached.each, [Named, Named, Reach::Unnamed]);
    assert_eq!(reached.unnamed.doubts(), std::slice::from_ref(&lost));
    s.g.complete((s.bucket, K, upload), vec![named]).await.unwrap();
    assert_eq!(
        s.g.index.reached(all.clone()).await.unwrap().each,
        [Named, Booked, Reach::Unnamed]
    );
    // What was unnamed before the completion is unnamed after it, but only a later look can tell.
    assert_eq!(s.condemn(reached.unnamed).await, [Named]);
    assert_eq!(s.ask_and_condemn(&all).await, [Named, Booked, Condemned]);
    // An append's needles say whose object they are joined to.
    let more = stored(s.g.blob(), 1);
    s.append(K, StoredData::Chunks(more.clone())).await.unwrap();
    let of_more = s.doubt(K, Some((upload, 2)), more.blob, &more.chunks[0]);
    assert_eq!(
        s.ask_and_condemn(&[of_more.clone(), of_taken.clone()]).await,
        [Named, Named]
    );
    assert!(s.g.delete(s.bucket, K).await);
    assert_eq!(
        s.g.index.reached(vec![of_more, of_taken]).await.unwrap().each,
        [Booked, Booked]
    );
}

// I3: whatever names chunks is refused once one of them is condemned.
#[tokio::test]
async fn what_is_condemned_is_never_named() {
    let s = Store::new().await;
    let upload = s.g.upload(s.bucket, K).await;
    let lost = stored(s.g.blob(), 3);
    let doubt = s.doubt(K, None, lost.blob, &lost.chunks[2]);
    assert_eq!(s.condemn_one(&doubt).await, [Condemned]);
    assert_eq!(s.reach(&doubt).await, Condemned);
    assert_eq!(s.condemn_one(&doubt).await, [Condemned], "once more");
    assert_eq!(s.put(K, &lost).await, Err(Reason::BlobGone));
    let (record, _) = part(1, PART_BYTES_MIN, 1);
    let put = s.g.part((s.bucket, K, upload), record, lost.clone()).await;
    assert_eq!(put, Err(Reason::BlobGone));
    // As the first bytes, behind inline ones, and behind needles.
    let data = || StoredData::Chunks(lost.clone());
    assert_eq!(s.append(K, data()).await, Err(Reason::BlobGone));
    s.g.put_inline(s.bucket, K, "short").await;
    assert_eq!(s.append(K, data()).await, Err(Reason::BlobGone));
    s.put(K, &stored(s.g.blob(), 1)).await.unwrap();
    assert_eq!(s.append(K, data()).await, Err(Reason::BlobGone));
    s.put(K, &stored(s.g.blob(), 600)).await.unwrap();
    assert_eq!(s.append(K, data()).await, Err(Reason::BlobGone));
    let (named, booked) = s.needles().await;
    assert!(
        lost.chunks
            .iter()
            .all(|c| !named.contains(&c.needle) && !booked.contains(&c.needle))
    );
}

// I3: in one batch, one after the other, in either order.
#[tokio::test]
async fn a_put_and_its_condemnation_at_once_agree() {
    let s = Store::new().await;
    for turn in 0..20 {
        let data = stored(s.g.blob(), 1);
        let doubt = s.of(K, &data);
        let condemn = Command::Condemn {
            unnamed: Unnamed::unknown(vec![doubt.clone()]),
        };
        let (put, condemned) = if turn % 2 == 0 {
            tokio::join!(s.put(K, &data), s.g.call(condemn))
        } else {
            let (condemned, put) = tokio::join!(s.g.call(condemn), s.put(K, &data));
            (put, condemned)
        };
        let condemned = reach_of(condemned)[0];
        match turn % 2 {
            0 => assert_eq!((put.is_ok(), condemned), (true, Named)),
            _ => assert_eq!((put, condemned), (Err(Reason::BlobGone), Condemned)),
        }
        assert_eq!(s.reach(&doubt).await, condemned);
    }
}

// I3: what came between the look and the commit, however it was moved about since.
#[tokio::test]
async fn what_was_named_since_is_found_by_the_commit() {
    let s = Store::new().await;
    s.versioning(1).await;
    s.put(K, &stored(s.g.blob(), 1)).await.unwrap();
    let (a, b, c) = (
        stored(s.g.blob(), 1),
        stored(s.g.blob(), 1300),
        stored(s.g.blob(), 1),
    );
    let doubts = vec![s.of(K, &a), s.of(K, &b), s.of(K, &c)];
    let reached = s.g.index.reached(doubts.clone()).await.unwrap();
    assert_eq!(reached.each, [Reach::Unnamed, Reach::Unnamed, Reach::Unnamed]);
    let gone = version_of(s.put(K, &c).await);
    for data in [&a, &b] {
        s.put(K, data).await.unwrap();
    }
    s.put(K, &stored(s.g.blob(), 1)).await.unwrap();
    s.delete_version(K, gone).await;
    assert_eq!(s.condemn(reached.unnamed).await, [Named, Named, Booked]);
}

// I3: an index may have been laid from a snapshot that lacked the bucket's copy.
#[tokio::test]
async fn versions_of_a_bucket_that_nothing_is_known_of_are_named() {
    let mut s = Store::new().await;
    s.versioning(1).await;
    let (older, newest, lost) = (
        stored(s.g.blob(), 1),
        stored(s.g.blob(), 1),
        stored(s.g.blob(), 1),
    );
    let doubts = vec![s.of(K, &older), s.of(K, &lost)];
    let unnamed = s.g.index.reached(doubts.clone()).await.unwrap().unnamed;
    for data in [&older, &newest] {
        s.put(K, data).await.unwrap();
    }
    s.lose_last(BUCKETS).await;
    let reached = s.g.index.reached(doubts).await.unwrap();
    assert_eq!(reached.each, [Named, Condemned]);
    assert_eq!(
        s.condemn(unnamed).await,
        [Named, Condemned],
        "since the look before"
    );
}

#[tokio::test]
async fn of_a_key_with_many_versions_only_the_newer_ones_are_looked_at() {
    let s = Store::new().await;
    s.versioning(1).await;
    let first = stored(s.g.blob(), 1);
    s.put(K, &first).await.unwrap();
    for _ in 0..700 {
        s.put(K, &stored(s.g.blob(), 1)).await.unwrap();
    }
    let lost = stored(s.g.blob(), 1);
    let doubts = vec![s.of(K, &first), s.of(K, &lost)];
    assert_eq!(s.ask_and_condemn(&doubts).await, [Named, Condemned]);
    // Without a look before there are too many to tell.
    let other = vec![s.of(K, &stored(s.g.blob(), 1))];
    assert_eq!(s.condemn_unknown(&other).await, [Named]);
}

#[tokio::test]
async fn of_an_ended_session_nothing_unnamed_is_ever_named() {
    let mut s = Store::new().await;
    let (kept, lost, promised) = (
        stored(s.g.blob(), 1),
        stored(s.g.blob(), 1),
        stored(s.g.blob(), 1),
    );
    s.put("kept", &kept).await.unwrap();
    assert_eq!(s.condemn_unknown(&[s.of(K, &promised)]).await, [Condemned]);
    assert_eq!(s.reach(&s.of(K, &lost)).await, Reach::Unnamed);
    assert_eq!(forget(&s).await, 1, "its session lives");
    s.restart().await;
    let doubts = vec![s.of("kept", &kept), s.of(K, &lost), s.of(K, &promised)];
    assert_eq!(
        s.g.index.reached(doubts.clone()).await.unwrap().each,
        [Named, Condemned, Condemned]
    );
    assert_eq!(s.ask_and_condemn(&doubts).await, [Named, Condemned, Condemned]);
    assert_eq!(s.rows(CONDEMNED).await, 1, "no row was needed");
    assert_eq!(forget(&s).await, 0);
    assert_eq!(
        s.g.index.reached(doubts).await.unwrap().each,
        [Named, Condemned, Condemned]
    );
    assert_eq!(s.put(K, &lost).await, Err(Reason::BlobGone));
    assert_eq!(s.put(K, &promised).await, Err(Reason::BlobGone));
}

/// Forgets what can be; promises left.
async fn forget(s: &Store) -> usize {
    let mut after = Bytes::new();
    loop {
        match s.g.call(Command::ForgetCondemned { after }).await.unwrap() {
            Kind::ForgetCondemned(a) if a.next.is_empty() => return s.rows(CONDEMNED).await,
            Kind::ForgetCondemned(a) => after = a.next.into(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_extents_worth_of_promises_goes_page_by_page() {
    let mut s = Store::new().await;
    let lost: Vec<_> = (0..1200)
        .map(|at| s.of(&format!("key {at}"), &stored(s.g.blob(), 1)))
        .collect();
    for doubts in lost.chunks(512) {
        let condemned = s.ask_and_condemn(doubts).await;
        assert!(condemned.iter().all(|r| *r == Condemned));
    }
    assert_eq!(forget(&s).await, 1024, "as many as are counted at once");
    s.restart().await;
    assert_eq!(forget(&s).await, 0);
}

#[tokio::test]
async fn a_condemnation_sent_again_gets_its_answer() {
    // I11
    let s = Store::new().await;
    let data = stored(s.g.blob(), 1);
    let doubts = vec![s.of(K, &data)];
    s.put(K, &data).await.unwrap();
    let call = s.g.call_of(Command::Condemn {
        unnamed: Unnamed::unknown(doubts),
    });
    let first = s.g.index.call(call.clone()).await.unwrap();
    assert!(s.g.delete(s.bucket, K).await);
    assert_eq!(s.g.index.call(call).await.unwrap(), first);
    assert_eq!(s.rows(CONDEMNED).await, 0);
}

// I3: who was overtaken and does not know it finds out before its promise is one.
#[tokio::test]
async fn an_overtaken_owner_promises_nothing() {
    let s = Store::new().await;
    let data = stored(s.g.blob(), 1);
    let doubts = vec![s.of(K, &data)];
    let old = s.g.index.clone();
    let reached = old.reached(doubts).await.unwrap();
    let second = Gateway::over(s.memory.clone(), 1).await;
    let put = Command::Put {
        bucket: s.bucket,
        key: key(K),
        record: record(4096),
        data: StoredData::Chunks(data),
        precondition: Precondition::default(),
    };
    let mut call = second.call_of(put);
    call.id = types::CommandId::new(call.id.session(), 1 << 50);
    second.index.call(call).await.unwrap();
    assert_eq!(s.condemn(reached.unnamed).await, [Named]);
}
