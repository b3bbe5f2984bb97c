//! A share of time: whoever works rests after each piece, in proportion to how long the piece took, so that the work takes no more of
//! the machine than its share and slows down by itself where the disks are busy with something else.

use std::time::Duration;

/// Longest rest after one piece: a piece that waited for something else was not work.
const REST_MS_MAX: u64 = 30_000;

/// How long to rest after a piece of work that took `worked`, at `share_percent` of time. All of it: not at all.
pub(crate) fn rest(worked: Duration, share_percent: u32) -> Duration {
    let share = share_percent.clamp(1, 100);
    let rest = worked.saturating_mul(100 - share) / share;
    rest.min(Duration::from_millis(REST_MS_MAX))
}

/// Whether a long piece of work goes on, by a count that only grows while it does.
pub(crate) struct Progress {
    count: u64,
    /// When (of monotonic time) it was seen to grow last.
    grown: Duration,
}

impl Progress {
    /// Of work begun `now`.
    pub(crate) fn since(now: Duration) -> Self {
        Self { count: 0, grown: now }
    }

    /// For how long it has stood still.
    pub(crate) fn stands(&mut self, count: u64, now: Duration) -> Duration {
        if count > self.count {
            (self.count, self.grown) = (count, now);
        }
        now.saturating_sub(self.grown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_time_rests_three_times_as_long_and_all_of_it_never() {
        let second = Duration::from_secs(1);
        assert_eq!(rest(second, 25), 3 * second);
        assert_eq!(rest(second, 50), second);
        assert_eq!(rest(second, 100), Duration::ZERO);
        assert_eq!(rest(1000 * second, 25), 30 * second);
        assert_eq!(rest(second, 0), 30 * second, "there is no share of nothing");
    }

    #[test]
    fn slow_work_goes_on_and_dead_work_stands() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let mut progress = Progress::since(minutes(3));
        assert_eq!(progress.stands(0, minutes(5)), minutes(2));
        for n in 1..100 {
            assert_eq!(progress.stands(n, minutes(5 * n)), Duration::ZERO);
            assert_eq!(progress.stands(n, minutes(5 * n + 4)), minutes(4));
        }
    }
}
