//! One machine with one disk: the journal and the embedded index on it, a script of commits, and what must be there after.
#![allow(dead_code, reason = "each test uses its part")]

use bytes::Bytes;
use extent::{DataDir, DataDirConfig, ExtentError, Found, Opened};
use sim::{SimClock, SimDisk, SimRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::embedded::Embedded;
use store::{Batch, Committed, Fence, Prepared, Scan, Store, StoreError};
use types::PartitionId;
use types::limits::SCAN_ROWS_MAX;
use world::{Disk, Exec, World};

pub(crate) const DATA: PartitionId = PartitionId::FIRST_DATA;
pub(crate) const DIRECTORY: PartitionId = PartitionId::DIRECTORY;

pub(crate) type Rows = BTreeMap<Bytes, Bytes>;
pub(crate) type Model = BTreeMap<PartitionId, Rows>;

pub(crate) struct Machine {
    pub(crate) disk: SimDisk,
    pub(crate) world: World,
    pub(crate) journal_bytes: u64,
}

/// What runs on it.
pub(crate) struct Running {
    pub(crate) dir: DataDir,
    pub(crate) engine: Arc<Embedded>,
}

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        Self::on(SimDisk::new(seed, 64 << 20), seed)
    }

    pub(crate) fn on(disk: SimDisk, seed: u64) -> Self {
        let world = World {
            clock: Arc::new(SimClock::new(1_700_000_000_000)),
            rng: Arc::new(SimRng::new(seed)),
            exec: Exec::Inline,
        };
        Self {
            disk,
            world,
            // Small, so that it comes round and forgets.
            journal_bytes: 128 << 10,
        }
    }

    /// Opens journal and index.
    pub(crate) fn open(&self) -> Result<Running, String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let opened = DataDir::open(&self.world, disk.clone(), self.config())
            .map_err(|e| format!("the directory: {e}"))?;
        let journal = opened.dir.journal().clone();
        let engine = Embedded::open(&self.world, disk, journal, opened.batches, &opened.report.lost)
            .map_err(|e| format!("the index: {e}"))?;
        Ok(self.run(opened.dir, engine))
    }

    /// Opens the directory alone.
    pub(crate) fn directory(&self) -> Result<Opened, String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        DataDir::open(&self.world, disk, self.config()).map_err(|e| format!("the directory: {e}"))
    }

    /// Looks at the index, and starts nothing.
    pub(crate) fn prepare(&self) -> Result<Prepared, String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let opened = self.directory()?;
        let owner = opened.dir.disk_id();
        Prepared::new(disk, owner, opened.batches, &opened.report.lost).map_err(|e| format!("the index: {e}"))
    }

    fn config(&self) -> DataDirConfig {
        DataDirConfig {
            journal_bytes: Some(self.journal_bytes),
            ballast_bytes: Some(64 << 10),
            ..DataDirConfig::default()
        }
    }

    /// Opens both, or neither where any partition is not to be had: as the server does, which needs them all.
    pub(crate) fn open_whole(&self) -> Result<Running, ExtentError> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let mut prepared = None;
        let mut judge = |found: &Found<'_>| {
            prepared = None;
            let index = Prepared::new(
                disk.clone(),
                found.disk,
                found.batches.iter().cloned(),
                found.lost,
            );
            let index = index.map_err(|e| match e {
                StoreError::Full(why) => ExtentError::Full(why),
                other => ExtentError::OutOfService(other.to_string()),
            })?;
            if let Some((_, why)) = index.broken().first() {
                return Err(ExtentError::Corrupt(why.to_string()));
            }
            prepared = Some(index);
            Ok(())
        };
        let opened = DataDir::open_judged(&self.world, disk.clone(), self.config(), &mut judge)?;
        let engine = Embedded::resume(&self.world, prepared.unwrap(), opened.dir.journal());
        Ok(self.run(opened.dir, engine))
    }

    fn run(&self, data: DataDir, engine: Embedded) -> Running {
        // Several transactions make one writing behind, as for a real index.
        engine.set_step_bytes(1000);
        // What the node's loop does for its extents: they hold nothing here, and must say so for the journal to come round.
        let (pressed, dir) = (Arc::new(tokio::sync::Notify::new()), data.clone());
        let hear = pressed.clone();
        dir.journal().on_pressure(Box::new(move || hear.notify_one()));
        tokio::spawn(async move {
            while dir.checkpoint().is_ok() {
                pressed.notified().await;
            }
        });
        Running {
            dir: data,
            engine: Arc::new(engine),
        }
    }
}

impl Running {
    /// An orderly stop.
    pub(crate) async fn stop(self) -> Result<(), String> {
        self.engine.shutdown().await.map_err(|e| e.to_string())?;
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.dir.close(Box::new(move |result| {
            let _gone = tx.send(result);
        }));
        rx.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

/// Runs one life of a machine: what it leaves behind dies with it.
pub(crate) fn life<T>(f: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(f)
}

/// What the script has come to.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) next: u64,
    /// What was acknowledged.
    pub(crate) done: Model,
    /// What the one command whose end is not known would have made of it.
    pub(crate) perhaps: Option<Model>,
    /// Why it ended.
    pub(crate) ended: Option<String>,
}

/// The `n`-th commit of the script.
pub(crate) fn commit_of(n: u64) -> (PartitionId, Batch) {
    let dice = SimRng::new(n);
    let partition = if dice.below(4) == 0 { DIRECTORY } else { DATA };
    let mut rows = BTreeMap::new();
    for _ in 0..=dice.below(8) {
        let key = Bytes::from(format!("key-{:03}", dice.below(60)));
        let value = (dice.below(5) > 0).then(|| {
            let length = if dice.below(20) == 0 {
                9000
            } else {
                dice.below(300)
            };
            Bytes::from(vec![n as u8; length as usize])
        });
        rows.insert(key, value);
    }
    (
        partition,
        Batch {
            rows: rows.into_iter().collect(),
            behind: Vec::new(),
        },
    )
}

pub(crate) fn apply(model: &mut Model, partition: PartitionId, batch: &Batch) {
    let rows = model.entry(partition).or_default();
    for (key, value) in &batch.rows {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

impl Progress {
    /// Goes on with the script to `until`, with a checkpoint after every `every`-th commit. Ends early at the first error.
    pub(crate) async fn run(&mut self, engine: &Embedded, until: u64, every: u64) {
        self.ended = self.steps(engine, until, every).await.err();
    }

    async fn steps(&mut self, engine: &Embedded, until: u64, every: u64) -> Result<(), String> {
        let mut fences: BTreeMap<PartitionId, Fence> = BTreeMap::new();
        while self.next < until {
            let (partition, batch) = commit_of(self.next);
            let fence = match fences.get(&partition) {
                Some(fence) => *fence,
                None => engine.take(partition).await.map_err(|e| format!("take: {e}"))?,
            };
            let mut after = self.done.clone();
            apply(&mut after, partition, &batch);
            match engine.commit(fence, batch).await {
                Committed::Done(next) => {
                    fences.insert(partition, next);
                    self.done = after;
                    self.next += 1;
                }
                Committed::Unknown(e) => {
                    self.perhaps = Some(after);
                    return Err(format!("unknown: {e}"));
                }
                Committed::NotDone(e) => return Err(format!("not done: {e}")),
                Committed::Refused => panic!("nobody else took {partition}"),
            }
            if self.next.is_multiple_of(every) {
                engine
                    .checkpoint()
                    .await
                    .map_err(|e| format!("checkpoint: {e}"))?;
            }
        }
        Ok(())
    }

    /// Checks that the index holds what was acknowledged, or that and the one that may have been. Then that is what it holds.
    pub(crate) async fn agree(&mut self, engine: &Embedded) -> Result<(), StoreError> {
        let found = every_row(engine).await?;
        if let Some(perhaps) = self.perhaps.take()
            && found == with_all(&perhaps)
        {
            self.done = perhaps;
            self.next += 1;
            return Ok(());
        }
        assert!(
            found == with_all(&self.done),
            "{}",
            difference(&found, &with_all(&self.done))
        );
        Ok(())
    }
}

pub(crate) fn with_all(model: &Model) -> Model {
    let mut all = model.clone();
    for partition in [DIRECTORY, DATA] {
        all.entry(partition).or_default();
    }
    all
}

pub(crate) fn difference(found: &Model, want: &Model) -> String {
    let mut out = String::new();
    for (partition, rows) in want {
        for (key, value) in rows {
            let got = found.get(partition).and_then(|r| r.get(key));
            if got != Some(value) {
                let got = got.map(|v| (v.first().copied(), v.len()));
                out += &format!(
                    "{partition} {key:?}: {got:?}, not {:?}; ",
                    (value.first(), value.len())
                );
            }
        }
    }
    for (partition, rows) in found {
        for key in rows.keys() {
            if !want.get(partition).is_some_and(|r| r.contains_key(key)) {
                out += &format!("{partition} {key:?} is there; ");
            }
        }
    }
    out
}

/// All rows of both partitions, by scan and by get.
pub(crate) async fn every_row(engine: &Embedded) -> Result<Model, StoreError> {
    let mut model = Model::new();
    for partition in [DIRECTORY, DATA] {
        let snapshot = engine.snapshot(partition).await?;
        let scan = Scan {
            start: Bytes::from_static(b"a"),
            end: Bytes::from_static(b"z"),
            max: SCAN_ROWS_MAX,
        };
        let rows: Rows = snapshot.scan(&scan).await?.into_iter().collect();
        let keys: Vec<Bytes> = (0..60).map(|n| Bytes::from(format!("key-{n:03}"))).collect();
        let got = snapshot.get(&keys).await?;
        for (key, value) in keys.iter().zip(got) {
            assert_eq!(rows.get(key), value.as_ref(), "a scan and a get of {key:?} agree");
        }
        model.insert(partition, rows);
    }
    Ok(model)
}
