//! Reading every page of the index files from the disk: those in redb's cache, those that no row needs just now, the copies of heads and
//! crc pages that only an opening reads.
//!
//! It goes beside readers and the one writer. A page that is being written is not what its crc says for a moment, so one that is not right is
//! looked at again while nothing is written ([`Pages::reread`]).

use super::core::Core;
use super::pages::Pages;
use crate::{Reread, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use types::{PartitionId, Rot};

/// Pages read at once: 256 KiB.
const PAGES_AT_ONCE: usize = 64;

/// Where it goes on: a page of a file of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct At {
    partition: PartitionId,
    file: u16,
    page: u64,
}

impl At {
    fn encode(self) -> Bytes {
        let (partition, file, page) = (
            self.partition.0.to_be_bytes(),
            self.file.to_be_bytes(),
            self.page.to_be_bytes(),
        );
        [&partition[..], &file[..], &page[..]].concat().into()
    }

    /// A cursor that is none begins at the start.
    fn decode(cursor: &[u8]) -> Option<Self> {
        let (partition, rest) = cursor.split_first_chunk::<8>()?;
        let (file, rest) = rest.split_first_chunk::<2>()?;
        Some(Self {
            partition: PartitionId(u64::from_be_bytes(*partition)),
            file: u16::from_be_bytes(*file),
            page: u64::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

/// Every open index file, in the order of its place.
fn files(core: &Core) -> Vec<(PartitionId, u16, Arc<Pages>)> {
    let mut files = Vec::new();
    for partition in core.all() {
        // One that is not served was told when it was opened.
        let Ok((view, _)) = partition.durable() else {
            continue;
        };
        let open = view.form.as_ref().map_or(Vec::new(), |form| form.files());
        files.extend(
            open.into_iter()
                .map(|pages| (partition.id, pages.number(), pages)),
        );
    }
    files.sort_by_key(|(partition, number, _)| (*partition, *number));
    files
}

/// Reads the next piece.
pub(super) fn piece(core: &Core, cursor: &[u8]) -> Result<Reread, StoreError> {
    let files = files(core);
    let mut read = Reread {
        of_bytes: files.iter().map(|(_, _, pages)| pages.len()).sum(),
        ..Reread::default()
    };
    let from = At::decode(cursor);
    if from.is_none() {
        let damage = core.catalogue.verify()?;
        read.damage = damage.into_iter().map(|what| (Rot::Catalogue, what)).collect();
    }
    let place = from.map_or((PartitionId(0), 0), |at| (at.partition, at.file));
    let mut left = files.iter().filter(|(id, number, _)| (*id, *number) >= place);
    let Some((partition, file, pages)) = left.next() else {
        return Ok(read);
    };
    let begins = from.filter(|at| (at.partition, at.file) == (*partition, *file));
    let (bytes, damage, next) = pages.reread(begins.map_or(0, |at| at.page), PAGES_AT_ONCE)?;
    read.bytes = bytes;
    read.damage
        .extend(damage.into_iter().map(|what| (Rot::IndexPage, what)));
    read.next = match (next, left.next()) {
        (Some(page), _) => At {
            partition: *partition,
            file: *file,
            page,
        }
        .encode(),
        (None, Some((partition, file, _))) => At {
            partition: *partition,
            file: *file,
            page: 0,
        }
        .encode(),
        (None, None) => Bytes::new(),
    };
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_and_garbage_is_none() {
        let at = At {
            partition: PartitionId(16),
            file: 1,
            page: 77,
        };
        assert_eq!(At::decode(&at.encode()), Some(at));
        assert_eq!(At::decode(&at.encode()[..17]), None);
        assert_eq!(At::decode(&[]), None);
    }
}
