//! Which roles run here and what each is handed. No logic: only the order in which things open and close.
//!
//! ```text
//!   data directory ─▶ node ─┬─▶ control ─▶ blob ─▶ objects ─▶ (faces)
//!        └─ journal ─▶ store ┴─▶ index ──────────────┴─▶ gc
//! ```

use crate::config::Config;
use crate::memory::Memory;
use anyhow::Context;
use blob::Blob;
use control::ControlPlane;
use extent::{DataDir, DataDirConfig, ExtentError, Found, Journal, Opened, RecoveryReport};
use index::IndexRole;
use node::LocalNode;
use objects::Objects;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Embedded, Prepared, StoreError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use types::limits::{INDEX_CACHE_BYTES_MAX, ROW_CACHE_BYTES_MAX};
use types::{DiskId, ErrorKind, NodeId, StampId};
use wire::Fault;
use wire::control::Control;
use wire::index::Index;
use wire::node::Node;
use wire::scrub::Scrubbing;
use worker::gc::{self, Gc};
use worker::scrub::{self, Scrub};
use world::{Budget, Disk, World};

/// The only node of a store that is one process.
pub(crate) const NODE: NodeId = NodeId(1);

/// Everything below the faces, open.
pub(crate) struct Roles {
    /// Serves extents.
    pub(crate) node: Arc<LocalNode>,
    /// Grants extents and sessions.
    pub(crate) control: Arc<ControlPlane>,
    /// Decides commands.
    pub(crate) index: Arc<IndexRole>,
    /// The index's engine.
    pub(crate) store: Arc<Embedded>,
    /// Where writes are made durable.
    pub(crate) journal: Journal,
    /// Whose directory it is.
    pub(crate) disk: DiskId,
    /// What recovery found.
    pub(crate) report: RecoveryReport,
}

/// Opens a directory and what serves it; recovers what a crash left.
pub(crate) async fn open(
    world: &World,
    disk: Arc<dyn Disk>,
    memory: Option<Memory>,
) -> anyhow::Result<Roles> {
    let caches = memory.map_or((INDEX_CACHE_BYTES_MAX, ROW_CACHE_BYTES_MAX), |m| {
        (m.index_cache, m.row_cache)
    });
    let mut prepared = None;
    // All partitions are needed, so none is taken where one is not to be had: nothing was added to the journal yet.
    let mut judge = |found: &Found<'_>| {
        prepared = None;
        let index = prepare(&disk, found, caches.0)?;
        let broken: Vec<String> = index.broken().into_iter().map(|(_, e)| e.to_string()).collect();
        if !broken.is_empty() {
            return Err(ExtentError::Corrupt(broken.join("; ")));
        }
        prepared = Some(index);
        Ok(())
    };
    let opened = DataDir::open_judged(world, disk.clone(), DataDirConfig::default(), &mut judge)?;
    let prepared = prepared.context("the index was judged")?;
    serving(world, opened, prepared, caches.1).await
}

/// What there is of a directory, however damaged, and what of its index was gone past: nothing of that is taken or changed. `Err` within: no
/// partition can be had.
///
/// No room, no descriptors, or a newer build's format are no damage, and end it before anything is changed.
pub(crate) fn judged(
    world: &World,
    disk: &Arc<dyn Disk>,
) -> anyhow::Result<(Opened, Result<Prepared, ExtentError>)> {
    let mut prepared = None;
    let mut look = |found: &Found<'_>| {
        let batches = found.batches.iter().cloned();
        let index = Prepared::past_damage(disk, found.disk, batches, found.lost).map_err(as_extent_error);
        prepared = Some(match index {
            Err(e @ ExtentError::Corrupt(_)) => Err(e),
            other => Ok(other?),
        });
        Ok(())
    };
    let opened = DataDir::open_judged(world, disk.clone(), DataDirConfig::default(), &mut look)?;
    Ok((opened, prepared.context("the index was looked at")?))
}

/// A directory as a check finds it: what can be asked.
pub(crate) struct Looked {
    /// Its extents.
    pub(crate) node: Arc<LocalNode>,
    /// Its index files, where any can be had.
    pub(crate) store: Option<Arc<Embedded>>,
    /// Who knows extents, where the control partition can be read.
    pub(crate) control: Option<Arc<ControlPlane>>,
    /// Who knows objects, where the directory and the rows of objects can be taken.
    pub(crate) index: Option<Arc<IndexRole>>,
    /// Why something cannot be asked, and what opening found.
    pub(crate) damage: Vec<String>,
}

/// Opens what there is of a directory.
pub(crate) async fn look(world: &World, disk: Arc<dyn Disk>) -> anyhow::Result<Looked> {
    let (opened, prepared) = judged(world, &disk)?;
    let mut damage = opened.report.damage.clone();
    let journal = opened.dir.journal().clone();
    let node = Arc::new(LocalNode::new(world.clone(), NODE, vec![opened.dir]));
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(e) => {
            damage.push(e.to_string());
            return Ok(Looked {
                node,
                store: None,
                control: None,
                index: None,
                damage,
            });
        }
    };
    damage.extend(prepared.damage());
    damage.extend(prepared.lost().iter().map(|(_, why)| why.to_string()));
    damage.extend(prepared.broken().into_iter().map(|(_, e)| e.to_string()));
    let store = Arc::new(Embedded::resume(world, prepared, &journal));
    let control = asked(control(world, &store, &node).await, &mut damage)?;
    let index = asked(index(world, &store, ROW_CACHE_BYTES_MAX).await, &mut damage)?;
    Ok(Looked {
        node,
        store: Some(store),
        control,
        index,
        damage,
    })
}

/// A role, unless damage is why it cannot be had.
fn asked<T>(role: Result<T, Fault>, damage: &mut Vec<String>) -> Result<Option<T>, Fault> {
    match role {
        Err(fault) if fault.kind == ErrorKind::Corrupt => {
            damage.push(fault.to_string());
            Ok(None)
        }
        other => other.map(Some),
    }
}

async fn control(
    world: &World,
    store: &Arc<Embedded>,
    node: &Arc<LocalNode>,
) -> Result<Arc<ControlPlane>, Fault> {
    let nodes: Vec<(NodeId, Arc<dyn Node>)> = vec![(NODE, node.clone())];
    let control = ControlPlane::open(world.clone(), store.clone(), nodes).await?;
    Ok(Arc::new(control))
}

async fn index(
    world: &World,
    store: &Arc<Embedded>,
    row_cache_bytes: usize,
) -> Result<Arc<IndexRole>, Fault> {
    let index = IndexRole::open_within(world.clone(), store.clone(), StampId::FIRST, row_cache_bytes).await?;
    Ok(Arc::new(index))
}

fn prepare(disk: &Arc<dyn Disk>, found: &Found<'_>, cache_bytes: usize) -> Result<Prepared, ExtentError> {
    let batches = found.batches.iter().cloned();
    Prepared::within(disk.clone(), found.disk, batches, found.lost, cache_bytes).map_err(as_extent_error)
}

async fn serving(
    world: &World,
    opened: Opened,
    prepared: Prepared,
    row_cache_bytes: usize,
) -> anyhow::Result<Roles> {
    let disk = opened.dir.disk_id();
    let journal = opened.dir.journal().clone();
    let store = Arc::new(Embedded::resume(world, prepared, &journal));
    let node = Arc::new(LocalNode::new(world.clone(), NODE, vec![opened.dir]));
    let control = control(world, &store, &node).await.context("the control plane")?;
    let index = index(world, &store, row_cache_bytes).await.context("the index")?;
    Ok(Roles {
        node,
        control,
        index,
        store,
        journal,
        disk,
        report: opened.report,
    })
}

fn as_extent_error(e: StoreError) -> ExtentError {
    match e {
        StoreError::Full(why) => ExtentError::Full(why),
        StoreError::Corrupt(why) => ExtentError::Corrupt(why),
        other => ExtentError::OutOfService(other.to_string()),
    }
}

impl Roles {
    /// A gateway's life over them: a session of its own, all earlier ones ended.
    pub(crate) async fn gateway(
        &self,
        world: &World,
        region: &str,
        budget: Arc<Budget>,
    ) -> anyhow::Result<Arc<Objects>> {
        let session = self.control.begin_session("local").await.context("a session")?;
        self.index
            .end_sessions_below(session)
            .await
            .context("ending earlier sessions")?;
        let control: Arc<dyn Control> = self.control.clone();
        let index: Arc<dyn Index> = self.index.clone();
        let nodes: BTreeMap<NodeId, Arc<dyn Node>> =
            BTreeMap::from([(NODE, self.node.clone() as Arc<dyn Node>)]);
        let blob = Blob::new(world.clone(), control, nodes, session).with_budget(budget);
        let blob = Arc::new(blob);
        Ok(Arc::new(
            Objects::new(world.clone(), blob, index, session).with_region(region),
        ))
    }

    /// Begins to reclaim, under a session of its own, and to scrub where that is wanted; until it is stopped.
    pub(crate) async fn worker(
        &self,
        world: &World,
        (gc, scrub): (gc::Settings, Option<scrub::Settings>),
        gateway: Arc<Objects>,
    ) -> anyhow::Result<Worker> {
        let session = self
            .control
            .begin_session("local/gc")
            .await
            .context("a session")?;
        let roles = gc::Roles {
            index: self.index.clone(),
            control: self.control.clone(),
            nodes: BTreeMap::from([(NODE, self.node.clone() as Arc<dyn Node>)]),
            gateways: vec![gateway],
        };
        let (stop, stopping) = watch::channel(false);
        let gc = Gc::new(world.clone(), gc, roles, session, stopping.clone());
        let mut tasks = vec![("gc", tokio::spawn(gc.run()))];
        if let Some(settings) = scrub {
            let roles = scrub::Roles {
                index: self.index.clone(),
                control: self.control.clone(),
                nodes: BTreeMap::from([(NODE, self.node.clone() as Arc<dyn Node>)]),
            };
            let scrub = Scrub::new(world.clone(), settings, roles, stopping);
            tasks.push(("scrub", tokio::spawn(scrub.run())));
        }
        Ok(Worker { stop, tasks })
    }

    /// Who knows how far the scrub has come, where there is one.
    pub(crate) fn scrubbing(&self, config: &Config) -> Option<Arc<dyn Scrubbing>> {
        let control: Arc<dyn Scrubbing> = self.control.clone();
        config.scrub.is_some().then_some(control)
    }

    /// Tells the log what recovery found.
    pub(crate) fn report(&self) {
        let r = &self.report;
        tracing::info!(
            created = r.created,
            replayed = r.replayed,
            torn = r.torn,
            "directory open"
        );
        for problem in &r.damage {
            tracing::error!(problem, "damage found at start; run `cairn check` when stopped");
        }
    }

    /// Drains and checkpoints, top down.
    pub(crate) async fn shutdown(&self) {
        self.index.shutdown().await;
        if let Err(error) = self.store.shutdown().await {
            tracing::error!(%error, "the index was not checkpointed; its log in the journal has everything");
        }
        self.node.shutdown().await;
    }
}

/// Background jobs at work.
pub(crate) struct Worker {
    stop: watch::Sender<bool>,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
}

impl Worker {
    /// Tells them to stop; they do soon.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until they have stopped: nothing below them may be closed before.
    pub(crate) async fn stopped(self) {
        self.stop();
        for (job, task) in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, job, "a background job ended badly");
            }
        }
    }
}
