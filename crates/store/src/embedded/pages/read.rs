//! Reading pages for redb: each against its crc, and what cannot be had told by its page.
//!
//! A sector that the device does not give is damage as a flipped bit is: for the one who needs it, and named by its place alone, so that the
//! same place is the same sentence whatever the device says. It is asked for more than once before that, because a file is begun over
//! this one where a writer needs the page; but not again each time that a client polls it, for a device may take seconds to say no ([`super::refused`]).

use super::super::reading;
use super::refused::Known;
use super::{PAGE_BYTES, Pages, aligned, page_crc, page_place, run};
use std::io;
use world::read_on;

/// What is said of a page that the device does not give: it may be right, and no other file takes its place for that.
pub(in crate::embedded) const NOT_GIVEN: &str = "cannot be read";

impl Pages {
    /// Fills `out` from whole pages at `offset`, or from inside page 0. A page that is not as written, or that the device does not give, is
    /// `InvalidData`. Inside of [`reading::attempt`] it does not return from a failure, and notes none: it is that reader's alone.
    pub(in crate::embedded) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.uses.cached(out.len());
        match self.read_pages(offset, out) {
            Err(e) if reading::is_attempt() => reading::give_up(self.trouble_of(&e)),
            result => self.noted(result),
        }
    }

    fn read_pages(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut page = offset / PAGE_BYTES as u64;
        let mut out = out;
        if page == 0 {
            let table = self.table.read().expect("no panic under this lock");
            let from = offset as usize;
            let n = out.len().min(PAGE_BYTES - from);
            out[..n].copy_from_slice(&table.image[from..from + n]);
            out = &mut out[n..];
            page = 1;
        } else {
            aligned(offset)?;
        }
        aligned(out.len() as u64)?;
        while !out.is_empty() {
            let n = run(page, out.len());
            let (now, rest) = out.split_at_mut(n * PAGE_BYTES);
            self.read_run(page, now)?;
            let table = self.table.read().expect("no panic under this lock");
            for (number, bytes) in (page..).zip(now.chunks_exact(PAGE_BYTES)) {
                let want = table.crcs.get(number as usize).copied().unwrap_or(0);
                if want == 0 {
                    return Err(self.bad_page(number, "was never written"));
                }
                if page_crc(number, bytes) != want {
                    return Err(self.bad_page(number, "is not what was written"));
                }
            }
            page += n as u64;
            out = rest;
        }
        Ok(())
    }

    /// Pages that lie side by side: at once, or, where the device does not give them, each by itself.
    fn read_run(&self, page: u64, out: &mut [u8]) -> io::Result<()> {
        let pages = page..page + (out.len() / PAGE_BYTES) as u64;
        let is_asked = out.len() > PAGE_BYTES && !self.refused.knows_any(pages);
        if is_asked && self.file.read_exact_at(out, page_place(page)).is_ok() {
            return Ok(());
        }
        for (page, bytes) in (page..).zip(out.chunks_exact_mut(PAGE_BYTES)) {
            self.read_one(page, bytes)?;
        }
        Ok(())
    }

    fn read_one(&self, page: u64, out: &mut [u8]) -> io::Result<()> {
        let asked = self.place.clock.now();
        let known = self.refused.known(page, asked);
        // A writer goes on in another file where it cannot have the page: it hears that from the device.
        let is_reader = reading::is_attempt();
        if known == Known::Refused && is_reader {
            return Err(self.bad_page(page, NOT_GIVEN));
        }
        let mut asking = (known == Known::AskAgain).then(|| self.refused.asking(page, asked));
        let mut read = self.file.read_exact_at(out, page_place(page));
        if known == Known::No && read.as_ref().is_err_and(is_refusal) {
            // Of those who came at once one goes on asking; it may take the device as long again.
            asking = self.refused.ask_on(page, asked);
            if asking.is_none() && is_reader {
                return Err(self.bad_page(page, NOT_GIVEN));
            }
            read = read_on(&*self.file, out, page_place(page), read);
        }
        let answered = match read {
            Ok(()) => {
                if known != Known::No || asking.is_some() {
                    self.refused.forget(page..page + 1);
                }
                Ok(())
            }
            // A page that redb wrote is in the file: a shorter file has lost it.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(self.bad_page(page, "is cut off")),
            // Nothing was asked of the device.
            Err(e) if !is_refusal(&e) => Err(e),
            Err(_) => {
                self.refused.refused(page, (asked, self.place.clock.now()));
                Err(self.bad_page(page, NOT_GIVEN))
            }
        };
        drop(asking);
        answered
    }

    pub(super) fn bad_page(&self, page: u64, what: &str) -> io::Error {
        let text = format!(
            "{}: the page at byte {} {what}",
            self.place.path,
            page_place(page)
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

/// Whether it is the device that says no.
fn is_refusal(e: &io::Error) -> bool {
    e.kind() != io::ErrorKind::UnexpectedEof && !world::is_scarce(e)
}
