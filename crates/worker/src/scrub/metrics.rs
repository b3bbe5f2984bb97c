//! What the scrub tells of itself.

use wire::records::{ScrubPass, ScrubTally};

/// What was read and found.
pub(crate) fn read(bytes: u64, needles: u64, findings: u64) {
    metrics::counter!("cairn_scrub_bytes_total").increment(bytes);
    metrics::counter!("cairn_scrub_needles_total").increment(needles);
    metrics::counter!("cairn_scrub_findings_total").increment(findings);
}

/// How far the pass under way is, from 0 to 1, what it found, and how many seconds it is late.
pub(crate) fn progress(done: f64, tally: &ScrubTally, late_s: f64) {
    metrics::gauge!("cairn_scrub_progress_ratio").set(done);
    metrics::gauge!("cairn_scrub_findings").set(tally.findings as f64);
    metrics::gauge!("cairn_scrub_late_seconds").set(late_s);
}

/// The last pass that came to its end.
pub(crate) fn passed(last: &ScrubPass) {
    let tally = last.tally.clone().unwrap_or_default();
    let seconds = |ms: u64| ms as f64 / 1000.0;
    metrics::gauge!("cairn_scrub_last_pass_begun_timestamp_seconds").set(seconds(last.begun_ms));
    metrics::gauge!("cairn_scrub_last_pass_ended_timestamp_seconds").set(seconds(last.ended_ms));
    metrics::gauge!("cairn_scrub_last_pass_bytes").set(tally.bytes as f64);
    metrics::gauge!("cairn_scrub_last_pass_findings").set(tally.findings as f64);
    metrics::gauge!("cairn_scrub_last_pass_skipped").set(tally.skipped as f64);
}
