//! What the owner does of itself past rows that cannot be read: the sweep of ended uploads, and promises about needles.

use crate::IndexRole;
use crate::rows::{Range, RowRef, encode};
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use store::{Batch, Committed, Fence, Memory, Rows, Scan, Snapshot, Store, StoreError};
use types::{BucketId, CommandId, ExtentId, NeedleId, PartitionId, SessionId, StampId, UploadId};
use wire::index::{Call, Command, Index};
use wire::records::{CondemnedRecord, EndedUpload, PartRecord, answer::Kind};
use world::World;

const ID: PartitionId = PartitionId::FIRST_DATA;
const BUCKET: BucketId = BucketId(1);
const COUNT: u64 = 200;

type Bad = Arc<Mutex<Vec<(Bytes, Bytes)>>>;

/// An engine of which scans do not come past some rows.
struct Holed(Memory, Bad);

struct HoledSnapshot(Arc<dyn Snapshot>, Vec<(Bytes, Bytes)>);

#[async_trait::async_trait]
impl Store for Holed {
    async fn take(&self, partition: PartitionId) -> Result<Fence, StoreError> {
        self.0.take(partition).await
    }
    async fn snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Snapshot>, StoreError> {
        let bad = self.1.lock().unwrap().clone();
        Ok(Arc::new(HoledSnapshot(self.0.snapshot(partition).await?, bad)))
    }
    async fn commit(&self, fence: Fence, batch: Batch) -> Committed {
        self.0.commit(fence, batch).await
    }
}

#[async_trait::async_trait]
impl Snapshot for HoledSnapshot {
    async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.0.get(keys).await
    }
    async fn scan(&self, scan: &Scan) -> Result<Rows, StoreError> {
        let rows = self.0.scan(scan).await?;
        for (key, _) in &rows {
            let inside = |(from, to): &(Bytes, Bytes)| from <= key && key <= to;
            if let Some(page) = self.1.iter().position(inside) {
                return Err(StoreError::Corrupt(format!("the page at byte {page}")));
            }
        }
        Ok(rows)
    }
}

fn name(n: u64) -> String {
    format!("key-{n:04}")
}

fn ended(n: u64) -> Bytes {
    RowRef::Ended(BUCKET, &name(n), UploadId(7)).key()
}

fn part(n: u64) -> Bytes {
    RowRef::Part(BUCKET, &name(n), UploadId(7), 1).key()
}

fn condemned(n: u64) -> Bytes {
    RowRef::Condemned(BUCKET, &name(n), ExtentId(9), NeedleId(n)).key()
}

/// A partition with ended uploads of one part each, and as many promises, of session 3.
async fn holed(bad: Vec<(Bytes, Bytes)>) -> Arc<Holed> {
    let store = Holed(Memory::new(), Arc::default());
    let fence = store.take(ID).await.unwrap();
    let promise = CondemnedRecord {
        session: 3,
        ..CondemnedRecord::default()
    };
    let part_of = |n| PartRecord {
        number: 1,
        size: n,
        ..PartRecord::default()
    };
    let mut rows = Vec::new();
    for n in 0..COUNT {
        rows.push((ended(n), Some(encode(&EndedUpload::default()))));
        rows.push((part(n), Some(encode(&part_of(n)))));
        rows.push((condemned(n), Some(encode(&promise))));
    }
    let behind = Vec::new();
    assert!(matches!(
        store.commit(fence, Batch { rows, behind }).await,
        Committed::Done(_)
    ));
    *store.1.lock().unwrap() = bad;
    Arc::new(store)
}

/// The rows of a range that there are, readable or not.
async fn left(store: &Holed, range: Range) -> Vec<Bytes> {
    let snapshot = store.0.snapshot(ID).await.unwrap();
    let scan = Scan {
        start: range.start,
        end: range.end,
        max: 1000,
    };
    let rows = snapshot.scan(&scan).await.unwrap();
    rows.into_iter().map(|(key, _)| key).collect()
}

async fn opened(store: &Arc<Holed>) -> IndexRole {
    let store: Arc<dyn Store> = store.clone();
    let role = IndexRole::open(World::real(), store, StampId::FIRST)
        .await
        .unwrap();
    // Something for the first batch.
    role.end_sessions_below(SessionId(5)).await.unwrap();
    role
}

fn call(serial: u64, command: Command) -> Call {
    Call {
        id: CommandId::new(SessionId(6), serial),
        done_below: 0,
        command,
    }
}

/// Two bad pages of ended uploads, and one of an upload's parts: everything else of ended uploads goes.
#[tokio::test]
async fn ended_uploads_behind_a_bad_page_are_swept() {
    let bad = vec![
        (ended(0), ended(9)),
        (ended(50), ended(59)),
        (part(100), part(100)),
    ];
    let store = holed(bad).await;
    let role = opened(&store).await;
    let stay: Vec<u64> = (0..10).chain(50..60).chain([100]).collect();
    for _ in 0..10_000 {
        if left(&store, Range::ended()).await.len() == stay.len() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let of = |row: fn(u64) -> Bytes| stay.iter().map(|n| row(*n)).collect::<Vec<_>>();
    assert_eq!(left(&store, Range::ended()).await, of(ended));
    // What is there again is swept when the partition is taken the next time.
    role.shutdown().await;
    store.1.lock().unwrap().clear();
    let role = opened(&store).await;
    for _ in 0..10_000 {
        if left(&store, Range::ended()).await.is_empty() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(left(&store, Range::ended()).await, of(ended)[..0]);
    role.shutdown().await;
}

#[tokio::test]
async fn promises_behind_a_bad_page_are_let_go() {
    let store = holed(vec![(condemned(0), condemned(3)), (condemned(90), condemned(91))]).await;
    let role = opened(&store).await;
    let mut after = Bytes::new();
    for serial in 1..20 {
        let forget = call(serial, Command::ForgetCondemned { after });
        match role.call(forget).await.unwrap().kind {
            Some(Kind::ForgetCondemned(answer)) => after = answer.next.into(),
            other => panic!("{other:?}"),
        }
        if after.is_empty() {
            break;
        }
    }
    let stay: Vec<Bytes> = [0, 1, 2, 3, 90, 91].map(condemned).into();
    assert_eq!(left(&store, Range::condemned()).await, stay);
    role.shutdown().await;
}
