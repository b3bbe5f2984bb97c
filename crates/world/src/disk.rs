//! One directory tree on one disk. Blocking: called from a disk's own executor, or where the page cache answers.
//!
//! Promises: what `sync_data` (for bytes and length) and `sync_dir` (for names) have answered survives a power cut;
//! anything else may survive, whole, torn or not at all. A failed sync says nothing about what survived, and is never retried.

use crate::Aligned;
use std::io;
use std::sync::Arc;

/// A directory tree. Paths are relative, `/`-separated, without `..`.
pub trait Disk: Send + Sync {
    /// Makes a new file; `AlreadyExists` if it is there.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading and writing; `NotFound` if it is not there.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Whether a file or directory is there.
    fn exists(&self, path: &str) -> io::Result<bool>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Renames a file over another, at once or not at all.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Names in a directory, sorted.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes a directory and those above it; done already is fine.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes the names in a directory durable. `""` is the root.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Room on the file system.
    fn space(&self) -> io::Result<Space>;
    /// Takes the lock file `path`, or `WouldBlock` when another process has it. Held until dropped.
    fn lock(&self, path: &str) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file. Safe to share: every call names its offset.
pub trait DiskFile: Send + Sync {
    /// Fills `buf` from `offset`; `UnexpectedEof` where the file is shorter.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Fills `buf` from `offset` where that takes no waiting for the disk. Short of [`Cached::Had`] nothing is said of what is in `buf`.
    fn read_cached_at(&self, _buf: &mut [u8], _offset: u64) -> io::Result<Cached> {
        Ok(Cached::Untold)
    }
    /// Writes all of `buf` at `offset`, growing the file where needed.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// As [`DiskFile::write_all_at`] for whole pages of the file, past the page cache where the file system does that: a large body that is not
    /// read at once costs less so. Nothing is durable before [`DiskFile::sync_data`], here either.
    fn write_pages_at(&self, pages: &Aligned, offset: u64) -> io::Result<()> {
        self.write_all_at(pages.bytes(), offset)
    }
    /// Says that [`DiskFile::write_pages_at`] is not called soon: what is kept open for it may go.
    fn end_pages(&self) {}
    /// Makes every byte written before this call, and the length, durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or grows (with zeroes).
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves room for `offset..offset+len`, growing the file with zeroes; `StorageFull` when there is none.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
}

/// What came of a read that is not to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// The bytes are here.
    Had,
    /// The disk would have to be waited for.
    Cold,
    /// There is no such read of this file.
    Untold,
}

/// Whether an operation failed because the process or the system has no descriptor or no memory to give just now: nothing
/// happened, it says nothing about the disk, and it may go well later.
pub fn is_scarce(e: &io::Error) -> bool {
    use rustix::io::Errno;
    let scarce = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(e).is_some_and(|errno| scarce.contains(&errno))
}

/// Tries of one read before it counts as failed.
const READ_TRIES: usize = 3;

/// Fills `buf` from `at`, where it fails once more and again. For reads by which something is decided that a later one does not take back: a
/// device's one failure is no damage.
///
/// # Errors
/// The last try's.
pub fn read_patiently(file: &dyn DiskFile, buf: &mut [u8], at: u64) -> io::Result<()> {
    let first = file.read_exact_at(buf, at);
    read_on(file, buf, at, first)
}

/// [`read_patiently`] from behind its first try on.
///
/// # Errors
/// The last try's.
pub fn read_on(file: &dyn DiskFile, buf: &mut [u8], at: u64, first: io::Result<()>) -> io::Result<()> {
    let mut last = first;
    for _ in 1..READ_TRIES {
        match &last {
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => last = file.read_exact_at(buf, at),
            _ => break,
        }
    }
    last
}

/// A held lock.
pub trait DiskLock: Send + Sync {}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All that an ordinary user could have of it: what is kept for root alone is no room.
    pub total: u64,
    /// What such a user may still write.
    pub free: u64,
}
