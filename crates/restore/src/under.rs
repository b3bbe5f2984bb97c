//! What an index is laid over: extents, sealed, and what they and the index that goes say was given.

use crate::{RestoreError, WITH_STATE};
use control::Given;
use extent::Opened;
use index::Told;
use std::sync::Arc;
use store::{Prepared, StoreError};
use types::limits::SCAN_ROWS_MAX;
use types::{BucketId, ExtentId, NodeId, PartitionId, SessionId};
use wire::Fault;
use wire::node::{ExtentStatus, Node, WalkCursor, WalkDepth};
use world::Disk;

/// What the extents themselves say was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The newest time.
    pub hlc: u64,
    /// The highest session.
    pub session: SessionId,
    /// The highest bucket.
    pub bucket: BucketId,
    /// How far the index counted whose place another takes.
    pub serial: u64,
    /// How many needles there are.
    pub needles: u64,
}

/// What an index is laid over.
pub struct Under<'a> {
    /// The node that has it.
    pub node: NodeId,
    /// What the index gave whose place it takes.
    pub before: Given,
    /// The directory.
    pub disk: &'a Arc<dyn Disk>,
    /// The same, opened.
    pub opened: &'a Opened,
    /// Every extent, with how large it might have grown.
    pub extents: Vec<(ExtentStatus, u64)>,
    /// What they tell.
    pub seen: Seen,
}

/// What the index gave that is to be replaced, as far as it can be read: that it is damaged is why another takes its place, so each partition is
/// asked by itself. What it does not say rows and needles are all there is to go by.
///
/// # Errors
/// There is no room or no descriptor, or a newer build wrote it: that is no damage.
pub async fn given_before(
    disk: &Arc<dyn Disk>,
    opened: &Opened,
    seen: &mut Seen,
) -> Result<Given, RestoreError> {
    let owner = opened.dir.disk_id();
    let (batches, lost) = (opened.batches.clone(), &opened.report.lost);
    let Some(old) = heard("it", Prepared::past_damage(disk, owner, batches, lost))? else {
        return Ok(Given::default());
    };
    for (_, why) in old.lost() {
        unsaid("a partition", std::slice::from_ref(why));
    }
    for partition in WITH_STATE {
        let name = format!("partition {partition}");
        let asked = async { Told::of(&*old.snapshot(partition)?).await };
        let (told, lost) = heard(&name, asked.await)?.unwrap_or_default();
        unsaid(&name, &lost);
        seen.hlc = seen.hlc.max(told.hlc.0);
        seen.session = seen.session.max(told.session);
        seen.bucket = seen.bucket.max(told.bucket);
        seen.serial = seen.serial.max(told.serial);
    }
    let asked = async { Given::of(&*old.snapshot(PartitionId::CONTROL)?).await };
    let name = "the control partition";
    let (given, lost) = heard(name, asked.await)?.unwrap_or_default();
    unsaid(name, &lost);
    Ok(given)
}

/// What was asked of the index that is replaced, unless it is damaged.
fn heard<T>(what: &str, asked: Result<T, StoreError>) -> Result<Option<T>, RestoreError> {
    match asked {
        Ok(heard) => Ok(Some(heard)),
        Err(e @ (StoreError::Newer(_) | StoreError::Busy(_) | StoreError::Full(_))) => Err(e.into()),
        Err(e) => {
            unsaid(what, &[e]);
            Ok(None)
        }
    }
}

fn unsaid(what: &str, lost: &[StoreError]) {
    for why in lost {
        tracing::warn!(%why, "{what} of the index that is replaced does not say all numbers that it gave");
    }
}

/// Seals every extent (its writer is gone), and sees what was given by what is in them.
/// An extent that cannot be read tells nothing: it is `damage`, and numbers are passed over widely anyway.
///
/// # Errors
/// The node does not say what it has, or cannot seal it.
pub async fn sealed(
    node: &dyn Node,
    bytes_max: u64,
    damage: &mut Vec<String>,
) -> Result<(Vec<(ExtentStatus, u64)>, Seen), RestoreError> {
    let (mut extents, mut seen) = (Vec::new(), Seen::default());
    for status in node.extents().await? {
        let status = match status.sealed {
            true => status,
            false => node.seal(status.extent, status.epoch.next()).await?,
        };
        if let Err(fault) = heads(node, status.extent, &mut seen).await {
            damage.push(format!("extent {}: {fault}", status.extent));
        }
        let bytes_max = bytes_max.max(status.end);
        extents.push((status, bytes_max));
    }
    Ok((extents, seen))
}

async fn heads(node: &dyn Node, extent: ExtentId, seen: &mut Seen) -> Result<(), Fault> {
    let mut from = WalkCursor::default();
    loop {
        let page = node.walk(extent, from, WalkDepth::Heads, SCAN_ROWS_MAX).await?;
        for head in page.found.iter().filter_map(|walked| walked.head.as_ref()) {
            seen.hlc = seen.hlc.max(head.append_hlc);
            seen.session = seen.session.max(head.session);
            seen.bucket = seen.bucket.max(head.owner.bucket);
            seen.needles += 1;
        }
        match page.next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}
