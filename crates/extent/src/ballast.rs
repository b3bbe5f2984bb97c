//! The ballast: room kept back in a file, so that a full disk can still delete, seal and let its index grow.
//!
//! New data stops while as much as half the ballast is still free (`DataDir::headroom`). What eats that too is the index and
//! the tables; then the ballast is given back a quarter at a time, and taken again once the disk has room.

use std::io;
use world::Disk;

const NAME: &str = "ballast";

/// Makes it. Without room for all of it there is none: it is taken when there is.
pub(crate) fn create(disk: &dyn Disk, bytes: u64) -> io::Result<()> {
    let file = match disk.create(NAME) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => disk.open(NAME)?,
        other => other?,
    };
    match file.allocate(0, bytes.max(1)) {
        Err(e) if e.kind() != io::ErrorKind::StorageFull => Err(e),
        _ => file.sync_data(),
    }
}

/// Gives a quarter of what is left back.
pub(crate) fn shrink(disk: &dyn Disk) -> io::Result<()> {
    let file = match disk.open(NAME) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let len = file.len()?;
    if len > 0 {
        // The last megabyte at once.
        file.set_len(if len > 1 << 20 { len / 4 * 3 } else { 0 })?;
        file.sync_data()?;
        tracing::warn!(left = file.len()?, "the disk is full: ballast given back");
    }
    Ok(())
}

/// Length of what is left.
pub(crate) fn len(disk: &dyn Disk) -> io::Result<u64> {
    if disk.exists(NAME)? {
        disk.open(NAME)?.len()
    } else {
        Ok(0)
    }
}

/// Gives back what is short of `bytes` being free, and answers how much; `StorageFull` where the ballast does not make up for it, and
/// nothing was given.
pub(crate) fn free(disk: &dyn Disk, bytes: u64) -> io::Result<u64> {
    let short = bytes.saturating_sub(disk.space()?.free);
    if short == 0 {
        return Ok(0);
    }
    let left = len(disk)?;
    if short > left {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("{bytes} bytes are wanted, {short} more than are free, and the ballast has {left}"),
        ));
    }
    let file = disk.open(NAME)?;
    file.set_len(left - short)?;
    file.sync_data()?;
    tracing::info!(
        given = short,
        left = left - short,
        "ballast given to a compaction"
    );
    Ok(short)
}

/// Takes back what is missing, as far as a quarter of the whole stays free beside it: after a compaction gave room back, before new
/// data takes it. Whether it is whole then.
pub(crate) fn regrow(disk: &dyn Disk, whole: u64) -> io::Result<bool> {
    let left = len(disk)?;
    let spare = disk.space()?.free.saturating_sub(whole / 4);
    let more = whole.saturating_sub(left).min(spare);
    if more > 0 && !disk.exists(NAME)? {
        create(disk, more)?;
    } else if more > 0 {
        let file = disk.open(NAME)?;
        match file.allocate(left, more) {
            Err(e) if e.kind() != io::ErrorKind::StorageFull => return Err(e),
            _ => file.sync_data()?,
        }
    }
    Ok(len(disk)? >= whole)
}

/// Shrinks or grows it by what is free now. `whole` is its full length.
pub(crate) fn tend(disk: &dyn Disk, whole: u64) -> io::Result<()> {
    let free = disk.space()?.free;
    if free < whole / 8 {
        return shrink(disk);
    }
    if !disk.exists(NAME)? {
        return create(disk, whole);
    }
    let file = disk.open(NAME)?;
    let len = file.len()?;
    if len < whole && free > 2 * whole + (whole - len) {
        match file.allocate(len, whole - len) {
            Err(e) if e.kind() != io::ErrorKind::StorageFull => return Err(e),
            _ => file.sync_data()?,
        }
    }
    Ok(())
}
