//! The engines, behind the little that the measurements need.

use anyhow::Result;
use std::path::Path;
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use store::{Batch, Committed, Fence, Scan, Snapshot, Store};
use types::PartitionId;

pub type Row = (Vec<u8>, Vec<u8>);

/// One engine under measurement.
pub trait Engine: Send + Sync {
    /// Durable when it returns.
    fn commit(&self, rows: Vec<Row>) -> Result<()>;
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Walks up to `max` rows from `start`; how many there were. `see` looks at each.
    fn scan(&self, start: &[u8], max: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize>;
}

pub const NAMES: [&str; 3] = ["redb", "fjall", "embedded"];

pub fn open(name: &str, dir: &Path) -> Result<Arc<dyn Engine>> {
    Ok(match name {
        "redb" => Arc::new(Redb::open(dir)?),
        "fjall" => Arc::new(Fjall::open(dir)?),
        "embedded" => Arc::new(Embedded::open(dir)?),
        other => anyhow::bail!("no engine {other}"),
    })
}

const TABLE: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("rows");

struct Redb(redb::Database);

impl Redb {
    fn open(dir: &Path) -> Result<Self> {
        let mut builder = redb::Database::builder();
        builder.set_cache_size(64 << 20);
        let db = builder.create(dir.join("plain.redb"))?;
        let tx = db.begin_write()?;
        tx.open_table(TABLE)?;
        tx.commit()?;
        Ok(Self(db))
    }
}

impl Engine for Redb {
    fn commit(&self, rows: Vec<Row>) -> Result<()> {
        let tx = self.0.begin_write()?;
        {
            let mut table = tx.open_table(TABLE)?;
            for (k, v) in &rows {
                table.insert(&k[..], &v[..])?;
            }
        }
        tx.commit()?;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        use redb::ReadableDatabase;
        let table = self.0.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key)?.map(|v| v.value().to_vec()))
    }

    fn scan(&self, start: &[u8], max: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        use redb::ReadableDatabase;
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut n = 0;
        for row in table.range(start..)?.take(max) {
            let (k, v) = row?;
            see(k.value(), v.value());
            n += 1;
        }
        Ok(n)
    }
}

struct Fjall {
    db: fjall::Database,
    rows: fjall::Keyspace,
}

impl Fjall {
    fn open(dir: &Path) -> Result<Self> {
        let db = fjall::Database::builder(dir.join("fjall")).cache_size(64 << 20).open()?;
        let rows = db.keyspace("rows", fjall::KeyspaceCreateOptions::default)?;
        Ok(Self { db, rows })
    }
}

impl Engine for Fjall {
    fn commit(&self, rows: Vec<Row>) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(fjall::PersistMode::SyncData));
        for (k, v) in rows {
            batch.insert(&self.rows, k, v);
        }
        batch.commit()?;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.rows.get(key)?.map(|v| v.to_vec()))
    }

    fn scan(&self, start: &[u8], max: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut n = 0;
        for row in self.rows.range(start..).take(max) {
            let (k, v) = row.into_inner()?;
            see(&k, &v);
            n += 1;
        }
        Ok(n)
    }
}

/// Cairn's engine on Cairn's journal, as the server opens them.
struct Embedded {
    engine: Arc<store::Embedded>,
    fence: Mutex<Fence>,
    runtime: tokio::runtime::Runtime,
    ticker: Option<tokio::task::JoinHandle<()>>,
}

const PARTITION: PartitionId = PartitionId::FIRST_DATA;

impl Embedded {
    fn open(dir: &Path) -> Result<Self> {
        let world = world::World::real();
        let disk: Arc<dyn world::Disk> = Arc::new(world::real::RealDisk::open(&dir.join("cairn"))?);
        let config = extent::DataDirConfig { journal_bytes: Some(256 << 20), ..Default::default() };
        let opened = extent::DataDir::open(&world, disk.clone(), config)?;
        let journal = opened.dir.journal().clone();
        let engine = store::Embedded::open(&world, disk, journal.clone(), opened.batches, &opened.report.lost)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
        let engine = Arc::new(engine);
        let fence = Mutex::new(runtime.block_on(engine.take(PARTITION))?);
        // What the node's loop does.
        let dir = opened.dir;
        let ticker = runtime.spawn(async move {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                journal.tick();
                if dir.checkpoint().is_err() {
                    break;
                }
            }
        });
        Ok(Self { engine, fence, runtime, ticker: Some(ticker) })
    }

    /// A snapshot's calls never wait.
    fn now<T>(&self, f: impl Future<Output = T>) -> T {
        let mut f = std::pin::pin!(f);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match f.as_mut().poll(&mut context) {
            std::task::Poll::Ready(answer) => answer,
            std::task::Poll::Pending => self.runtime.block_on(f),
        }
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        Ok(self.now(self.engine.snapshot(PARTITION))?)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(ticker) = self.ticker.take() {
            ticker.abort();
        }
        let _stopped = self.runtime.block_on(self.engine.shutdown());
    }
}

impl Engine for Embedded {
    fn commit(&self, rows: Vec<Row>) -> Result<()> {
        let mut fence = self.fence.lock().expect("one owner");
        let rows = rows.into_iter().map(|(k, v)| (Bytes::from(k), Some(Bytes::from(v)))).collect();
        match self.runtime.block_on(self.engine.commit(*fence, Batch { rows, behind: Vec::new() })) {
            Committed::Done(next) => {
                *fence = next;
                Ok(())
            }
            other => anyhow::bail!("{other:?}"),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let snapshot = self.snapshot()?;
        let found = self.now(snapshot.get(&[Bytes::copy_from_slice(key)]))?;
        Ok(found.into_iter().next().flatten().map(|v| v.to_vec()))
    }

    fn scan(&self, start: &[u8], max: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let snapshot = self.snapshot()?;
        let mut start = if start.is_empty() { Bytes::from_static(b"\0") } else { Bytes::copy_from_slice(start) };
        let mut n = 0;
        while n < max {
            let page = (max - n).min(types::limits::SCAN_ROWS_MAX);
            let scan = Scan { start, end: Bytes::from_static(&[0xff; 4]), max: page };
            let rows = self.now(snapshot.scan(&scan))?;
            for (k, v) in &rows {
                see(k, v);
            }
            n += rows.len();
            let Some((last, _)) = rows.last() else { break };
            start = [last, &b"\0"[..]].concat().into();
            if rows.len() < page {
                break;
            }
        }
        Ok(n)
    }
}
