//! Granting an extent: what was left open is resumed, else there is a new one.
//!
//! ```text
//!   row: open, session ended ──▶ row: open(epoch+1, session) ──▶ node opened at epoch+1 ──▶ granted
//!   (none) ────────────────────▶ row: open(1, session) ────────▶ node opened at 1 ────────▶ granted
//! ```
//! The row is durable before the node hears of it. A crash between the two leaves a row that the next grant finds.

use crate::decide;
use crate::plane::{ControlPlane, Outcome, Owner, replicas};
use crate::rows::{SEALING, disks_of};
use types::limits::RETRIES_MAX;
use types::{Epoch, ErrorKind, ExtentId, SessionId};
use wire::Fault;
use wire::control::Grant;
use wire::records::ExtentRecord;

/// Extents left half sealed that one grant tries to finish, so that none waits for long behind a silent node.
const SEALING_TRIED_MAX: usize = 2;

impl ControlPlane {
    pub(crate) async fn grant_extent(&self, session: SessionId) -> Result<Grant, Fault> {
        let mut owner = self.owner().await?;
        let mut attempt = 0;
        loop {
            self.ready(&mut owner).await?;
            if !decide::lives(&owner.rows, session) {
                return Err(Fault::new(
                    ErrorKind::Conflict,
                    format!("session {session} has ended"),
                ));
            }
            self.finish_sealing(&mut owner).await;
            self.ready(&mut owner).await?;
            let outcome = match self.resume_one(&mut owner, session).await? {
                Granting::None(why) => self.new_one(&mut owner, session, why).await?,
                other => other,
            };
            match outcome {
                Granting::Granted(grant) => {
                    owner.granted.insert(grant.extent);
                    return Ok(grant);
                }
                Granting::DecideAgain(fault) if attempt >= RETRIES_MAX => return Err(fault),
                Granting::DecideAgain(_) | Granting::None(_) => attempt += 1,
            }
        }
    }

    async fn finish_sealing(&self, owner: &mut Owner) {
        let half = owner.rows.extents.values().filter(|e| e.state == SEALING);
        // Some may never be: they keep no other from its turn.
        let (tried, next): (Vec<_>, Vec<_>) = half.cloned().partition(|e| e.extent <= owner.sealing_tried.0);
        for record in next.into_iter().chain(tried).take(SEALING_TRIED_MAX) {
            owner.sealing_tried = ExtentId(record.extent);
            if self.ready(owner).await.is_err() {
                return;
            }
            if let Err(fault) = self.seal_record(owner, &record).await {
                tracing::warn!(extent = %ExtentId(record.extent), %fault, "extent still not sealed");
            }
        }
    }

    /// The first left-open extent that its node takes appends for again.
    async fn resume_one(&self, owner: &mut Owner, session: SessionId) -> Result<Granting, Fault> {
        let mut full = None;
        for left in decide::left_open(&owner.rows, session, &owner.granted) {
            let extent = ExtentId(left.extent);
            let Ok((node, _)) = self.head(&owner.rows, &left) else {
                continue;
            };
            match self.in_time("extent", node.extent(extent)).await {
                Ok(status) if status.sealed => {
                    let changes = decide::sealed(&left, status.epoch, status.end);
                    match self.commit(owner, changes).await? {
                        Outcome::Done => continue,
                        Outcome::DecideAgain(fault) => return Ok(Granting::DecideAgain(fault)),
                    }
                }
                Ok(_) => {}
                // The node never heard of it: opened now.
                Err(fault) if fault.kind == ErrorKind::NotFound => {}
                // It has a file of which it knows nothing.
                Err(fault) if fault.kind == ErrorKind::Conflict => {
                    self.give_up(owner, &left).await?;
                    continue;
                }
                Err(fault) => {
                    tracing::warn!(%extent, %fault, "a left-open extent cannot be asked for");
                    continue;
                }
            }
            let (record, changes) = decide::resume(&left, session);
            if let Outcome::DecideAgain(fault) = self.commit(owner, changes).await? {
                return Ok(Granting::DecideAgain(fault));
            }
            match self.open_on_node(owner, &record).await {
                Ok(grant) => return Ok(Granting::Granted(grant)),
                Err(fault) if fault.kind == ErrorKind::Conflict => {
                    // Its node has moved on.
                    self.give_up(owner, &record).await?;
                }
                Err(fault) => {
                    tracing::info!(%extent, %fault, "a left-open extent cannot be resumed now");
                    full = full.or(Some(fault).filter(|f| f.kind == ErrorKind::Full));
                }
            }
        }
        Ok(Granting::None(full))
    }

    /// Nobody appends to an extent again. Where its node does not answer that it is sealed, it stays half sealed: neither empty nor gone.
    async fn give_up(&self, owner: &mut Owner, record: &ExtentRecord) -> Result<(), Fault> {
        if let Err(fault) = self.seal_record(owner, record).await {
            tracing::warn!(extent = %ExtentId(record.extent), %fault, "an extent that cannot be resumed is not sealed yet");
        }
        self.ready(owner).await
    }

    /// `full` is what a disk said that had no room for an extent that it was given.
    async fn new_one(
        &self,
        owner: &mut Owner,
        session: SessionId,
        full: Option<Fault>,
    ) -> Result<Granting, Fault> {
        let mut told = self.disks().await;
        // A disk that did not even open the extent it was given last takes no other: rows would pile up.
        let waiting = decide::left_open(&owner.rows, session, &owner.granted);
        let waits = |disk| {
            waiting
                .iter()
                .any(|e| SessionId(e.session) == session && disks_of(e).any(|d| d == disk))
        };
        for (_, disk) in told
            .iter_mut()
            .filter(|(_, d)| d.refusing.is_none() && waits(d.disk))
        {
            // Without room it is a full disk to whoever asks, also while only a compaction holds that room back.
            disk.refusing = Some(full.clone().unwrap_or_else(|| {
                Fault::new(
                    ErrorKind::Unavailable,
                    format!("disk {} opens no extent", disk.disk),
                )
            }));
        }
        let (record, mut changes) = decide::new_extent(&owner.rows, self.stamp, session, self.policy, &told)?;
        // A disk that came since the start is named before an extent is on it.
        changes.extend(decide::register(&owner.rows, &[], &told));
        if let Outcome::DecideAgain(fault) = self.commit(owner, changes).await? {
            return Ok(Granting::DecideAgain(fault));
        }
        self.open_on_node(owner, &record).await.map(Granting::Granted)
    }

    async fn open_on_node(&self, owner: &Owner, record: &ExtentRecord) -> Result<Grant, Fault> {
        let (extent, epoch) = (ExtentId(record.extent), Epoch(record.epoch));
        let (node, disk) = self.head(&owner.rows, record)?;
        self.in_time("open", node.open_extent(disk, extent, epoch, record.bytes_max))
            .await?;
        Ok(Grant {
            extent,
            epoch,
            replicas: replicas(&owner.rows, record),
            bytes_max: record.bytes_max,
        })
    }
}

/// How far granting came.
enum Granting {
    /// There it is.
    Granted(Grant),
    /// Nothing was left open that can be taken now; a disk that had no room for it said so.
    None(Option<Fault>),
    /// The rows may have changed under it.
    DecideAgain(Fault),
}
