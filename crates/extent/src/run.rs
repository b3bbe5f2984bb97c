//! The bytes of one large needle on their way to its file.
//!
//! ```text
//!   … the needle before │ header │ bytes                                              │ crcs │
//!   page          │ page          │ page          │ page          │ page          │ page
//!                 through the page cache   └──── past it ────┘      through it again
//! ```
//! Needles stand where the one before ended, pages where they stand: the whole pages of a needle's bytes go past the page cache, copied once into
//! a buffer that a disk may take them from; what is left at both ends goes through it, in pages that no direct write touches.

use crate::buffers::Buffers;
use std::io;
use types::limits::DIRECT_BYTES;
use world::{Aligned, DiskFile};

const PAGE: usize = DIRECT_BYTES;

/// Bytes that follow each other in a file.
pub(crate) struct Run {
    /// Where the first one goes that is not written yet: in `held`, or still to come.
    at: u64,
    /// The beginning of a page that the next bytes go on with.
    held: Vec<u8>,
    is_direct: bool,
}

impl Run {
    /// From `at` on, past the page cache or through it.
    pub(crate) fn new(at: u64, is_direct: bool) -> Self {
        Self {
            at,
            held: Vec::new(),
            is_direct,
        }
    }

    /// Writes the next bytes, the last page's perhaps with those that follow. After one that failed there is no next: where
    /// it would go is not known.
    pub(crate) fn write(
        &mut self,
        file: &dyn DiskFile,
        bytes: &[u8],
        buffers: &Buffers<Aligned>,
    ) -> io::Result<()> {
        if !self.is_direct {
            return self.through(file, bytes);
        }
        let into_page = (self.at % PAGE as u64) as usize;
        let to_page = if into_page == 0 {
            0
        } else {
            (PAGE - into_page).min(bytes.len())
        };
        let (edge, bytes) = bytes.split_at(to_page);
        self.through(file, edge)?;
        let whole = (self.held.len() + bytes.len()) / PAGE * PAGE;
        if whole == 0 {
            self.held.extend_from_slice(bytes);
            return Ok(());
        }
        let (pages, rest) = bytes.split_at(whole - self.held.len());
        let mut buffer = buffers.take();
        buffer.hold([&self.held, pages]);
        let written = file.write_pages_at(&buffer, self.at);
        buffers.give_back(buffer);
        written?;
        self.at += whole as u64;
        self.held.clear();
        self.held.extend_from_slice(rest);
        Ok(())
    }

    /// Writes what is held, and the last bytes of all.
    pub(crate) fn end(&mut self, file: &dyn DiskFile, last: &[u8]) -> io::Result<()> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(last);
        self.through(file, &all)
    }

    fn through(&mut self, file: &dyn DiskFile, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    /// A file that holds what is written, and which pages were written in which way.
    #[derive(Default)]
    struct Pages(Mutex<Written>);

    #[derive(Default)]
    struct Written {
        bytes: Vec<u8>,
        direct: BTreeSet<u64>,
        through: BTreeSet<u64>,
    }

    impl Written {
        fn put(&mut self, bytes: &[u8], at: u64) -> impl Iterator<Item = u64> + use<> {
            let (at, end) = (at as usize, at as usize + bytes.len());
            self.bytes.resize(self.bytes.len().max(end), 0);
            self.bytes[at..end].copy_from_slice(bytes);
            (at / PAGE) as u64..end.div_ceil(PAGE) as u64
        }
    }

    impl DiskFile for Pages {
        fn read_exact_at(&self, _buf: &mut [u8], _offset: u64) -> io::Result<()> {
            unreachable!("a run only writes")
        }
        fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
            let mut written = self.0.lock().unwrap();
            let pages = written.put(buf, offset);
            written.through.extend(pages.filter(|_| !buf.is_empty()));
            Ok(())
        }
        fn write_pages_at(&self, pages: &Aligned, offset: u64) -> io::Result<()> {
            assert!(offset.is_multiple_of(PAGE as u64) && !pages.bytes().is_empty());
            let mut written = self.0.lock().unwrap();
            let pages = written.put(pages.bytes(), offset);
            written.direct.extend(pages);
            Ok(())
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.lock().unwrap().bytes.len() as u64)
        }
        fn set_len(&self, _len: u64) -> io::Result<()> {
            Ok(())
        }
        fn allocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_bytes_are_written_where_they_belong_and_no_page_in_both_ways() {
        for at in [0, 8, 4088, 4096, 5000] {
            for frames in [
                &[3 * PAGE][..],
                &[PAGE - 8, 1, 2 * PAGE, 7],
                &[10, 10, 10],
                &[16 * PAGE, 16 * PAGE, 8],
                &[],
            ] {
                for is_direct in [true, false] {
                    let (file, buffers) = (Pages::default(), Buffers::new(1));
                    let mut run = Run::new(at, is_direct);
                    let mut all = vec![0; at as usize];
                    for (n, frame) in frames.iter().enumerate() {
                        let bytes: Vec<u8> = (0..*frame).map(|i| (i * 7 + n) as u8).collect();
                        run.write(&file, &bytes, &buffers).unwrap();
                        all.extend_from_slice(&bytes);
                    }
                    run.end(&file, b"crcs").unwrap();
                    all.extend_from_slice(b"crcs");
                    let written = file.0.into_inner().unwrap();
                    assert_eq!(written.bytes, all, "from {at}: {frames:?}");
                    assert!(written.direct.is_disjoint(&written.through));
                    let whole = (all.len() - 4) / PAGE > (at as usize).div_ceil(PAGE);
                    assert_eq!(!written.direct.is_empty(), is_direct && whole);
                    assert_eq!(buffers.count(), usize::from(!written.direct.is_empty()));
                }
            }
        }
    }
}
