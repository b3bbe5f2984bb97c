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

/// Sees to it that an extent of `source` is in the backup, as `copy` names it: `needles` and `damaged` are filled in. `None`: the store has that
/// generation no more.
///
/// # Errors
/// The source cannot be read, the backup not written.
pub fn copy_extent(
    (source, disk): (&dyn Disk, DiskId),
    dest: &Dest,
    mut copy: ExtentCopy,
    pace: &Pace,
    verify: bool,
) -> Result<Option<Copied>, BackupError> {
    let path = copy.file(&disk.to_string());
    let is_there = dest.has(&path, copy.end)?;
    if is_there && !verify {
        return Ok(Some(Copied {
            copy,
            is_new: false,
            damage: Vec::new(),
        }));
    }
    let mut examined = match is_there {
        true => examine_copy(dest, disk, &copy).ok().filter(|e| e.damaged == 0),
        false => None,
    };
    let is_new = examined.is_none();
    // A second time where the copy is damaged: if the source is, too, it is told as it is.
    for _ in 0..2 {
        if examined.as_ref().is_some_and(|e| e.damaged == 0) {
            break;
        }
        let from = match source.open(&extent::extent_path(copy.id(), copy.generation())) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io(&path))?,
        };
        dest.write(&path, |to| pace.copy(&*from, to, copy.end))?;
        examined = Some(examine_copy(dest, disk, &copy)?);
    }
    let examined = examined.ok_or_else(|| BackupError::Corrupt(format!("{path}: it was not copied")))?;
    copy.needles = examined.needles;
    copy.damaged = examined.damaged;
    Ok(Some(Copied {
        copy,
        is_new,
        damage: examined.damage,
    }))
}
