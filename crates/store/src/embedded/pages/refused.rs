//! Pages that the device refused to give. It may take a minute to say no, and whoever reads rows waits for it on a thread that serves all others
//! too: so what it refused is refused from memory for a while, and then one reader asks it again. However long that takes, the others are told no
//! meanwhile; none of them waits with it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use types::limits::{INDEX_REFUSED_MS, INDEX_REFUSED_MS_MAX};
use world::Clock;

/// Pages remembered of a file. Past it those go first whose time is over first.
const REFUSED_MAX: usize = 16 << 10;
/// How much longer a refusal is remembered than the device took for it.
const TIMES: u32 = 4;

/// What tells the time to the files of an engine, from its start on. Before it nothing that was refused is asked for again: who only looks at
/// files is done soon.
#[derive(Clone, Default)]
pub(in super::super) struct StartClock(Arc<OnceLock<Arc<dyn Clock>>>);

impl StartClock {
    pub(in super::super) fn start(&self, clock: Arc<dyn Clock>) {
        let _is_first = self.0.set(clock);
    }

    pub(super) fn now(&self) -> Option<Duration> {
        Some(self.0.get()?.mono())
    }
}

/// What is known of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    No,
    /// It was refused, a while ago. Only one who asks is told so; for the others it goes on being refused.
    AskAgain,
    /// It is refused.
    Refused,
}

/// What became of a page.
#[derive(Clone, Copy)]
enum State {
    /// It was refused when it was last asked for, and is until then; `None`: that was before there was a clock.
    Until(Option<Duration>),
    /// One asks for it now.
    Asked,
}

/// Pages that the device did not give.
#[derive(Default)]
pub(super) struct Refused(Mutex<BTreeMap<u64, State>>);

/// One asks for a page, until this is dropped: also where it ends without an answer.
pub(super) struct Asking<'a> {
    refused: &'a Refused,
    page: u64,
    since: Option<Duration>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut pages = self.refused.pages();
        if let Some(state @ State::Asked) = pages.get_mut(&self.page) {
            *state = State::Until(self.since);
        }
    }
}

impl Refused {
    fn pages(&self) -> MutexGuard<'_, BTreeMap<u64, State>> {
        self.0.lock().expect("no panic under this lock")
    }

    pub(super) fn known(&self, page: u64, now: Option<Duration>) -> Known {
        let mut pages = self.pages();
        let Some(state) = pages.get_mut(&page) else {
            return Known::No;
        };
        match (now, *state) {
            (None, _) | (_, State::Asked) => Known::Refused,
            (Some(now), State::Until(Some(until))) if now < until => Known::Refused,
            (Some(_), State::Until(_)) => {
                *state = State::Asked;
                Known::AskAgain
            }
        }
    }

    /// Of the one who was told [`Known::AskAgain`].
    pub(super) fn asking(&self, page: u64, since: Option<Duration>) -> Asking<'_> {
        Asking {
            refused: self,
            page,
            since,
        }
    }

    /// After a first refusal of a page of which nothing is known: who asks on is the first who comes with it.
    pub(super) fn ask_on(&self, page: u64, since: Option<Duration>) -> Option<Asking<'_>> {
        let mut pages = self.pages();
        if pages.contains_key(&page) {
            return None;
        }
        put(&mut pages, page, State::Asked);
        Some(self.asking(page, since))
    }

    pub(super) fn knows_any(&self, of: Range<u64>) -> bool {
        self.pages().range(of).next().is_some()
    }

    /// The device was asked at `asked`, and says no now.
    pub(super) fn refused(&self, page: u64, (asked, now): (Option<Duration>, Option<Duration>)) {
        let [least, most] = [INDEX_REFUSED_MS, INDEX_REFUSED_MS_MAX].map(Duration::from_millis);
        let took = |now: Duration| now.saturating_sub(asked.unwrap_or(now));
        let until = now.map(|now| now + took(now).saturating_mul(TIMES).clamp(least, most));
        put(&mut self.pages(), page, State::Until(until));
    }

    /// These are given, or are others than those that were refused, or may have come back: they are asked for as any. Whether there were any.
    pub(super) fn forget(&self, given: Range<u64>) -> bool {
        let mut pages = self.pages();
        let before = pages.len();
        while let Some((page, _)) = pages.range(given.clone()).next() {
            let page = *page;
            pages.remove(&page);
        }
        pages.len() < before
    }
}

fn put(pages: &mut BTreeMap<u64, State>, page: u64, state: State) {
    if pages.len() >= REFUSED_MAX && !pages.contains_key(&page) {
        // Whoever asks must find it so when it has its answer.
        let times = pages.iter().filter_map(|(page, state)| match state {
            State::Until(until) => Some((*until, *page)),
            State::Asked => None,
        });
        if let Some((_, first)) = times.min() {
            pages.remove(&first);
        }
    }
    pages.insert(page, state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_remembered_as_long_as_it_cost() {
        let at = |ms| Some(Duration::from_millis(ms));
        let refused = Refused::default();
        refused.refused(7, (at(0), at(0)));
        assert_eq!(refused.known(7, at(INDEX_REFUSED_MS - 1)), Known::Refused);
        let asked = INDEX_REFUSED_MS;
        assert_eq!(refused.known(7, at(asked)), Known::AskAgain);
        let asks = refused.asking(7, at(asked));
        for later in [0, INDEX_REFUSED_MS, 10 * INDEX_REFUSED_MS_MAX] {
            let known = refused.known(7, at(asked + later));
            assert_eq!(known, Known::Refused, "one asks at a time");
        }
        // Without an answer the next one asks.
        drop(asks);
        assert_eq!(refused.known(7, at(asked)), Known::AskAgain);
        let (now, took) = (asked + 3000, 3000);
        refused.refused(7, (at(asked), at(now)));
        assert_eq!(refused.known(7, at(now + 4 * took - 1)), Known::Refused);
        assert_eq!(refused.known(7, at(now + 4 * took)), Known::AskAgain);
        refused.forget(7..8);
        assert_eq!(refused.known(7, at(now)), Known::No);
        // Without a clock, until there is one.
        refused.refused(8, (None, None));
        assert_eq!(refused.known(8, None), Known::Refused);
        assert_eq!(refused.known(8, at(0)), Known::AskAgain);
        // The newest stay, wherever they lie.
        let pages = (0..2 * REFUSED_MAX as u64).rev();
        for (ms, page) in pages.enumerate() {
            refused.refused(page, (at(ms as u64), at(ms as u64)));
        }
        assert!(refused.0.lock().unwrap().len() <= REFUSED_MAX);
        assert!(refused.knows_any(0..1) && !refused.knows_any(REFUSED_MAX as u64..u64::MAX));
    }
}
