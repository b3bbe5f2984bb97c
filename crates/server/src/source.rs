//! What backups are made from: the engine's rows and the node's extents.

use crate::roles::{NODE, Roles};
use admin::{BackupSource, SnapshotBytes};
use bytes::Bytes;
use extent::Opened;
use node::LocalNode;
use std::sync::{Arc, Mutex};
use store::{Embedded, Prepared, SnapshotStream, StoreError};
use types::{DiskId, Kind as _};
use wire::Fault;
use wire::node::{ExtentStatus, Node as _};
use world::{Clock, World};

/// An open store.
pub(crate) struct StoreSource {
    rows: Rows,
    node: Arc<LocalNode>,
    disk: DiskId,
    clock: Arc<dyn Clock>,
    /// What could not be read of the index, where that is left out.
    lost: Lost,
}

type Lost = Arc<Mutex<Vec<String>>>;

enum Rows {
    /// Of an engine: all of them, or none.
    Whole(Arc<Embedded>),
    /// Of an index that nobody owns, past what cannot be read of it.
    Readable(Arc<Prepared>),
}

impl StoreSource {
    /// Of roles.
    pub(crate) fn of(roles: &Roles, clock: Arc<dyn Clock>) -> Self {
        Self {
            rows: Rows::Whole(roles.store.clone()),
            node: roles.node.clone(),
            disk: roles.disk,
            clock,
            lost: Lost::default(),
        }
    }

    /// Of a directory that no role serves: its snapshot leaves out what cannot be read, and [`StoreSource::lost`] tells. Roles would need rows
    /// that may be among those.
    pub(crate) fn past_damage(world: &World, opened: Opened, index: Prepared) -> Self {
        Self {
            disk: opened.dir.disk_id(),
            rows: Rows::Readable(Arc::new(index)),
            node: Arc::new(LocalNode::new(world.clone(), NODE, vec![opened.dir])),
            clock: world.clock.clone(),
            lost: Lost::default(),
        }
    }

    /// What was left out.
    pub(crate) fn lost(&self) -> Vec<String> {
        self.lost.lock().expect("no panic under this lock").clone()
    }

    /// Closes what roles would have closed.
    pub(crate) async fn shutdown(&self) {
        self.node.shutdown().await;
    }
}

struct Blocks(SnapshotStream, Lost);

fn fault(e: &StoreError) -> Fault {
    Fault::new(e.kind(), e.to_string())
}

#[async_trait::async_trait]
impl SnapshotBytes for Blocks {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let next = self.0.next().await.map_err(|e| fault(&e))?;
        if next.is_none() {
            let told = self.0.lost().iter().map(ToString::to_string);
            self.1.lock().expect("no panic under this lock").extend(told);
        }
        Ok(next)
    }
}

#[async_trait::async_trait]
impl BackupSource for StoreSource {
    async fn snapshot(&self) -> Result<Box<dyn SnapshotBytes>, Fault> {
        let now_ms = self.clock.wall_ms();
        let taken = match &self.rows {
            Rows::Whole(store) => SnapshotStream::take(&**store, self.disk, now_ms).await,
            Rows::Readable(index) => {
                SnapshotStream::past_damage(index.clone(), self.clock.clone(), self.disk)
            }
        };
        let taken = taken.map_err(|e| fault(&e))?;
        Ok(Box::new(Blocks(taken, self.lost.clone())))
    }

    async fn extents(&self) -> Result<Vec<ExtentStatus>, Fault> {
        self.node.extents().await
    }
}
