//! Reading through redb without ending it.
//!
//! redb answers nothing more, to anybody, once its storage has returned an error. For a writer that is right: what it had in hand is
//! half done. A reader has nothing in hand, and one bad page that a client polls would take all other rows, and the writing behind, with it.
//! So a page that a reader cannot have is not returned as an error: the call is unwound, through redb, to [`attempt`], where the reader began.
//!
//! That leaves redb as it was: it reads a missing page with no lock held and puts it into its cache only afterwards (its
//! `PagedCachedFile::read`), and what the read had in hand are reference counts. Nothing is printed, because `resume_unwind` is not
//! a panic that a hook hears. A writer's page, and one that is read while a file is opened, comes back as an error, as redb wants it.
//!
//! A real panic of redb's while it reads (a page that it cannot make sense of though its crc holds) ends here, too.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const _: () = assert!(cfg!(panic = "unwind"), "a read that fails is unwound");

thread_local! {
    /// Whether this thread reads rows, and nothing else.
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// Why a read was given up.
pub(super) enum GivenUp<T> {
    /// The storage said so, with [`give_up`].
    Told(T),
    /// redb panicked.
    Panicked,
}

/// Sets the mark, and takes it back whatever happens.
struct Mark(bool);

impl Mark {
    fn set() -> Self {
        Self(READING.replace(true))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        READING.set(self.0);
    }
}

/// Runs one call of redb that only reads.
pub(super) fn attempt<R, T: Send + 'static>(read: impl FnOnce() -> R) -> Result<R, GivenUp<T>> {
    let mark = Mark::set();
    let done = catch_unwind(AssertUnwindSafe(read));
    drop(mark);
    done.map_err(|why| {
        why.downcast::<T>()
            .map_or(GivenUp::Panicked, |told| GivenUp::Told(*told))
    })
}

/// Whether the caller stands inside [`attempt`].
pub(super) fn is_attempt() -> bool {
    READING.get()
}

/// Goes back to the [`attempt`] that the caller stands in.
pub(super) fn give_up<T: Send + 'static>(why: T) -> ! {
    assert!(is_attempt(), "only a reader is unwound");
    resume_unwind(Box::new(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_told_and_the_mark_is_taken_back() {
        assert!(!is_attempt());
        assert!(matches!(attempt::<_, String>(|| 5), Ok(5)));
        let given_up = attempt::<(), String>(|| give_up("why".to_owned()));
        assert!(matches!(given_up, Err(GivenUp::Told(why)) if why == "why"));
        let nested = attempt::<_, String>(|| {
            attempt::<(), String>(|| give_up("why".to_owned())).is_err() && is_attempt()
        });
        assert!(matches!(nested, Ok(true)));
        assert!(!is_attempt());
    }
}
