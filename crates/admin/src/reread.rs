//! What a check reads for its own sake, as the scrub does in life: what stands beside the extents, and every page of the index's files.

use bytes::Bytes;
use types::ErrorKind;
use wire::Fault;
use wire::index::Index;
use wire::node::Node;

/// What of it is not what was written, a sentence with its place each.
///
/// # Errors
/// A role cannot be asked.
pub(crate) async fn damage(node: &dyn Node, index: &dyn Index) -> Result<Vec<String>, Fault> {
    let mut damage = Vec::new();
    for disk in node.disks().await? {
        let read = node.verify_frame(disk.disk).await?;
        damage.extend(read.damage.into_iter().map(|damage| damage.what));
    }
    let mut cursor = Bytes::new();
    loop {
        let read = match index.verify_files(cursor).await {
            // A partition that could not be written just now: its rows were read, and told.
            Err(fault) if fault.kind == ErrorKind::Busy => return Ok(damage),
            other => other?,
        };
        let told = read.damage.into_iter();
        damage.extend(told.map(|damage| format!("index: {}", damage.what)));
        if read.next.is_empty() {
            return Ok(damage);
        }
        cursor = read.next;
    }
}
