//! The control partition made anew, from what the node has: after a restore, or where the index was rebuilt from the extents.
//!
//! What is known of extents is what their node says; each is sealed, because whoever wrote it is gone. What was booked as dropped is not
//! taken over: those needles have no name, so a sweep finds them again. Reclaim is held until an operator has seen what there is.

use crate::rows::{COPY_PRESENT, Change, IN_SERVICE, SEALED};
use bytes::Bytes;
use std::collections::BTreeMap;
use store::{Places, Scan, Snapshot, StoreError, readable_rows};
use types::limits::{ROW_KEY_BYTES_MAX, SCAN_ROWS_MAX};
use types::{DiskId, ExtentId, NodeId, SessionId};
use wire::node::ExtentStatus;
use wire::records::{CopyRecord, DiskRecord, ExtentRecord, ReclaimHold, ReclaimState};
use world::plant::{Plant, is_planted};

/// Numbers that a store may have given after the moment that its rows are of: they are passed over, so that none is given twice.
const NUMBERS_PASSED: u64 = 1 << 20;

/// Whose hold a restore's is.
const BY: &str = wire::control::HELD_BY_RESTORE;

/// What the rows are made of.
pub struct Ground<'a> {
    /// The node.
    pub node: NodeId,
    /// Its disk.
    pub disk: DiskId,
    /// Every extent on it, with how large it might have grown.
    pub extents: &'a [(ExtentStatus, u64)],
    /// The highest extent that is known to have been.
    pub last_extent: ExtentId,
    /// The highest session that is known to have been.
    pub last_session: SessionId,
    /// Why reclaim is held.
    pub why: &'a str,
    /// Since when, milliseconds since 1970.
    pub now_ms: u64,
}

/// The highest numbers that a control partition says it gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Of extents: the serial alone, for that is what the row that counts them has.
    pub extent: ExtentId,
    /// Of sessions.
    pub session: SessionId,
}

impl Given {
    /// What the control partition says that a directory has: of the index that another is to take the place of, because its rows know of numbers
    /// that no needle has. The rows that count are asked for by themselves, and all others as far as they can be read. With what could not.
    ///
    /// # Errors
    /// The engine's, but for [`StoreError::Corrupt`].
    pub async fn of(control: &dyn Snapshot) -> Result<(Self, Vec<StoreError>), StoreError> {
        let (mut given, mut lost) = (Self::default(), Vec::new());
        for counter in [Change::LastExtent(0), Change::LastSession(0)] {
            let (key, _) = counter.row();
            match control.get(std::slice::from_ref(&key)).await {
                Ok(values) => {
                    let value = values.into_iter().next().flatten();
                    let taken = value.map_or(Ok(()), |value| given.take(&key, &value));
                    lost.extend(taken.err().map(StoreError::Corrupt));
                }
                Err(e @ StoreError::Corrupt(_)) => lost.push(e),
                Err(e) => return Err(e),
            }
        }
        let (mut start, end) = (Bytes::from_static(&[0]), Bytes::from_static(&[0xFF]));
        let mut places = Places::default();
        while start < end {
            let scan = Scan {
                start,
                end: end.clone(),
                max: SCAN_ROWS_MAX,
            };
            let page = readable_rows(control, scan, ROW_KEY_BYTES_MAX, &mut places).await?;
            let taken = page.rows.iter().map(|(key, value)| given.take(key, value));
            lost.extend(taken.filter_map(Result::err).map(StoreError::Corrupt));
            lost.extend(page.lost);
            start = page.next;
        }
        Ok((given, lost))
    }

    /// Both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            extent: self.extent.max(other.extent),
            session: self.session.max(other.session),
        }
    }

    /// Takes what a row of the control partition says of it, if it does.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub fn take(&mut self, row_key: &[u8], value: &[u8]) -> Result<(), String> {
        let mut rows = crate::rows::Rows::default();
        if !row_key
            .first()
            .is_some_and(|t| (crate::rows::FIRST..crate::rows::END).contains(t))
        {
            return Ok(());
        }
        rows.take(row_key, value)?;
        let extent = rows.extents.keys().next_back().map_or(0, |e| serial(*e));
        let session = rows.sessions.keys().next_back().map_or(0, |s| s.0);
        self.extent = self.extent.max(ExtentId(extent)).max(ExtentId(rows.last_extent));
        self.session = self
            .session
            .max(SessionId(session))
            .max(SessionId(rows.last_session));
        Ok(())
    }
}

/// An extent's number without the stamp.
fn serial(extent: ExtentId) -> u64 {
    extent.0 & ((1 << 48) - 1)
}

/// The first session that such a store gives: all that were before have ended.
pub fn first_session(last: SessionId) -> SessionId {
    SessionId(last.0 + NUMBERS_PASSED + 1)
}

/// All rows of the partition, ascending.
pub fn fresh_rows(ground: &Ground<'_>) -> Vec<(Bytes, Bytes)> {
    let there = ground
        .extents
        .iter()
        .map(|(status, _)| serial(status.extent))
        .max();
    let last_extent = serial(ground.last_extent).max(there.unwrap_or(0));
    let mut changes = vec![
        Change::LastSession(first_session(ground.last_session).0 - 1),
        Change::LastExtent(last_extent + NUMBERS_PASSED),
        // Extents are located by it before the node has told of it; how large it is it tells then.
        Change::Disk(DiskRecord {
            disk: ground.disk.to_bytes().to_vec(),
            node: ground.node.0,
            state: IN_SERVICE,
            ..DiskRecord::default()
        }),
    ];
    if !is_planted(Plant::ReclaimAfterRestore) {
        changes.push(Change::Reclaim(ReclaimState {
            held: true,
            why: ground.why.to_owned(),
            held_ms: ground.now_ms,
            holds: vec![ReclaimHold {
                by: BY.to_owned(),
                why: ground.why.to_owned(),
                since_ms: ground.now_ms,
            }],
        }));
    }
    for (status, bytes_max) in ground.extents {
        changes.push(Change::Extent(sealed(ground.disk, status, *bytes_max)));
        let copy = CopyRecord {
            extent: status.extent.0,
            state: COPY_PRESENT,
            verified_ms: 0,
        };
        changes.push(Change::Copy(ground.disk, copy));
    }
    let rows: BTreeMap<Bytes, Bytes> = changes
        .iter()
        .map(Change::row)
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    rows.into_iter().collect()
}

fn sealed(disk: DiskId, status: &ExtentStatus, bytes_max: u64) -> ExtentRecord {
    ExtentRecord {
        extent: status.extent.0,
        state: SEALED,
        epoch: status.epoch.0,
        generation: status.generation.0,
        disks: vec![disk.to_bytes().to_vec()],
        bytes_max,
        sealed_bytes: status.end,
        policy_copies: 1,
        width: 1,
        floor: 1,
        ..ExtentRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide;
    use crate::rows::Rows;
    use types::{Epoch, Generation};

    #[test]
    fn an_extent_that_is_gone_keeps_its_number() {
        let there = ExtentRecord {
            extent: 1 << 48 | 9,
            ..ExtentRecord::default()
        };
        let mut given = Given::default();
        for change in [Change::Extent(there), Change::LastExtent(5_000_000)] {
            let (key, value) = change.row();
            given.take(&key, &value.unwrap()).unwrap();
        }
        assert_eq!(given.extent, ExtentId(5_000_000));
    }

    #[test]
    fn no_number_is_given_twice_and_reclaim_is_held() {
        let status = ExtentStatus {
            extent: ExtentId(1 << 48 | 9),
            epoch: Epoch(3),
            sealed: true,
            end: 77,
            needles: 1,
            generation: Generation(2),
            salt: 0,
        };
        let ground = Ground {
            node: NodeId(1),
            disk: DiskId(5),
            extents: &[(status, 1 << 20)],
            last_extent: ExtentId(4),
            last_session: SessionId(6),
            why: "restored",
            now_ms: 1,
        };
        let mut rows = Rows::default();
        let mut given = Given::default();
        let fresh = fresh_rows(&ground);
        assert!(fresh.is_sorted());
        for (key, value) in fresh {
            rows.take(&key, &value).unwrap();
            given.take(&key, &value).unwrap();
        }
        assert!(rows.reclaim.held);
        let extent = &rows.extents[&ExtentId(1 << 48 | 9)];
        assert_eq!(crate::plane::replicas(&rows, extent), [(NodeId(1), DiskId(5))]);
        assert_eq!(rows.extents[&ExtentId(1 << 48 | 9)].generation, 2);
        let (session, _) = decide::begin_session(&rows, "here", 0);
        assert_eq!(session, first_session(SessionId(6)));
        assert!(rows.last_extent >= 9 + NUMBERS_PASSED);
        assert_eq!(given.session.0, session.0 - 1);
    }

    /// A partition of which a row is on a page that cannot be read.
    struct Holed(std::sync::Arc<dyn Snapshot>, Bytes);

    #[async_trait::async_trait]
    impl Snapshot for Holed {
        async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
            match keys.contains(&self.1) {
                true => Err(StoreError::Corrupt("the page at byte 5".into())),
                false => self.0.get(keys).await,
            }
        }
        async fn scan(&self, scan: &Scan) -> Result<store::Rows, StoreError> {
            let rows = self.0.scan(scan).await?;
            match rows.iter().any(|(key, _)| *key == self.1) {
                true => Err(StoreError::Corrupt("the page at byte 5".into())),
                false => Ok(rows),
            }
        }
    }

    /// Each row in turn cannot be read: the others tell as much as they know.
    #[tokio::test]
    async fn what_was_given_is_told_past_damage() {
        use store::Store as _;
        let there = ExtentRecord {
            extent: 1 << 48 | 9,
            ..ExtentRecord::default()
        };
        let changes = [
            Change::Extent(there),
            Change::LastExtent(70),
            Change::LastSession(80),
        ];
        let rows: Vec<_> = changes.iter().map(Change::row).collect();
        let store = store::Memory::new();
        let fence = store.take(types::PartitionId::CONTROL).await.unwrap();
        let behind = Vec::new();
        let batch = store::Batch {
            rows: rows.clone(),
            behind,
        };
        store.commit(fence, batch).await;
        for ((bad, _), want) in rows.into_iter().zip([(70, 80), (9, 80), (70, 0)]) {
            let whole = store.snapshot(types::PartitionId::CONTROL).await.unwrap();
            let (given, lost) = Given::of(&Holed(whole, bad)).await.unwrap();
            assert_eq!((given.extent.0, given.session.0), want);
            assert!(!lost.is_empty());
        }
    }
}
