//! What a node does by the clock: marks idle journals, checkpoints, tends ballast and needle maps, counts.

use crate::disk::DiskService;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use types::limits::SYNC_MARK_MS;
use world::Clock;

const TICK: Duration = Duration::from_millis(SYNC_MARK_MS / 2);
/// Ticks between checkpoints of a disk that was written: 5 s, so that little is replayed after a crash.
const CHECKPOINT_TICKS: u64 = 100;
/// Ticks between looks at the ballast and the counters: 1 s.
const TEND_TICKS: u64 = 20;

pub(crate) async fn run(clock: Arc<dyn Clock>, disks: Vec<Arc<DiskService>>) {
    let mut ticks: u64 = 0;
    loop {
        clock.sleep(TICK).await;
        ticks += 1;
        for disk in &disks {
            disk.dir.journal().tick();
            disk.tend_maps(ticks);
            if ticks.is_multiple_of(CHECKPOINT_TICKS) && disk.is_checkpoint_old() {
                disk.want_checkpoint();
            }
            if ticks.is_multiple_of(TEND_TICKS) {
                disk.tend_ballast();
                disk.dir.rest();
                count(disk);
            }
        }
    }
}

/// Hands the journal's counters to whoever exports metrics.
pub(crate) fn count(disk: &DiskService) {
    let stats = disk.dir.journal().stats();
    let id = disk.dir.disk_id().to_string();
    for (name, value) in [
        ("cairn_journal_flushes_total", &stats.flushes),
        ("cairn_journal_records_total", &stats.records),
        ("cairn_journal_bytes_total", &stats.bytes),
        ("cairn_journal_stalls_total", &stats.stalls),
    ] {
        metrics::counter!(name, "disk" => id.clone()).absolute(value.load(Ordering::Relaxed));
    }
    let compacted = disk.reclaimer.compacted();
    for (name, value) in [
        ("cairn_compactions_total", compacted.done),
        ("cairn_compactions_failed_total", compacted.failed),
        ("cairn_extents_removed_total", compacted.removed),
        ("cairn_reclaimed_bytes_total", compacted.reclaimed_bytes),
    ] {
        metrics::counter!(name, "disk" => id.clone()).absolute(value);
    }
    let (extents, bytes) = disk.extents();
    metrics::gauge!("cairn_extents", "disk" => id.clone()).set(extents as f64);
    metrics::gauge!("cairn_extents_bytes", "disk" => id.clone()).set(bytes as f64);
    let failed = disk.dir.journal().check().is_err();
    metrics::gauge!("cairn_disk_out_of_service", "disk" => id.clone()).set(f64::from(u8::from(failed)));
    if let Ok(space) = disk.dir.space() {
        metrics::gauge!("cairn_disk_free_bytes", "disk" => id).set(space.free as f64);
    }
}
