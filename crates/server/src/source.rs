//! What backups are made from: the engine's rows and the node's extents.

use crate::roles::Roles;
use admin::{BackupSource, SnapshotBytes};
use bytes::Bytes;
use node::LocalNode;
use std::sync::{Arc, Mutex};
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
    /// What could not be read of the index, where that is left out.
    lost: Option<Lost>,
}

type Lost = Arc<Mutex<Vec<String>>>;

impl StoreSource {
    /// Its snapshots leave out what cannot be read; [`StoreSource::lost`] tells.
    pub(crate) fn past_damage(self) -> Self {
        Self {
            lost: Some(Lost::default()),
            ..self
        }
    }

    /// What was left out.
    pub(crate) fn lost(&self) -> Vec<String> {
        let lost = self.lost.iter();
        lost.flat_map(|lost| lost.lock().expect("no panic under this lock").clone())
            .collect()
    }

    /// Of roles.
    pub(crate) fn of(roles: &Roles, clock: Arc<dyn Clock>) -> Self {
        Self {
            store: roles.store.clone(),
            node: roles.node.clone(),
            disk: roles.disk,
            clock,
            lost: None,
        }
    }
}

struct Blocks(SnapshotStream, Option<Lost>);

fn fault(e: &StoreError) -> Fault {
    Fault::new(e.kind(), e.to_string())
}

#[async_trait::async_trait]
impl SnapshotBytes for Blocks {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let next = self.0.next().await.map_err(|e| fault(&e))?;
        if let (None, Some(lost)) = (&next, &self.1) {
            let told = self.0.lost().iter().map(ToString::to_string);
            lost.lock().expect("no panic under this lock").extend(told);
        }
        Ok(next)
    }
}

#[async_trait::async_trait]
impl BackupSource for StoreSource {
    async fn snapshot(&self) -> Result<Box<dyn SnapshotBytes>, Fault> {
        let taken = SnapshotStream::take(&*self.store, self.disk, self.clock.wall_ms()).await;
        let taken = taken.map_err(|e| fault(&e))?;
        let taken = match &self.lost {
            Some(_) => taken.past_damage(),
            None => taken,
        };
        Ok(Box::new(Blocks(taken, self.lost.clone())))
    }

    async fn extents(&self) -> Result<Vec<ExtentStatus>, Fault> {
        self.node.extents().await
    }
}
