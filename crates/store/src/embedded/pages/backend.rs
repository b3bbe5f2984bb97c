//! What redb sees of a checked file: one that it writes, or one that it only reads.

use super::Pages;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

/// What redb sees of a checked file.
#[derive(Clone)]
pub(in super::super) struct Backend(pub(in super::super) Arc<Pages>);

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backend({})", self.0.place.path)
    }
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.0.settle()
    }
    /// The data directory's own lock keeps other processes out (crate `extent`).
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, redb::BackendError> {
        Ok(true)
    }
}

/// What redb sees of a file that it only reads, as a reader beside a writer of another process. There is no other: the directory is locked.
#[derive(Clone)]
pub(in super::super) struct ReadBackend(pub(in super::super) Arc<Pages>);

/// The one lock that redb asks for which a writer would hold, where the file is whole (its `CONSISTENT_BYTE`).
const WHOLE: Bound<u64> = Bound::Included((1 << 62) + 4);

impl std::fmt::Debug for ReadBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadBackend({})", self.0.place.path)
    }
}

impl redb::StorageBackend for ReadBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, redb::BackendError> {
        Ok(true)
    }
    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), redb::BackendError> {
        Ok(())
    }
    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), redb::BackendError> {
        Ok(())
    }
    fn query_lock_range(&self, from: Bound<u64>, _: Bound<u64>) -> Result<bool, redb::BackendError> {
        Ok(from == WHOLE)
    }
}
