//! Versioning, transition by transition: what the random sequences of `model` cover all together.

mod gateway;

use gateway::{Gateway, bucket_name, key, stored, walked};
use types::{BlobId, BucketId, VersionId};
use wire::index::{Command, Index, Named, Precondition, Reason, StoredData, VersionRef, Versioning};
use wire::records::{BucketCopy, BucketRecord, DeleteAnswer, PutAnswer, UsageRecord, answer::Kind};

const NAME: &str = "bucket";
const K: &str = "k";

struct Kept {
    g: Gateway,
    bucket: BucketId,
    row: BucketRecord,
}

impl Kept {
    /// A bucket with versioning enabled.
    async fn new() -> Self {
        let g = Gateway::new().await;
        let row = g.bucket(NAME).await;
        let bucket = BucketId(row.bucket);
        let mut kept = Self { g, bucket, row };
        kept.set(Versioning::Enabled).await;
        kept
    }

    /// Sets the versioning as a gateway does: the row, the partition, the row again.
    async fn set(&mut self, versioning: Versioning) {
        self.row = self.tell(versioning).await.unwrap();
        self.open().await;
        self.row = self.configured(self.row.turn).await.unwrap();
        assert_eq!(self.row.configured, self.row.configuration);
    }

    async fn tell(&self, versioning: Versioning) -> Result<BucketRecord, Reason> {
        let set = Command::SetVersioning {
            name: bucket_name(NAME),
            bucket: self.bucket,
            versioning,
        };
        self.g.call(set).await.map(row_of)
    }

    async fn open(&self) {
        let copy = BucketCopy {
            turn: self.row.turn,
            configuration: self.row.configuration,
            versioning: self.row.versioning,
            ..BucketCopy::default()
        };
        let bucket = self.bucket;
        self.g.call(Command::OpenBucket { bucket, copy }).await.unwrap();
    }

    async fn configured(&self, turn: u64) -> Result<BucketRecord, Reason> {
        let configured = Command::BucketConfigured {
            name: bucket_name(NAME),
            bucket: self.bucket,
            turn,
            configuration: self.row.configuration,
        };
        self.g.call(configured).await.map(row_of)
    }

    async fn put(&self, bytes: &'static str) -> PutAnswer {
        self.put_data(StoredData::Inline(bytes.into())).await.unwrap()
    }

    async fn put_data(&self, data: StoredData) -> Result<PutAnswer, Reason> {
        match self.g.put(self.bucket, K, data).await? {
            Kind::Put(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    async fn delete(&self, version: VersionRef) -> DeleteAnswer {
        self.try_delete(version).await.unwrap()
    }

    async fn try_delete(&self, version: VersionRef) -> Result<DeleteAnswer, Reason> {
        let delete = Command::Delete {
            bucket: self.bucket,
            key: key(K),
            version,
            precondition: Precondition::default(),
        };
        match self.g.call(delete).await? {
            Kind::Delete(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    /// The inline bytes of a version as text; a delete marker as `x`.
    async fn read(&self, version: VersionRef) -> Result<String, Reason> {
        let found = self
            .g
            .index
            .get(self.bucket, &key(K), version, true)
            .await
            .unwrap()?;
        if found.record.delete_marker {
            return Ok("x".to_owned());
        }
        Ok(String::from_utf8_lossy(&found.inline.unwrap()).into_owned())
    }

    async fn usage(&self) -> UsageRecord {
        let usage = self.g.index.usage(self.bucket).await.unwrap();
        usage.first().map(|(_, u)| *u).unwrap_or_default()
    }

    async fn garbage(&self) -> Vec<BlobId> {
        let booked = |named| match named {
            Named::Garbage { garbage, .. } => BlobId::from_slice(&garbage.blob),
            _ => None,
        };
        walked(&*self.g.index)
            .await
            .into_iter()
            .filter_map(booked)
            .collect()
    }
}

fn row_of(kind: Kind) -> BucketRecord {
    match kind {
        Kind::Bucket(answer) => answer.bucket.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn id(version: &[u8]) -> VersionRef {
    VersionRef::Id(VersionId::from_slice(version).unwrap())
}

fn text(read: Result<String, Reason>) -> String {
    read.unwrap()
}

#[tokio::test]
async fn an_older_version_keeps_its_bytes_and_comes_back() {
    let kept = Kept::new().await;
    let (one, two) = (kept.put("one").await, kept.put("two").await);
    assert!(!one.null_version && one.versioning == Versioning::Enabled as u32);
    assert_eq!(text(kept.read(VersionRef::Current).await), "two");
    assert_eq!(text(kept.read(id(&one.version)).await), "one");
    let usage = kept.usage().await;
    assert_eq!((usage.objects, usage.versions, usage.bytes), (1, 2, 6));

    let marker = kept.delete(VersionRef::Current).await;
    assert!(marker.existed && marker.delete_marker && !marker.null_version);
    assert_eq!(text(kept.read(VersionRef::Current).await), "x");
    let usage = kept.usage().await;
    assert_eq!((usage.objects, usage.versions, usage.bytes), (0, 3, 6));

    let gone = kept.delete(id(&marker.version)).await;
    assert!(gone.existed && gone.delete_marker);
    assert_eq!(text(kept.read(VersionRef::Current).await), "two");
    kept.delete(id(&two.version)).await;
    assert_eq!(text(kept.read(VersionRef::Current).await), "one");
    assert_eq!(kept.read(id(&two.version)).await, Err(Reason::NoSuchVersion));
    assert!(!kept.delete(id(&two.version)).await.existed);
    kept.delete(id(&one.version)).await;
    assert_eq!(kept.read(VersionRef::Current).await, Err(Reason::NoSuchKey));
    assert_eq!(kept.usage().await, UsageRecord::default());
}

#[tokio::test]
async fn a_marker_below_another_uncovers_nothing() {
    let kept = Kept::new().await;
    kept.put("one").await;
    let (below, above) = (
        kept.delete(VersionRef::Current).await,
        kept.delete(VersionRef::Current).await,
    );
    assert!(below.existed && !above.existed);
    kept.delete(id(&below.version)).await;
    assert_eq!(text(kept.read(VersionRef::Current).await), "x");
    kept.delete(id(&above.version)).await;
    assert_eq!(text(kept.read(VersionRef::Current).await), "one");
}

#[tokio::test]
async fn there_is_one_null_version_wherever_it_stands() {
    let mut kept = Kept::new().await;
    let (first, second) = (kept.g.blob(), kept.g.blob());
    kept.set(Versioning::Suspended).await;
    kept.put_data(StoredData::Chunks(stored(first, 1))).await.unwrap();
    kept.set(Versioning::Enabled).await;
    let numbered = kept.put("numbered").await;
    assert!(kept.garbage().await.is_empty());
    kept.set(Versioning::Suspended).await;
    // I3: the null version among the older ones loses its name in the commit that makes another.
    let null = kept
        .put_data(StoredData::Chunks(stored(second, 1)))
        .await
        .unwrap();
    assert!(null.null_version);
    assert_eq!(kept.garbage().await, [first]);
    let marker = kept.delete(VersionRef::Current).await;
    assert!(marker.delete_marker && marker.null_version);
    assert_eq!(kept.garbage().await, [first, second]);
    assert_eq!(text(kept.read(VersionRef::Null).await), "x");
    assert_eq!(text(kept.read(id(&numbered.version)).await), "numbered");
    assert_eq!(kept.usage().await.versions, 2);
    assert!(kept.delete(VersionRef::Null).await.delete_marker);
    assert_eq!(kept.read(VersionRef::Null).await, Err(Reason::NoSuchVersion));
    assert_eq!(text(kept.read(VersionRef::Current).await), "numbered");
}

#[tokio::test]
async fn no_two_versions_name_the_same_bytes() {
    // I3: else the one that goes first would take the other's bytes with it.
    let kept = Kept::new().await;
    let data = StoredData::Chunks(stored(kept.g.blob(), 1));
    kept.put_data(data.clone()).await.unwrap();
    assert_eq!(kept.put_data(data).await.unwrap_err(), Reason::BlobGone);
}

#[tokio::test]
async fn a_bucket_that_answered_empty_takes_no_marker() {
    let kept = Kept::new().await;
    let (bucket, turn) = (kept.bucket, kept.row.turn + 1);
    let close = Command::CloseBucket { bucket, turn };
    assert!(matches!(kept.g.call(close).await, Ok(Kind::Close(c)) if c.empty));
    assert_eq!(
        kept.try_delete(VersionRef::Current).await,
        Err(Reason::BucketBusy)
    );
    // A marker makes it not empty.
    let kept = Kept::new().await;
    kept.delete(VersionRef::Current).await;
    let close = Command::CloseBucket {
        bucket: kept.bucket,
        turn,
    };
    assert!(matches!(kept.g.call(close).await, Ok(Kind::Close(c)) if !c.empty));
}

#[tokio::test]
async fn versioning_is_said_to_be_everywhere_only_when_it_is() {
    let mut kept = Kept::new().await;
    let seen = kept.row.clone();
    kept.row = kept.tell(Versioning::Suspended).await.unwrap();
    assert_eq!(
        (kept.row.configured, kept.row.configuration),
        (seen.configuration, seen.configuration + 1)
    );
    assert_eq!(
        kept.tell(Versioning::Suspended).await.unwrap(),
        kept.row,
        "nothing new"
    );
    // Another gateway begins to delete the bucket: partitions that it closed ignore what is sent at the turn before.
    let begin = Command::BeginDeleteBucket {
        name: bucket_name(NAME),
        bucket: kept.bucket,
        turn: seen.turn,
        stale: false,
    };
    let deleting = row_of(kept.g.call(begin).await.unwrap());
    kept.open().await;
    assert_eq!(kept.configured(seen.turn).await, Err(Reason::BucketBusy));
    assert_eq!(kept.tell(Versioning::Enabled).await, Err(Reason::BucketBusy));
    let cancel = Command::CancelDeleteBucket {
        name: bucket_name(NAME),
        bucket: kept.bucket,
        turn: deleting.turn,
    };
    kept.row = row_of(kept.g.call(cancel).await.unwrap());
    assert_eq!(kept.configured(seen.turn).await, Err(Reason::BucketBusy));
    kept.open().await;
    assert!(kept.put("suspended").await.null_version);
    let done = kept.configured(deleting.turn).await.unwrap();
    assert_eq!(done.configured, done.configuration);
}
