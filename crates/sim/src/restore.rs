//! An index of an earlier moment laid into the stopped machine's directory, by the steps of `cairn restore --index` (room `restore`), now and then with the power
//! cut on the way: then it is done again.
//!
//! From there on the store is what the snapshot was: what came after its moment never happened, and what was under way never will.

use crate::disk::{Fault, FaultKind};
use crate::machine::NODE;
use crate::run::Run;
use crate::snapshot::Taken;
use extent::{DataDir, Opened};
use node::LocalNode;
use restore::{Index, Under, given_before, lay_index, sealed};
use std::sync::Arc;
use world::{Clock as _, Disk};

/// Times that it is tried: only the first is cut.
const TRIES: usize = 3;

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
        let index = Index::read(taken.file.clone(), "snapshot").map_err(|e| e.to_string())?;
        let mut damage = Vec::new();
        let extents = sealed(node, self.shape.extent_bytes, &mut damage).await;
        let (extents, mut seen) = extents.map_err(|e| e.to_string())?;
        // Runs whose disk rots lay nothing.
        if let Some(what) = damage.first() {
            return Err(format!("what nobody damaged cannot be read: {what}"));
        }
        let before = given_before(disk, opened, &mut seen).await;
        let under = Under {
            node: NODE,
            before: before.map_err(|e| e.to_string())?,
            disk,
            opened,
            extents,
            seen,
        };
        lay_index(&index, &under, "restored", self.clock.wall_ms()).map_err(|e| e.to_string())
    }
}
