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

/// What the index gave that is to be replaced. One that cannot be read tells nothing: rows and needles are all there is to go by.
///
/// # Errors
/// The disk has failed.
pub async fn given_before(
    disk: &Arc<dyn Disk>,
    opened: &Opened,
    seen: &mut Seen,
) -> Result<Given, RestoreError> {
    match told_before(disk, opened, seen).await {
        // A sector that cannot be read is no reason to keep the index that has it.
        Err(why) => {
            tracing::warn!(
                %why,
                "the index that is replaced does not say which numbers it gave"
            );
            Ok(Given::default())
        }
        given => Ok(given?),
    }
}

async fn told_before(disk: &Arc<dyn Disk>, opened: &Opened, seen: &mut Seen) -> Result<Given, StoreError> {
    let owner = opened.dir.disk_id();
    let old = Prepared::new(disk.clone(), owner, opened.batches.clone(), &opened.report.lost)?;
    for partition in WITH_STATE {
        let told = Told::of(&*old.snapshot(partition)?).await?;
        seen.hlc = seen.hlc.max(told.hlc.0);
        seen.session = seen.session.max(told.session);
    }
    Given::of(&*old.snapshot(PartitionId::CONTROL)?).await
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
