//! Making the needle maps that sealed extents lack, piece by piece, beside the checkpoints: a map takes a walk of the whole extent, and
//! while a checkpoint waited for it the journal would fill.
//!
//! ```text
//!   sealed ─▶ walked, a piece a call ─▶ map written behind the end, file cut there ─▶ synced ─▶ said in the next table
//! ```
//! One extent at a time. While it is walked it may be compacted or removed: its map is not wanted then. One that has damage stays
//! without. Without room for it the map waits, walked as it is.
//!
//! Memory: 16 bytes for each needle of one extent.

use crate::ExtentError;
use crate::dir::DataDir;
use crate::extent::{Extent, State};
use crate::footer;
use crate::needle::HEADER_BYTES_MIN;
use crate::table::Row;
use crate::walk::{Step, Walker};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use types::NeedleId;

/// What is known of maps.
#[derive(Default)]
pub(crate) struct Mappings {
    under_way: Mutex<Option<Mapping>>,
    /// One was made that no table on disk says.
    unsaid: AtomicBool,
}

impl Mappings {
    /// Whether a map was made since the last time that this was asked: a table that is written from now on says so.
    pub(crate) fn take_unsaid(&self) -> bool {
        self.unsaid.swap(false, Ordering::AcqRel)
    }

    /// A map is to be said in the next table.
    pub(crate) fn unsaid(&self) {
        self.unsaid.store(true, Ordering::Release);
    }
}

/// An extent on its way to a map.
struct Mapping {
    extent: Arc<Extent>,
    row: Row,
    /// Until it was walked to its end: the walker holds the file, and with it the room of one that was removed meanwhile.
    walker: Option<Walker>,
    entries: Vec<(NeedleId, u64)>,
}

/// How far a walk came.
#[derive(PartialEq, Eq)]
enum Walk {
    More,
    Damage,
    End,
}

impl Mapping {
    fn walk(&mut self, bytes: u64) -> Walk {
        let Some(walker) = &mut self.walker else {
            return Walk::End;
        };
        let until = walker.read() + bytes.max(1);
        while walker.read() < until {
            match walker.step() {
                Some(Step::Needle(_, header)) if header.void => {}
                Some(Step::Needle(offset, header)) => self.entries.push((header.needle, offset)),
                Some(Step::Damage(..)) => return Walk::Damage,
                None => {
                    self.walker = None;
                    return Walk::End;
                }
            }
        }
        Walk::More
    }

    /// Whether the extent is still what is being mapped.
    fn is_wanted(&self, state: &State) -> bool {
        is_missing(state) && state.row.generation == self.row.generation
    }
}

/// Whether it has no map and should get one.
fn is_missing(state: &State) -> bool {
    let row = &state.row;
    row.sealed && !row.footer && !row.gone && !state.no_footer && !state.rewriting
}

impl DataDir {
    /// Goes on with the needle maps that sealed extents lack, about `bytes` of their files; `false` when none is missing. What is sealed or
    /// compacted later is looked for again. Blocks.
    ///
    /// # Errors
    /// A full disk, or no descriptor: it goes on from there. A failed one: it is out of service.
    pub fn map_extents(&self, bytes: u64) -> Result<bool, ExtentError> {
        self.journal().check()?;
        let mut under_way = (self.0.mappings.under_way.lock()).expect("no panic under this lock");
        // What is compacted or removed meanwhile is let go at once: its file is open here, and a full disk waits for its room.
        let going_on = under_way.take().filter(|m| m.is_wanted(&m.extent.lock()));
        let Some(mut mapping) = going_on.map_or_else(|| self.next_mapping(), |m| Ok(Some(m)))? else {
            return Ok(false);
        };
        match mapping.walk(bytes) {
            Walk::More => *under_way = Some(mapping),
            Walk::Damage => mapping.extent.lock().no_footer = true,
            Walk::End => {
                let written = self.write_map(&mapping);
                if let Err(ExtentError::Full(_) | ExtentError::Busy(_)) = &written {
                    *under_way = Some(mapping);
                }
                written?;
            }
        }
        Ok(true)
    }

    /// Whether a map was made that no table on disk says: a checkpoint is wanted though nothing is in the journal.
    pub fn is_map_unsaid(&self) -> bool {
        self.0.mappings.unsaid.load(Ordering::Acquire)
    }

    /// The first extent without a map.
    fn next_mapping(&self) -> Result<Option<Mapping>, ExtentError> {
        for extent in self.all() {
            let row = {
                let state = extent.lock();
                if !is_missing(&state) {
                    continue;
                }
                state.row
            };
            let file = match extent.file(self.disk()) {
                Err(ExtentError::Corrupt(_)) => {
                    extent.lock().no_footer = true;
                    continue;
                }
                other => other?,
            };
            let most = row.needles.min(row.end / HEADER_BYTES_MIN);
            return Ok(Some(Mapping {
                walker: Some(Walker::new(file, row.extent, row.salt, 0, row.end)),
                entries: Vec::with_capacity(most as usize),
                extent,
                row,
            }));
        }
        Ok(None)
    }

    fn write_map(&self, mapping: &Mapping) -> Result<(), ExtentError> {
        let extent = &mapping.extent;
        {
            let mut state = extent.lock();
            if !mapping.is_wanted(&state) {
                return Ok(());
            }
            state.rewriting = true;
        }
        let row = &mapping.row;
        let footer = footer::encode(row, &mapping.entries);
        let written = extent.file(self.disk()).and_then(|file| {
            let written = file
                .set_len(row.end)
                .and_then(|()| file.write_all_at(&footer, row.end))
                .and_then(|()| file.sync_data());
            self.settled("footer", written)
        });
        let mut state = extent.lock();
        state.rewriting = false;
        written?;
        state.row.footer = true;
        state.allocated = 0;
        drop(state);
        self.0.mappings.unsaid();
        Ok(())
    }
}
