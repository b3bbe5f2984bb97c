//! Puts, gets, deletes and listings through the whole role.

mod gateway;

use bytes::Bytes;
use gateway::{Gateway, bucket_name, key, record, stored, walked};
use prost::Message;
use types::limits::list_page_bytes;
use types::{AccountId, BucketId, VersionId};
use wire::index::{
    BucketsQuery, Command, Index, ListEntry, ListQuery, Match, Named, Precondition, Reason, StoredData,
    VersionRef, VersionsEntry, VersionsQuery, listed,
};
use wire::records::{Pair, answer::Kind, object_record::Data};

#[tokio::test]
async fn a_put_is_read_back_in_every_size_class() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    g.put(bucket, "empty", StoredData::Empty).await.unwrap();
    g.put_inline(bucket, "inline", "hello").await;
    g.put(bucket, "one", StoredData::Chunks(stored(g.blob(), 1)))
        .await
        .unwrap();
    g.put(bucket, "many", StoredData::Chunks(stored(g.blob(), 1100)))
        .await
        .unwrap();
    let get = async |k: &str| {
        g.index
            .get(bucket, &key(k), VersionRef::Current, true)
            .await
            .unwrap()
    };
    assert_eq!(get("empty").await.unwrap().record.data, None);
    assert_eq!(
        get("inline").await.unwrap().inline,
        Some(Bytes::from_static(b"hello"))
    );
    assert!(matches!(get("one").await.unwrap().record.data, Some(Data::Chunks(c)) if c.chunks.len() == 1));
    let many = get("many").await.unwrap();
    assert_eq!(
        many.manifest.iter().map(|p| p.chunks.len()).collect::<Vec<_>>(),
        [512, 512, 76]
    );
    assert!(many.record.encoded_len() < 160);
    assert_eq!(get("none").await, Err(Reason::NoSuchKey));
    let version = VersionRef::Id(VersionId::from_slice(&many.record.version).unwrap());
    assert!(
        g.index
            .get(bucket, &key("many"), version, false)
            .await
            .unwrap()
            .is_ok()
    );
    let other = g
        .index
        .get(bucket, &key("many"), VersionRef::Id(VersionId(5)), false)
        .await
        .unwrap();
    assert_eq!(other, Err(Reason::NoSuchVersion));
    let usage = g.index.usage(bucket).await.unwrap();
    assert_eq!((usage[0].1.objects, usage[0].1.bytes), (4, 5 + 4096 * 1101));
}

#[tokio::test]
async fn a_plain_record_is_small() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let mut record = *gateway::record(4096);
    record.checksum_kind = 1;
    record.checksums = vec![wire::records::Checksum {
        algorithm: 3,
        value: vec![7; 8],
    }];
    let command = wire::index::Command::Put {
        bucket,
        key: key("k"),
        record: Box::new(record),
        data: StoredData::Chunks(stored(g.blob(), 1)),
        precondition: Precondition::default(),
    };
    g.call(command).await.unwrap();
    let found = g
        .index
        .get(bucket, &key("k"), VersionRef::Current, false)
        .await
        .unwrap()
        .unwrap();
    assert!(
        found.record.encoded_len() <= 160,
        "{} bytes",
        found.record.encoded_len()
    );
}

#[tokio::test]
async fn what_is_unnamed_is_booked_in_the_same_commit() {
    // I3
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let (first, second) = (g.blob(), g.blob());
    g.put(bucket, "k", StoredData::Chunks(stored(first, 3)))
        .await
        .unwrap();
    g.put(bucket, "k", StoredData::Chunks(stored(second, 20)))
        .await
        .unwrap();
    let booked = async || {
        let all = walked(&*g.index).await;
        let garbage = all.into_iter().filter_map(|n| match n {
            Named::Garbage { garbage, .. } => Some((garbage.blob, garbage.chunks.len())),
            _ => None,
        });
        garbage.collect::<Vec<_>>()
    };
    assert_eq!(booked().await, [(first.to_bytes().to_vec(), 3)]);
    // A blob that was booked is never named again.
    let again = g.put(bucket, "k", StoredData::Chunks(stored(first, 3))).await;
    assert_eq!(again, Err(Reason::BlobGone));
    assert!(g.delete(bucket, "k").await);
    assert!(!g.delete(bucket, "k").await);
    // Its chunks were in a manifest: the walk brings them.
    assert_eq!(
        booked().await,
        [(first.to_bytes().to_vec(), 3), (second.to_bytes().to_vec(), 20)]
    );
    assert_eq!(g.index.usage(bucket).await.unwrap()[0].1, Default::default());
}

#[tokio::test]
async fn conditions_are_decided_in_the_commit() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let none = Precondition {
        if_none_match: Some(Match::Any),
        ..Precondition::default()
    };
    // All at once, so that they share a batch: one wins. I2
    let puts = (0..20).map(|_| g.put_if(bucket, "k", StoredData::Empty, none.clone()));
    let answers = futures_all(puts).await;
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 1);
    assert!(
        answers
            .iter()
            .all(|a| a.is_ok() || *a == Err(Reason::PreconditionFailed))
    );
    let matching = Precondition {
        if_match: Some(Match::Any),
        ..Precondition::default()
    };
    let missing = g.put_if(bucket, "missing", StoredData::Empty, matching).await;
    assert_eq!(missing, Err(Reason::NoSuchKeyForMatch));
}

async fn futures_all<T: Send + 'static>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pinned: Vec<_> = all.map(Box::pin).collect();
    let mut out: Vec<Option<T>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (f, o) in pinned.iter_mut().zip(&mut out) {
            if o.is_none()
                && let std::task::Poll::Ready(v) = f.as_mut().poll(cx)
            {
                *o = Some(v);
            }
        }
        if out.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    out.into_iter().flatten().collect()
}

#[tokio::test]
async fn listing_is_s3s() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let keys = [
        "a", "a\0", "a/", "a/b", "a/c/d", "b", "foo/1", "foo/2", "foo/3", "foo0", "🪨/x", "🪨/y",
    ];
    for k in keys {
        g.put(bucket, k, StoredData::Empty).await.unwrap();
    }
    let list = async |q| g.list(bucket, q).await;
    assert_eq!(
        list(("", "", "", 1000)).await,
        (keys.map(String::from).to_vec(), false)
    );
    for (query, expected, truncated) in [
        (("", "/", "", 1000), "a a\0 [a/] b [foo/] foo0 [🪨/]", false),
        (("", "/", "", 3), "a a\0 [a/]", true),
        // After a common prefix: behind all of it.
        (("", "/", "a/", 1000), "b [foo/] foo0 [🪨/]", false),
        // After a key inside one: that is not greater.
        (("", "/", "foo/2", 1000), "foo0 [🪨/]", false),
        (("", "/", "foo", 1000), "[foo/] foo0 [🪨/]", false),
        (("", "/", "foo/3", 1000), "foo0 [🪨/]", false),
        (("foo/", "/", "", 1000), "foo/1 foo/2 foo/3", false),
        (("foo/", "/", "foo/1", 1), "foo/2", true),
        (("foo/", "/", "foo/2", 1), "foo/3", false),
        (("a/", "/", "", 1000), "a/ a/b [a/c/]", false),
        (("a/", "/", "a/", 1000), "a/b [a/c/]", false),
        (("foo", "", "z", 1000), "", false),
        (("foo", "", "a", 2), "foo/1 foo/2", true),
        (("foo", "o/", "", 2), "foo/1 foo/2", true),
        (("fo", "o/", "", 2), "[foo/] foo0", false),
        (("", "🪨/", "b", 5), "foo/1 foo/2 foo/3 foo0 [🪨/]", false),
        (("", "/", "", 0), "", false),
        (("none", "/", "", 10), "", false),
    ] {
        let (names, more) = list(query).await;
        assert_eq!(
            (names.join(" ").as_str(), more),
            (expected, truncated),
            "{query:?}"
        );
    }
    // Page by page gives the same as at once, for every page size.
    for max in 1..8 {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let (names, more) = g.list(bucket, ("", "/", &after, max)).await;
            all.extend(names);
            if !more {
                break;
            }
            after = all.last().unwrap().trim_matches(['[', ']']).to_owned();
        }
        assert_eq!(all.join(" "), "a a\0 [a/] b [foo/] foo0 [🪨/]", "pages of {max}");
    }
}

/// A page's bytes of metadata, the names it ends with, and whether there is more, for each of the listings of objects.
async fn large_pages(g: &Gateway, bucket: BucketId, after: &str) -> [(usize, String, bool); 2] {
    let query = ListQuery {
        bucket,
        prefix: String::new(),
        delimiter: String::new(),
        after: after.into(),
        max: 1000,
    };
    let of = VersionsQuery {
        bucket,
        prefix: String::new(),
        delimiter: String::new(),
        after: (after.into(), None),
        max: 1000,
    };
    let page = g.index.list(query).await.unwrap().unwrap();
    let lines = page.entries.into_iter().map(|e| match e {
        ListEntry::Object { key, record } => {
            let record = listed(&key, &record).expect("a record");
            (key, record.metadata[0].value.len())
        }
        ListEntry::Prefix(p) => panic!("{p}"),
    });
    let (lines, more): (Vec<_>, _) = (lines.collect(), page.truncated);
    let versions = g.index.list_versions(of).await.unwrap().unwrap();
    let lines_of_versions = versions.entries.into_iter().map(|e| match e {
        VersionsEntry::Version { key, record, .. } => (key, record.metadata[0].value.len()),
        VersionsEntry::Prefix(p) => panic!("{p}"),
    });
    let told = |lines: Vec<(String, usize)>, more| {
        let last = lines.last().map(|l| l.0.clone()).unwrap_or_default();
        (lines.iter().map(|l| l.1).sum(), last, more)
    };
    [
        told(lines, more),
        told(lines_of_versions.collect(), versions.truncated),
    ]
}

// I9: a thousand records are not a thousand small ones.
#[tokio::test]
async fn a_page_of_large_records_ends_early() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let of = |size: usize| {
        let mut record = record(0);
        record.metadata = vec![Pair {
            name: "n".into(),
            value: "v".repeat(size),
        }];
        record
    };
    let size = 40_000;
    for n in 0..300 {
        let command = Command::Put {
            bucket,
            key: key(&format!("{n:03}")),
            record: of(size),
            data: StoredData::Empty,
            precondition: Precondition::default(),
        };
        g.call(command).await.unwrap();
    }
    let (mut seen, mut after) = (0, String::new());
    loop {
        let [objects, versions] = large_pages(&g, bucket, &after).await;
        assert_eq!(objects, versions);
        let (bytes, last, more) = objects;
        assert!(
            (size..=list_page_bytes(1000)).contains(&bytes),
            "{bytes} of {seen}"
        );
        (seen, after) = (seen + bytes, last);
        if !more {
            break;
        }
    }
    assert_eq!(
        (seen, after.as_str()),
        (300 * size, "299"),
        "each once, to the last"
    );
}

#[tokio::test]
async fn buckets_are_listed_by_account() {
    let g = Gateway::new().await;
    for name in ["zzz", "aaa", "mmm"] {
        g.bucket(name).await;
    }
    let all = g.index.buckets(BucketsQuery::of(AccountId::ROOT)).await.unwrap();
    assert_eq!(
        all.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(),
        ["aaa", "mmm", "zzz"]
    );
    assert_eq!(g.index.buckets(BucketsQuery::of(AccountId(7))).await.unwrap(), []);
    assert_eq!(
        g.index.bucket(&bucket_name("none")).await.unwrap(),
        Err(Reason::NoSuchBucket)
    );
    let refused = wire::index::Command::CreateBucket {
        name: bucket_name("aaa"),
        owner: AccountId(7),
        region: String::new(),
        settings: Vec::new(),
    };
    assert_eq!(g.call(refused).await, Err(Reason::BucketExists));
    assert!(matches!(g.create_bucket("aaa").await, Ok(b) if b.state == 2));
    let put = g.put(BucketId(99), "k", StoredData::Empty).await;
    assert_eq!(put, Err(Reason::NoSuchBucket));
    assert!(!matches!(put, Ok(Kind::Put(_))));
}

/// A wall clock that tests set.
struct Wall(std::sync::atomic::AtomicU64);

impl world::Clock for Wall {
    fn wall_ms(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
    fn mono(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
    fn sleep(&self, _: std::time::Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::task::yield_now())
    }
}

#[tokio::test]
async fn one_start_with_a_clock_far_ahead_is_no_year_of_wrong_times() {
    const NOW: u64 = 1_700_000_000_000;
    let clock = std::sync::Arc::new(Wall(NOW.into()));
    let world = world::World {
        clock: clock.clone(),
        ..world::World::real()
    };
    let store = std::sync::Arc::new(store::Memory::new());
    let role = index::IndexRole::open(world, store, types::StampId::FIRST)
        .await
        .unwrap();
    let g = Gateway::of(std::sync::Arc::new(role), 1);
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let put = async |ahead_ms: u64| {
        clock
            .0
            .store(NOW + ahead_ms, std::sync::atomic::Ordering::Relaxed);
        match g.put(bucket, "k", StoredData::Empty).await {
            Ok(Kind::Put(answer)) => (
                answer.modified_ms - NOW,
                VersionId::from_slice(&answer.version).unwrap(),
            ),
            other => panic!("{other:?}"),
        }
    };
    let year = 365 * 24 * 3600 * 1000;
    let (far, back) = (put(year).await, put(5_000).await);
    assert_eq!((far.0, back.0), (year, 5_000));
    assert!(
        back.1 < far.1,
        "its version is the newer all the same: newest sorts first"
    );
}
