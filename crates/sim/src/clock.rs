//! Simulated time: monotonic time is tokio's paused time, wall time follows it and may jump.
#![allow(
    clippy::disallowed_methods,
    reason = "tokio's paused time is the simulated clock"
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// Clocks of one simulated machine. They go on across [`SimClock::boot`], each time in a new paused runtime; outside of
/// any runtime they stand still.
pub struct SimClock(Mutex<State>);

struct State {
    /// Monotonic time at `booted`.
    before: Duration,
    booted: Option<Instant>,
    /// Wall time when the monotonic time was zero, in milliseconds.
    wall_start_ms: i64,
}

impl SimClock {
    /// Clocks that stand at `wall_ms` and zero.
    pub fn new(wall_ms: u64) -> Self {
        Self(Mutex::new(State {
            before: Duration::ZERO,
            booted: None,
            wall_start_ms: wall_ms as i64,
        }))
    }

    /// Goes on in the runtime that this is called in.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn boot(&self) {
        let mut state = self.state();
        assert!(Handle::try_current().is_ok(), "simulated time runs in a runtime");
        state.booted = Some(Instant::now());
    }

    /// Keeps the time at which the machine stops; call it in the runtime that ends.
    pub fn halt(&self) {
        let mono = self.now(&self.state());
        let mut state = self.state();
        state.before = mono;
        state.booted = None;
    }

    /// Moves the wall clock, either way.
    pub fn jump_ms(&self, by: i64) {
        let mut state = self.state();
        state.wall_start_ms = state.wall_start_ms.saturating_add(by);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no panic under this lock")
    }

    fn now(&self, state: &State) -> Duration {
        match state.booted {
            Some(booted) if Handle::try_current().is_ok() => state.before + booted.elapsed(),
            _ => state.before,
        }
    }
}

impl world::Clock for SimClock {
    fn wall_ms(&self) -> u64 {
        let state = self.state();
        let mono_ms = self.now(&state).as_millis() as i64;
        state.wall_start_ms.saturating_add(mono_ms).max(0) as u64
    }

    fn mono(&self) -> Duration {
        self.now(&self.state())
    }

    fn sleep(&self, d: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(d))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use world::Clock as _;

    fn run<T>(f: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(f)
    }

    #[test]
    fn time_goes_on_over_restarts_and_the_wall_jumps() {
        let clock = SimClock::new(1_000_000);
        for boot in 1..=3 {
            run(async {
                clock.boot();
                clock.sleep(Duration::from_secs(5)).await;
                assert_eq!(clock.mono().as_secs(), 5 * boot);
                clock.halt();
            });
        }
        assert_eq!(clock.wall_ms(), 1_015_000);
        clock.jump_ms(-1_010_000);
        assert_eq!(clock.wall_ms(), 5_000);
        clock.jump_ms(-1_000_000);
        assert_eq!(clock.wall_ms(), 0);
        assert_eq!(clock.mono().as_secs(), 15);
    }
}
