//! Where bytes were found that are not what was written: told in the log once a place, and counted each time that somebody met it.
//!
//! A place that a client asks for again and again says no more the second time. What is told is bounded: past [`PLACES_TOLD_MAX`] places the
//! disk is past telling, and that is told.

use std::collections::BTreeSet;
use std::sync::Mutex;

/// Places told apart in the life of a process.
const PLACES_TOLD_MAX: usize = 4096;

/// What is damaged: the label `where` of `cairn_corruption_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rot {
    /// Records of a disk's journal.
    Journal,
    /// The table of extents.
    ExtentTable,
    /// An extent's file, its header block, or needles that recovery met.
    Extent,
    /// A sealed extent's map of needles.
    NeedleMap,
    /// A needle, its header or its bytes.
    Needle,
    /// An index file that cannot be opened, or its log.
    IndexFile,
    /// A page or row of an index file.
    IndexPage,
    /// The catalogue of index files.
    Catalogue,
}

impl Rot {
    fn label(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::ExtentTable => "extent table",
            Self::Extent => "extent",
            Self::NeedleMap => "needle map",
            Self::Needle => "needle",
            Self::IndexFile => "index file",
            Self::IndexPage => "index page",
            Self::Catalogue => "index catalogue",
        }
    }
}

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
