//! Bucket turns, and deleters that race.

mod gateway;

use gateway::{Gateway, bucket_name};
use types::{AccountId, BucketId};
use wire::index::{Command, Index, Reason, StoredData};
use wire::records::{BucketAnswer, BucketRecord, answer::Kind};

async fn row(g: &Gateway) -> BucketRecord {
    g.index.bucket(&bucket_name("bucket")).await.unwrap().unwrap()
}

/// Begins the deletion of what was seen.
async fn begin_of(g: &Gateway, seen: &BucketRecord) -> Result<BucketRecord, Reason> {
    let command = Command::BeginDeleteBucket {
        name: bucket_name("bucket"),
        bucket: BucketId(seen.bucket),
        turn: seen.turn,
        stale: seen.state == 3,
    };
    match g.call(command).await? {
        Kind::Bucket(BucketAnswer { bucket: Some(b), .. }) => Ok(b),
        other => panic!("{other:?}"),
    }
}

async fn begin(g: &Gateway) -> BucketRecord {
    begin_of(g, &row(g).await).await.unwrap()
}

async fn close(g: &Gateway, b: &BucketRecord) -> Result<bool, Reason> {
    let command = Command::CloseBucket {
        bucket: BucketId(b.bucket),
        turn: b.turn,
    };
    match g.call(command).await? {
        Kind::Close(c) => Ok(c.empty),
        other => panic!("{other:?}"),
    }
}

async fn finish(g: &Gateway, b: &BucketRecord) -> Result<Kind, Reason> {
    g.call(Command::FinishDeleteBucket {
        name: bucket_name("bucket"),
        bucket: BucketId(b.bucket),
        turn: b.turn,
    })
    .await
}

async fn cancel(g: &Gateway, b: &BucketRecord) -> Result<Kind, Reason> {
    g.call(Command::CancelDeleteBucket {
        name: bucket_name("bucket"),
        bucket: BucketId(b.bucket),
        turn: b.turn,
    })
    .await
}

#[tokio::test]
async fn a_second_deleter_cannot_finish_after_the_first_reopened() {
    let g = Gateway::new().await;
    let made = g.bucket("bucket").await;
    let bucket = BucketId(made.bucket);
    // The slow one finds it empty at turn 2, the other takes turn 3, and finds an object that came in between.
    let slow = begin(&g).await;
    assert_eq!(close(&g, &slow).await, Ok(true));
    let put = g.put(bucket, "k", StoredData::Empty).await;
    assert_eq!(put, Err(Reason::BucketBusy), "closing refuses puts");
    let other = begin(&g).await;
    assert_eq!((slow.turn, other.turn), (2, 3));
    assert_eq!(close(&g, &other).await, Ok(true));
    g.open_bucket(bucket, other.turn).await;
    cancel(&g, &other).await.unwrap();
    g.put(bucket, "k", StoredData::Empty).await.unwrap();
    // Every late step of the slow one does nothing.
    assert_eq!(finish(&g, &slow).await, Err(Reason::BucketBusy));
    assert_eq!(cancel(&g, &slow).await, Err(Reason::BucketBusy));
    assert_eq!(close(&g, &slow).await, Err(Reason::BucketBusy));
    g.open_bucket(bucket, slow.turn).await;
    assert_eq!(finish(&g, &other).await, Err(Reason::BucketBusy));
    assert_eq!(close(&g, &other).await, Err(Reason::BucketBusy));
    assert_eq!(g.list(bucket, ("", "", "", 9)).await.0, ["k"]);
    let row = g.index.bucket(&bucket_name("bucket")).await.unwrap().unwrap();
    assert_eq!((row.state, row.turn), (2, 3));
}

#[tokio::test]
async fn a_name_is_free_again_and_its_number_never() {
    let g = Gateway::new().await;
    let made = g.bucket("bucket").await;
    let turn = begin(&g).await;
    assert_eq!(g.create_bucket("bucket").await, Err(Reason::BucketBusy));
    assert_eq!(close(&g, &turn).await, Ok(true));
    finish(&g, &turn).await.unwrap();
    assert_eq!(finish(&g, &turn).await, Err(Reason::NoSuchBucket));
    assert_eq!(g.index.buckets(AccountId::ROOT).await.unwrap(), []);
    let again = g.bucket("bucket").await;
    assert!(again.bucket > made.bucket);
    // A step of the old bucket does not touch the new one.
    assert_eq!(cancel(&g, &turn).await, Err(Reason::NoSuchBucket));
    assert_eq!(finish(&g, &turn).await, Err(Reason::NoSuchBucket));
    // A late `open` of the creation does not open what is closing.
    let old = BucketId(made.bucket);
    g.open_bucket(old, made.turn).await;
    let put = g.put(old, "k", StoredData::Empty).await;
    assert_eq!(put, Err(Reason::BucketBusy));
}

// I2
#[tokio::test]
async fn who_saw_a_stale_deletion_does_not_touch_what_came_after_it() {
    let g = Gateway::new().await;
    let open = g.bucket("bucket").await;
    let first = begin(&g).await;
    // Two find it half done; one finishes it: reopened, because something was in it.
    let found = row(&g).await;
    assert_eq!((found.state, found.turn), (3, 2));
    let other = begin_of(&g, &found).await.unwrap();
    assert_eq!(begin_of(&g, &found).await, Err(Reason::BucketBusy), "taken over");
    assert_eq!(
        begin_of(&g, &open).await,
        Err(Reason::BucketBusy),
        "begun by another"
    );
    g.open_bucket(BucketId(other.bucket), other.turn).await;
    cancel(&g, &other).await.unwrap();
    for seen in [&found, &first, &other, &open] {
        assert_eq!(begin_of(&g, seen).await, Err(Reason::BucketBusy), "{seen:?}");
    }
    assert_eq!(row(&g).await.state, 2, "nobody asked for it to go again");
    // It goes, and another of that name is made: its turns begin anew, so they alone would not tell the two apart.
    let last = begin(&g).await;
    assert_eq!(close(&g, &last).await, Ok(true));
    finish(&g, &last).await.unwrap();
    let new = g.bucket("bucket").await;
    assert_eq!((new.turn, open.turn), (1, 1));
    for seen in [&found, &first, &other, &open, &last] {
        assert_eq!(begin_of(&g, seen).await, Err(Reason::NoSuchBucket), "{seen:?}");
    }
    assert_eq!(row(&g).await, new);
}

#[tokio::test]
async fn another_accounts_bucket_is_not_touched() {
    let g = Gateway::new().await;
    g.bucket("bucket").await;
    let create = Command::CreateBucket {
        name: bucket_name("bucket"),
        owner: AccountId(9),
        region: String::new(),
    };
    assert_eq!(g.call(create).await, Err(Reason::BucketExists));
    let unknown = BucketRecord {
        bucket: 9,
        turn: 1,
        ..BucketRecord::default()
    };
    assert_eq!(begin_of(&g, &unknown).await, Err(Reason::NoSuchBucket));
}
