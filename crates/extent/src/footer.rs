//! The needle map at the end of a sealed extent (docs/formats/extent.md).

use crate::ExtentError;
use crate::dir::DataDir;
use crate::extent::Extent;
use crate::fields::{Fields, crc32c, put};
use crate::table::Row;
use crate::walk::{Step, Walker};
use types::{ExtentId, NeedleId};
use world::DiskFile;

const MAGIC: [u8; 4] = *b"CMAP";
const FORMAT: u16 = 1;
const HEAD_BYTES: usize = 40;
const ENTRY_BYTES: usize = 16;

fn encode(row: &Row, entries: &[(NeedleId, u64)]) -> Vec<u8> {
    let mut b = vec![0; HEAD_BYTES + ENTRY_BYTES * entries.len()];
    for (i, (needle, offset)) in entries.iter().enumerate() {
        put(&mut b, HEAD_BYTES + ENTRY_BYTES * i, &needle.0.to_le_bytes());
        put(&mut b, HEAD_BYTES + ENTRY_BYTES * i + 8, &offset.to_le_bytes());
    }
    put(&mut b, 0, &MAGIC);
    put(&mut b, 4, &FORMAT.to_le_bytes());
    put(&mut b, 8, &row.extent.0.to_le_bytes());
    put(&mut b, 16, &row.generation.0.to_le_bytes());
    put(&mut b, 24, &(entries.len() as u64).to_le_bytes());
    let crc = crc32c(&b[HEAD_BYTES..]);
    put(&mut b, 32, &crc.to_le_bytes());
    let crc = crc32c(&b[..36]);
    put(&mut b, 36, &crc.to_le_bytes());
    b
}

/// Writes the footers of sealed extents that have none. One that finds no room or has damage stays without: it is walked.
pub(crate) fn write_missing(dir: &DataDir) -> Result<(), ExtentError> {
    for extent in dir.all() {
        let (row, hopeless) = {
            let state = extent.lock();
            (state.row, state.no_footer)
        };
        if !row.sealed || row.footer || hopeless {
            continue;
        }
        match write(dir, &extent, &row) {
            Ok(true) => {
                let mut state = extent.lock();
                state.row.footer = true;
            }
            Ok(false) | Err(ExtentError::Corrupt(_)) => extent.lock().no_footer = true,
            Err(ExtentError::Full(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn write(dir: &DataDir, extent: &Extent, row: &Row) -> Result<bool, ExtentError> {
    let file = extent.file(dir.disk())?;
    let mut walker = Walker::new(file.clone(), row.extent, row.salt, 0, row.end);
    let mut entries = Vec::with_capacity(row.needles as usize);
    while let Some(step) = walker.step() {
        match step {
            Step::Needle(_, header) if header.void => {}
            Step::Needle(offset, header) => entries.push((header.needle, offset)),
            Step::Damage(..) => return Ok(false),
        }
    }
    let footer = encode(row, &entries);
    let written = file
        .set_len(row.end)
        .and_then(|()| file.write_all_at(&footer, row.end))
        .and_then(|()| file.sync_data());
    dir.settled("footer", written)?;
    extent.lock().allocated = 0;
    Ok(true)
}

/// Where the map says that a needle is; `None` when it does not know, or is damaged. The needle's header must prove it.
pub(crate) fn look_up(file: &dyn DiskFile, row: &Row, needle: NeedleId) -> Option<u64> {
    let mut head = [0; HEAD_BYTES];
    file.read_exact_at(&mut head, row.end).ok()?;
    let good = head[..4] == MAGIC
        && head.u16_at(4) == FORMAT
        && crc32c(&head[..36]) == head.u32_at(36)
        && (ExtentId(head.u64_at(8)), head.u64_at(16)) == (row.extent, row.generation.0);
    let (mut low, mut high) = (0, head.u64_at(24));
    if !good || high > row.end {
        return None;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        let mut entry = [0; ENTRY_BYTES];
        let at = row.end + HEAD_BYTES as u64 + ENTRY_BYTES as u64 * middle;
        file.read_exact_at(&mut entry, at).ok()?;
        match entry.u64_at(0).cmp(&needle.0) {
            std::cmp::Ordering::Equal => return Some(entry.u64_at(8)),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}
