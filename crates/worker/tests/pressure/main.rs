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

/// Runs gc until something was written down, and some more passes.
async fn passes(store: &Arc<Store>, gc: Gc, stop: &watch::Sender<bool>, until: &str) -> Vec<String> {
    let work = async {
        store.until(until).await;
        store.clock.sleep(Duration::from_secs(20 * 3600)).await;
        stop.send_replace(true);
    };
    tokio::join!(gc.run(), work);
    store.state().log.clone()
}

/// An extent whose dropped list cannot be read keeps the bookings that have a needle in it: those wholly, and no other.
#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_read_keeps_what_needs_it() {
    let (store, gc, stop) = gc(0, Settings::default()).await;
    {
        let mut state = store.state();
        state.bad_list = Some(2);
        state.bookings = vec![
            (11, vec![1]),
            (12, vec![1, 2]),
            (13, vec![3]),
            (14, vec![2]),
            (15, vec![1]),
        ];
    }
    let log = passes(&store, gc, &stop, "forget 15").await;
    for serial in [11, 13, 15] {
        at(&log, &format!("forget {serial}"));
    }
    assert_eq!(store.state().bookings.len(), 2);
    // Before it is known which list it is, others may have been told; from then on they are told no more.
    let handed = log.iter().filter(|line| *line == "drop needle 12").count();
    assert!(handed <= 1 + 20, "{handed} times, once an hour: {log:?}");
    let passes = log.iter().filter(|line| *line == "bookings").count();
    assert!(passes < 30, "{passes} passes in a day");
}

/// A booking whose rows cannot be forgotten keeps no other, and is not handed over in each pass.
#[tokio::test(start_paused = true)]
async fn a_booking_that_cannot_be_forgotten_keeps_no_other() {
    let (store, gc, stop) = gc(0, Settings::default()).await;
    {
        let mut state = store.state();
        state.bad_row = Some(12);
        state.bookings = vec![(11, vec![1]), (12, vec![1]), (13, vec![3])];
    }
    let log = passes(&store, gc, &stop, "forget 13").await;
    at(&log, "forget 11");
    assert_eq!(store.state().bookings.len(), 1);
    let handed = log.iter().filter(|line| *line == "drop needle 12").count();
    assert!((1..=21).contains(&handed), "{handed} times in a day");
}

/// Who comes back to its upload while others are aborted keeps it; one whose rows cannot be read keeps no other.
#[tokio::test(start_paused = true)]
async fn an_upload_is_looked_at_when_it_is_to_be_aborted() {
    let settings = Settings {
        uploads_abandoned: Some(Duration::from_secs(7 * 24 * 3600)),
        uploads_watched: Duration::from_secs(20),
        pass_max: Duration::from_secs(10),
        ..Settings::default()
    };
    let (store, gc, stop) = gc(0, settings).await;
    {
        let mut state = store.state();
        state.idle = vec![1, 2, 3, 4];
        state.comes_back = Some(3);
        state.bad_row = Some(2);
    }
    let log = passes(&store, gc, &stop, "abort 4").await;
    at(&log, "abort 1");
    assert!(!log.iter().any(|line| line == "abort 3"), "{log:?}");
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
