//! Extents (or bookings) with which a step failed: let be for a while, longer each time, so that one that fails for ever costs a calm store nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{ErrorKind, ExtentId};

/// How long after the first failure, and at most. What has no room or meets another waits from one look to `CROWDED_MAX`.
const FIRST: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(3600);
const CROWDED_MAX: Duration = FIRST;

/// A step with an extent that failed.
struct Failed {
    /// When (of monotonic time) it is tried again.
    until: Duration,
    why: ErrorKind,
    times: u32,
}

/// What fails, by what it failed with.
pub(crate) struct Resting<K = ExtentId>(BTreeMap<K, Failed>);

impl<K> Default for Resting<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Resting<K> {
    /// A step with an extent failed; how often it has in a row, this time too. `look` is how often the disks are looked at.
    pub(crate) fn failed(&mut self, extent: K, why: ErrorKind, now: Duration, look: Duration) -> u32 {
        let failed = self.0.entry(extent).or_insert(Failed {
            until: now,
            why,
            times: 0,
        });
        let doubled = |first: Duration, max| (first * (1 << failed.times.min(16))).min(max);
        let rest = match why {
            // What it keeps is damaged: trying costs a whole read of it.
            ErrorKind::Corrupt => MAX,
            ErrorKind::Full | ErrorKind::Busy => doubled(look, CROWDED_MAX.max(look)),
            _ => doubled(FIRST, MAX),
        };
        (failed.until, failed.why) = (now + rest, why);
        failed.times += 1;
        failed.times
    }

    /// A step with it succeeded.
    pub(crate) fn done(&mut self, extent: K) {
        self.0.remove(&extent);
    }

    /// What found no room may find it now.
    pub(crate) fn room_made(&mut self) {
        self.0.retain(|_, failed| failed.why != ErrorKind::Full);
    }

    /// Only these extents are there.
    pub(crate) fn keep(&mut self, there: &BTreeSet<K>) {
        self.0.retain(|extent, _| there.contains(extent));
    }

    /// Only those that are let be still.
    pub(crate) fn forget_rested(&mut self, now: Duration) {
        self.0.retain(|_, failed| failed.until > now);
    }

    /// Those that are let be now.
    pub(crate) fn now(&self, now: Duration) -> impl Iterator<Item = K> {
        self.0.iter().filter(move |(_, f)| f.until > now).map(|(e, _)| *e)
    }

    /// How many fail.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// When the next of them is to be tried.
    pub(crate) fn next(&self, now: Duration) -> Option<Duration> {
        self.0
            .values()
            .map(|f| f.until)
            .filter(|until| *until > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_secs(1);

    #[test]
    fn what_fails_for_ever_is_tried_ever_more_seldom() {
        let mut resting = Resting::default();
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for times in 1..=12 {
            assert_eq!(resting.failed(ExtentId(1), ErrorKind::Conflict, now, LOOK), times);
            let next = resting.next(now).unwrap();
            waits.push((next - now).as_secs());
            assert_eq!(resting.now(now).count(), 1);
            now = next;
            assert_eq!((resting.now(now).count(), resting.next(now)), (0, None));
        }
        assert_eq!(waits[..4], [10, 20, 40, 80]);
        assert_eq!(waits[11], 3600);
        resting.done(ExtentId(1));
        assert_eq!(resting.failed(ExtentId(1), ErrorKind::Conflict, now, LOOK), 1);
    }

    #[test]
    fn want_of_room_is_short_and_damage_long() {
        let mut resting = Resting::default();
        let rest = |resting: &mut Resting, why| {
            resting.failed(ExtentId(1), why, Duration::ZERO, LOOK);
            resting.next(Duration::ZERO).unwrap().as_secs()
        };
        assert_eq!(rest(&mut resting, ErrorKind::Full), 1);
        resting.room_made();
        assert_eq!(resting.next(Duration::ZERO), None);
        for _ in 0..9 {
            rest(&mut resting, ErrorKind::Full);
        }
        assert_eq!(rest(&mut resting, ErrorKind::Full), 10);
        assert_eq!(rest(&mut resting, ErrorKind::Corrupt), 3600);
        resting.keep(&BTreeSet::new());
        assert_eq!(resting.next(Duration::ZERO), None);
    }
}
