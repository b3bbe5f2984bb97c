//! Index snapshots, taken while clients are at work and opened at once: a snapshot is one read of everything, and has to be one moment's.
//!
//! ```text
//!   reclaim held ─▶ begin ── views of the partitions ── end ─▶ its file, block by block ─▶ rows in memory, served, looked at ─▶ let go
//!                        a moment in here (I2)                     others write on             every byte that it names is there (I3)
//! ```
//! One that is to be laid later is kept with reclaim held durably from before its moment on: what lies under an older index is not to go.

use crate::client::Client;
use crate::look::{self, Blind, Damage};
use crate::machine::{Machine, NODE};
use crate::op::{Answer, BUCKETS, Op, Outcome, Things, UPLOADS};
use crate::oracle::Look;
use crate::record::Recorder;
use crate::{SimDisk, SimRng};
use blob::Blob;
use bytes::Bytes;
use control::Given;
use index::IndexRole;
use objects::Objects;
use restore::{Index, Seen};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::{Batch, Committed, Fence, Memory, Snapshot, SnapshotStream, Store, StoreError};
use types::{DiskId, PartitionId, SessionId, StampId};
use wire::control::{Control, Reclaim as _};
use wire::index::Index as _;
use wire::node::Node;
use world::{Disk as _, DiskFile, World};

/// In whose name reclaim is held while snapshots are kept.
pub const KEEPER: &str = "operator";
/// Of a bucket in the directory that nobody is making or removing.
const OPEN: u32 = 2;
/// Rows put into memory at once.
const BATCH_ROWS: usize = 64;

/// A snapshot that may be laid later.
pub struct Taken {
    /// Its file, on a disk of its own.
    pub file: Arc<dyn DiskFile>,
    /// What a store made of it shows.
    pub look: Look,
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.look.fmt(f)
    }
}

/// Takes snapshots of a machine.
pub struct Copier {
    world: World,
    recorder: Recorder,
    disk: SimDisk,
    rng: SimRng,
    owner: DiskId,
    store: Arc<store::Embedded>,
    control: Arc<control::ControlPlane>,
    node: Arc<node::LocalNode>,
    /// Faults of the disk when the machine had been opened.
    faults: u64,
}

impl Copier {
    /// Of `machine`.
    pub fn new(machine: &Machine, world: &World, disk: &SimDisk, rng: SimRng) -> Self {
        Self {
            world: world.clone(),
            recorder: machine.gateways[0].recorder.clone(),
            disk: disk.clone(),
            rng,
            owner: machine.disk_id,
            store: machine.store.clone(),
            control: machine.control.clone(),
            node: machine.node.clone(),
            faults: faults(disk),
        }
    }

    /// Takes one, and looks at what it shows. `None`: it came to nothing, which the disk or a lost answer excuses.
    pub async fn take(&self, keep: bool) -> Option<Taken> {
        if keep && self.control.hold(KEEPER, "a snapshot is kept").await.is_err() {
            return None;
        }
        let holding = self
            .control
            .hold_while("backup", "the index is copied")
            .await
            .ok()?;
        let before = (faults(&self.disk), self.disk.counts().get("disk.full"));
        let id = self.recorder.begin(Op::Snapshot);
        let slow = Slow(self);
        let now_ms = self.world.clock.wall_ms();
        let stream = SnapshotStream::take(&slow, self.owner, now_ms).await;
        // What it read is told below.
        self.recorder.end(id, Outcome::Unknown);
        let looked = match stream {
            Ok(stream) => self.look(stream).await,
            Err(e) => Err(e.to_string()),
        };
        drop(holding);
        let (file, look) = match looked {
            Ok(looked) => looked,
            Err(what) if self.disk.is_off() || self.has_cause(&what, before) => {
                self.recorder.note(format_args!("no snapshot: {what}"));
                return None;
            }
            Err(what) => {
                self.recorder
                    .violation(format!("I2: a snapshot of the index: {what}"));
                return None;
            }
        };
        self.recorder.count("snapshot.taken");
        let is_whole = look.known == Things::all();
        self.recorder.count(match is_whole {
            true => "snapshot.judged",
            false => "snapshot.judged_but_a_bucket",
        });
        let seen = Answer::State(Box::new(look.state), look.known);
        self.recorder.amend(id, Outcome::Answered(seen));
        Some(Taken { file, look })
    }

    /// Whether the disk failed while the copy was made; or before, and what it failed for is out of service since. Or it was full: a file of the
    /// index that cannot be written is opened anew, and whoever was reading it is told so.
    fn has_cause(&self, what: &str, (faults_before, full_before): (u64, u64)) -> bool {
        let now = faults(&self.disk);
        let was_full = self.disk.counts().get("disk.full") > full_before;
        now > faults_before
            || (now > self.faults && what.contains("out of service"))
            || (was_full && what.contains("it is opened anew"))
    }

    /// The file, and what a store made of it shows. Of a bucket that was being made, removed or changed only its keys are known to be of that
    /// moment: whoever looks finishes what was begun, and that may be otherwise than it was finished.
    async fn look(&self, mut stream: SnapshotStream) -> Result<(Arc<dyn DiskFile>, Look), String> {
        let shelf = SimDisk::new(0, 1 << 30);
        let file = shelf.create("snapshot").map_err(|e| e.to_string())?;
        let mut at = 0;
        while let Some(block) = stream.next().await.map_err(|e| e.to_string())? {
            file.write_all_at(&block, at).map_err(|e| e.to_string())?;
            at += block.len() as u64;
            self.pause(30).await;
        }
        let copied = Index::read(file.clone(), "snapshot").map_err(|e| e.to_string())?;
        let now_ms = self.world.clock.wall_ms();
        let (floors, _) = copied.floors(&Seen::default(), Given::default(), now_ms);
        let memory = Memory::new();
        for partition in [PartitionId::DIRECTORY, PartitionId::FIRST_DATA] {
            let rows = copied.raised(&floors, |which| which == partition);
            let rows = rows.map_err(|e| e.to_string())?;
            let rows: Result<Vec<_>, StoreError> = rows
                .map(|row| row.map(|(_, key, value)| (key, Some(value))))
                .collect();
            fill(&memory, partition, &rows.map_err(|e| e.to_string())?).await?;
        }
        let index = IndexRole::open(self.world.clone(), Arc::new(memory), StampId::FIRST).await;
        let index = Arc::new(index.map_err(|fault| fault.to_string())?);
        let session = SessionId(floors.first_session.0 + 1);
        let client = self.client(index.clone(), session);
        let mut known = Things::all();
        for bucket in 0..BUCKETS {
            let record = index.bucket(&crate::client::bucket_name(bucket)).await;
            let settled = match record {
                Ok(Ok(found)) => found.state == OPEN && found.configuration <= found.configured.max(1),
                Ok(Err(_)) => true,
                Err(fault) => return Err(fault.to_string()),
            };
            if !settled {
                known = known.without(self.unsettled(bucket));
            }
        }
        let looked = look::look(&client, &Damage::default()).await;
        client.objects.shutdown().await;
        index.shutdown().await;
        match looked {
            Ok(look) => Ok((file, Look { known, ..look })),
            Err(Blind::Wrong(what) | Blind::Refused(what)) => Err(what),
        }
    }

    /// What of a bucket depends on how a change of it ends: that it is there, and its uploads, which go with it.
    fn unsettled(&self, bucket: usize) -> Things {
        let book = &self.recorder.get().book;
        let its = |upload: &usize| book.home(*upload).is_some_and(|(home, _)| home == bucket);
        let uploads = (0..UPLOADS).filter(its).map(Things::upload);
        uploads.fold(Things::bucket(bucket), Things::with)
    }

    /// A client of a store that has these rows, and the bytes of the machine.
    fn client(&self, index: Arc<IndexRole>, session: SessionId) -> Client {
        let control: Arc<dyn Control> = self.control.clone();
        let node: Arc<dyn Node> = self.node.clone();
        let blob = Blob::new(
            self.world.clone(),
            control,
            BTreeMap::from([(NODE, node)]),
            session,
        );
        Client {
            objects: Arc::new(Objects::new(self.world.clone(), Arc::new(blob), index, session)),
            recorder: self.recorder.clone(),
            clock: self.world.clock.clone(),
        }
    }

    async fn pause(&self, percent: u64) {
        if self.rng.percent(percent) {
            let pause = Duration::from_millis(self.rng.between(1, 8));
            self.world.clock.sleep(pause).await;
        }
    }
}

fn faults(disk: &SimDisk) -> u64 {
    let counts = disk.counts();
    ["disk.read_error", "disk.write_error", "disk.sync_error"]
        .into_iter()
        .map(|name| counts.get(name))
        .sum()
}

async fn fill(
    memory: &Memory,
    partition: PartitionId,
    rows: &[(Bytes, Option<Bytes>)],
) -> Result<(), String> {
    let mut fence = memory.take(partition).await.map_err(|e| e.to_string())?;
    for rows in rows.chunks(BATCH_ROWS) {
        let batch = Batch {
            rows: rows.to_vec(),
            behind: Vec::new(),
        };
        match memory.commit(fence, batch).await {
            Committed::Done(next) => fence = next,
            other => return Err(format!("rows are not taken: {other:?}")),
        }
    }
    Ok(())
}

/// The machine's engine, slow to show its partitions: others commit between one and the next.
struct Slow<'a>(&'a Copier);

#[async_trait::async_trait]
impl Store for Slow<'_> {
    async fn take(&self, partition: PartitionId) -> Result<Fence, StoreError> {
        Err(StoreError::Failed(format!("nobody takes {partition} to copy it")))
    }

    async fn snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Snapshot>, StoreError> {
        self.0.pause(50).await;
        self.0.store.snapshot(partition).await
    }

    async fn commit(&self, _: Fence, _: Batch) -> Committed {
        Committed::Refused
    }
}
