//! Copying one extent: raw bytes, synced, then every needle of the copy read back against its checksums.

use crate::{BackupError, Dest, ExtentCopy, io};
use extent::{Examined, examine};
use std::sync::Arc;
use std::time::Duration;
use types::DiskId;
use types::limits::FRAME_BYTES_MAX;
use world::{Clock, Disk, DiskFile};

/// How much of the time a copy takes from the store beside it.
#[derive(Clone)]
pub struct Pace {
    /// What time is told by.
    pub clock: Arc<dyn Clock>,
    /// Of a hundred; 100: it never waits.
    pub share_percent: u32,
    /// Waits.
    pub wait: fn(Duration),
}

impl Pace {
    /// Does a piece of work, then waits as long as its share asks for.
    fn piece<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = self.clock.mono();
        let done = work();
        let share = self.share_percent.clamp(1, 100);
        let took = self.clock.mono().saturating_sub(begun);
        let rest = took * (100 - share) / share;
        if !rest.is_zero() {
            (self.wait)(rest);
        }
        done
    }

    /// The first `length` bytes of a file into another.
    ///
    /// # Errors
    /// Of either.
    pub fn copy(&self, from: &dyn DiskFile, to: &dyn DiskFile, length: u64) -> std::io::Result<()> {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let mut at = 0;
        while at < length {
            let n = (length - at).min(buffer.len() as u64) as usize;
            self.piece(|| {
                from.read_exact_at(&mut buffer[..n], at)?;
                to.write_all_at(&buffer[..n], at)
            })?;
            at += n as u64;
        }
        Ok(())
    }
}

/// What became of an extent.
pub struct Copied {
    /// As the manifest names it.
    pub copy: ExtentCopy,
    /// Whether its bytes were copied now; else they were there.
    pub is_new: bool,
    /// What is wrong with it, sentences with their places.
    pub damage: Vec<String>,
}

/// Reads a copy back: what it says, and what is damaged.
///
/// # Errors
/// It cannot be read, or its head does not hold.
pub fn examine_copy(dest: &Dest, disk: DiskId, copy: &ExtentCopy) -> Result<Examined, BackupError> {
    let path = copy.file(&disk.to_string());
    let file = dest.disk().open(&path).map_err(io(&path))?;
    Ok(examine(&file, disk, (copy.id(), copy.generation()), copy.end)?)
}

/// Sees to it that an extent of `source` is in the backup, as `copy` names it: `needles` and `damaged` are filled in. What is there is taken
/// over: with what `known` says where that found it whole, else it is read again, so that damage is told by every backup that has it. With
/// `verify` it is read again in any case, and replaced where it is damaged and the store is not. `None`: the store has that generation no more.
///
/// # Errors
/// The source cannot be read, the backup not written.
pub fn copy_extent(
    (source, disk): (&dyn Disk, DiskId),
    dest: &Dest,
    mut copy: ExtentCopy,
    pace: &Pace,
    (known, verify): (Option<&ExtentCopy>, bool),
) -> Result<Option<Copied>, BackupError> {
    let path = copy.file(&disk.to_string());
    let is_there = dest.has(&path, copy.end)?;
    if let Some(known) = known.filter(|known| is_there && !verify && known.damaged == 0) {
        return Ok(Some(Copied {
            copy: known.clone(),
            is_new: false,
            damage: Vec::new(),
        }));
    }
    let there = match is_there {
        true => examine_copy(dest, disk, &copy).ok(),
        false => None,
    };
    let is_kept = there.as_ref().is_some_and(|e| e.damaged == 0 || !verify);
    let made = match is_kept {
        true => None,
        false => match source.open(&extent::extent_path(copy.id(), copy.generation())) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => {
                let from = other.map_err(io(&path))?;
                prove((&*from, disk), dest, &copy, pace, there.is_some())?
            }
        },
    };
    let is_new = made.is_some();
    let examined = made.or(there);
    let examined = examined.ok_or_else(|| BackupError::Corrupt(format!("{path}: it was not copied")))?;
    copy.needles = examined.needles;
    copy.damaged = examined.damaged;
    Ok(Some(Copied {
        copy,
        is_new,
        damage: examined.damage,
    }))
}

/// Copies, and reads the copy back before it appears: twice where it is damaged, for it may be the copying. If the source is damaged, too, the
/// copy is as it is; but where there is another (`has_other`) that stays, which may have what the source has no more: `None`.
fn prove(
    (from, disk): (&dyn DiskFile, DiskId),
    dest: &Dest,
    copy: &ExtentCopy,
    pace: &Pace,
    has_other: bool,
) -> Result<Option<Examined>, BackupError> {
    let path = copy.file(&disk.to_string());
    for is_last in [false, true] {
        let to = dest.begin(&path)?;
        pace.copy(from, &*to, copy.end).map_err(io(&path))?;
        to.sync_data().map_err(io(&path))?;
        let examined = examine(&to, disk, (copy.id(), copy.generation()), copy.end)?;
        if examined.damaged == 0 || is_last && !has_other {
            dest.end(&path, &*to)?;
            return Ok(Some(examined));
        }
    }
    dest.give_up(&path)?;
    Ok(None)
}
