//! Copying one extent: raw bytes, synced, then every needle of the copy read back against its checksums.

use crate::{BackupError, Dest, ExtentCopy, Known, Mark, Wanted, io};
use extent::{Examined, Said, examine, identify, is_copy_of};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use types::limits::FRAME_BYTES_MAX;
use types::{DiskId, Kind as _};
use world::{Clock, Disk, DiskFile, is_scarce};

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

/// Sentences of damage that are told of one extent.
const DAMAGE_TOLD_MAX: usize = 100;

/// It never waits longer for the others' sake: what took long was the disk.
const REST_MAX: Duration = Duration::from_secs(5);

impl Pace {
    /// Does a piece of work, then waits as long as its share asks for.
    fn piece<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = self.clock.mono();
        let done = work();
        let share = self.share_percent.clamp(1, 100);
        let took = self.clock.mono().saturating_sub(begun);
        let rest = (took * (100 - share) / share).min(REST_MAX);
        if !rest.is_zero() {
            (self.wait)(rest);
        }
        done
    }

    /// The first `length` bytes of a file into another, with zeroes for what cannot be read: whoever examines the copy finds them.
    ///
    /// # Errors
    /// Of the one that is written.
    pub fn copy_past_damage(
        &self,
        from: &dyn DiskFile,
        to: &dyn DiskFile,
        length: u64,
    ) -> std::io::Result<()> {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let mut at = 0;
        while at < length {
            let n = (length - at).min(buffer.len() as u64) as usize;
            self.piece(|| {
                read_past(from, &mut buffer[..n], at)?;
                to.write_all_at(&buffer[..n], at)
            })?;
            at += n as u64;
        }
        Ok(())
    }
}

/// Bytes that are given up at once where they cannot be read.
const UNREAD_BYTES: usize = 4096;

/// Reads what can be read; the rest is zeroes, which no checksum holds for.
fn read_past(from: &dyn DiskFile, buffer: &mut [u8], at: u64) -> std::io::Result<()> {
    match from.read_exact_at(buffer, at) {
        Err(e) if is_scarce(&e) => Err(e),
        Err(_) => {
            let there = from.len()?.saturating_sub(at).min(buffer.len() as u64) as usize;
            let (buffer, behind) = buffer.split_at_mut(there);
            behind.fill(0);
            for (block, at) in buffer.chunks_mut(UNREAD_BYTES).zip((at..).step_by(UNREAD_BYTES)) {
                if from.read_exact_at(block, at).is_err() {
                    block.fill(0);
                }
            }
            Ok(())
        }
        Ok(()) => Ok(()),
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

/// Sees to it that an extent of `source` is in the backup, with the bytes that it has now. A copy of these is taken over: with what `known` says
/// where that found it whole, else it is read again, so that damage is told by every backup that has it. With
/// `verify` it is read again in any case, and replaced where it is damaged and the store is not. `None`: the store has that generation no more, or it
/// cannot be opened.
///
/// # Errors
/// The source cannot be read, the backup not written.
pub fn copy_extent(
    (source, disk): (&dyn Disk, DiskId),
    dest: &Dest,
    wanted: &Wanted,
    pace: &Pace,
    (known, verify): (&Known, bool),
) -> Result<Option<Copied>, BackupError> {
    let from = extent::extent_path(wanted.extent, wanted.generation);
    let from = match source.open(&from) {
        // Whoever may not read it reads none of the others either.
        Err(e) if is_scarce(&e) || e.kind() == ErrorKind::PermissionDenied => {
            return Err(BackupError::Io(from, e));
        }
        Err(_) => return Ok(None),
        Ok(file) => file,
    };
    let known = known.of(wanted);
    let Matched {
        mut copy,
        is_known,
        hidden,
    } = match_up((&from, disk), dest, wanted, pace, known)?;
    let path = copy.file(&disk.to_string());
    let is_there = dest.has(&path, copy.end)?;
    if is_there && is_known && copy.damaged == 0 && !verify {
        return Ok(Some(Copied {
            copy,
            is_new: false,
            damage: hidden,
        }));
    }
    let there = match is_there {
        true => examine_copy(dest, disk, &copy).ok(),
        false => None,
    };
    let is_kept = there.as_ref().is_some_and(|e| e.damaged == 0 || !verify);
    let made = match is_kept {
        true => None,
        false => prove((&*from, disk), dest, &copy, pace, there.is_some())?,
    };
    let is_new = made.is_some();
    let looked = made.or(there.map(Looked::from));
    let looked = looked.ok_or_else(|| BackupError::Corrupt(format!("{path}: it was not copied")))?;
    copy.needles = looked.needles;
    copy.damaged = looked.damaged;
    let hidden = hidden.into_iter().filter(|_| !is_new);
    Ok(Some(Copied {
        copy,
        is_new,
        damage: hidden.chain(looked.damage).collect(),
    }))
}

/// The copy that an extent has or is to have.
struct Matched {
    copy: ExtentCopy,
    /// The newest backup has it.
    is_known: bool,
    /// Damage in the store of which that copy may know nothing.
    hidden: Vec<String>,
}

/// Finds the copy that has an extent's bytes.
///
/// What is `known` is taken over for what it is known by; where that is said otherwise (an earlier build's), or hidden by damage in the store, for its
/// needles: it has all that the store has, and others only where nobody can read what the store has.
fn match_up(
    (from, disk): (&Arc<dyn DiskFile>, DiskId),
    dest: &Dest,
    wanted: &Wanted,
    pace: &Pace,
    known: Option<&ExtentCopy>,
) -> Result<Matched, BackupError> {
    let hint = known.and_then(|copy| copy.mark).map(|mark| mark.last_at);
    let said = Said {
        extent: wanted.extent,
        generation: wanted.generation,
        end: wanted.end,
        salt: Some(wanted.salt),
    };
    let found = pace.piece(|| identify(from, &said, hint));
    let found = found.map_err(io("what an extent is known by"))?;
    let mark = Mark {
        salt: wanted.salt,
        last_crc: found.crc,
        last_at: found.last_at,
        map_crc: found.map_crc,
    };
    let anew = || Matched {
        copy: ExtentCopy {
            extent: wanted.extent.0,
            generation: wanted.generation.0,
            epoch: wanted.epoch.0,
            end: wanted.end,
            needles: 0,
            damaged: 0,
            mark: Some(mark),
            called: None,
        },
        is_known: false,
        hidden: Vec::new(),
    };
    let taken = |copy, hidden| Matched {
        copy,
        is_known: true,
        hidden,
    };
    let Some(known) = known else {
        return Ok(anew());
    };
    if known.mark == Some(mark) {
        return Ok(taken(known.clone(), Vec::new()));
    }
    let path = known.file(&disk.to_string());
    if !dest.has(&path, known.end)? {
        return Ok(anew());
    }
    let copy = dest.disk().open(&path).map_err(io(&path))?;
    if !pace.piece(|| is_copy_of(&copy, from, &said)) {
        return Ok(anew());
    }
    if found.damage.is_empty() {
        return Ok(taken(known.clone().known_as(mark), Vec::new()));
    }
    let mut hidden = found.damage;
    hidden.truncate(DAMAGE_TOLD_MAX);
    let told = |what| format!("{what}; an earlier backup's copy of it is taken over");
    Ok(taken(known.clone(), hidden.into_iter().map(told).collect()))
}

/// The copy of an extent whose file the store has no more: what was made of it before is as good.
pub fn copy_of_missing(dest: &Dest, disk: DiskId, wanted: &Wanted, known: &Known) -> Option<ExtentCopy> {
    let copy = known.of(wanted)?;
    let path = copy.file(&disk.to_string());
    if !dest.has(&path, copy.end).ok()? {
        return None;
    }
    // One of format 1 has numbers alone: the salt in it is to be the store's.
    let is_its = copy.mark.is_some() || {
        let file = dest.disk().open(&path).ok()?;
        let salt = Some(wanted.salt);
        let said = Said { salt, ..copy.said() };
        examine(&file, disk, &said).is_ok_and(|examined| examined.needles > 0)
    };
    is_its.then(|| copy.clone())
}

/// Reads a copy back: what it says, and what is damaged.
fn examine_copy(dest: &Dest, disk: DiskId, copy: &ExtentCopy) -> Result<Examined, BackupError> {
    let path = copy.file(&disk.to_string());
    let file = dest.disk().open(&path).map_err(io(&path))?;
    Ok(examine(&file, disk, &copy.said())?)
}

/// What was found in a copy, whose head may be damaged, too.
struct Looked {
    needles: u64,
    damaged: u64,
    damage: Vec<String>,
}

impl From<Examined> for Looked {
    fn from(examined: Examined) -> Self {
        Self {
            needles: examined.needles,
            damaged: examined.damaged,
            damage: examined.damage,
        }
    }
}

/// Copies, and reads the copy back before it appears: twice where it is damaged, for it may be the copying. If the source is damaged, too, the
/// copy is as it is; but where there is another (`has_other`) that stays, which may have what the source has no more: `None`.
fn prove(
    (from, disk): (&dyn DiskFile, DiskId),
    dest: &Dest,
    copy: &ExtentCopy,
    pace: &Pace,
    has_other: bool,
) -> Result<Option<Looked>, BackupError> {
    let path = copy.file(&disk.to_string());
    for is_last in [false, true] {
        let to = dest.begin(&path)?;
        pace.copy_past_damage(from, &*to, copy.end).map_err(io(&path))?;
        to.sync_data().map_err(io(&path))?;
        let looked = match examine(&to, disk, &copy.said()) {
            Ok(examined) => examined.into(),
            Err(e) if e.kind() != types::ErrorKind::Corrupt => return Err(e.into()),
            Err(e) => Looked {
                needles: 0,
                damaged: 1,
                damage: vec![format!(
                    "{e}: nothing can be restored of it, and it is copied as it is"
                )],
            },
        };
        if looked.damaged == 0 || is_last && !has_other {
            dest.end(&path, &*to)?;
            return Ok(Some(looked));
        }
    }
    dest.give_up(&path)?;
    Ok(None)
}
