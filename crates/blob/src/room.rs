//! Writers that met a full disk, and gc, which may be able to make room.
//!
//! ```text
//!   writer   Full ─▶ rings (number n) ── waits ─┬─ gc made some room ──────────▶ tries again, waits on
//!                                               ├─ gc has done all for 1..=n ──▶ tries once more, then Full
//!                                               └─ too long, or nobody is at it ─▶ Full
//! ```
//! So a burst on a nearly full disk waits for the moment that gc needs, and a disk that is really full refuses as soon as gc has looked.
//! Who waits holds no extent, and so keeps none from being sealed.

use std::sync::Arc;
use std::time::Duration;
use types::limits::ROOM_WAIT_MS_MAX;
use wire::gateway::Room as Told;
use world::{Clock, Watched};

#[derive(Clone, Copy, Default)]
struct State {
    /// How many writers met a full disk.
    met: u64,
    /// For how many of them gc has done what it could.
    answered: u64,
    /// How often it made room.
    made: u64,
    /// Somebody makes room.
    attended: bool,
}

/// The bell between the writers of a gateway and gc.
pub(crate) struct Room {
    clock: Arc<dyn Clock>,
    state: Watched<State>,
}

/// One writer's wait for room, over all its tries.
pub(crate) struct Waiting {
    /// Its number, once it rang, and when that was.
    rang: Option<(u64, Duration)>,
    /// How often room had been made when it tried last.
    made: u64,
    /// It has tried after all was done.
    done: bool,
}

impl Room {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Watched::new(State::default()),
        }
    }

    /// Before a writer's first try.
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting {
            rang: None,
            made: self.state.get().made,
            done: false,
        }
    }

    /// A try met a full disk: waits while there is hope; whether to try again.
    pub(crate) async fn wait(&self, waiting: &mut Waiting) -> bool {
        let (number, begun) = *waiting.rang.get_or_insert_with(|| {
            let number = self.state.modify(|state| {
                state.met += 1;
                state.met
            });
            (number, self.clock.mono())
        });
        if waiting.done {
            return false;
        }
        let made = waiting.made;
        let hope = |s: &State| s.attended && s.made <= made && s.answered < number;
        let heard = self.state.wait_for(|s| !hope(s));
        let waited = self.clock.mono().saturating_sub(begun);
        let left = Duration::from_millis(ROOM_WAIT_MS_MAX).saturating_sub(waited);
        let state = tokio::select! {
            biased;
            heard = heard => heard,
            () = self.clock.sleep(left) => State::default(),
        };
        waiting.made = state.made;
        waiting.done = state.answered >= number;
        state.attended
    }

    /// See [`wire::gateway::Gateway::room_wanted`].
    pub(crate) async fn wanted(&self, after: u64) -> u64 {
        self.state.wait_for(|state| state.met > after).await.met
    }

    /// See [`wire::gateway::Gateway::room`].
    pub(crate) fn told(&self, told: Told) {
        self.state.modify(|state| match told {
            Told::Attended => state.attended = true,
            Told::Made => state.made += 1,
            Told::Answered(upto) => state.answered = state.answered.max(upto),
            Told::Unattended => state.attended = false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use world::real::RealClock;

    fn room() -> Room {
        Room::new(Arc::new(RealClock::new()))
    }

    #[tokio::test]
    async fn nobody_waits_for_a_gc_that_is_not_there() {
        let room = room();
        let mut waiting = room.waiting();
        assert!(!room.wait(&mut waiting).await);
        assert_eq!(room.wanted(0).await, 1, "but it is told once it is");
        room.told(Told::Attended);
        room.told(Told::Unattended);
        assert!(!room.wait(&mut room.waiting()).await);
    }

    #[tokio::test]
    async fn who_waits_tries_when_room_was_made_and_once_more_when_all_was_done() {
        let room = room();
        room.told(Told::Attended);
        let mut waiting = room.waiting();
        room.told(Told::Made);
        assert!(room.wait(&mut waiting).await, "made while it tried");
        let gc = async {
            assert_eq!(room.wanted(0).await, 1, "it rings once");
            room.told(Told::Made);
        };
        assert!(tokio::join!(room.wait(&mut waiting), gc).0);
        room.told(Told::Answered(1));
        assert!(room.wait(&mut waiting).await);
        assert!(!room.wait(&mut waiting).await, "and then it is full");
        let mut later = room.waiting();
        let gc = async {
            assert_eq!(room.wanted(1).await, 2);
            room.told(Told::Answered(2));
        };
        assert!(
            tokio::join!(room.wait(&mut later), gc).0,
            "what was done before was not for it"
        );
        assert!(!room.wait(&mut later).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_has_an_end() {
        let room = room();
        room.told(Told::Attended);
        let mut waiting = room.waiting();
        assert!(!room.wait(&mut waiting).await);
    }
}
