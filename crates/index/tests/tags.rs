//! Tags through the whole role: whose they become, and that nothing else changes.

mod gateway;

use bytes::Bytes;
use gateway::{Gateway, key};
use types::{BucketId, VersionId};
use wire::index::{Command, Index, Precondition, Reason, StoredData, VersionRef};
use wire::records::{BucketCopy, ObjectRecord, Pair, answer::Kind};

const K: &str = "k";

fn tags(value: &str) -> Vec<Pair> {
    vec![Pair {
        name: "t".into(),
        value: value.into(),
    }]
}

struct Bench {
    g: Gateway,
    bucket: BucketId,
}

impl Bench {
    async fn new() -> Self {
        let g = Gateway::new().await;
        let bucket = BucketId(g.bucket("bucket").await.bucket);
        Self { g, bucket }
    }

    async fn keep_versions(&self) {
        let copy = BucketCopy {
            turn: 1,
            configuration: 2,
            versioning: 1,
            ..BucketCopy::default()
        };
        let bucket = self.bucket;
        self.g.call(Command::OpenBucket { bucket, copy }).await.unwrap();
    }

    async fn put(&self, bytes: &'static str) -> VersionRef {
        let data = StoredData::Inline(Bytes::from_static(bytes.as_bytes()));
        match self.g.put(self.bucket, K, data).await {
            Ok(Kind::Put(put)) => VersionRef::Id(VersionId::from_slice(&put.version).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    async fn set(&self, version: VersionRef, value: &str) -> Result<Kind, Reason> {
        let set = Command::SetTags {
            bucket: self.bucket,
            key: key(K),
            version,
            tags: tags(value),
        };
        self.g.call(set).await
    }

    async fn record(&self, version: VersionRef) -> ObjectRecord {
        let found = self.g.index.get(self.bucket, &key(K), version, false).await;
        found.unwrap().unwrap().record
    }
}

#[tokio::test]
async fn tags_are_replaced_and_nothing_else() {
    let b = Bench::new().await;
    assert_eq!(b.set(VersionRef::Current, "1").await, Err(Reason::NoSuchKey));
    b.put("first").await;
    let before = b.record(VersionRef::Current).await;
    b.set(VersionRef::Current, "1").await.unwrap();
    b.set(VersionRef::Null, "2").await.unwrap();
    let after = b.record(VersionRef::Current).await;
    assert_eq!(after.tags, tags("2"));
    assert_eq!(
        ObjectRecord {
            tags: Vec::new(),
            ..after
        },
        before
    );
    b.put("second").await;
    assert!(
        b.record(VersionRef::Current).await.tags.is_empty(),
        "a put begins anew"
    );
}

#[tokio::test]
async fn each_version_has_its_own() {
    let b = Bench::new().await;
    b.put("null").await;
    b.keep_versions().await;
    let (old, new) = (b.put("old").await, b.put("new").await);
    for (version, value) in [(VersionRef::Null, "0"), (old, "1"), (VersionRef::Current, "2")] {
        b.set(version, value).await.unwrap();
    }
    for (version, value) in [(VersionRef::Null, "0"), (old, "1"), (new, "2")] {
        assert_eq!(b.record(version).await.tags, tags(value), "{version:?}");
    }
    let strange = VersionRef::Id(VersionId(7));
    assert_eq!(b.set(strange, "x").await, Err(Reason::NoSuchVersion));
    let delete = Command::Delete {
        bucket: b.bucket,
        key: key(K),
        version: VersionRef::Current,
        precondition: Precondition::default(),
    };
    let Ok(Kind::Delete(marker)) = b.g.call(delete).await else {
        panic!("a delete marker")
    };
    let marker = VersionRef::Id(VersionId::from_slice(&marker.version).unwrap());
    assert_eq!(b.set(VersionRef::Current, "x").await, Err(Reason::DeleteMarker));
    assert_eq!(b.set(marker, "x").await, Err(Reason::DeleteMarker));
    b.set(new, "3").await.unwrap();
    assert_eq!(
        b.record(new).await.tags,
        tags("3"),
        "it is no longer the current one"
    );
}
