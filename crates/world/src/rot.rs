//! Where bytes were found that are not what was written: told in the log once a place, and counted each time that somebody met it.
//!
//! A place that a client asks for again and again says no more the second time. What is told is bounded: past [`PLACES_TOLD_MAX`] places the
//! disk is past telling, and that is told.

use std::collections::BTreeSet;
use std::sync::Mutex;

/// Places told apart in the life of a process.
const PLACES_TOLD_MAX: usize = 4096;

pub use types::Rot;

static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Counts damage, and tells of `place` (file and offset, in a sentence) if nobody did. Whether it was told.
pub fn found(what: Rot, place: &str) -> bool {
    let label = what.label();
    metrics::counter!("cairn_corruption_total", "where" => label).increment(1);
    let mut told = TOLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if told.len() > PLACES_TOLD_MAX || !told.insert(format!("{label} {place}")) {
        return false;
    }
    if told.len() > PLACES_TOLD_MAX {
        tracing::error!("damage in more than {PLACES_TOLD_MAX} places: no more are told one by one");
        return true;
    }
    tracing::error!(damaged = label, place, "stored bytes are not what was written");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    // I9
    #[test]
    fn a_place_is_told_once_and_places_are_bounded() {
        assert!(found(Rot::IndexPage, "here"));
        assert!(!found(Rot::IndexPage, "here"));
        assert!(found(Rot::Needle, "here"), "of another sort");
        let told = (0..3 * PLACES_TOLD_MAX)
            .filter(|n| found(Rot::Extent, &n.to_string()))
            .count();
        assert!(told < PLACES_TOLD_MAX);
        assert!(TOLD.lock().unwrap().len() <= PLACES_TOLD_MAX + 1);
    }
}
