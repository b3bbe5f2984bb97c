//! What must have happened over many seeds: a simulation that never does something proves nothing about it.

use crate::disk::Counts;

/// Seeds from which on everything must have happened.
const SEEDS_MIN: u64 = 500;

/// Kinds of faults, outcomes and changes of state that must not be zero.
pub const MUST_HAPPEN: &[&str] = &[
    // Faults.
    "disk.read_error",
    "disk.write_error",
    "disk.sync_error",
    "disk.lying_sync",
    "disk.power_off",
    "disk.full",
    "disk.flip",
    "crash.sectors_lost",
    "crash.sectors_kept",
    "crash.files_torn",
    "crash.names_lost",
    "crash.broke_a_promise",
    "fault.call_lost",
    "fault.answer_lost",
    "fault.commit_unknown_done",
    "fault.commit_unknown_not_done",
    "fault.client_gave_up",
    "fault.clock_jump",
    "fault.little_room",
    // Lives.
    "life.cut",
    "life.cut_at_rest",
    "life.cut_in_recovery",
    "life.killed",
    "life.stopped",
    "life.opened",
    "recovery.created",
    "recovery.torn_tail",
    "recovery.needles_replayed",
    "recovery.lost_records",
    "recovery.damage",
    "crash.looks_torn",
    "run.refused_after_damage",
    "retry.answered_from_done",
    "get.unreadable",
    // Changes of state.
    "checkpoint.extents",
    "checkpoint.index",
    "index.rested",
    "journal.lapped",
    "extent.granted",
    "extent.granted_again",
    "extent.rolled",
    "extent.sealed",
    "extent.sealed_by_writer",
    "session.ended_refused",
    "bucket.opening",
    "bucket.opened",
    "bucket.deleting",
    "bucket.closed_empty",
    "bucket.closed_full",
    "bucket.closed_uploads",
    "bucket.reopened",
    "bucket.removed",
    "bucket.taken_over",
    "bucket.turn_lost",
    "bucket.another_by_now",
    "bucket.finish_refused",
    // The scrub.
    "scrub.passes",
    "scrub.goes_on",
    "scrub.findings",
    "scrub.rested",
    "scrub.found_at_rest",
    // Copies of the index.
    "snapshot.taken",
    "snapshot.judged",
    "snapshot.judged_but_a_bucket",
    "restore.laid",
    "restore.cut",
    "restore.looked_at",
    // A full disk.
    "full.refused",
    "full.served_again",
    "service.came_back",
    "put.failed_Full",
    // Reclaim.
    "fault.gc_answer_lost",
    "gc.sealed",
    "gc.held",
    "gc.let_go",
    "gc.dropped",
    "gc.condemned",
    "gc.swept",
    "gc.decided",
    "gc.generation_done",
    "gc.compacted",
    "gc.compacted_to_nothing",
    "gc.compaction_failed_Corrupt",
    "gc.removed",
    "gc.forgotten",
    "gc.rested",
    "gc.rested_short",
    "read.across_a_generation",
    // Outcomes.
    "put.ok",
    "put.unknown",
    "put.spoiled",
    "put.PreconditionFailed",
    "put.NoSuchKeyForMatch",
    "put.NoSuchBucket",
    "get.ok",
    "get.NoSuchKey",
    "head.ok",
    "delete.ok_existed_true",
    "delete.ok_existed_false",
    "delete.marked_true",
    "delete.marked_false",
    "delete.PreconditionFailed",
    "delete.NoSuchKeyForMatch",
    "delete.unknown",
    "copy.ok",
    "memory.waited",
    "memory.refused",
    "delete_many",
    "get.DeleteMarker",
    "get_version.ok",
    "get_version.DeleteMarker",
    "get_version.NoSuchVersion",
    "delete_version.ok_existed_true",
    "delete_version.ok_existed_false",
    "delete_version.unknown",
    "list_versions.ok",
    "set_versioning.ok",
    "set_versioning.unknown",
    "set_tags.ok",
    "set_tags.NoSuchKey",
    "set_tags.unknown",
    "get_tags.ok",
    "list.ok",
    "list.next_page",
    "create_bucket.ok_existed_false",
    "create_bucket.ok_existed_true",
    "delete_bucket.ok",
    "delete_bucket.BucketNotEmpty",
    "delete_bucket.NoSuchBucket",
    "start_upload.ok",
    "put_part.ok",
    "put_part.NoSuchUpload",
    "complete_upload.ok",
    "complete_upload.NoSuchUpload",
    "complete_upload.NoSuchBucket",
    "complete_upload.EntityTooSmall",
    "abort_upload.ok",
    "list_parts.ok",
    "list_uploads.ok",
];

/// What is let pass because it is nobody's fault, with what it is one of, and how often of a hundred it may be so.
pub const MUST_BE_RARE: &[(&str, &str, u64)] = &[
    ("full.of_index", "full.served_again", 5),
    ("full.not_emptied", "full.served_again", 5),
    ("service.excused", "service.came_back", 20),
];

/// What was let pass too often in so many seeds.
pub fn too_often(counts: &Counts, seeds: u64) -> Vec<&'static str> {
    if seeds < SEEDS_MIN {
        return Vec::new();
    }
    let is_much =
        |(name, of, percent): &&(&str, &str, u64)| counts.get(name) * 100 > counts.get(of) * percent;
    MUST_BE_RARE
        .iter()
        .filter(is_much)
        .map(|(name, ..)| *name)
        .collect()
}

/// What should have happened in so many seeds and did not.
pub fn missing(counts: &Counts, seeds: u64) -> Vec<&'static str> {
    if seeds < SEEDS_MIN {
        return Vec::new();
    }
    let never = |name: &&&str| counts.get(name) == 0;
    MUST_HAPPEN.iter().filter(never).copied().collect()
}
