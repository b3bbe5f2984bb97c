//! What gc tells of itself.

use crate::gc::plan::Level;
use types::DiskId;
use wire::control::{ExtentUse, Stage};

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Pages of bookings read.
    pub(crate) rows: u64,
    /// Needles booked with the control plane as such that may go.
    pub(crate) needles: u64,
    /// Bytes of them.
    pub(crate) dropped_bytes: u64,
    /// Of those, needles whose name never came.
    pub(crate) orphans: u64,
    /// Extents compacted.
    pub(crate) compacted: u64,
    /// Extents removed.
    pub(crate) removed: u64,
    /// Bytes that compactions gave back.
    pub(crate) reclaimed_bytes: u64,
    /// Uploads aborted.
    pub(crate) aborted: u64,
    /// Steps that failed.
    pub(crate) errors: u64,
}

impl Tally {
    /// Whether anything changed that may make another pass worth while at once.
    pub(crate) fn moved(&self) -> bool {
        self.needles + self.compacted + self.removed + self.aborted > 0
    }

    /// What has happened since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            rows: self.rows - before.rows,
            needles: self.needles - before.needles,
            dropped_bytes: self.dropped_bytes - before.dropped_bytes,
            orphans: self.orphans - before.orphans,
            compacted: self.compacted - before.compacted,
            removed: self.removed - before.removed,
            reclaimed_bytes: self.reclaimed_bytes - before.reclaimed_bytes,
            aborted: self.aborted - before.aborted,
            errors: self.errors - before.errors,
        }
    }

    /// Adds what has happened since `before` to the counters.
    pub(crate) fn count_since(&self, before: &Self) {
        let did = self.since(before);
        for (name, n) in [
            ("cairn_gc_rows_read_total", did.rows),
            ("cairn_gc_needles_dropped_total", did.needles),
            ("cairn_gc_bytes_dropped_total", did.dropped_bytes),
            ("cairn_gc_orphans_total", did.orphans),
            ("cairn_gc_extents_compacted_total", did.compacted),
            ("cairn_gc_extents_removed_total", did.removed),
            ("cairn_gc_bytes_reclaimed_total", did.reclaimed_bytes),
            ("cairn_gc_uploads_aborted_total", did.aborted),
            ("cairn_gc_errors_total", did.errors),
        ] {
            metrics::counter!(name).increment(n);
        }
    }
}

/// 1 while reclaim is held.
pub(crate) fn held(held: bool) {
    metrics::gauge!("cairn_gc_held").set(f64::from(u8::from(held)));
}

/// How short a disk is of room: 0 not, 1 short, 2 full.
pub(crate) fn level(disk: DiskId, level: Level) {
    metrics::gauge!("cairn_gc_level", "disk" => disk.to_string()).set(f64::from(level as u8));
}

/// Bookings that were read and stay for now.
pub(crate) fn waiting_bookings(bookings: u64) {
    metrics::gauge!("cairn_gc_bookings").set(bookings as f64);
}

/// Needles that may go and whose bytes are still there.
pub(crate) fn waiting_needles(uses: &[ExtentUse]) {
    let bytes: u64 = uses.iter().map(|u| u.dropped_bytes + u.deciding_bytes).sum();
    metrics::gauge!("cairn_gc_dropped_bytes_waiting").set(bytes as f64);
    let unswept = uses
        .iter()
        .filter(|u| u.stage == Stage::Sealed && !u.swept)
        .count();
    metrics::gauge!("cairn_gc_extents_unswept").set(unswept as f64);
}

/// Extents with which a step failed last.
pub(crate) fn failing(extents: usize) {
    metrics::gauge!("cairn_gc_extents_failing").set(extents as f64);
}

/// A pass has ended.
pub(crate) fn passed(at_ms: u64, seconds: f64, oldest_garbage_s: f64) {
    metrics::gauge!("cairn_gc_last_pass_timestamp_seconds").set(at_ms as f64 / 1000.0);
    metrics::histogram!("cairn_gc_pass_seconds").record(seconds);
    metrics::gauge!("cairn_gc_oldest_garbage_seconds").set(oldest_garbage_s);
}
