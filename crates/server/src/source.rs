//! What backups are made from: the engine's rows and the node's extents.

use crate::roles::Roles;
use admin::{BackupSource, SnapshotBytes};
use bytes::Bytes;
use node::LocalNode;
use std::sync::Arc;
use store::{Embedded, SnapshotStream, StoreError};
use types::{DiskId, Kind as _};
use wire::Fault;
use wire::node::{ExtentStatus, Node as _};
use world::Clock;

/// An open store.
pub(crate) struct StoreSource {
    store: Arc<Embedded>,
    node: Arc<LocalNode>,
    disk: DiskId,
    clock: Arc<dyn Clock>,
}

impl StoreSource {
    /// Of roles.
    pub(crate) fn of(roles: &Roles, clock: Arc<dyn Clock>) -> Self {
        Self {
            store: roles.store.clone(),
            node: roles.node.clone(),
            disk: roles.disk,
            clock,
        }
    }
}

struct Blocks(SnapshotStream);

fn fault(e: &StoreError) -> Fault {
    Fault::new(e.kind(), e.to_string())
}

#[async_trait::async_trait]
impl SnapshotBytes for Blocks {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        self.0.next().await.map_err(|e| fault(&e))
    }
}

#[async_trait::async_trait]
impl BackupSource for StoreSource {
    async fn snapshot(&self) -> Result<Box<dyn SnapshotBytes>, Fault> {
        let taken = SnapshotStream::take(&*self.store, self.disk, self.clock.wall_ms()).await;
        Ok(Box::new(Blocks(taken.map_err(|e| fault(&e))?)))
    }

    async fn extents(&self) -> Result<Vec<ExtentStatus>, Fault> {
        self.node.extents().await
    }
}
