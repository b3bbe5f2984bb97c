//! Index snapshots: taken beside writers, refused when a byte of them is not what was written, and laid into a directory again.

#[allow(dead_code, reason = "another test needs what this one does not")]
mod journal;

use bytes::Bytes;
use journal::TestJournal;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::embedded::Embedded;
use store::{
    Batch, Committed, Fence, OldLog, Scan, Snapshot, SnapshotRows, SnapshotStream, Store, StoreError, lay,
};
use types::{DiskId, JournalSeq, PartitionId};
use world::real::RealDisk;
use world::{Disk, DiskFile, Exec, Overlay, World};

const ALL: [PartitionId; 3] = [
    PartitionId::DIRECTORY,
    PartitionId::CONTROL,
    PartitionId::FIRST_DATA,
];

type Rows = BTreeMap<(PartitionId, Bytes), Bytes>;

fn world() -> World {
    World {
        exec: Exec::Inline,
        ..World::real()
    }
}

struct Rig {
    disk: Arc<dyn Disk>,
    journal: TestJournal,
    engine: Embedded,
    _below: tempfile::TempDir,
}

fn rig() -> Rig {
    let below = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(Overlay::new(Arc::new(RealDisk::open(below.path()).unwrap())));
    let journal = TestJournal::new(DiskId(7), &world());
    let engine = Embedded::open_on(&world(), disk.clone(), journal.log(), Vec::new(), &[]).unwrap();
    Rig {
        disk,
        journal,
        engine,
        _below: below,
    }
}

fn key(table: u8, n: u64) -> Bytes {
    [&[table][..], &n.to_be_bytes()].concat().into()
}

async fn commit(store: &dyn Store, fence: Fence, rows: Vec<(Bytes, Option<Bytes>)>) -> Fence {
    let mut rows = rows;
    rows.push((
        Bytes::from_static(&[1]),
        Some(Bytes::copy_from_slice(&fence.sequence.0.to_be_bytes())),
    ));
    let behind = Vec::new();
    match store.commit(fence, Batch { rows, behind }).await {
        Committed::Done(fence) => fence,
        other => panic!("{other:?}"),
    }
}

async fn fill(store: &dyn Store, rows: u64, value_bytes: usize) -> Vec<Fence> {
    let mut fences = Vec::new();
    for partition in ALL {
        let mut fence = store.take(partition).await.unwrap();
        for page in 0..rows.div_ceil(100) {
            let of_page = (100 * page..rows.min(100 * page + 100)).map(|n| {
                (
                    key(16, n),
                    Some(vec![n as u8; value_bytes + n as usize % 7].into()),
                )
            });
            fence = commit(store, fence, of_page.collect()).await;
        }
        fences.push(fence);
    }
    fences
}

async fn all_rows(store: &dyn Store) -> Rows {
    let mut rows = Rows::new();
    for partition in ALL {
        let snapshot = store.snapshot(partition).await.unwrap();
        let mut start = Bytes::from_static(&[0]);
        loop {
            let scan = Scan {
                start: start.clone(),
                end: Bytes::from_static(&[0xFF]),
                max: 1000,
            };
            let page = snapshot.scan(&scan).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            start = [&last[..], &[0]].concat().into();
            rows.extend(page.into_iter().map(|(key, value)| ((partition, key), value)));
        }
    }
    rows
}

async fn whole(mut stream: SnapshotStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(more) = stream.next().await.unwrap() {
        bytes.extend_from_slice(&more);
    }
    bytes
}

fn file_of(disk: &dyn Disk, bytes: &[u8]) -> Arc<dyn DiskFile> {
    drop(disk.remove("snapshot"));
    let file = disk.create("snapshot").unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn read(file: Arc<dyn DiskFile>) -> Result<Rows, StoreError> {
    let rows = SnapshotRows::open(file, "snapshot")?;
    rows.map(|row| row.map(|(partition, key, value)| ((partition, key), value)))
        .collect()
}

/// Of the moment that it was taken, whatever is written while it is read.
#[tokio::test]
async fn it_is_of_one_moment() {
    let rig = rig();
    let fences = fill(&rig.engine, 3000, 300).await;
    let before = all_rows(&rig.engine).await;
    let mut stream = SnapshotStream::take(&rig.engine, DiskId(7), 5).await.unwrap();
    let mut bytes = stream.next().await.unwrap().unwrap().to_vec();
    let mut fence = fences[2];
    let mut n = 0;
    while let Some(more) = stream.next().await.unwrap() {
        bytes.extend_from_slice(&more);
        let gone = (key(16, n), None);
        let new = (key(16, 10_000 + n), Some(Bytes::from_static(b"later")));
        fence = commit(&rig.engine, fence, vec![gone, new]).await;
        if n == 2 {
            rig.engine.checkpoint().await.unwrap();
        }
        n += 1;
    }
    assert!(n > 5, "{n} blocks");
    let file = file_of(&*rig.disk, &bytes);
    let head = SnapshotRows::open(file.clone(), "snapshot").unwrap().head();
    assert_eq!((head.disk, head.taken_ms, head.partitions), (DiskId(7), 5, 3));
    assert_eq!(
        SnapshotRows::open(file.clone(), "s").unwrap().verify(),
        Ok(before.len() as u64)
    );
    assert_eq!(read(file).unwrap(), before);
}

#[tokio::test]
async fn a_cut_or_flipped_one_is_refused_with_its_place() {
    let rig = rig();
    fill(&rig.engine, 20, 10).await;
    let bytes = whole(SnapshotStream::take(&rig.engine, DiskId(7), 5).await.unwrap()).await;
    assert!(read(file_of(&*rig.disk, &bytes)).is_ok());
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let told = read(file_of(&*rig.disk, &bad)).unwrap_err().to_string();
        assert!(
            told.contains("byte") || told.contains("no index snapshot"),
            "flipped at {at}: {told}"
        );
        let told = read(file_of(&*rig.disk, &bytes[..at])).unwrap_err().to_string();
        assert!(told.contains("cut off"), "cut at {at}: {told}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(
        read(file_of(&*rig.disk, &longer)).is_err(),
        "nothing follows its end"
    );
}

/// The old index, with batches that the journal still has, is gone; what is committed after it is kept over another start.
#[tokio::test]
async fn a_laid_index_takes_the_place_of_the_old_one() {
    let rig = rig();
    let fences = fill(&rig.engine, 300, 50).await;
    let kept = all_rows(&rig.engine).await;
    let bytes = whole(SnapshotStream::take(&rig.engine, DiskId(7), 5).await.unwrap()).await;
    rig.engine.checkpoint().await.unwrap();
    let later = (key(16, 77_777), Some(Bytes::from_static(b"lost")));
    commit(&rig.engine, fences[2], vec![later, (key(16, 5), None)]).await;
    rig.engine.abandon().await;
    let batches = rig.journal.kept();
    assert!(!batches.is_empty(), "the journal has batches of the old index");
    let next = JournalSeq(batches.last().unwrap().0.0 + 1);
    let under = OldLog {
        batches: &batches,
        next,
    };
    let mut rows = SnapshotRows::open(file_of(&*rig.disk, &bytes), "snapshot").unwrap();
    assert_eq!(lay(&rig.disk, DiskId(7), under, &mut rows), Ok(kept.len() as u64));
    let open = || {
        Embedded::open_on(
            &world(),
            rig.disk.clone(),
            rig.journal.log(),
            rig.journal.kept(),
            &[],
        )
    };
    let engine = open().unwrap();
    assert_eq!(all_rows(&engine).await, kept);
    let fence = engine.take(PartitionId::FIRST_DATA).await.unwrap();
    commit(
        &engine,
        fence,
        vec![(key(16, 5), Some(Bytes::from_static(b"new")))],
    )
    .await;
    engine.abandon().await;
    let engine = open().unwrap();
    let now = all_rows(&engine).await;
    assert_eq!(now[&(PartitionId::FIRST_DATA, key(16, 5))], &b"new"[..]);
    assert_eq!(now.len(), kept.len());
}

/// Rows that cannot be had, or are out of order, leave the index that was there.
#[tokio::test]
async fn what_cannot_be_laid_whole_is_not_laid() {
    let rig = rig();
    fill(&rig.engine, 10, 10).await;
    let before = all_rows(&rig.engine).await;
    rig.engine.shutdown().await.unwrap();
    let row = |n| Ok((PartitionId::FIRST_DATA, key(16, n), Bytes::from_static(b"v")));
    let lost = || Err(StoreError::Corrupt("block 3".into()));
    let other = Ok((PartitionId::CONTROL, key(16, 1), Bytes::new()));
    for rows in [
        vec![row(1), row(2), lost()],
        vec![row(2), row(1)],
        vec![row(1), row(1)],
        vec![row(1), other, row(2)],
    ] {
        let under = OldLog {
            batches: &[],
            next: JournalSeq(1),
        };
        assert!(lay(&rig.disk, DiskId(7), under, &mut rows.into_iter()).is_err());
        let engine = Embedded::open_on(
            &world(),
            rig.disk.clone(),
            rig.journal.log(),
            rig.journal.kept(),
            &[],
        )
        .unwrap();
        assert_eq!(all_rows(&engine).await, before);
        assert!(
            rig.disk
                .list("index")
                .unwrap()
                .iter()
                .all(|name| !name.ends_with(".laid"))
        );
        engine.shutdown().await.unwrap();
    }
}

/// Of an index that rotted all that can be read is taken, where somebody accepts that the rest is lost; laid anew it is whole.
#[tokio::test]
async fn what_can_be_read_of_a_damaged_index_makes_a_whole_one() {
    let rig = rig();
    fill(&rig.engine, 600, 100).await;
    let before = all_rows(&rig.engine).await;
    rig.engine.shutdown().await.unwrap();
    let path = "index/0000000000000010.redb";
    let open = || {
        Embedded::open_on(
            &world(),
            rig.disk.clone(),
            rig.journal.log(),
            rig.journal.kept(),
            &[],
        )
        .unwrap()
    };
    let pages = rig.disk.open(path).unwrap().len().unwrap() / 4096;
    for page in 6..pages {
        let file = rig.disk.open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, page * 4096 + 50).unwrap();
        file.write_all_at(&[byte[0] ^ 3], page * 4096 + 50).unwrap();
        let engine = open();
        let mut refused = SnapshotStream::take(&engine, DiskId(7), 5).await.unwrap();
        let told = loop {
            match refused.next().await {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(e) => break Some(e),
            }
        };
        if told.is_none() {
            // Nothing of a row was there.
            engine.abandon().await;
            file.write_all_at(&byte, page * 4096 + 50).unwrap();
            continue;
        }
        let mut stream = past_damage(&engine).await;
        let mut bytes = Vec::new();
        while let Some(more) = stream.next().await.unwrap() {
            bytes.extend_from_slice(&more);
        }
        assert!(
            stream.lost().len() == 1 && stream.lost()[0].to_string().contains(path),
            "{:?}",
            stream.lost()
        );
        engine.abandon().await;
        let under = OldLog {
            batches: &rig.journal.kept(),
            next: JournalSeq(1 << 20),
        };
        let mut rows = SnapshotRows::open(file_of(&*rig.disk, &bytes), "snapshot").unwrap();
        lay(&rig.disk, DiskId(7), under, &mut rows).unwrap();
        let now = all_rows(&open()).await;
        assert!(
            now.len() < before.len() && now.len() + 60 > before.len(),
            "{}",
            now.len()
        );
        assert!(now.iter().all(|(key, value)| before.get(key) == Some(value)));
        return;
    }
    panic!("no page had rows");
}

/// A store whose first rows cannot be scanned: their page rotted, and a newer file lies over it.
struct Rotten(Embedded);

struct RottenSnapshot(Arc<dyn Snapshot>);

#[async_trait::async_trait]
impl Store for Rotten {
    async fn take(&self, partition: PartitionId) -> Result<Fence, StoreError> {
        self.0.take(partition).await
    }
    async fn snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(RottenSnapshot(self.0.snapshot(partition).await?)))
    }
    async fn commit(&self, fence: Fence, batch: Batch) -> Committed {
        self.0.commit(fence, batch).await
    }
}

#[async_trait::async_trait]
impl Snapshot for RottenSnapshot {
    async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.0.get(keys).await
    }
    async fn scan(&self, scan: &Scan) -> Result<store::Rows, StoreError> {
        match scan.start <= key(16, 49) {
            true => Err(StoreError::Corrupt("the first page".into())),
            false => self.0.scan(scan).await,
        }
    }
    fn upper(&self) -> Option<Arc<dyn Snapshot>> {
        Some(Arc::new(NewerFile(self.0.clone())))
    }
}

/// It has the partition's own row alone.
struct NewerFile(Arc<dyn Snapshot>);

#[async_trait::async_trait]
impl Snapshot for NewerFile {
    async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.0.get(keys).await
    }
    async fn scan(&self, scan: &Scan) -> Result<store::Rows, StoreError> {
        let own = self.0.get(&[Bytes::from_static(&[1])]).await?;
        let own = own
            .into_iter()
            .flatten()
            .map(|value| (Bytes::from_static(&[1]), value));
        Ok(own
            .filter(|(key, _)| (&scan.start..&scan.end).contains(&key))
            .collect())
    }
}

async fn past_damage(store: &dyn Store) -> SnapshotStream {
    let mut partitions = BTreeMap::new();
    for id in [
        PartitionId::DIRECTORY,
        PartitionId::CONTROL,
        PartitionId::FIRST_DATA,
    ] {
        partitions.insert(id, store.snapshot(id).await);
    }
    SnapshotStream::of_readable(|id| partitions[&id].clone(), Vec::new(), (DiskId(7), 5)).unwrap()
}

/// The row that says which numbers were given is the first of a partition: it is not left out with the page below it.
#[tokio::test]
async fn a_partitions_own_row_outlives_its_page() {
    let rig = rig();
    fill(&rig.engine, 100, 10).await;
    let before = all_rows(&rig.engine).await;
    let rotten = Rotten(rig.engine);
    let stream = past_damage(&rotten).await;
    let now = read(file_of(&*rig.disk, &whole(stream).await)).unwrap();
    let own = |rows: &Rows| -> Rows {
        let own = rows.iter().filter(|((_, key), _)| key[..] == [1]);
        own.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    assert_eq!(own(&now), own(&before));
    assert_eq!((own(&now).len(), now.len()), (3, 3 * 51));
    rotten.0.shutdown().await.unwrap();
}
