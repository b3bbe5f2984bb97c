//! The node in this process.

use crate::appending::LocalAppending;
use crate::disk::DiskService;
use crate::ticker;
use crate::translate::{Synced, appended, fault, head, status};
use extent::{Body, Cursor, DataDir, ExtentError, Read};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};
use tokio::task::JoinHandle;
use types::{DiskId, Epoch, ErrorKind, ExtentId, Generation, NeedleId, NodeId};
use wire::Fault;
use wire::node::{
    Ack, Appended, Appending, Checked, DiskStatus, ExtentStatus, NeedleHead, Node, Pace, ReadNeedle,
    WalkCursor, WalkDepth, WalkPage,
};
use wire::scrub::Reread;
use world::World;

/// A storage node over its data directories.
pub struct LocalNode {
    id: NodeId,
    disks: BTreeMap<DiskId, Arc<DiskService>>,
    /// Which disk an extent is on.
    places: RwLock<BTreeMap<ExtentId, DiskId>>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

impl LocalNode {
    /// Serves the extents of `dirs`. Call it inside a runtime: its ticker is a task, ended by [`LocalNode::shutdown`].
    pub fn new(world: World, node: NodeId, dirs: Vec<DataDir>) -> Self {
        let mut places = BTreeMap::new();
        let mut disks = BTreeMap::new();
        for dir in dirs {
            for extent in dir.extents() {
                places.insert(extent.extent, dir.disk_id());
            }
            disks.insert(dir.disk_id(), DiskService::new(&world, dir));
        }
        let ticker = ticker::run(world.clock.clone(), disks.values().cloned().collect());
        Self {
            id: node,
            disks,
            places: RwLock::new(places),
            ticker: Mutex::new(Some(tokio::spawn(ticker))),
        }
    }

    /// Which node it is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Checkpoints every disk, marks and closes its journal. Writes are refused from here on. A disk that fails at it is
    /// logged: whatever it acked it has.
    pub async fn shutdown(&self) {
        let ticker = self.ticker.lock().expect("no panic under this lock").take();
        if let Some(ticker) = ticker {
            ticker.abort();
            // Aborted is how it ends.
            drop(ticker.await);
        }
        self.disks.values().for_each(|disk| disk.reclaimer.stop());
        for (id, disk) in &self.disks {
            if let Err(e) = disk.close().await {
                tracing::error!(disk = %id, error = %e, "a disk was not closed in order");
            }
            ticker::count(disk);
        }
    }

    fn disk(&self, id: DiskId) -> Result<&Arc<DiskService>, Fault> {
        let absent = || Fault::new(ErrorKind::NotFound, format!("no disk {id} here"));
        self.disks.get(&id).ok_or_else(absent)
    }

    fn disk_of(&self, extent: ExtentId) -> Result<&Arc<DiskService>, Fault> {
        let places = self.places.read().expect("no panic under this lock");
        match places.get(&extent) {
            Some(disk) => self.disk(*disk),
            None => Err(fault(&ExtentError::NoExtent(extent))),
        }
    }

    /// The same for who takes it for proof that there is none: no disk may have a file of it, which takes reading one that nobody knows.
    async fn disk_or_proof(&self, extent: ExtentId) -> Result<&Arc<DiskService>, Fault> {
        let found = self.disk_of(extent);
        if found.is_err() {
            for disk in self.disks.values() {
                match disk.reading(move |dir| dir.status(extent)).await? {
                    Ok(_) | Err(ExtentError::NoExtent(_)) => {}
                    Err(e) => return Err(fault(&e)),
                }
            }
        }
        found
    }
}

impl Drop for LocalNode {
    fn drop(&mut self) {
        if let Ok(mut ticker) = self.ticker.lock()
            && let Some(ticker) = ticker.take()
        {
            ticker.abort();
        }
    }
}

#[async_trait::async_trait]
impl Node for LocalNode {
    async fn open_extent(
        &self,
        disk: DiskId,
        extent: ExtentId,
        epoch: Epoch,
        bytes_max: u64,
    ) -> Result<ExtentStatus, Fault> {
        let service = self.disk(disk)?;
        if self
            .disk_of(extent)
            .is_ok_and(|there| there.dir.disk_id() != disk)
        {
            return Err(Fault::new(
                ErrorKind::Conflict,
                "the extent is on another disk of this node",
            ));
        }
        let (done, synced) = Synced::durable();
        let opened = service.writing(move |dir| dir.open_extent(extent, epoch, bytes_max, done));
        let opened = opened.await?.map_err(|e| fault(&e))?;
        synced.wait().await?;
        self.places
            .write()
            .expect("no panic under this lock")
            .insert(extent, disk);
        Ok(status(opened))
    }

    async fn append(
        &self,
        extent: ExtentId,
        epoch: Epoch,
        needle: NeedleHead,
        body: Checked,
        ack: Ack,
    ) -> Result<Appended, Fault> {
        let dir = &self.disk_of(extent)?.dir;
        let (done, synced) = Synced::new(ack);
        let body = Body {
            bytes: &body.bytes,
            crcs: &body.crcs,
        };
        let a = dir
            .append((extent, epoch), head(needle), body, done)
            .map_err(|e| fault(&e))?;
        synced.wait().await?;
        Ok(appended(dir, a))
    }

    async fn begin(
        &self,
        extent: ExtentId,
        epoch: Epoch,
        head: NeedleHead,
    ) -> Result<Box<dyn Appending>, Fault> {
        let disk = self.disk_of(extent)?.clone();
        Ok(Box::new(LocalAppending::begin(disk, extent, epoch, head).await?))
    }

    async fn read(&self, read: ReadNeedle) -> Result<Checked, Fault> {
        let disk = self.disk_of(read.extent)?;
        let asked = asked(&read);
        // Nothing waits for the disk on the caller, and where the hint is wrong the extent is walked.
        let found = match disk.dir.read_cached(&asked) {
            Some(found) => Ok(found),
            None => disk.reading(move |dir| dir.read(&asked)).await?,
        };
        match found {
            Ok((bytes, crcs)) => Ok(Checked { bytes, crcs }),
            Err(e) => {
                if matches!(e, ExtentError::Corrupt(_)) {
                    let id = disk.dir.disk_id().to_string();
                    metrics::counter!("cairn_needle_corrupt_total", "disk" => id).increment(1);
                    world::rot::found(world::rot::Rot::Needle, &e.to_string());
                }
                Err(fault(&e))
            }
        }
    }

    fn read_cached(&self, read: &ReadNeedle) -> Option<Checked> {
        let disk = self.disk_of(read.extent).ok()?;
        let (bytes, crcs) = disk.dir.read_cached(&asked(read))?;
        Some(Checked { bytes, crcs })
    }

    async fn seal(&self, extent: ExtentId, epoch: Epoch) -> Result<ExtentStatus, Fault> {
        let (done, synced) = Synced::durable();
        let disk = self.disk_or_proof(extent).await?;
        let sealed = disk.writing(move |dir| dir.seal(extent, epoch, done)).await?;
        let sealed = sealed.map_err(|e| fault(&e))?;
        synced.wait().await?;
        Ok(status(sealed))
    }

    async fn extent(&self, extent: ExtentId) -> Result<ExtentStatus, Fault> {
        let found = self.disk_or_proof(extent).await?.dir.status(extent);
        found.map(status).map_err(|e| fault(&e))
    }

    async fn extents(&self) -> Result<Vec<ExtentStatus>, Fault> {
        let mut all: Vec<ExtentStatus> = self
            .disks
            .values()
            .flat_map(|disk| disk.dir.extents())
            .map(status)
            .collect();
        all.sort_by_key(|s| s.extent);
        Ok(all)
    }

    async fn walk(
        &self,
        extent: ExtentId,
        from: WalkCursor,
        depth: WalkDepth,
        count_max: usize,
    ) -> Result<WalkPage, Fault> {
        let disk = self.disk_of(extent)?;
        let from = Cursor {
            generation: from.generation,
            offset: from.offset,
            needle: from.needle,
        };
        let verify = depth == WalkDepth::Bytes;
        let walked = if verify {
            // Much is read of what no client waits for: not where clients' reads stand in line.
            disk.aside(move |dir| dir.walk(extent, from, verify, count_max))
                .await
        } else {
            disk.reading(move |dir| dir.walk(extent, from, verify, count_max))
                .await
        };
        let (found, next) = walked?.map_err(|e| fault(&e))?;
        Ok(WalkPage {
            found: found.into_iter().map(crate::translate::walked).collect(),
            next: next.map(|next| WalkCursor {
                generation: next.generation,
                offset: next.offset,
                needle: next.needle,
            }),
        })
    }

    async fn compact(
        &self,
        extent: ExtentId,
        to: Generation,
        dropped: Vec<NeedleId>,
        pace: &Pace,
    ) -> Result<ExtentStatus, Fault> {
        self.disk_of(extent)?.compact(extent, to, dropped, pace).await
    }

    async fn remove(&self, extent: ExtentId) -> Result<(), Fault> {
        let Ok(disk) = self.disk_of(extent) else {
            return Ok(());
        };
        disk.remove(extent).await?;
        self.places
            .write()
            .expect("no panic under this lock")
            .remove(&extent);
        Ok(())
    }

    async fn verify_frame(&self, disk: DiskId) -> Result<Reread, Fault> {
        self.disk(disk)?.verify_frame().await
    }

    async fn disks(&self) -> Result<Vec<DiskStatus>, Fault> {
        self.disks
            .values()
            .map(|disk| {
                let dir = &disk.dir;
                let space = dir.space().map_err(|e| fault(&e))?;
                let step = dir.superblock().extent_step_bytes;
                let full = (space.free < step).then(|| Fault::new(ErrorKind::Full, "the disk is full"));
                Ok(DiskStatus {
                    disk: dir.disk_id(),
                    total: space.total,
                    free: space.free,
                    extent_bytes: dir.superblock().extent_bytes,
                    refusing: dir.journal().check().err().map(|e| fault(&e)).or(full),
                    extents: disk.extents(),
                    compacted: disk.reclaimer.compacted(),
                })
            })
            .collect()
    }
}

fn asked(read: &ReadNeedle) -> Read {
    Read {
        extent: read.extent,
        needle: read.needle,
        blob: read.blob,
        hint: read.hint,
        length: read.length,
        first_block: read.first_block,
        block_count: read.block_count,
    }
}
