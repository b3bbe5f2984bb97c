//! The owner's promises: group commit, linearizable reads beside it, bounds, bucket deletion that races.
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "../gateway/mod.rs"]
mod gateway;
mod pages;
mod race;
mod slow;

use gateway::{Gateway, key, record, walked};
use slow::Slow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use types::limits::{BATCH_COMMANDS_MAX, OWNER_QUEUE_MAX, RETRIES_MAX};
use types::{BucketId, ErrorKind, VersionId};
use wire::index::{
    AppendData, Command, Index, ListEntry, ListQuery, Precondition, Reason, StoredData, VersionRef,
    VersionsQuery, listed,
};
use wire::records::object_record::Data;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn put(bucket: BucketId, k: &str, size: u64) -> Command {
    Command::Put {
        bucket,
        key: key(k),
        record: record(size),
        data: StoredData::Empty,
        precondition: Precondition::default(),
    }
}

#[tokio::test]
async fn many_puts_share_few_commits() {
    let slow = Slow::new(1);
    let g = Arc::new(Gateway::over(slow.clone(), 1).await);
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let before = slow.commits.load(Ordering::Relaxed);
    let puts: Vec<_> = (0..500u64)
        .map(|i| {
            let g = g.clone();
            tokio::spawn(async move { g.call(put(bucket, &format!("k{i}"), i)).await.unwrap() })
        })
        .collect();
    for put in puts {
        put.await.unwrap();
    }
    let commits = slow.commits.load(Ordering::Relaxed) - before;
    assert!(commits <= 3, "{commits} commits for 500 puts");
}

/// Whoever is about to queue a command when a batch is begun is waited for, as long as one more comes each time that others may run and there are
/// not enough yet: a third of those that were about.
#[test]
fn who_is_about_to_put_shares_the_commit() {
    runtime().block_on(async {
        let slow = Slow::new(1);
        let g = Arc::new(Gateway::over(slow.clone(), 1).await);
        let bucket = BucketId(g.bucket("bucket").await.bucket);
        let mut commits = Vec::new();
        // All at once, then one after the other.
        for pause in [0, 1] {
            let before = slow.commits.load(Ordering::Relaxed);
            let puts: Vec<_> = (0..40_u64)
                .map(|i| {
                    let g = g.clone();
                    tokio::spawn(async move {
                        for _ in 0..i * pause {
                            tokio::task::yield_now().await;
                        }
                        g.call(put(bucket, &format!("k{i}"), pause)).await.unwrap()
                    })
                })
                .collect();
            for put in puts {
                put.await.unwrap();
            }
            commits.push(slow.commits.load(Ordering::Relaxed) - before);
        }
        // Eight where nobody is waited for. More where the machine stood still for the millisecond that a batch is gathered at most.
        assert!(
            commits[0] <= 2 && commits[1] <= 5,
            "{commits:?} commits for 40 puts each"
        );
    });
}

/// I2: a read beside appends sees the record and its pages of one moment, or else reads again; it is not told of damage.
#[tokio::test]
async fn reads_beside_appends_see_one_moment() {
    let slow = Slow::new(1);
    let g = Arc::new(Gateway::over(slow.clone(), 1).await);
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let data = StoredData::Chunks(gateway::stored(g.blob(), 600));
    g.put(bucket, "log", data).await.unwrap();
    let name = key("log");
    let found = async |g: &Gateway| g.index.get(bucket, &name, VersionRef::Current, true).await;
    for session in 2..100 {
        // Another process has nothing in memory: what it reads comes from snapshots, each its own.
        let g = Gateway::over(slow.clone(), session).await;
        let seen = found(&g).await.unwrap().unwrap().record;
        let g = Gateway::over(slow.clone(), session + 1000).await;
        let append = Command::Append {
            bucket,
            key: name.clone(),
            piece: record(4096),
            data: Box::new(AppendData {
                offset: seen.size,
                seen: VersionId::from_slice(&seen.version),
                data: StoredData::Chunks(gateway::stored(g.blob(), 1)),
                whole: false,
            }),
            precondition: Precondition::default(),
        };
        let read = async {
            slow.pause().await;
            found(&g).await
        };
        let (appended, read) = tokio::join!(g.call(append), read);
        appended.unwrap();
        let read = read.unwrap().unwrap();
        let chunks: usize = read.manifest.iter().map(|p| p.chunks.len()).sum();
        let Some(Data::Manifest(manifest)) = &read.record.data else {
            panic!("{:?}", read.record.data)
        };
        assert_eq!(chunks as u64, manifest.chunks, "session {session}");
    }
}

/// An engine that opened its file anew lets readers take a new snapshot: they do, and nobody hears of it, but for ever.
#[tokio::test]
async fn a_snapshot_that_went_stale_is_taken_again() {
    let slow = Slow::new(1);
    let g = Gateway::over(slow.clone(), 1).await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    g.put_inline(bucket, "a/b", "1").await;
    let upload = g.upload(bucket, "u").await;
    // Another process has nothing in memory: what it reads comes from snapshots.
    let g = Gateway::over(slow.clone(), 2).await;
    for stale in 1..=u64::from(RETRIES_MAX) {
        let again = || assert_eq!(slow.stale.swap(stale, Ordering::Relaxed), 0, "each was met");
        again();
        assert_eq!(g.list(bucket, ("a", "/", "", 9)).await.0, ["[a/]"]);
        again();
        let parts = g.index.parts(bucket, &key("u"), upload, 0, 5).await;
        assert!(parts.unwrap().unwrap().parts.is_empty());
        again();
        assert_eq!(g.index.usage(bucket).await.unwrap().len(), 1);
        again();
        assert!(!walked(&*g.index).await.is_empty());
        again();
        let missing = g
            .index
            .get(bucket, &key(&format!("none{stale}")), VersionRef::Current, true)
            .await;
        assert_eq!(missing.unwrap().unwrap_err(), Reason::NoSuchKey);
        // The owner, too, for what it must know to decide.
        again();
        g.put_inline(bucket, &format!("new{stale}"), "2").await;
        assert_eq!(slow.stale.swap(0, Ordering::Relaxed), 0, "each was met");
    }
    slow.stale.store(u64::MAX, Ordering::Relaxed);
    let query = ListQuery {
        bucket,
        prefix: String::new(),
        delimiter: String::new(),
        after: String::new(),
        max: 9,
    };
    let told = g.index.list(query).await.unwrap_err();
    assert_eq!(told.kind, ErrorKind::Busy, "{told}");
}

/// I2: a read sees nothing older than any write or read that was answered before it began.
#[test]
fn reads_are_linearizable() {
    for seed in 0..150 {
        runtime().block_on(reads_beside_writes(seed));
    }
}

async fn reads_beside_writes(seed: u64) {
    let slow = Slow::new(seed);
    let g = Arc::new(Gateway::over(slow.clone(), 1).await);
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    // The size of the object counts its writes.
    let known = Arc::new(AtomicU64::new(0));
    let writer = {
        let (g, known) = (g.clone(), known.clone());
        tokio::spawn(async move {
            for n in 1..=40 {
                g.call(put(bucket, "k", n)).await.unwrap();
                known.fetch_max(n, Ordering::SeqCst);
            }
        })
    };
    let readers: Vec<_> = (0..4)
        .map(|which| {
            let (g, known, slow) = (g.clone(), known.clone(), slow.clone());
            tokio::spawn(async move {
                while known.load(Ordering::SeqCst) < 40 {
                    let before = known.load(Ordering::SeqCst);
                    let seen = if which == 3 {
                        size_listed(&g, bucket).await
                    } else {
                        size_got(&g, bucket).await
                    };
                    assert!(
                        seen >= before,
                        "seed {seed}: read {seen} after {before} was known"
                    );
                    known.fetch_max(seen.min(39), Ordering::SeqCst);
                    slow.pause().await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    writer.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
}

async fn size_got(g: &Gateway, bucket: BucketId) -> u64 {
    let found = g
        .index
        .get(bucket, &key("k"), VersionRef::Current, false)
        .await
        .unwrap();
    found.map_or(0, |f| f.record.size)
}

async fn size_listed(g: &Gateway, bucket: BucketId) -> u64 {
    let query = ListQuery {
        bucket,
        prefix: String::new(),
        delimiter: String::new(),
        after: String::new(),
        max: 1,
    };
    match g.index.list(query).await.unwrap().unwrap().entries.first() {
        Some(ListEntry::Object { key, record }) => listed(key, record).expect("a record").size,
        _ => 0,
    }
}

#[tokio::test]
async fn a_page_costs_what_it_holds() {
    let slow = Slow::new(1);
    let g = Gateway::over(slow.clone(), 1).await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let calls: Vec<_> = (0..20)
        .flat_map(|p| (0..300).map(move |i| format!("p{p:02}/{i}")))
        .map(|k| g.call(put(bucket, &k, 1)))
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    slow.scanned.store(0, Ordering::Relaxed);
    let (names, truncated) = g.list(bucket, ("", "/", "", 1000)).await;
    assert_eq!((names.len(), truncated), (20, false));
    let scanned = slow.scanned.load(Ordering::Relaxed);
    assert!(scanned < 200, "{scanned} rows of 6000 for 20 prefixes");
    slow.scanned.store(0, Ordering::Relaxed);
    let (names, _) = g.list(bucket, ("", "", "p10/", 100)).await;
    assert_eq!(names.len(), 100);
    assert_eq!(slow.scanned.load(Ordering::Relaxed), 101);
}

/// Rows read by a page of versions of a bucket with 20 prefixes of 30 keys of 10 versions each.
async fn rows_of_versions(slow: &Slow, g: &Gateway, query: VersionsQuery) -> (usize, u64) {
    slow.scanned.store(0, Ordering::Relaxed);
    let page = g.index.list_versions(query).await.unwrap().unwrap();
    (page.entries.len(), slow.scanned.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_page_of_versions_costs_what_it_holds() {
    let slow = Slow::new(1);
    let g = Gateway::over(slow.clone(), 1).await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let copy = wire::records::BucketCopy {
        turn: 1,
        configuration: 2,
        versioning: 1,
        ..Default::default()
    };
    g.call(Command::OpenBucket { bucket, copy }).await.unwrap();
    for p in 0..20 {
        for k in 0..30 {
            let name = format!("p{p:02}/{k:02}");
            for _ in 0..9 {
                g.put(bucket, &name, StoredData::Empty).await.unwrap();
            }
            // Half of the keys are hidden by markers.
            match k % 2 {
                0 => drop(g.put(bucket, &name, StoredData::Empty).await.unwrap()),
                _ => drop(g.delete(bucket, &name).await),
            }
        }
    }
    let query = |delimiter: &str, after: &str, max| VersionsQuery {
        bucket,
        prefix: String::new(),
        delimiter: delimiter.into(),
        after: (after.into(), None),
        max,
    };
    // Two tables are walked side by side: each reads a page at most, and what is skipped hardly at all.
    let (lines, rows) = rows_of_versions(&slow, &g, query("/", "", 1000)).await;
    assert_eq!(lines, 20);
    assert!(rows < 400, "{rows} rows of 6000 for 20 prefixes");
    for (after, max) in [("p10/07", 100), ("p10/07", 1), ("", 250)] {
        let (lines, rows) = rows_of_versions(&slow, &g, query("", after, max)).await;
        assert_eq!(lines, max as usize);
        let most = 2 * (u64::from(max) + 1);
        assert!(rows <= most, "{rows} rows for {max} versions after {after:?}");
    }
    // The last keys of a prefix, then the next ones: what is before them costs nothing.
    let (lines, rows) = rows_of_versions(&slow, &g, query("/", "p17/", 1000)).await;
    assert_eq!(lines, 2);
    assert!(rows < 200, "{rows} rows for 2 prefixes");
}

#[tokio::test(start_paused = true)]
async fn an_index_that_cannot_write_says_so() {
    let serving = async |g: &Gateway| g.index.serving().await.map_err(|f| f.kind);
    let over = async |slow: &Arc<Slow>| {
        let g = Gateway::over(slow.clone(), 1).await;
        let bucket = BucketId(g.bucket("bucket").await.bucket);
        assert_eq!(serving(&g).await, Ok(()));
        (g, bucket)
    };
    // The owner is gone.
    let slow = Slow::new(1);
    let (g, bucket) = over(&slow).await;
    slow.wrong.store(slow::COMMIT_PANICS, Ordering::Relaxed);
    assert!(g.index.call(g.call_of(put(bucket, "k", 1))).await.is_err());
    assert_eq!(serving(&g).await, Err(ErrorKind::Fault));
    // The partition was taken by another, and cannot be had back.
    let slow = Slow::new(2);
    let (g, bucket) = over(&slow).await;
    let other = Gateway::over(slow.clone(), 2).await;
    slow.wrong.store(slow::TAKE_FAILS, Ordering::Relaxed);
    assert!(g.index.call(g.call_of(put(bucket, "k", 1))).await.is_err());
    assert_eq!(serving(&g).await, Err(ErrorKind::Corrupt));
    assert_eq!(serving(&other).await, Ok(()));
    // A commit that never ends.
    let slow = Slow::new(3);
    let (g, bucket) = over(&slow).await;
    let permits = slow.gate.available_permits();
    slow.gate.forget_permits(permits);
    let g = Arc::new(g);
    let waiting = tokio::spawn({
        let g = g.clone();
        async move { g.index.call(g.call_of(put(bucket, "k", 1))).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    assert_eq!(serving(&g).await, Err(ErrorKind::Unavailable));
    slow.gate.add_permits(permits);
    waiting.await.unwrap().unwrap();
    assert_eq!(serving(&g).await, Ok(()));
}

#[tokio::test]
async fn a_full_queue_refuses_and_recovers() {
    // I9
    let slow = Slow::new(1);
    let g = Arc::new(Gateway::over(slow.clone(), 1).await);
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let permits = slow.gate.available_permits();
    slow.gate.forget_permits(permits);
    let calls: Vec<_> = (0..OWNER_QUEUE_MAX + 3 * BATCH_COMMANDS_MAX)
        .map(|_| {
            let g = g.clone();
            tokio::spawn(async move { g.index.call(g.call_of(put(bucket, "k", 1))).await })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    slow.gate.add_permits(permits);
    let (mut done, mut busy) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => done += 1,
            Err(fault) if fault.kind == ErrorKind::Busy => busy += 1,
            Err(fault) => panic!("{fault}"),
        }
    }
    assert!(done >= OWNER_QUEUE_MAX && busy > 0, "{done} done, {busy} busy");
    g.call(put(bucket, "k", 1)).await.unwrap();
}

#[tokio::test]
async fn shutdown_answers_what_was_sent() {
    let slow = Slow::new(3);
    let g = Arc::new(Gateway::over(slow.clone(), 1).await);
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let g = g.clone();
            tokio::spawn(async move { g.index.call(g.call_of(put(bucket, "k", 1))).await })
        })
        .collect();
    tokio::task::yield_now().await;
    g.index.shutdown().await;
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    let late = g.index.call(g.call_of(put(bucket, "k", 1))).await;
    assert_eq!(late.unwrap_err().kind, ErrorKind::Unavailable);
}
