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
    "delete_many",
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

/// What should have happened in so many seeds and did not.
pub fn missing(counts: &Counts, seeds: u64) -> Vec<&'static str> {
    if seeds < SEEDS_MIN {
        return Vec::new();
    }
    let never = |name: &&&str| counts.get(name) == 0;
    MUST_HAPPEN.iter().filter(never).copied().collect()
}
