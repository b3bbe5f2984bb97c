//! Rows that nothing owns are told by a walk, each by its own fault; a store that works has none.

mod gateway;

use bytes::Bytes;
use gateway::{Gateway, key, part, stored, walked};
use std::sync::Arc;
use store::{Batch, Committed, Memory, Scan, Store};
use types::{BucketId, PartitionId};
use wire::index::{Command, Named, Precondition, StoredData, VersionRef};
use wire::records::BucketCopy;

// First bytes of row keys: docs/formats/rows.md.
const CURRENT: u8 = 0x10;
const VERSIONS: u8 = 0x11;
const UPLOADS: u8 = 0x12;
const NULLS: u8 = 0x17;

/// One of everything that others own: a null version under others, inline bytes, pages, parts.
async fn filled(store: &Arc<Memory>) {
    let g = Gateway::over(store.clone(), 1).await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let inline = || StoredData::Inline(Bytes::from_static(b"abc"));
    g.put(bucket, "null", inline()).await.unwrap();
    let copy = BucketCopy {
        turn: 1,
        configuration: 2,
        versioning: 1,
        ..BucketCopy::default()
    };
    g.call(Command::OpenBucket { bucket, copy }).await.unwrap();
    g.put(bucket, "null", inline()).await.unwrap();
    let pages = || StoredData::Chunks(stored(g.blob(), 600));
    g.put(bucket, "pages", pages()).await.unwrap();
    g.put(bucket, "pages", pages()).await.unwrap();
    let gone = Command::Put {
        bucket,
        key: key("gone"),
        record: gateway::record(600 * 4096),
        data: pages(),
        precondition: Precondition::default(),
    };
    g.call(gone).await.unwrap();
    let upload = g.upload(bucket, "up").await;
    for number in [1, 2] {
        let (record, _) = part(number, 5, 1);
        g.part((bucket, "up", upload), record, stored(g.blob(), 1))
            .await
            .unwrap();
    }
    let delete = Command::Delete {
        bucket,
        key: key("null"),
        version: VersionRef::Current,
        precondition: Precondition::default(),
    };
    g.call(delete).await.unwrap();
}

/// Removes rows of a table whose keys have `text` in them behind the index's back; how many.
async fn remove(store: &Memory, table: u8, text: &str) -> usize {
    let fence = store.take(PartitionId::FIRST_DATA).await.unwrap();
    let scan = Scan {
        start: Bytes::copy_from_slice(&[table]),
        end: Bytes::copy_from_slice(&[table + 1]),
        max: 1000,
    };
    let snapshot = store.snapshot(PartitionId::FIRST_DATA).await.unwrap();
    let rows = snapshot.scan(&scan).await.unwrap().into_iter();
    let named = |row: &Bytes| row.windows(text.len()).any(|w| w == text.as_bytes());
    let rows: Vec<_> = rows.map(|r| r.0).filter(named).map(|r| (r, None)).collect();
    let removed = rows.len();
    let committed = store
        .commit(
            fence,
            Batch {
                rows,
                behind: Vec::new(),
            },
        )
        .await;
    assert!(matches!(committed, Committed::Done(_)), "{committed:?}");
    removed
}

async fn strays(store: &Arc<Memory>) -> Vec<String> {
    let g = Gateway::over(store.clone(), 2).await;
    let stray = |named| match named {
        Named::Stray { what } => Some(what),
        _ => None,
    };
    walked(&*g.index).await.into_iter().filter_map(stray).collect()
}

#[tokio::test]
async fn what_nothing_owns_is_told() {
    for (table, text, removed, told, says) in [
        (0xF0, "", 0, 0, ""),
        (UPLOADS, "up", 1, 2, "a part of an upload that is not there"),
        (NULLS, "null", 1, 1, "a null version that `nulls` does not name"),
        // Its marker, its null version and the one between.
        (VERSIONS, "null", 3, 3, "not there"),
        (VERSIONS, "pages", 1, 2, "nothing names this page"),
        (CURRENT, "gone", 1, 2, "nothing names this page"),
    ] {
        let store = Arc::new(Memory::new());
        filled(&store).await;
        assert_eq!(remove(&store, table, text).await, removed, "{text}");
        let found = strays(&store).await;
        assert_eq!(found.len(), told, "{text}: {found:#?}");
        assert!(found.iter().all(|what| what.contains(says)), "{found:#?}");
    }
}
