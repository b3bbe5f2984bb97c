//! Compaction: a sealed extent is written anew without its dropped needles (docs/formats/extent.md).
//!
//! ```text
//!   plan: which needles stay, from the map or by walking ─▶ room, in the ballast where it must be
//!   step, step, …: each needle read, its checksums verified, written ─▶ footer, head, synced ─▶ read back and verified ─▶ name synced
//!   finish: the row of the new generation queued ─▶ durable: readers switch, on the journal's loop ─▶ the old file is swept
//! ```
//! Until the row is durable the old file counts, and from then on the new one: a crash in between leaves one file too many, which the
//! next opening removes. Dropped before its end a compaction leaves everything as it was. Needle numbers stay, places do not. A
//! needle that is to be kept and does not verify stops it: what may still be healed is not buried (I5).
//!
//! Memory: 16 bytes for each needle kept, and two frames. One compaction a disk at a time.

use crate::ExtentError;
use crate::copying::Copying;
use crate::dir::{DataDir, Open};
use crate::extent::{self, Extent, Status};
use crate::footer;
use crate::journal::{Done, RecordType, Urgency};
use crate::keeping;
use crate::table::Row;
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use types::{ExtentId, Generation, JournalSeq, NeedleId};
use world::DiskFile;

/// The right to compact on a disk; one at a time.
struct Turn(Weak<Open>);

impl Turn {
    fn take(dir: &DataDir) -> Result<Self, ExtentError> {
        if dir.0.compacting.swap(true, Ordering::AcqRel) {
            return Err(ExtentError::Busy("another extent of the disk is being compacted"));
        }
        Ok(Self(Arc::downgrade(&dir.0)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(open) = self.0.upgrade() {
            open.compacting.store(false, Ordering::Release);
        }
    }
}

/// An extent's file being written anew. While it lasts nobody else touches the file.
struct Rewriting {
    open: Weak<Open>,
    extent: Arc<Extent>,
    /// The new file, once there is one: it goes when the compaction stops.
    path: Option<String>,
    /// Whether the row is queued, or about to be: from then on the journal says which file counts.
    queued: bool,
    /// Let go last: the next compaction sweeps away what this one left before it makes its own file.
    _turn: Turn,
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        if self.queued {
            return;
        }
        if let (Some(open), Some(path)) = (self.open.upgrade(), self.path.take()) {
            open.leaving.file(path);
        }
        self.extent.lock().rewriting = false;
    }
}

/// What waits for its row to be durable; whoever takes it out ends it.
type Held = Arc<Mutex<Option<Rewriting>>>;

/// What is to be done next.
enum Phase {
    Copy,
    Prove,
    Done,
}

/// A compaction under way.
pub struct Compaction {
    dir: DataDir,
    /// As it was when it began.
    row: Row,
    to: Generation,
    copying: Copying,
    phase: Phase,
    rewriting: Rewriting,
}

impl DataDir {
    /// Begins to write a sealed extent anew as generation `to`, without the needles `dropped` (ascending; others than those there are
    /// fine). `None`: it is at that generation, or past it. Blocks.
    ///
    /// # Errors
    /// Not sealed, busy, no room (nothing was changed), damage that may hide a needle to be kept, a failed disk.
    pub fn begin_compaction(
        &self,
        id: ExtentId,
        to: Generation,
        dropped: &[NeedleId],
    ) -> Result<Option<Compaction>, ExtentError> {
        self.journal().check()?;
        let turn = Turn::take(self)?;
        let extent = self.extent(id)?;
        if extent.lock().row.generation >= to {
            return Ok(None);
        }
        self.sweep()?;
        let row = {
            let mut state = extent.lock();
            if !state.row.sealed {
                return Err(ExtentError::NotSealed);
            }
            if state.rewriting {
                return Err(ExtentError::Busy("the extent's file is being written"));
            }
            state.rewriting = true;
            state.row
        };
        let mut rewriting = Rewriting {
            open: Arc::downgrade(&self.0),
            extent: extent.clone(),
            path: None,
            queued: false,
            _turn: turn,
        };
        self.raise_format()?;
        let old = extent.file(self.disk())?;
        let (kept, bound) = keeping::plan(&old, &row, dropped)?;
        let new = self.make_file(&row, to, bound, &mut rewriting)?;
        Ok(Some(Compaction {
            dir: self.clone(),
            row,
            to,
            copying: Copying::new(row, (old, new), kept),
            phase: Phase::Copy,
            rewriting,
        }))
    }

    /// The new generation's file, with all the room it may need.
    fn make_file(
        &self,
        row: &Row,
        to: Generation,
        bound: u64,
        rewriting: &mut Rewriting,
    ) -> Result<Arc<dyn DiskFile>, ExtentError> {
        let path = extent::path(row.extent, to);
        rewriting.path = Some(path.clone());
        self.with_room(bound, || {
            match self.disk().remove(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let file = self.disk().create(&path)?;
            file.allocate(0, bound)?;
            Ok(file)
        })
    }
}

impl Compaction {
    /// Does a piece of the work: about `bytes`. `true` once only [`Compaction::finish`] is left. Blocks.
    ///
    /// # Errors
    /// A needle that was to be kept is damaged ([`ExtentError::Corrupt`] names it), no room, a failed disk. Drop it then: nothing was
    /// changed.
    pub fn step(&mut self, bytes: usize) -> Result<bool, ExtentError> {
        match self.phase {
            Phase::Copy => {
                if self.copying.step(bytes).map_err(|e| self.judged(e))? {
                    self.complete()?;
                    self.phase = Phase::Prove;
                }
            }
            Phase::Prove => {
                if self.copying.prove(bytes, self.to)? {
                    self.phase = Phase::Done;
                }
            }
            Phase::Done => {}
        }
        Ok(matches!(self.phase, Phase::Done))
    }

    /// A write that failed ends the disk, unless there was no room.
    fn judged(&self, e: ExtentError) -> ExtentError {
        if let ExtentError::OutOfService(why) = &e {
            self.dir.journal().fail(why);
        }
        e
    }

    /// The row of the new generation.
    fn new_row(&self) -> Row {
        Row {
            generation: self.to,
            end: self.copying.end(),
            needles: self.copying.kept().len() as u64,
            frozen: false,
            footer: true,
            ..self.row
        }
    }

    /// Footer and head, then all of it and the file's name are made durable.
    fn complete(&mut self) -> Result<(), ExtentError> {
        let row = self.new_row();
        let footer = footer::encode(&row, self.copying.kept());
        let head = extent::encode_head(&row, self.dir.disk_id());
        let file = self.copying.new_file();
        let completed = file
            .write_all_at(&footer, row.end)
            .and_then(|()| file.set_len(row.end + footer.len() as u64))
            .and_then(|()| file.write_all_at(&head, 0))
            .and_then(|()| file.sync_data())
            .and_then(|()| self.dir.disk().sync_dir(extent::DIR));
        self.dir.settled("extent", completed)
    }

    /// Queues the row that makes the new file count. `done` runs on the journal's loop once that is on stable storage and readers have
    /// switched; the old file goes with the next [`DataDir::sweep`]. Answers what the extent will be, and the bytes given back.
    ///
    /// # Errors
    /// Nothing happened and `done` will not run: the queue is full, the disk has failed.
    ///
    /// # Panics
    /// When steps are left to do.
    pub fn finish(self, done: Done) -> Result<(Status, u64), ExtentError> {
        let journal = self.dir.journal().clone();
        self.finish_by(done, |row, durable, _| {
            let pieces = [Bytes::copy_from_slice(&row.encode()), Bytes::new(), Bytes::new()];
            journal.submit(RecordType::Extent, pieces, Urgency::Now, Some(durable))
        })
    }

    /// The same with `queue` to hand the row to the journal.
    fn finish_by(
        self,
        done: Done,
        queue: impl FnOnce(&Row, Done, &Held) -> Result<JournalSeq, ExtentError>,
    ) -> Result<(Status, u64), ExtentError> {
        assert!(matches!(self.phase, Phase::Done), "all steps come first");
        let extent = self.rewriting.extent.clone();
        let file = self.copying.new_file();
        let mut state = extent.lock();
        let row = Row {
            epoch: state.row.epoch,
            ..self.new_row()
        };
        let reclaimed = state.row.end.saturating_sub(row.end);
        // Refused by the journal it is still ours; once queued it is the callback's, which says when it ends. The callback may run before
        // we hear that it is queued, so the new file is let go of before and taken back where the journal refuses.
        let mut rewriting = self.rewriting;
        rewriting.queued = true;
        let held: Held = Arc::new(Mutex::new(Some(rewriting)));
        let handed = held.clone();
        let durable: Done = Box::new(move |result| {
            let rewriting = handed.lock().expect("no panic under this lock").take();
            if let Some(rewriting) = rewriting.filter(|_| result.is_ok()) {
                switch(&rewriting, row, file);
            }
            done(result);
        });
        match queue(&row, durable, &held) {
            Ok(sequence) => {
                state.changing = Some(sequence);
                Ok((Status::of(&row), reclaimed))
            }
            Err(refused) => {
                drop(state);
                let mut rewriting = held.lock().expect("no panic under this lock").take();
                rewriting
                    .iter_mut()
                    .for_each(|rewriting| rewriting.queued = false);
                Err(refused)
            }
        }
    }
}

/// The new generation is durable: readers have it from here on.
fn switch(rewriting: &Rewriting, row: Row, file: Arc<dyn DiskFile>) {
    assert!(
        rewriting.queued,
        "the file that counts from here on is nobody's to remove"
    );
    let extent = &rewriting.extent;
    let mut state = extent.lock();
    let old = extent::path(extent.id, state.row.generation);
    let row = Row {
        epoch: state.row.epoch.max(row.epoch),
        ..row
    };
    extent.switch(&mut state, row, Some(file));
    (state.rewriting, state.changing) = (false, None);
    drop(state);
    if let Some(open) = rewriting.open.upgrade() {
        open.leaving.file(old);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests touch the real world")]
mod tests {
    use super::*;
    use crate::dir::tests::{open, wait};
    use types::Epoch;
    use world::Disk;

    /// The journal's loop is faster than whoever queued the row: it has the row durable, and begun to switch, before the one that queued it
    /// goes on. The new file must be nobody's to remove by then. // I3
    #[test]
    fn a_row_may_be_durable_before_it_is_known_to_be_queued() {
        let tmp = tempfile::tempdir().unwrap();
        let (disk, dir) = open(tmp.path());
        let id = ExtentId(1);
        wait(|done| dir.open_extent(id, Epoch(1), 1 << 20, done));
        wait(|done| dir.seal(id, Epoch(1), done));
        let mut compaction = dir.begin_compaction(id, Generation(1), &[]).unwrap().unwrap();
        while !compaction.step(1 << 20).unwrap() {}
        let mut switching = None;
        let finished = compaction.finish_by(Box::new(|result| result.unwrap()), |_, durable, held| {
            switching = Some(std::thread::spawn(move || durable(Ok(()))));
            while held.lock().unwrap().is_some() {
                std::thread::yield_now();
            }
            Ok(dir.journal().next())
        });
        assert_eq!(finished.unwrap().0.generation, Generation(1));
        switching.unwrap().join().unwrap();
        dir.sweep().unwrap();
        assert!(disk.exists(&extent::path(id, Generation(1))).unwrap());
        assert!(!disk.exists(&extent::path(id, Generation(0))).unwrap());
        assert_eq!(dir.status(id).unwrap().generation, Generation(1));
    }

    /// A row that the journal refuses leaves the extent as it was, and no file.
    #[test]
    fn a_refused_row_leaves_no_file() {
        let tmp = tempfile::tempdir().unwrap();
        let (disk, dir) = open(tmp.path());
        let id = ExtentId(1);
        wait(|done| dir.open_extent(id, Epoch(1), 1 << 20, done));
        wait(|done| dir.seal(id, Epoch(1), done));
        for _ in 0..2 {
            let mut compaction = dir.begin_compaction(id, Generation(1), &[]).unwrap().unwrap();
            while !compaction.step(1 << 20).unwrap() {}
            let refused = ExtentError::Busy("on purpose");
            let told = compaction.finish_by(Box::new(|_| unreachable!()), |_, _, _| Err(refused.clone()));
            assert_eq!(told, Err(refused));
            dir.sweep().unwrap();
            assert!(!disk.exists(&extent::path(id, Generation(1))).unwrap());
        }
        assert_eq!(dir.status(id).unwrap().generation, Generation(0));
    }
}
