//! What tells an extent's file from any other that got the same numbers.
//!
//! A directory that is put back to an earlier moment gives numbers a second time: extent, generation, epoch, length, and the salt stays. What it
//! writes then is another: a generation that only grows ends with another needle, whose header has the time; one that a compaction wrote
//! ends with another, too, or was made of the same needles, and then its map says which of them stayed.

use crate::Said;
use crate::extent::bare_row;
use crate::fields::{Fields, crc32c, joined};
use crate::footer::{self, Map};
use crate::last::{LastNeedle, last_needle};
use crate::needle::Header;
use crate::walk::{Step, Walker};
use std::io;
use std::sync::Arc;
use types::{ExtentId, Generation};
use world::DiskFile;

/// Of one file, read from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The checksum in its last needle's header; where that or the map is damaged, one of all headers that hold; 0: it has none.
    pub crc: u32,
    /// Where its last needle begins; 0: it has none, or it is damaged.
    pub last_at: u64,
    /// The checksum of the needle map of one that was compacted; else 0.
    pub map_crc: u32,
    /// The damage behind which more of it may be, sentences with their places. Where there is none no other file has the same.
    pub damage: Vec<String>,
}

/// Reads what a file is known by. `hint`: where its last needle stood when this was asked before. It is walked where one read does not tell.
///
/// # Errors
/// There is no descriptor or no memory just now.
pub fn identify(file: &Arc<dyn DiskFile>, said: &Said, hint: Option<u64>) -> io::Result<Identity> {
    let salt = said.salt.unwrap_or_default();
    let last = last_needle(&**file, (said.extent, salt), said.end, hint)?;
    let map_crc = match said.generation {
        Generation(0) => Some(0),
        _ => {
            let mut row = bare_row((said.extent, said.generation), said.end, salt);
            row.end = said.end;
            Map::of(&**file, &row).map(|map| map.crc())
        }
    };
    if let (Some(LastNeedle { offset, crc }), Some(map_crc)) = (last, map_crc) {
        return Ok(Identity {
            crc,
            last_at: offset,
            map_crc,
            damage: Vec::new(),
        });
    }
    Ok(walked(file, said, salt))
}

/// The same from all headers.
fn walked(file: &Arc<dyn DiskFile>, said: &Said, salt: u64) -> Identity {
    let mut found = Identity::default();
    let (mut headers, mut header_bytes) = (0, Vec::new());
    let mut walker = walker(file, said, salt);
    while let Some(step) = walker.step() {
        match step {
            Step::Damage(from, length) => found.damage.push(sentence(said.extent, from, length)),
            Step::Needle(offset, header) => {
                header_bytes.clear();
                header_bytes.extend_from_slice(&offset.to_le_bytes());
                header.encode(salt, &mut header_bytes);
                headers = joined(headers, crc32c(&header_bytes), header_bytes.len() as u64);
                (found.crc, found.last_at) = (header_bytes[8..].u32_at(12), offset);
                if said.generation > Generation(0) && !header.void {
                    let entry = footer::entry(header.needle, offset);
                    found.map_crc = joined(found.map_crc, crc32c(&entry), entry.len() as u64);
                }
            }
        }
    }
    if !found.damage.is_empty() {
        (found.crc, found.last_at, found.map_crc) = (headers, 0, 0);
    }
    found
}

/// Whether `copy` is one of `file`, which may have rotted since: it has each needle that can be found there, at its place, and others
/// only where damage hides what stood there. Walks both.
pub fn is_copy_of(copy: &Arc<dyn DiskFile>, file: &Arc<dyn DiskFile>, said: &Said) -> bool {
    let salt = said.salt.unwrap_or_default();
    let (mut theirs, mut ours) = (walker(file, said, salt), walker(copy, said, salt));
    let mut is_hidden = false;
    while let Some(step) = theirs.step() {
        match step {
            Step::Damage(..) => is_hidden = true,
            Step::Needle(offset, header) => {
                if !comes_to(&mut ours, (offset, &header), is_hidden) {
                    return false;
                }
                is_hidden = false;
            }
        }
    }
    is_hidden || ours.step().is_none()
}

/// Whether a walk comes to a needle: next, or behind what is hidden.
fn comes_to(walker: &mut Walker, (at, wanted): (u64, &Header), is_hidden: bool) -> bool {
    while let Some(step) = walker.step() {
        let from = match &step {
            Step::Needle(offset, header) if *offset == at => return **header == *wanted,
            Step::Needle(offset, _) | Step::Damage(offset, _) => *offset,
        };
        if !is_hidden || from >= at {
            return false;
        }
    }
    false
}

fn walker(file: &Arc<dyn DiskFile>, said: &Said, salt: u64) -> Walker {
    Walker::new(file.clone(), said.extent, salt, 0, said.end)
}

fn sentence(extent: ExtentId, from: u64, length: u64) -> String {
    format!("extent {extent} offset {from}: {length} bytes are no needle in the store")
}
