//! Bugs planted on purpose, all that there are: the simulation must catch each within so many seeds. Without the bug the
//! seed that caught it is clean.

use sim::run::run;
use world::plant::{Plant, plant_thread};

/// Runs seeds from 0 with `plant` until one fails.
fn caught_within(plant: Plant, seeds: u64) {
    plant_thread(Some(plant));
    let found = (0..seeds).find_map(|seed| run(seed, false).failure.map(|failure| (seed, failure)));
    plant_thread(None);
    let (seed, failure) = found.unwrap_or_else(|| panic!("{} is not caught in {seeds} seeds", plant.name()));
    assert_eq!(
        run(seed, false).failure,
        None,
        "seed {seed} is clean without it, and says with it: {failure}"
    );
}

#[test]
fn a_skipped_sync_is_caught() {
    caught_within(Plant::SkipSync, 40);
}

// I1
#[test]
fn a_large_needle_named_before_its_bytes_are_synced_is_caught() {
    caught_within(Plant::SkipExtentSync, 100);
}

#[test]
fn an_answer_before_the_index_is_caught() {
    caught_within(Plant::AckBeforeIndex, 40);
}

#[test]
fn a_replayed_lap_is_caught() {
    caught_within(Plant::ReplayPreviousLap, 400);
}

#[test]
fn a_forgotten_answer_is_caught() {
    caught_within(Plant::ForgetDone, 40);
}

#[test]
fn a_cut_at_corruption_is_caught() {
    caught_within(Plant::CutAtCorruption, 400);
}

// I3
#[test]
fn a_needle_dropped_under_its_reader_is_caught() {
    caught_within(Plant::DropUnderReader, 100);
}

// I3
#[test]
fn an_orphan_dropped_without_a_promise_is_caught() {
    caught_within(Plant::CondemnWithoutCommit, 100);
}

// I3
#[test]
fn reclaim_that_goes_on_while_it_is_held_is_caught() {
    caught_within(Plant::ReclaimWhileHeld, 100);
}

// I3: an older index is laid, and then a newer one, which is to find all that it names.
#[test]
fn reclaim_that_goes_on_after_a_restore_is_caught() {
    caught_within(Plant::ReclaimAfterRestore, 400);
}

// I5
#[test]
fn new_checksums_for_bad_bytes_are_caught() {
    caught_within(Plant::CompactOverBad, 400);
}

// I1
#[test]
fn a_journal_let_go_too_early_is_caught() {
    caught_within(Plant::RecycleEarly, 100);
}

// I1
#[test]
fn pages_that_are_not_synced_are_caught() {
    caught_within(Plant::SkipPageSync, 100);
}

#[test]
fn a_second_deleter_is_caught() {
    caught_within(Plant::SecondDeleter, 400);
}

// I9
#[test]
fn an_extent_that_is_never_given_back_is_caught() {
    caught_within(Plant::KeepSlot, 100);
}

// I2
#[test]
fn a_copy_of_the_index_of_two_moments_is_caught() {
    caught_within(Plant::SnapshotByPartition, 400);
}

// I9
#[test]
fn memory_that_is_never_given_back_is_caught() {
    caught_within(Plant::KeepMemory, 100);
}

// I5
#[test]
fn a_scrub_that_leaves_out_extents_is_caught() {
    caught_within(Plant::ScrubSkips, 400);
}

// I5
#[test]
fn a_scrub_that_takes_bad_bytes_for_good_is_caught() {
    caught_within(Plant::ScrubOverBad, 400);
}

// I5
#[test]
fn a_scrub_that_says_nothing_is_caught() {
    caught_within(Plant::ScrubSilent, 400);
}
