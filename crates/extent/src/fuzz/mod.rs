//! Targets for the fuzzer: arbitrary bytes where this room reads what stands on a disk.
//!
//! No fuzzer finds a crc, so most of them are made right first: what is tried is what stands behind a right one. Bytes with a wrong one
//! must be nothing.

mod journal;
mod needle;

pub use journal::{journal_record, journal_record_seeds};
pub use needle::{needle, needle_seeds};

use std::io;
use world::DiskFile;

/// Salt of all crcs here.
const SALT: u64 = 0x5EED;

/// A file that is read only.
struct Held(Vec<u8>);

impl DiskFile for Held {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = self.0.get(from..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
