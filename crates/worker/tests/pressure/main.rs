//! What gc does when room gets short while it is at work, and when a writer meets a full disk.

mod roles;

use roles::{Store, TestClock, roles};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use types::SessionId;
use worker::gc::{Gc, Settings};
use world::{Clock, World};

/// gc over a store of so many extents, and its stop.
async fn gc(extents: u64, settings: Settings) -> (Arc<Store>, Gc, watch::Sender<bool>) {
    let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
    let store = Store::new(clock.clone(), extents).await;
    let (stop, stopping) = watch::channel(false);
    let world = World {
        clock,
        ..World::real()
    };
    let gc = Gc::new(world, settings, roles(&store), SessionId(2), stopping);
    (store, gc, stop)
}

fn at(log: &[String], what: &str) -> usize {
    let at = log.iter().position(|line| line == what);
    at.unwrap_or_else(|| panic!("no {what} in {log:?}"))
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_dropped_when_room_gets_short_and_bookings_go_first() {
    let (store, gc, stop) = gc(5, Settings::default()).await;
    store.state().full_at = Some(2);
    let work = async {
        store.until("decide 5").await;
        stop.send_replace(true);
    };
    tokio::join!(gc.run(), work);
    let log = store.state().log.clone();
    assert!(
        at(&log, "decide 2") < at(&log, "drop") && at(&log, "drop") < at(&log, "decide 3"),
        "{log:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_writers_gave_up_is_taken_while_a_plan_is_carried_out() {
    let (store, gc, stop) = gc(3, Settings::default()).await;
    let work = async {
        store.until("decide 3").await;
        stop.send_replace(true);
    };
    tokio::join!(gc.run(), work);
    let log = store.state().log.clone();
    let between = &log[at(&log, "decide 1")..at(&log, "decide 3")];
    assert!(between.iter().any(|line| line == "abandoned"), "{log:?}");
}

/// A page of the index that cannot be read costs what needs it: neither the others that were given up with it, nor the pass.
#[tokio::test(start_paused = true)]
async fn a_needle_of_which_nothing_can_be_read_keeps_no_other() {
    let (store, gc, stop) = gc(1, Settings::default()).await;
    {
        let mut state = store.state();
        state.unreadable = Some("bad");
        state.given_up = vec!["a", "bad", "c", "d", "e"];
    }
    let work = async {
        store.until("decide 1").await;
        stop.send_replace(true);
    };
    tokio::join!(gc.run(), work);
    let log = store.state().log.clone();
    for needle in [1, 3, 4, 5] {
        at(&log, &format!("drop needle {needle}"));
    }
    assert!(!log.iter().any(|line| line == "drop needle 2"), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_met_a_full_disk_is_heard_at_once_and_told_when_all_was_done() {
    let seldom = Settings {
        look: Duration::from_secs(3600),
        ..Settings::default()
    };
    let (store, gc, stop) = gc(0, seldom).await;
    let clock = store.clock.clone();
    let work = async {
        store.until("bookings").await;
        clock.sleep(Duration::from_secs(1)).await;
        store.state().log.clear();
        let begun = clock.mono();
        store.met_full.send_replace(3);
        store.until("Answered(3)").await;
        let waited = clock.mono() - begun;
        stop.send_replace(true);
        waited
    };
    let (_, waited) = tokio::join!(gc.run(), work);
    // By the clock of the test, which only goes where somebody waits.
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    let log = store.state().log.clone();
    assert!(at(&log, "bookings") < at(&log, "Answered(3)"), "{log:?}");
    assert_eq!(
        log.last().unwrap(),
        "Unattended",
        "nobody waits for a gc that has stopped"
    );
}
