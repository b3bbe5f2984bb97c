//! The place of a cell: an empty directory, on a disk that has nothing left to write and room for what the cell writes.

use super::rows::Row;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// No store here keeps more of large bodies in a second; of small ones, with what it keeps beside them.
const LARGE_BYTES_PER_SECOND_MAX: u64 = 1 << 30;
const SMALL_BYTES_PER_SECOND_MAX: u64 = 256 << 20;
/// What else a cell leaves on the disk while it is measured: the limit server's zeros, a journal, what is read.
const CELL_BYTES: u64 = 3 << 30;
/// With less than this share of the disk free Cairn gives back room at once, beside what is measured, where there is any to give back.
const DELETING_SHARE: u64 = 10;
/// Below this share, and long before it, a store takes nothing any more.
const FREE_SHARE: u64 = 25;

/// Bytes of a disk.
pub(super) struct Disk {
    pub(super) free: u64,
    pub(super) all: u64,
}

impl Disk {
    pub(super) fn of(dir: &Path) -> Result<Self> {
        let told = rustix::fs::statvfs(dir).with_context(|| dir.display().to_string())?;
        let bytes = |blocks: u64| blocks * told.f_frsize;
        Ok(Self {
            free: bytes(told.f_bavail),
            all: bytes(told.f_blocks),
        })
    }
}

/// Bytes that must be free on a disk of `all` before a cell of `row` that writes for `seconds`.
fn wanted(all: u64, row: &Row, seconds: u64) -> u64 {
    let (a_second, share) = match (row.operation, row.size) {
        ("delete" | "mixed", _) => (SMALL_BYTES_PER_SECOND_MAX, DELETING_SHARE),
        ("put", "4KiB") => (SMALL_BYTES_PER_SECOND_MAX, FREE_SHARE),
        ("put", _) => (LARGE_BYTES_PER_SECOND_MAX, FREE_SHARE),
        _ => (0, FREE_SHARE),
    };
    seconds * a_second + CELL_BYTES + all / share
}

/// What was measured goes.
pub(super) fn cleared(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| dir.display().to_string())
        }
        _ => Ok(()),
    }
}

/// An empty directory.
pub(super) fn fresh(dir: &Path) -> Result<()> {
    cleared(dir)?;
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    rustix::fs::sync();
    Ok(())
}

/// An empty directory with room for a cell of `row`. What the last cell left is gone before the disk is asked: it may be most of what is free.
pub(super) fn fresh_for(
    dir: &Path,
    (row, seconds): (&Row, u64),
    disk: impl Fn(&Path) -> Result<Disk>,
) -> Result<()> {
    fresh(dir)?;
    let Disk { free, all } = disk(dir)?;
    let wanted = wanted(all, row, seconds);
    ensure!(
        free >= wanted,
        "{} GiB are free where {} is, and {} takes {}: what one cell writes, above what a store must leave free",
        free >> 30,
        dir.display(),
        row.what,
        wanted.div_ceil(1 << 30)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::rows::ROWS;
    use super::*;

    fn row(what: &str) -> &'static Row {
        ROWS.iter().find(|row| row.what == what).expect("a row")
    }

    #[test]
    fn what_the_last_cell_left_is_gone_before_the_disk_is_asked_for_room() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let cell = dir.path().join("cell");
        fs::create_dir(&cell)?;
        fs::write(cell.join("left"), "16 GiB")?;
        let disk = |dir: &Path| {
            let left = fs::read_dir(dir)?.count() as u64;
            Ok(Disk {
                free: (45 - 16 * left) << 30,
                all: 252 << 30,
            })
        };
        fresh_for(&cell, (row("put 64 MiB, c4"), 16), disk)?;
        let nearly = |_: &Path| {
            Ok(Disk {
                free: 29 << 30,
                all: 252 << 30,
            })
        };
        assert!(fresh_for(&cell, (row("put 64 MiB, c4"), 16), nearly).is_err());
        cleared(&cell)?;
        cleared(&cell)
    }

    #[test]
    fn room_is_what_a_cell_writes_above_what_a_store_leaves_free() {
        let all = 100 << 30;
        for (what, gib) in [
            ("put 64 MiB, c1", 16 + 3 + 4),
            ("put 1 MiB, c16", 16 + 3 + 4),
            ("put 4 KiB, c16", 4 + 3 + 4),
            ("delete, c16", 4 + 3 + 10),
            ("get 64 MiB, c4", 3 + 4),
        ] {
            assert_eq!(wanted(all, row(what), 16), gib << 30, "{what}");
        }
    }
}
