//! `cairn backup DIR DEST`: beside the server that has the directory open, else of the stopped directory.
//!
//! ```text
//!   reclaim held ─▶ index as of a moment ─▶ its extents, each needle of a copy read back ─▶ manifest ─▶ let go
//! ```
//! Reclaim is held by the connection: it is let go when this process ends, however it ends. Where the server ends, what was copied is worth
//! nothing yet, because nobody kept the rest from going: the backup fails, and the next one takes up what this one copied.

use crate::reclaim::{check_is_store, moment};
use crate::roles::{self, Roles};
use crate::source::StoreSource;
use admin::{Answer, BackupRequest, BackupSource as _, Begun, ExtentLine, SnapshotBytes};
use anyhow::{Context, anyhow, bail};
use backup::{Dest, Kept, Known, Manifest, Pace, Wanted, copy_extent, copy_of_missing};
use bytes::Bytes;
use clap::Args;
use extent::Superblock;
use http::Method;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use store::SnapshotRows;
use tokio::task::JoinHandle;
use types::limits::FRAME_BYTES_MAX;
use types::{DiskId, Epoch, ExtentId, Generation};
use world::real::RealDisk;
use world::{Disk, World};

/// How often the extents are asked for again because one was compacted while others were copied.
const ROUNDS_MAX: usize = 100;
/// How often progress is told.
const TELL: Duration = Duration::from_secs(2);

/// What to copy where.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// The store's directory.
    dir: PathBuf,
    /// Where backups are kept: a directory of their own, made where it is not there.
    dest: PathBuf,
    /// Keep so many whole backups of this store, this one with them, and remove older ones [default: keep all]. None is removed for one with
    /// damage, and none of other stores.
    #[arg(long)]
    keep: Option<usize>,
    /// Read back what earlier backups copied, too, and copy it again where it is damaged.
    #[arg(long)]
    verify: bool,
    /// Of a stopped directory: leave out rows of the index that cannot be read, and say where. They are LOST in what is made of the copy.
    #[arg(long)]
    past_damage: bool,
    /// Percent of the time that copying takes.
    #[arg(long, default_value_t = 50)]
    share: u32,
}

/// Where rows and extents come from.
enum Source {
    Running(Running),
    Stopped(Option<Box<Roles>>, StoreSource),
}

/// A server that holds reclaim for us.
struct Running {
    world: World,
    dir: PathBuf,
    token: String,
    /// Reads on, so that the server sees that we live.
    pulse: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pulse.abort();
    }
}

/// Copies and says what was copied.
pub(crate) fn main(flags: &Flags) -> anyhow::Result<ExitCode> {
    check_is_store(&flags.dir)?;
    let world = World::real();
    // More than one thread: one copies, another keeps the connection alive.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let dest = RealDisk::open(&flags.dest).with_context(|| flags.dest.display().to_string())?;
        let dest = Dest::open(Arc::new(dest))?;
        let mut source = open(&world, flags).await?;
        let made = make(&world, flags, &mut source, &dest).await;
        match &source {
            Source::Stopped(Some(roles), _) => roles.shutdown().await,
            Source::Stopped(None, source) => source.shutdown().await,
            Source::Running(_) => {}
        }
        drop(source);
        let (disk, damaged) = made?;
        // What is damaged now may be whole in one of the others, in any of them.
        let keep = flags.keep.filter(|_| !damaged);
        if let Err(error) = dest.prune(disk, keep) {
            bail!("the backup is made, and no older ones were removed: {error}");
        }
        Ok(if damaged {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    })
}

async fn open(world: &World, flags: &Flags) -> anyhow::Result<Source> {
    let to = flags.dest.display().to_string();
    let asked = serde_json::to_vec(&BackupRequest { to })?;
    let answer = admin::ask(
        &*world.clock,
        &flags.dir,
        (Method::POST, "/backups"),
        asked.into(),
    )
    .await?;
    let Some(mut answer) = answer else {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&flags.dir)?);
        return match flags.past_damage {
            true => past_damage(world, &disk),
            false => stopped(world, disk).await,
        };
    };
    if flags.past_damage {
        bail!(
            "a server has the directory open: stop it first, for what is left out is to be replaced by what is made of the copy"
        );
    }
    let first = answer.next().await?.context("the server broke off")?;
    let begun: Begun = serde_json::from_slice(&first).context("the server's answer")?;
    Ok(Source::Running(Running {
        world: world.clone(),
        dir: flags.dir.clone(),
        token: begun.token,
        pulse: tokio::spawn(async move { while matches!(answer.next().await, Ok(Some(_))) {} }),
    }))
}

const NOBODY: &str = "no server answers in the directory, and it cannot be opened";

async fn stopped(world: &World, disk: Arc<dyn Disk>) -> anyhow::Result<Source> {
    let roles = roles::open(world, disk, None).await.context(NOBODY)?;
    let source = StoreSource::of(&roles, world.clock.clone());
    Ok(Source::Stopped(Some(Box::new(roles)), source))
}

/// Without roles: the row that one cannot do without may be among those that cannot be read.
fn past_damage(world: &World, disk: &Arc<dyn Disk>) -> anyhow::Result<Source> {
    let (opened, index) = roles::judged(world, disk).context(NOBODY)?;
    let index = index.context(
        "no partition of the index can be had, so there are no rows to keep. `cairn check --rebuild-index --even-if-it-serves` makes an index of the extents",
    )?;
    Ok(Source::Stopped(
        None,
        StoreSource::past_damage(world, opened, index),
    ))
}

impl Running {
    async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let asked = admin::ask(&*self.world.clock, &self.dir, (Method::GET, path), Bytes::new()).await;
        let gone = "the server ended during the backup: what was copied is kept for the next one, which is to be begun anew";
        asked.context(gone)?.ok_or_else(|| anyhow!(gone))
    }
}

struct Received(Answer);

#[async_trait::async_trait]
impl SnapshotBytes for Received {
    async fn next(&mut self) -> Result<Option<Bytes>, wire::Fault> {
        let next = self.0.next().await;
        next.map_err(|e| wire::Fault::new(types::ErrorKind::Unavailable, e.to_string()))
    }
}

impl Source {
    async fn snapshot(&self) -> anyhow::Result<Box<dyn SnapshotBytes>> {
        Ok(match self {
            Self::Running(server) => {
                let path = format!("/backups/{}/snapshot", server.token);
                Box::new(Received(server.get(&path).await?))
            }
            Self::Stopped(_, source) => source.snapshot().await?,
        })
    }

    async fn extents(&self) -> anyhow::Result<Vec<ExtentLine>> {
        Ok(match self {
            Self::Running(server) => {
                let answer = server.get("/extents").await?.whole().await?;
                ExtentLine::read(&answer).map_err(|fault| anyhow!(fault))?
            }
            Self::Stopped(_, source) => source.extents().await?.iter().map(ExtentLine::from).collect(),
        })
    }

    /// Nothing that the snapshot names can have gone.
    async fn check_held(&self) -> anyhow::Result<()> {
        if let Self::Running(server) = self {
            server.get(&format!("/backups/{}", server.token)).await?;
        }
        Ok(())
    }
}

/// Makes one backup: of which disk, and whether anything in it is damaged.
async fn make(
    world: &World,
    flags: &Flags,
    source: &mut Source,
    dest: &Dest,
) -> anyhow::Result<(DiskId, bool)> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&flags.dir)?);
    let superblock = Superblock::read(&*disk)?.context("the superblock is missing")?;
    // What the server cannot say is heard before anything is copied.
    source.extents().await?;
    let (kept, rows, taken_ms) = keep_snapshot(world, source, dest).await?;
    let mut manifest = Manifest::new(
        superblock.disk,
        (superblock.stamp.0, superblock.node.0),
        taken_ms,
        kept,
    );
    manifest.rows = rows;
    let mut copier = Copier {
        world,
        flags,
        disk,
        dest,
        known: dest.known(superblock.disk)?,
        told: world.clock.mono(),
        copied: 0,
        damage: Vec::new(),
    };
    if let Source::Stopped(_, source) = source {
        let lost = source.lost();
        manifest.lost = lost.len() as u64;
        copier.damage.extend(
            lost.into_iter()
                .map(|place| format!("index: {place}: what stood there is LOST, and not in the copy")),
        );
    }
    copier.extents(source, &mut manifest).await?;
    manifest.root_key = keep_root_key(&copier, taken_ms)?;
    source.check_held().await?;
    manifest.finished_ms = world.clock.wall_ms();
    let name = dest.commit(&manifest)?;
    tell(&name, &manifest, &copier);
    Ok((superblock.disk, !copier.damage.is_empty()))
}

/// Keeps the index, and reads it back.
async fn keep_snapshot(world: &World, source: &Source, dest: &Dest) -> anyhow::Result<(Kept, u64, u64)> {
    // Later than all that are there, whatever the clock does: their order is that of their names.
    let after = dest.newest_ms()?.map_or(0, |newest| newest + 1);
    let taken_ms = world.clock.wall_ms().max(after);
    let path = Dest::path(taken_ms, "snapshot");
    let file = dest.begin(&path)?;
    let mut blocks = source.snapshot().await?;
    let mut bytes = 0;
    while let Some(block) = blocks
        .next()
        .await
        .map_err(|fault| anyhow!("the index: {fault}"))?
    {
        file.write_all_at(&block, bytes)?;
        bytes += block.len() as u64;
    }
    let rows = SnapshotRows::open(file.clone(), &path)?.verify()?;
    dest.end(&path, &*file)?;
    let kept = Kept {
        file: path,
        bytes,
        // Each of its blocks has one.
        crc: None,
    };
    Ok((kept, rows, taken_ms))
}

struct Copier<'a> {
    world: &'a World,
    flags: &'a Flags,
    disk: Arc<dyn Disk>,
    dest: &'a Dest,
    /// What the newest backup says of what it has.
    known: Known,
    told: Duration,
    /// Extents whose bytes were copied now.
    copied: usize,
    damage: Vec<String>,
}

impl Copier<'_> {
    /// Copies every extent that there is. One that is compacted meanwhile is copied in its next generation; one that is not there though it was
    /// not compacted is missing in the store.
    async fn extents(&mut self, source: &Source, manifest: &mut Manifest) -> anyhow::Result<()> {
        let mut left = source.extents().await?;
        let mut moved: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..ROUNDS_MAX {
            let before = std::mem::take(&mut moved);
            let all = left.len();
            for (n, line) in left.iter().enumerate() {
                source.check_held().await?;
                let is_listed_again = before.get(&line.extent) == Some(&line.generation);
                match self.extent(line, manifest)? {
                    true => {}
                    false if is_listed_again => self.missing(manifest.disk_id()?, line, manifest),
                    false => drop(moved.insert(line.extent, line.generation)),
                }
                self.progress(n + 1, all);
            }
            if moved.is_empty() {
                return Ok(());
            }
            left = source.extents().await?;
            // One that is gone by now had nothing that the snapshot names.
            left.retain(|line| moved.contains_key(&line.extent));
        }
        bail!("extents are compacted faster than they are copied");
    }

    fn extent(&mut self, line: &ExtentLine, manifest: &mut Manifest) -> anyhow::Result<bool> {
        let pace = pace(self.world, self.flags.share);
        let from = (&*self.disk, manifest.disk_id()?);
        let known = (&self.known, self.flags.verify);
        let Some(copied) = copy_extent(from, self.dest, &wanted(line), &pace, known)? else {
            return Ok(false);
        };
        self.copied += usize::from(copied.is_new);
        self.damage.extend(copied.damage);
        manifest.extents.push(copied.copy);
        Ok(true)
    }

    /// The store has its file no more. A copy that was made of it before is as good.
    fn missing(&mut self, disk: DiskId, line: &ExtentLine, manifest: &mut Manifest) {
        let (extent, generation) = (ExtentId(line.extent), line.generation);
        let gone =
            format!("extent {extent}: its file (generation {generation}) is missing, or cannot be opened");
        match copy_of_missing(self.dest, disk, &wanted(line), &self.known) {
            Some(copy) => {
                self.damage
                    .push(format!("{gone}; an earlier backup's copy of it is taken over"));
                manifest.extents.push(copy);
            }
            None => {
                self.damage.push(gone);
                manifest.missing += 1;
            }
        }
    }

    fn progress(&mut self, done: usize, all: usize) {
        let now = self.world.clock.mono();
        if now.saturating_sub(self.told) >= TELL {
            self.told = now;
            eprintln!("{done} of {all} extents");
        }
    }
}

fn wanted(line: &ExtentLine) -> Wanted {
    Wanted {
        extent: ExtentId(line.extent),
        generation: Generation(line.generation),
        epoch: Epoch(line.epoch),
        end: line.end,
        salt: line.salt,
    }
}

/// Copying that leaves time to others.
pub(crate) fn pace(world: &World, share_percent: u32) -> Pace {
    #[allow(
        clippy::disallowed_methods,
        reason = "the thread of a command, which does nothing else"
    )]
    let wait = std::thread::sleep;
    Pace {
        clock: world.clock.clone(),
        share_percent,
        wait,
    }
}

fn keep_root_key(copier: &Copier<'_>, taken_ms: u64) -> anyhow::Result<Option<Kept>> {
    let name = crate::root_key::FILE;
    if !copier.disk.exists(name)? {
        return Ok(None);
    }
    let from = copier.disk.open(name)?;
    let mut bytes = vec![0; from.len()?.min(FRAME_BYTES_MAX as u64) as usize];
    from.read_exact_at(&mut bytes, 0)?;
    let kept = Kept::of(Dest::path(taken_ms, name), &bytes);
    copier.dest.write(&kept.file, |to| to.write_all_at(&bytes, 0))?;
    if !kept.is(&copier.dest.kept(&kept)?) {
        bail!("{} reads back otherwise than it was written", kept.file);
    }
    Ok(Some(kept))
}

#[allow(clippy::print_stdout, reason = "this command's answer")]
fn tell(name: &str, manifest: &Manifest, copier: &Copier<'_>) {
    for damage in &copier.damage {
        println!("DAMAGE {damage}");
    }
    let extents = &manifest.extents;
    println!(
        "{name}: the store as of {}: {} rows, {} extents of {} bytes ({} copied now, {} there since before), {}{}",
        moment(manifest.taken_ms),
        manifest.rows,
        extents.len(),
        extents.iter().map(|e| e.end).sum::<u64>(),
        copier.copied,
        extents.len() - copier.copied,
        if manifest.root_key.is_some() {
            "the root key"
        } else {
            "no root key"
        },
        match copier.damage.len() {
            0 => String::new(),
            n => format!(
                "; {n} places were DAMAGED in the store, and are so in the copy or are left out of it"
            ),
        }
    );
}

/// The directory of backups, to be read.
pub(crate) fn read_dest(path: &Path) -> anyhow::Result<Dest> {
    if !path.is_dir() {
        bail!("{} is no directory", path.display());
    }
    let disk = RealDisk::to_read(path)?;
    Dest::read(Arc::new(disk)).with_context(|| path.display().to_string())
}
