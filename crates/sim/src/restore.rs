//! An index of an earlier moment laid into the stopped machine's directory, as `cairn restore --index` does it, now and then with the power
//! cut on the way: then it is done again.
//!
//! From there on the store is what the snapshot was: what came after its moment never happened, and what was under way never will.

use crate::disk::{Fault, FaultKind};
use crate::machine::NODE;
use crate::run::Run;
use crate::snapshot::Taken;
use bytes::Bytes;
use control::{Given, Ground, first_session, fresh_rows};
use extent::{DataDir, Opened};
use index::{Floors, Told, raised};
use node::LocalNode;
use std::sync::Arc;
use store::{OldLog, Prepared, SnapshotRows, StoreError, lay};
use types::limits::SCAN_ROWS_MAX;
use types::{BucketId, Hlc, PartitionId, SessionId};
use wire::Fault as WireFault;
use wire::node::{ExtentStatus, Node as _, WalkCursor, WalkDepth};
use world::{Clock as _, Disk, DiskFile};

/// Times that it is tried: only the first is cut.
const TRIES: usize = 3;

/// Which numbers were given, as far as rows and needles tell.
#[derive(Default)]
pub struct Numbers {
    given: Given,
    hlc: Hlc,
    session: SessionId,
    bucket: BucketId,
}

impl Numbers {
    /// What the rows of a snapshot tell.
    ///
    /// # Errors
    /// It is not whole.
    pub fn read(file: &Arc<dyn DiskFile>) -> Result<Self, StoreError> {
        let mut numbers = Self::default();
        for row in SnapshotRows::open(file.clone(), "snapshot")? {
            let (partition, key, value) = row?;
            if partition == PartitionId::CONTROL {
                numbers.given.take(&key, &value).map_err(StoreError::Corrupt)?;
                continue;
            }
            let mut told = Told::default();
            told.take(&key, &value);
            numbers.hlc = numbers.hlc.max(told.hlc);
            numbers.session = numbers.session.max(told.session);
            numbers.bucket = numbers.bucket.max(told.bucket);
        }
        numbers.session = numbers.session.max(numbers.given.session);
        Ok(numbers)
    }

    /// What is given from here on is above.
    pub fn floors(&self, now_ms: u64) -> Floors {
        Floors {
            hlc: self.hlc.max(Hlc::at(now_ms)),
            first_session: first_session(self.session),
            bucket: self.bucket,
        }
    }

    /// The rows of one partition.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn rows(&self, file: &Arc<dyn DiskFile>, which: PartitionId) -> Result<Vec<(Bytes, Bytes)>, String> {
        let rows = SnapshotRows::open(file.clone(), "snapshot").map_err(|e| e.to_string())?;
        rows.filter(|row| row.as_ref().map_or(true, |(partition, ..)| *partition == which))
            .map(|row| row.map(|(_, key, value)| (key, value)).map_err(|e| e.to_string()))
            .collect()
    }

    /// What the index gave that is to be replaced.
    async fn see_before(&mut self, old: &Prepared) -> Result<(), StoreError> {
        for partition in [PartitionId::DIRECTORY, PartitionId::FIRST_DATA] {
            let told = Told::of(&*old.snapshot(partition)?).await?;
            self.hlc = self.hlc.max(told.hlc);
            self.session = self.session.max(told.session);
        }
        let given = Given::of(&*old.snapshot(PartitionId::CONTROL)?).await?;
        self.given = self.given.max(given);
        self.session = self.session.max(given.session);
        Ok(())
    }

    async fn see(&mut self, node: &LocalNode, status: &ExtentStatus) -> Result<(), WireFault> {
        let mut from = WalkCursor::default();
        loop {
            let page = node
                .walk(status.extent, from, WalkDepth::Heads, SCAN_ROWS_MAX)
                .await?;
            for head in page.found.iter().filter_map(|walked| walked.head.as_ref()) {
                self.hlc = self.hlc.max(Hlc(head.append_hlc));
                self.session = self.session.max(head.session);
                self.bucket = self.bucket.max(head.owner.bucket);
            }
            match page.next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }
}

impl Run {
    /// Lays a snapshot. The machine is stopped.
    ///
    /// # Errors
    /// It is not laid.
    pub(crate) fn restore(&mut self, taken: &Taken) -> Result<(), String> {
        for n in 0..TRIES {
            if n == 0 && self.rng.percent(40) {
                let after = self.rng.below(160);
                self.disk.plan(Fault::new(FaultKind::PowerOff, after));
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .map_err(|e| format!("no runtime: {e}"))?;
            let laid = runtime.block_on(async {
                self.clock.boot();
                let laid = self.lay(taken).await;
                self.clock.halt();
                laid
            });
            drop(runtime);
            self.disk.clear_plan();
            if self.disk.is_off() {
                self.recorder.count("restore.cut");
                self.disk.crash();
                continue;
            }
            laid.map_err(|what| format!("the index is not restored: {what}"))?;
            // It was said to be done.
            match self.rng.percent(50) {
                true => drop(self.disk.crash()),
                false => self.disk.kill(),
            }
            let record = &mut *self.recorder.get();
            record.counts.add("restore.laid", 1);
            // An upload that is under way again is completed to another version.
            record.book.forget_completions();
            return Ok(());
        }
        Err("the index is not restored".into())
    }

    async fn lay(&self, taken: &Taken) -> Result<u64, String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let opened =
            DataDir::open(&self.world, disk.clone(), self.shape.dir_config()).map_err(|e| e.to_string())?;
        let node = LocalNode::new(self.world.clone(), NODE, vec![opened.dir.clone()]);
        let laid = self.lay_over(taken, &opened, &node, &disk).await;
        node.shutdown().await;
        laid
    }

    async fn lay_over(
        &self,
        taken: &Taken,
        opened: &Opened,
        node: &LocalNode,
        disk: &Arc<dyn Disk>,
    ) -> Result<u64, String> {
        let mut numbers = Numbers::read(&taken.file).map_err(|e| e.to_string())?;
        let mut extents = Vec::new();
        for status in node.extents().await.map_err(|e| e.to_string())? {
            let sealed = match status.sealed {
                true => Ok(status),
                false => node.seal(status.extent, status.epoch.next()).await,
            };
            let status = sealed.map_err(|e| e.to_string())?;
            numbers.see(node, &status).await.map_err(|e| e.to_string())?;
            let bytes_max = self.shape.extent_bytes.max(status.end);
            extents.push((status, bytes_max));
        }
        let owner = opened.dir.disk_id();
        let old = Prepared::new(disk.clone(), owner, opened.batches.clone(), &opened.report.lost);
        let before = numbers.see_before(&old.map_err(|e| e.to_string())?).await;
        before.map_err(|e| e.to_string())?;
        let now_ms = self.clock.wall_ms();
        let floors = numbers.floors(now_ms);
        let control = fresh_rows(&Ground {
            node: NODE,
            disk: owner,
            extents: &extents,
            last_extent: numbers.given.extent,
            last_session: numbers.session,
            why: "restored",
            now_ms,
        });
        let of = |partition| {
            let rows = numbers.rows(&taken.file, partition)?;
            let raise = |(key, value): (Bytes, Bytes)| match raised(&key, value, &floors) {
                Ok(value) => Ok((partition, key, value)),
                Err(fault) => Err(StoreError::Corrupt(fault.to_string())),
            };
            Ok::<_, String>(rows.into_iter().map(raise).collect::<Vec<_>>())
        };
        let control = control
            .into_iter()
            .map(|(key, value)| Ok((PartitionId::CONTROL, key, value)));
        let mut rows = (of(PartitionId::DIRECTORY)?.into_iter())
            .chain(control)
            .chain(of(PartitionId::FIRST_DATA)?);
        let log = OldLog {
            batches: &opened.batches,
            next: opened.dir.journal().next(),
        };
        lay(disk, owner, log, &mut rows).map_err(|e| e.to_string())
    }
}
