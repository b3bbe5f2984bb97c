//! What a check asks of an index that was laid while reclaim is held for that: whether whole partitions are missing from it.
//!
//! An index without a row contradicts no extent: what it does not name looks like bytes that nobody needs, and a release would let all of
//! them go. So nothing named beside needles that are there is a finding, and so is an object whose bucket the directory does not know.

use std::collections::BTreeSet;
use types::{BucketId, ErrorKind};
use wire::Fault;
use wire::control::{HELD_BY_RESTORE, LAID_WITHOUT_ROWS, Reclaim};
use wire::index::Index;

/// Buckets that are looked for in the directory: each costs a walk of it.
pub(crate) const BUCKETS_MAX: usize = 64;

/// How much there is, and how much of it is named.
pub(crate) struct Counted {
    /// Needles that are there.
    pub(crate) needles: u64,
    /// Objects, parts and blobs of garbage that the index names.
    pub(crate) named: u64,
    /// Buckets of objects, up to [`BUCKETS_MAX`].
    pub(crate) buckets: BTreeSet<BucketId>,
}

const DO_NOT: &str =
    "reclaim is held since an index was laid; do not release it: what is not named goes then";

/// What looks like rows that were left out.
pub(crate) async fn damage(
    control: &dyn Reclaim,
    index: &dyn Index,
    counted: &Counted,
) -> Result<Vec<String>, Fault> {
    let holds = control.held().await?;
    let Some(hold) = holds.iter().find(|hold| hold.by == HELD_BY_RESTORE) else {
        return Ok(Vec::new());
    };
    let needles = counted.needles;
    if counted.named == 0 && needles > 0 {
        return Ok(vec![format!(
            "the index names nothing of {needles} needles; {DO_NOT}"
        )]);
    }
    let mut found = Vec::new();
    if hold.why.contains(LAID_WITHOUT_ROWS) {
        found.push(format!(
            "{}: {} objects, parts and blobs of garbage are named, and there are {needles} needles; {DO_NOT}",
            hold.why, counted.named
        ));
    }
    for bucket in &counted.buckets {
        match index.bucket_name(*bucket).await {
            Ok(Some(_)) => {}
            Ok(None) => found.push(format!(
                "bucket {bucket} has objects, and the directory does not know it; {DO_NOT}"
            )),
            // Its damage is told where its rows are read.
            Err(fault) if fault.kind == ErrorKind::Corrupt => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(found)
}
