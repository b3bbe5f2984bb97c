//! `cairn restore BACKUP DIR` and `cairn restore --index SNAPSHOT DIR`.
//!
//! ```text
//!   extents of the backup, read back ─▶ a new directory ─┐
//!   extents of a stopped directory, sealed ──────────────┼─▶ index laid: rows of the snapshot, control rows made anew ─▶ reclaim held
//! ```
//! Rows are of an earlier moment than the numbers that were given since: extents, sessions, buckets and versions get higher ones, and every
//! session that was has ended (room `restore`). What the bytes have and the rows do not name stays until an operator lets reclaim go.

use crate::backup::{pace, read_dest};
use crate::reclaim::{check_is_store, moment};
use crate::roles::NODE;
use anyhow::{Context, bail};
use backup::{BackupError, Dest, Kept, Manifest, Target};
use clap::Args;
use control::Given;
use extent::{DataDir, DataDirConfig, Examined, Superblock, examine, extent_path};
use node::LocalNode;
use restore::{Index, Seen, Under, given_before, lay_index, sealed};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use types::{Epoch, NodeId, StampId};
use wire::node::ExtentStatus;
use world::real::RealDisk;
use world::{Disk, World};

/// What to make a store of.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// Replace the index of the stopped directory DIR by this snapshot (BACKUP/snapshots/*.snapshot) of it; its extents stay.
    #[arg(long, value_name = "SNAPSHOT")]
    index: Option<PathBuf>,
    /// Which backup: its manifest's name [default: the newest]. To be said where BACKUP has those of several stores.
    #[arg(long, value_name = "NAME", conflicts_with = "index")]
    backup: Option<String>,
    /// BACKUP and DIR, a new directory; with --index DIR alone.
    #[arg(required = true, num_args = 1..=2, value_names = ["BACKUP", "DIR"])]
    paths: Vec<PathBuf>,
}

/// Restores and says what there is now.
pub(crate) fn main(flags: &Flags) -> anyhow::Result<ExitCode> {
    let world = World::real();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match (&flags.index, &flags.paths[..]) {
            (Some(snapshot), [dir]) => index_of(&world, snapshot, dir).await,
            (None, [backup, dir]) => all_of(&world, backup, flags.backup.as_deref(), dir).await,
            (Some(_), _) => bail!("with --index the one argument is the directory"),
            (None, _) => bail!("the arguments are BACKUP and DIR"),
        }
    })
}

/// What is to be said of partitions whose own row the snapshot has not; nothing of a store that was empty.
fn note(index: &Index) -> String {
    let lost: Vec<String> = index
        .without_state()
        .map(|partition| partition.to_string())
        .collect();
    match index.rows {
        rows if rows == 0 || lost.is_empty() => String::new(),
        _ => format!(
            "; which numbers partition {} gave was left out of the snapshot: it goes on above all that rows and needles tell of",
            lost.join(" and ")
        ),
    }
}

async fn all_of(world: &World, backup: &Path, which: Option<&str>, dir: &Path) -> anyhow::Result<ExitCode> {
    let dest = read_dest(backup)?;
    let name = match which {
        Some(name) => Dest::named(name)?,
        None => newest(&dest)?,
    };
    let manifest = dest.manifest(&name).with_context(|| others(&dest, &name))?;
    let snapshot = &manifest.snapshot.file;
    let index = Index::read(
        dest.disk().open(snapshot).with_context(|| snapshot.clone())?,
        snapshot,
    )?;
    if index.head.disk != manifest.disk_id()? || index.rows != manifest.rows {
        bail!("{snapshot} is not the index that {name} names");
    }
    let target = Target::begin(dir)?;
    let disk = target.build()?;
    let config = DataDirConfig {
        stamp: StampId(manifest.stamp),
        node: NodeId(manifest.node),
        ..DataDirConfig::default()
    };
    let opened = DataDir::open(world, disk.clone(), config)?;
    let mut laying = Laying {
        world,
        dest: &dest,
        manifest: &manifest,
        disk: &disk,
        damage: of_the_making(&manifest, &name),
    };
    // Its checkpoints give the journal room.
    let node = LocalNode::new(world.clone(), NODE, vec![opened.dir.clone()]);
    let (extents, seen) = laying.extents(&opened.dir).await?;
    laying.root_key()?;
    let damage = std::mem::take(&mut laying.damage);
    let why = format!("restored from a backup of {}", moment(manifest.taken_ms));
    let needles = seen.needles;
    let under = Under {
        node: NODE,
        before: Given::default(),
        disk: &disk,
        opened: &opened,
        extents,
        seen,
    };
    let rows = lay_index(&index, &under, &why, world.clock.wall_ms())?;
    let count = under.extents.len();
    node.shutdown().await;
    drop((node, opened));
    target.end()?;
    tell(
        dir,
        &damage,
        &format!(
            "{why} (disk {}): {rows} rows, {count} extents, {needles} needles read back{}",
            manifest.disk,
            note(&index)
        ),
    );
    Ok(if damage.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The backup that is meant where none is named: there is only one store that it can be of.
fn newest(dest: &Dest) -> anyhow::Result<String> {
    let newest = dest.backups()?.pop().context("there is no whole backup in it")?;
    let stores = dest.newest_of_each()?;
    if stores.len() > 1 {
        let lines = stores
            .iter()
            .map(|(disk, name)| format!("\n  --backup {name} of disk {disk}"));
        bail!(
            "it has backups of {} stores; say which one is meant:{}",
            stores.len(),
            lines.collect::<String>()
        );
    }
    Ok(newest)
}

/// What to do where a backup's manifest cannot be read: nobody takes an older one unasked.
fn others(dest: &Dest, name: &str) -> String {
    let others = dest.backups().unwrap_or_default().into_iter().rev();
    match others
        .into_iter()
        .find(|other| other != name && dest.manifest(other).is_ok())
    {
        Some(other) => {
            format!("this backup cannot be restored; `--backup {other}` takes the newest other one")
        }
        None => "this backup cannot be restored, and there is no other one".to_owned(),
    }
}

/// What the backup had not when it was made, and so nothing made of it has.
fn of_the_making(manifest: &Manifest, name: &str) -> Vec<String> {
    let not_there =
        |n: u64, what: &str| (n > 0).then(|| format!("{name}: {n} {what} when the backup was made"));
    let lost = not_there(
        manifest.lost,
        "places of the index could not be read: rows there were left out",
    );
    let missing = not_there(manifest.missing, "of the store's extents were missing");
    lost.into_iter().chain(missing).collect()
}

/// Copies a backup's extents into a directory.
struct Laying<'a> {
    world: &'a World,
    dest: &'a Dest,
    manifest: &'a Manifest,
    disk: &'a Arc<dyn Disk>,
    damage: Vec<String>,
}

impl Laying<'_> {
    async fn extents(&mut self, dir: &DataDir) -> anyhow::Result<(Vec<(ExtentStatus, u64)>, Seen)> {
        let (mut extents, mut seen) = (Vec::new(), Seen::default());
        for copy in &self.manifest.extents {
            let path = copy.file(&self.manifest.disk);
            let examined = match self.one(&path, copy) {
                Ok(examined) => examined,
                Err(e @ (BackupError::Corrupt(_) | BackupError::Extent(_))) => {
                    self.damage
                        .push(format!("{path}: {e}: the extent is not restored"));
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            self.damage
                .extend(examined.damage.iter().map(|what| format!("{path}: {what}")));
            let (done, durable) = std::sync::mpsc::channel();
            let epoch = Epoch(copy.epoch);
            dir.adopt(&examined, epoch, Box::new(move |result| drop(done.send(result))))?;
            durable.recv().context("the journal ended")??;
            seen.hlc = seen.hlc.max(examined.newest_hlc);
            seen.session = seen.session.max(examined.last_session);
            seen.bucket = seen.bucket.max(examined.last_bucket);
            seen.needles += examined.needles;
            let status = ExtentStatus {
                extent: copy.id(),
                epoch,
                sealed: true,
                end: copy.end,
                needles: examined.needles,
                generation: copy.generation(),
                // Nobody reads it here.
                salt: 0,
            };
            extents.push((status, examined.bytes_max()));
        }
        Ok((extents, seen))
    }

    /// Copies one; what of it cannot be read is damage, and not the end of all others.
    fn one(&mut self, path: &str, copy: &backup::ExtentCopy) -> Result<Examined, BackupError> {
        let to = extent_path(copy.id(), copy.generation());
        let failed = |e: std::io::Error| BackupError::Io(to.clone(), e);
        let unread = |e: std::io::Error| match world::is_scarce(&e) {
            true => BackupError::Io(path.to_owned(), e),
            false => BackupError::Corrupt(e.to_string()),
        };
        let from = self.dest.disk().open(path).map_err(unread)?;
        let length = from.len().map_err(unread)?;
        if length < copy.end {
            let short = format!("{path}: it has {length} bytes of {}", copy.end);
            self.damage.push(short);
        }
        let file = self.disk.create(&to).map_err(failed)?;
        pace(self.world, 100)
            .copy_past_damage(&*from, &*file, copy.end)
            .map_err(failed)?;
        let examined = examine(&file, self.manifest.disk_id()?, &copy.said());
        if examined.is_err() {
            self.disk.remove(&to).map_err(failed)?;
        }
        Ok(examined?)
    }

    /// One that is not what was written would be a store that refuses every client.
    fn root_key(&mut self) -> anyhow::Result<()> {
        let Some(kept) = &self.manifest.root_key else {
            return Ok(());
        };
        match self.kept(kept) {
            Ok(bytes) => extent::write_whole(&**self.disk, crate::root_key::FILE, &bytes)?,
            Err(why) => self.damage.push(format!(
                "{}: {why}: it is not restored. The first start makes a new root key, unless the one of another backup is put there",
                kept.file
            )),
        }
        Ok(())
    }

    fn kept(&self, kept: &Kept) -> Result<Vec<u8>, String> {
        let bytes = self.dest.kept(kept).map_err(|e| e.to_string())?;
        match kept.is(&bytes) {
            true => Ok(bytes),
            false => Err("it is not what was written".to_owned()),
        }
    }
}

async fn index_of(world: &World, snapshot: &Path, dir: &Path) -> anyhow::Result<ExitCode> {
    check_is_store(dir)?;
    let (parent, name) = (
        snapshot.parent(),
        snapshot.file_name().and_then(|name| name.to_str()),
    );
    let (Some(parent), Some(name)) = (parent, name) else {
        bail!("{} is no file", snapshot.display());
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    if !parent.is_dir() {
        bail!("{} is not there", snapshot.display());
    }
    let file = RealDisk::to_read(parent)?
        .open(name)
        .with_context(|| snapshot.display().to_string())?;
    let index = Index::read(file, name)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir)?);
    let superblock = Superblock::read(&*disk)?.context("the superblock is missing")?;
    if index.head.disk != superblock.disk {
        bail!(
            "{name} is the index of another directory (disk {}, this is {}); nothing was changed",
            index.head.disk,
            superblock.disk
        );
    }
    let opened = DataDir::open(world, disk.clone(), DataDirConfig::default())?;
    let mut damage = opened.report.damage.clone();
    if index.left_out > 0 {
        damage.push(format!(
            "{name} lacks rows: in {} places they could not be read when it was made. What only they named looks as if nobody needed it: see what the backup said before reclaim is released",
            index.left_out
        ));
    }
    let node = LocalNode::new(world.clone(), NODE, vec![opened.dir.clone()]);
    let (extents, mut seen) = sealed(&node, superblock.extent_bytes, &mut damage).await?;
    let why = format!("the index was restored as of {}", moment(index.head.taken_ms));
    let needles = seen.needles;
    let under = Under {
        node: NODE,
        before: given_before(&disk, &opened, &mut seen).await?,
        disk: &disk,
        opened: &opened,
        extents,
        seen,
    };
    let laid = lay_index(&index, &under, &why, world.clock.wall_ms());
    let count = under.extents.len();
    node.shutdown().await;
    let rows = laid?;
    tell(
        dir,
        &damage,
        &format!(
            "{why}: {rows} rows, over {count} extents with {needles} needles{}. The index files that were there are kept as index/*.old<n>, and take their room until they are removed",
            note(&index)
        ),
    );
    Ok(if damage.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[allow(clippy::print_stdout, reason = "this command's answer")]
fn tell(dir: &Path, damage: &[String], what: &str) {
    for damage in damage {
        println!("DAMAGE {damage}");
    }
    let dir = dir.display();
    println!("{dir}: {what}");
    println!(
        "Reclaim is held. `cairn check {dir}` compares index and extents; `cairn reclaim release {dir}` lets it go."
    );
}
