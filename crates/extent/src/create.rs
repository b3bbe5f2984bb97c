//! Making a data directory, where none ever was.

use crate::open::JOURNAL;
use crate::sizes::Sizes;
use crate::superblock::{self, Superblock};
use crate::{ExtentError, ballast, extent};
use std::io;
use types::limits::JOURNAL_BLOCK_BYTES;
use types::{DiskId, NodeId, StampId};
use world::{Disk, World};

/// The index's; crate `store` writes it.
const CATALOGUE: &str = "index-catalogue";
const BLOCK: u64 = JOURNAL_BLOCK_BYTES as u64;

/// How a new data directory is made. An old one keeps what its superblock says.
#[derive(Clone, Copy, Debug)]
pub struct DataDirConfig {
    /// Whose it is.
    pub node: NodeId,
    /// Which cluster's.
    pub stamp: StampId,
    /// Length of the journal; by the disk's size where `None`.
    pub journal_bytes: Option<u64>,
    /// Size of extents, likewise.
    pub extent_bytes: Option<u64>,
    /// Step that extents grow in, likewise.
    pub extent_step_bytes: Option<u64>,
    /// Length of the ballast, likewise.
    pub ballast_bytes: Option<u64>,
}

impl Default for DataDirConfig {
    fn default() -> Self {
        Self {
            node: NodeId(1),
            stamp: StampId::FIRST,
            journal_bytes: None,
            extent_bytes: None,
            extent_step_bytes: None,
            ballast_bytes: None,
        }
    }
}

/// Makes a data directory; the superblock comes last, so what a crash leaves is made anew.
pub(crate) fn create(
    world: &World,
    disk: &dyn Disk,
    config: DataDirConfig,
) -> Result<Superblock, ExtentError> {
    let io = |what: &'static str| move |e: io::Error| ExtentError::io(what, &e);
    refuse_to_make_over(disk)?;
    let sizes = Sizes::for_disk(disk.space().map_err(io("file system"))?.total);
    let superblock = Superblock {
        format: superblock::FORMAT_FIRST,
        disk: DiskId(world.rng.next_u128()),
        node: config.node,
        stamp: config.stamp,
        created_ms: world.clock.wall_ms(),
        journal_bytes: config.journal_bytes.unwrap_or(sizes.journal),
        journal_salt: world.rng.next_u64(),
        extent_bytes: config.extent_bytes.unwrap_or(sizes.extent),
        extent_step_bytes: config.extent_step_bytes.unwrap_or(sizes.extent_step).max(1),
        ballast_bytes: config.ballast_bytes.unwrap_or(sizes.ballast),
        catalogued: false,
    };
    let least = 16 * BLOCK;
    if superblock.journal_bytes < least || !superblock.journal_bytes.is_multiple_of(BLOCK) {
        return Err(ExtentError::Invalid(format!(
            "a journal is a multiple of {BLOCK} of at least {least} bytes"
        )));
    }
    disk.create_dir(extent::DIR).map_err(io(extent::DIR))?;
    let journal = || -> io::Result<()> {
        if disk.exists(JOURNAL)? {
            disk.remove(JOURNAL)?;
        }
        let file = disk.create(JOURNAL)?;
        file.allocate(0, superblock.journal_bytes)?;
        file.sync_data()
    };
    journal().map_err(io(JOURNAL))?;
    ballast::create(disk, superblock.ballast_bytes).map_err(io("ballast"))?;
    disk.sync_dir("").map_err(io("the directory"))?;
    superblock.write(disk).map_err(io(superblock::NAME))?;
    Ok(superblock)
}

/// A directory without a superblock that was used once has lost it: making it anew would bury what is there.
fn refuse_to_make_over(disk: &dyn Disk) -> Result<(), ExtentError> {
    let io = |e: io::Error| ExtentError::io("the directory", &e);
    let mut used = disk.exists(crate::table::NAME).map_err(io)? || disk.exists(CATALOGUE).map_err(io)?;
    if disk.exists(extent::DIR).map_err(io)? {
        used |= !disk.list(extent::DIR).map_err(io)?.is_empty();
    }
    if !used && disk.exists(JOURNAL).map_err(io)? {
        let mut head = [0; 4];
        let file = disk.open(JOURNAL).map_err(io)?;
        used = file.read_exact_at(&mut head, 0).is_ok() && head != [0; 4];
    }
    if used {
        return Err(ExtentError::Corrupt(
            "the directory holds data but its superblock is missing; nothing was changed".into(),
        ));
    }
    Ok(())
}
