//! Bucket turns, and deleters that race.

mod gateway;

use gateway::{Gateway, bucket_name};
use types::{AccountId, BucketId};
use wire::index::{BucketsQuery, Command, Index, Reason, SettingKind, StoredData};
use wire::records::{
    BucketAnswer, BucketRecord, BucketSetting, BucketTags, Pair, answer::Kind, bucket_setting,
};

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
    assert_eq!(
        g.index.buckets(BucketsQuery::of(AccountId::ROOT)).await.unwrap(),
        []
    );
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
        settings: Vec::new(),
    };
    assert_eq!(g.call(create).await, Err(Reason::BucketExists));
    let unknown = BucketRecord {
        bucket: 9,
        turn: 1,
        ..BucketRecord::default()
    };
    assert_eq!(begin_of(&g, &unknown).await, Err(Reason::NoSuchBucket));
}

fn tags(value: &str) -> BucketSetting {
    let pair = Pair {
        name: "team".into(),
        value: value.into(),
    };
    BucketSetting {
        kind: Some(bucket_setting::Kind::Tags(BucketTags { tags: vec![pair] })),
    }
}

fn tell(name: &str, bucket: u64, value: Option<BucketSetting>) -> Command {
    Command::PutBucketSetting {
        name: bucket_name(name),
        bucket: BucketId(bucket),
        kind: SettingKind::Tags,
        value,
    }
}

async fn told(g: &Gateway, bucket: u64) -> Option<BucketSetting> {
    let setting = g.index.bucket_setting(BucketId(bucket), SettingKind::Tags).await;
    setting.unwrap()
}

#[tokio::test]
async fn what_a_bucket_was_told_goes_with_it() {
    let g = Gateway::new().await;
    let (made, other) = (g.bucket("bucket").await, g.bucket("other").await);
    assert_eq!(told(&g, made.bucket).await, None);
    g.call(tell("bucket", made.bucket, Some(tags("a"))))
        .await
        .unwrap();
    g.call(tell("bucket", made.bucket, Some(tags("b"))))
        .await
        .unwrap();
    g.call(tell("other", other.bucket, Some(tags("c"))))
        .await
        .unwrap();
    assert_eq!(told(&g, made.bucket).await, Some(tags("b")));
    // A deletion that is given up keeps it.
    let turn = begin(&g).await;
    cancel(&g, &turn).await.unwrap();
    assert_eq!(told(&g, made.bucket).await, Some(tags("b")));
    let turn = begin(&g).await;
    assert_eq!(close(&g, &turn).await, Ok(true));
    finish(&g, &turn).await.unwrap();
    assert_eq!(told(&g, made.bucket).await, None);
    assert_eq!(told(&g, other.bucket).await, Some(tags("c")));
    g.call(tell("other", other.bucket, None)).await.unwrap();
    assert_eq!(told(&g, other.bucket).await, None);
}

#[tokio::test]
async fn only_the_bucket_that_was_meant_is_told() {
    let g = Gateway::new().await;
    let (made, other) = (g.bucket("bucket").await, g.bucket("other").await);
    for (name, bucket) in [("none", made.bucket), ("bucket", other.bucket), ("bucket", 99)] {
        let refused = g.call(tell(name, bucket, Some(tags("a")))).await;
        assert_eq!(refused, Err(Reason::NoSuchBucket), "{name} {bucket}");
    }
    assert_eq!(told(&g, made.bucket).await, None);
    // Removed and made anew: the new one was told nothing, and the old one is not there to be told.
    g.call(tell("bucket", made.bucket, Some(tags("a"))))
        .await
        .unwrap();
    let turn = begin(&g).await;
    assert_eq!(close(&g, &turn).await, Ok(true));
    finish(&g, &turn).await.unwrap();
    let again = g.bucket("bucket").await;
    assert_eq!(told(&g, again.bucket).await, None);
    let late = g.call(tell("bucket", made.bucket, Some(tags("late")))).await;
    assert_eq!(late, Err(Reason::NoSuchBucket));
    assert_eq!(told(&g, made.bucket).await, None);
}

#[tokio::test]
async fn a_bucket_can_be_told_as_it_is_made() {
    let g = Gateway::new().await;
    let create = |value| Command::CreateBucket {
        name: bucket_name("bucket"),
        owner: AccountId::ROOT,
        region: String::new(),
        settings: vec![tags(value)],
    };
    g.call(create("first")).await.unwrap();
    let made = g.index.bucket(&bucket_name("bucket")).await.unwrap().unwrap();
    assert_eq!(told(&g, made.bucket).await, Some(tags("first")));
    // Making it again changes nothing.
    g.call(create("second")).await.unwrap();
    assert_eq!(told(&g, made.bucket).await, Some(tags("first")));
}

#[tokio::test]
async fn pages_of_buckets() {
    let g = Gateway::new().await;
    for name in ["aa1", "aa2", "ab1", "ab2", "b11"] {
        g.bucket(name).await;
    }
    let page = async |prefix: &str, after: &str, max| {
        let query = BucketsQuery {
            owner: AccountId::ROOT,
            prefix: prefix.into(),
            after: after.into(),
            max,
        };
        let buckets = g.index.buckets(query).await.unwrap();
        buckets.into_iter().map(|b| b.name).collect::<Vec<_>>()
    };
    assert_eq!(page("", "", 2).await, ["aa1", "aa2"]);
    assert_eq!(page("", "aa2", 9).await, ["ab1", "ab2", "b11"]);
    assert_eq!(page("a", "aa1", 2).await, ["aa2", "ab1"]);
    assert_eq!(page("ab", "aa1", 9).await, ["ab1", "ab2"]);
    assert_eq!(page("ab", "ac", 9).await, [""; 0]);
    assert_eq!(page("b", "ab", 9).await, ["b11"]);
}
