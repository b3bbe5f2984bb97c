//! For how long the wall clock has gone on as the monotonic one did: what is old by the wall clock may be old only since it was set.

use std::time::Duration;

/// How much the wall clock may go ahead of the monotonic one, or behind, without having been set.
const STEP_MS_MAX: u64 = 60_000;

/// Both clocks, as they were looked at.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    /// Wall time less monotonic time, and since when (of monotonic time) that is so.
    in_step: Option<(i128, Duration)>,
}

impl Clocks {
    /// The clocks say this; whether the wall clock was set since they were looked at last.
    pub(crate) fn look(&mut self, wall_ms: u64, mono: Duration) -> bool {
        let apart_ms = i128::from(wall_ms) - i128::try_from(mono.as_millis()).unwrap_or(i128::MAX);
        match self.in_step {
            Some((was, _)) if was.abs_diff(apart_ms) <= u128::from(STEP_MS_MAX) => false,
            before => {
                self.in_step = Some((apart_ms, mono));
                before.is_some()
            }
        }
    }

    /// Since when they are in step, as far as was seen.
    pub(crate) fn in_step_since(&self) -> Option<Duration> {
        self.in_step.map(|(_, since)| since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_seen_and_one_that_drifts_is_not() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.in_step_since(), None);
        let seconds = Duration::from_secs;
        for (wall_ms, mono, set, since) in [
            (1_000_000, 5, false, 5),
            (1_010_000, 15, false, 5),
            (1_079_000, 25, false, 5),
            (1_160_000, 35, true, 35),
            (1_170_000, 45, false, 35),
            (900_000, 46, true, 46),
        ] {
            assert_eq!(clocks.look(wall_ms, seconds(mono)), set, "{wall_ms}");
            assert_eq!(clocks.in_step_since(), Some(seconds(since)));
        }
    }
}
