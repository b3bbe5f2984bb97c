//! Pages that the device refused to give. It may take a minute to say no, and whoever reads rows waits for it on a thread that serves all others
//! too: so what it refused is refused from memory for a while, and then one reader asks it again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use types::limits::{INDEX_REFUSED_MS, INDEX_REFUSED_MS_MAX};
use world::Clock;

/// Pages remembered of a file.
const REFUSED_MAX: usize = 256;
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

/// Pages that were refused when they were last asked for, and until when they are; `None`: before there was a clock.
#[derive(Default)]
pub(super) struct Refused(Mutex<BTreeMap<u64, Option<Duration>>>);

impl Refused {
    pub(super) fn known(&self, page: u64, now: Option<Duration>) -> Known {
        let mut pages = self.0.lock().expect("no panic under this lock");
        let Some(until) = pages.get_mut(&page) else {
            return Known::No;
        };
        match (now, *until) {
            (None, _) => Known::Refused,
            (Some(now), Some(until)) if now < until => Known::Refused,
            (Some(now), _) => {
                *until = Some(now + Duration::from_millis(INDEX_REFUSED_MS));
                Known::AskAgain
            }
        }
    }

    pub(super) fn knows_any(&self, pages: Range<u64>) -> bool {
        let known = self.0.lock().expect("no panic under this lock");
        known.range(pages).next().is_some()
    }

    /// The device was asked at `asked`, and says no now.
    pub(super) fn refused(&self, page: u64, (asked, now): (Option<Duration>, Option<Duration>)) {
        let [least, most] = [INDEX_REFUSED_MS, INDEX_REFUSED_MS_MAX].map(Duration::from_millis);
        let took = |now: Duration| now.saturating_sub(asked.unwrap_or(now));
        let until = now.map(|now| now + took(now).saturating_mul(TIMES).clamp(least, most));
        let mut pages = self.0.lock().expect("no panic under this lock");
        if pages.len() >= REFUSED_MAX && !pages.contains_key(&page) {
            pages.pop_first();
        }
        pages.insert(page, until);
    }

    pub(super) fn given(&self, page: u64) {
        self.0.lock().expect("no panic under this lock").remove(&page);
    }
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
        assert_eq!(refused.known(7, at(asked)), Known::Refused, "one asks at a time");
        let (now, took) = (asked + 3000, 3000);
        refused.refused(7, (at(asked), at(now)));
        assert_eq!(refused.known(7, at(now + 4 * took - 1)), Known::Refused);
        assert_eq!(refused.known(7, at(now + 4 * took)), Known::AskAgain);
        refused.given(7);
        assert_eq!(refused.known(7, at(now)), Known::No);
        // Without a clock, until there is one.
        refused.refused(8, (None, None));
        assert_eq!(refused.known(8, None), Known::Refused);
        assert_eq!(refused.known(8, at(0)), Known::AskAgain);
        for page in 0..2 * REFUSED_MAX as u64 {
            refused.refused(page, (at(0), at(0)));
        }
        assert!(refused.0.lock().unwrap().len() <= REFUSED_MAX);
        assert!(refused.knows_any(0..u64::MAX) && !refused.knows_any(0..1));
    }
}
