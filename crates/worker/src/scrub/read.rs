//! The pieces of a pass: what is read at each place, what was found there, and where it goes on.

use crate::scrub::plan::{self, Place};
use crate::scrub::{Scrub, metrics};
use crate::work::End;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use types::limits::{SCRUB_FRAME_MS_MAX, SCRUB_PAGE_NEEDLES};
use types::{BucketId, DiskId, ErrorKind, ExtentId, NodeId, Rot};
use wire::Fault;
use wire::node::{Node, WalkCursor, WalkDepth, WalkPage, Walked};
use wire::scrub::Damage;
use world::plant::{Plant, is_planted};
use world::rot;

/// A cursor behind every file of the index: it asks only how long they are.
const BEHIND_FILES: &[u8] = &[0xFF; 18];

impl Scrub {
    /// Reads what is at the place and moves it on. Whether all is read.
    pub(super) async fn piece(&mut self) -> Result<bool, End> {
        match self.place.clone() {
            Place::Disks(last) => self.disk_after(last).await?,
            Place::Files(cursor) => self.files(cursor).await?,
            Place::Rows(cursor) => self.rows(cursor).await?,
            Place::Extents(copy, cursor) => return self.extent(copy, cursor).await,
        }
        Ok(false)
    }

    /// Goes past what cannot be read.
    pub(super) fn skip(&mut self) {
        self.place = match &self.place {
            // Which disk it was is not kept: the others of a node that does not answer are not read either.
            Place::Disks(_) => Place::Files(Bytes::new()),
            Place::Files(_) => Place::Rows(Bytes::new()),
            Place::Rows(_) => Place::before_extents(),
            Place::Extents(copy, _) => match self.copy_after(*copy) {
                Some(next) => Place::Extents(next, WalkCursor::default()),
                // Nothing is behind it: the next look ends the pass.
                None => Place::Extents((ExtentId(u64::MAX), NodeId(u64::MAX)), WalkCursor::default()),
            },
        };
    }

    /// How much there is to read.
    pub(super) async fn survey(&mut self) -> Result<(), End> {
        let mut total = 0;
        self.copies.clear();
        for (id, node) in self.roles.nodes.clone() {
            let statuses = self.work.call("extents", node.extents()).await?;
            total += statuses.iter().map(|s| s.end).sum::<u64>();
            self.copies.extend(statuses.iter().map(|s| (s.extent, id)));
        }
        let index = self.roles.index.clone();
        let behind = Bytes::from_static(BEHIND_FILES);
        let files = self.work.call("verify_files", index.verify_files(behind)).await?;
        self.total = total + files.of_bytes;
        Ok(())
    }

    async fn disk_after(&mut self, last: Option<DiskId>) -> Result<(), End> {
        let mut disks: Vec<(DiskId, Arc<dyn Node>)> = Vec::new();
        for node in self.roles.nodes.clone().into_values() {
            let told = self.work.call("disks", node.disks()).await?;
            disks.extend(told.into_iter().map(|disk| (disk.disk, node.clone())));
        }
        let after = disks.into_iter().filter(|(disk, _)| Some(*disk) > last);
        let Some((disk, node)) = after.min_by_key(|(disk, _)| *disk) else {
            self.place = Place::Files(Bytes::new());
            return Ok(());
        };
        let deadline = Duration::from_millis(SCRUB_FRAME_MS_MAX);
        let read = self
            .work
            .call_in("verify_frame", deadline, node.verify_frame(disk))
            .await?;
        self.tally().frame_bytes += read.bytes;
        self.took(read.bytes, 0, read.damage);
        self.place = Place::Disks(Some(disk));
        Ok(())
    }

    async fn files(&mut self, cursor: Bytes) -> Result<(), End> {
        let index = self.roles.index.clone();
        let read = self.work.call("verify_files", index.verify_files(cursor)).await?;
        self.took(read.bytes, 0, read.damage);
        self.place = match read.next.is_empty() {
            true => Place::Rows(Bytes::new()),
            false => Place::Files(read.next),
        };
        Ok(())
    }

    async fn rows(&mut self, cursor: Bytes) -> Result<(), End> {
        let index = self.roles.index.clone();
        let read = self.work.call("verify", index.verify(cursor)).await?;
        self.tally().rows += read.rows;
        let damage = read.damage.into_iter().map(|what| Damage {
            rot: Rot::IndexPage,
            // Told without it where a reader met it: one place, one line.
            what: what.strip_prefix("corrupt index: ").unwrap_or(&what).to_owned(),
        });
        self.took(0, 0, damage.collect());
        self.place = match read.next.is_empty() {
            true => Place::before_extents(),
            false => Place::Rows(read.next),
        };
        Ok(())
    }

    /// Reads some needles of an extent. Whether there is none behind it.
    async fn extent(&mut self, copy: (ExtentId, NodeId), cursor: WalkCursor) -> Result<bool, End> {
        let next = match self.roles.nodes.get(&copy.1).cloned() {
            Some(_) if is_planted(Plant::ScrubSkips) && copy.0.0.is_multiple_of(2) => None,
            Some(node) => self.needles(node, copy.0, cursor).await?,
            None => None,
        };
        if let Some(next) = next {
            self.place = Place::Extents(copy, next);
            return Ok(false);
        }
        // The next one may have been made since, this one may have grown or gone.
        self.survey().await?;
        let Some(next) = self.copy_after(copy) else {
            return Ok(true);
        };
        self.place = Place::Extents(next, WalkCursor::default());
        Ok(false)
    }

    fn copy_after(&self, copy: (ExtentId, NodeId)) -> Option<(ExtentId, NodeId)> {
        let newest = ExtentId(self.state.as_ref().map_or(0, |state| state.last_extent));
        plan::next_copy(&self.copies, copy, (newest, self.is_late()))
    }

    async fn needles(
        &mut self,
        node: Arc<dyn Node>,
        extent: ExtentId,
        cursor: WalkCursor,
    ) -> Result<Option<WalkCursor>, End> {
        let mut page = match self.walk(&*node, extent, cursor).await {
            Err(End::Failed(fault)) => return self.not_walked(extent, fault),
            other => other?,
        };
        if page.found.iter().any(|walked| walked.damage.is_some()) {
            // What was read was perhaps the file of a generation that is gone by now, or the disk's bad moment: only what is bad again is.
            page = match self.walk(&*node, extent, cursor).await {
                Err(End::Failed(fault)) => return self.not_walked(extent, fault),
                other => other?,
            };
        }
        let mut damaged = Vec::new();
        let is_bad = |walked: &&Walked| walked.damage.is_some() && !is_planted(Plant::ScrubOverBad);
        for walked in page.found.iter().filter(is_bad) {
            let bucket = match &walked.head {
                Some(head) => self.bucket_name(head.owner.bucket).await?,
                None => None,
            };
            let (rot, what) = plan::finding(extent, walked, bucket.as_deref());
            damaged.push(Damage { rot, what });
        }
        let bytes = page.found.iter().map(|walked| walked.stored_length).sum();
        self.took(bytes, page.found.len() as u64, damaged);
        Ok(page.next)
    }

    async fn walk(&self, node: &dyn Node, extent: ExtentId, cursor: WalkCursor) -> Result<WalkPage, End> {
        let walk = node.walk(extent, cursor, WalkDepth::Bytes, SCRUB_PAGE_NEEDLES);
        self.work.call("walk", walk).await
    }

    /// An extent that cannot be walked: gone, or a finding.
    fn not_walked(&mut self, extent: ExtentId, fault: Fault) -> Result<Option<WalkCursor>, End> {
        match fault.kind {
            ErrorKind::NotFound => Ok(None),
            ErrorKind::Corrupt => {
                let what = format!("extent {extent}: {}", fault.what);
                let rot = Rot::Extent;
                self.took(0, 0, vec![Damage { rot, what }]);
                Ok(None)
            }
            _ => Err(End::Failed(fault)),
        }
    }

    async fn bucket_name(&mut self, bucket: BucketId) -> Result<Option<String>, End> {
        if let Some(name) = self.names.get(&bucket) {
            return Ok(name.clone());
        }
        let index = self.roles.index.clone();
        let name = match self.work.call("bucket_name", index.bucket_name(bucket)).await {
            Err(End::Stopped) => return Err(End::Stopped),
            // Its id will do.
            Err(End::Failed(_)) => None,
            Ok(name) => name,
        };
        self.names.insert(bucket, name.clone());
        Ok(name)
    }

    /// Counts what was read, and tells what was found.
    fn took(&mut self, bytes: u64, needles: u64, damage: Vec<Damage>) {
        metrics::read(bytes, needles, damage.len() as u64);
        let tally = self.tally();
        tally.bytes += bytes;
        tally.needles += needles;
        if is_planted(Plant::ScrubSilent) {
            return;
        }
        for Damage { rot, what } in damage {
            rot::found(rot, &what);
            plan::note(tally, what);
        }
    }
}
