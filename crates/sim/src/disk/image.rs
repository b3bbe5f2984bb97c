//! A file's bytes in memory, sparse: pages never written read as zero.

/// What a drive writes at once or not at all.
pub const SECTOR_BYTES: u64 = 512;
/// What is kept, and counted against the capacity, together.
pub(super) const PAGE_BYTES: u64 = 4096;

pub(super) type Sector = [u8; SECTOR_BYTES as usize];

/// Sparse bytes.
#[derive(Default)]
pub(super) struct Image {
    pages: Vec<Option<Box<[u8; PAGE_BYTES as usize]>>>,
}

impl Image {
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) {
        each_page(offset, buf.len(), |page, inside, at| {
            let out = &mut buf[at.clone()];
            match self.pages.get(page).and_then(Option::as_ref) {
                Some(p) => out.copy_from_slice(&p[inside..inside + at.len()]),
                None => out.fill(0),
            }
        });
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        each_page(offset, buf.len(), |page, inside, at| {
            if self.pages.len() <= page {
                self.pages.resize_with(page + 1, || None);
            }
            let p = self.pages[page].get_or_insert_with(|| Box::new([0; PAGE_BYTES as usize]));
            p[inside..inside + at.len()].copy_from_slice(&buf[at]);
        });
    }

    pub(super) fn sector(&self, number: u64) -> Sector {
        let mut sector = [0; SECTOR_BYTES as usize];
        self.read(&mut sector, number * SECTOR_BYTES);
        sector
    }

    /// Zeroes everything from `len` on.
    pub(super) fn cut(&mut self, len: u64) {
        self.pages.truncate(len.div_ceil(PAGE_BYTES) as usize);
        if let Some(Some(page)) = self.pages.get_mut((len / PAGE_BYTES) as usize) {
            page[(len % PAGE_BYTES) as usize..].fill(0);
        }
    }

    /// Numbers of the pages that were ever written.
    pub(super) fn written(&self) -> impl Iterator<Item = u64> {
        (0..)
            .zip(&self.pages)
            .filter_map(|(n, p)| p.is_some().then_some(n))
    }

    /// Turns one bit over.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        if let Some(Some(page)) = self.pages.get_mut((offset / PAGE_BYTES) as usize) {
            page[(offset % PAGE_BYTES) as usize] ^= 1 << bit;
        }
    }
}

/// Calls `f(page, offset inside it, range of the buffer)` for each page that `offset..offset + len` touches.
fn each_page(offset: u64, len: usize, mut f: impl FnMut(usize, usize, std::ops::Range<usize>)) {
    let mut at = 0;
    while at < len {
        let inside = ((offset + at as u64) % PAGE_BYTES) as usize;
        let n = (PAGE_BYTES as usize - inside).min(len - at);
        f(((offset + at as u64) / PAGE_BYTES) as usize, inside, at..at + n);
        at += n;
    }
}
