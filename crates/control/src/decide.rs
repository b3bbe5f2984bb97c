//! What to write: pure functions of the rows and what is asked.

use crate::page::Page;
use crate::rows::{COPY_PRESENT, Change, IN_SERVICE, OPEN, Pages, Rows, SEALED, SEALING};
use layout::{Candidate, LayoutError, Policy};
use std::collections::{BTreeMap, BTreeSet};
use types::{DiskId, Epoch, ErrorKind, ExtentId, NodeId, SessionId, StampId};
use wire::Fault;
use wire::node::DiskStatus;
use wire::records::{CopyRecord, DiskRecord, ExtentRecord, NodeRecord, SessionRecord};

/// Rows of ended sessions that one beginning removes, at most: they fit one commit.
const SESSIONS_REMOVED_MAX: usize = 1024;

/// An extent takes no more of its disk than one part of so many, however small the disk: a compaction needs room for what it keeps.
const DISK_PARTS_MIN: u64 = 16;
/// Unless that were too little for frames to fit.
const EXTENT_BYTES_MIN: u64 = 8 << 20;

/// A session with the next number. Earlier sessions of the same host end with it, in one commit: a host runs one
/// process, whose data directory is locked, so whoever had them is dead. The rows of those that had ended before go: a
/// session without a row has ended, for its number is not given again.
pub(crate) fn begin_session(rows: &Rows, host: &str, now_ms: u64) -> (SessionId, Vec<Change>) {
    let highest = rows.sessions.last_key_value().map_or(0, |(s, _)| s.0);
    let session = rows.last_session.max(highest) + 1;
    let dead = rows.sessions.values().filter(|s| s.host == host && !s.ended);
    let mut changes: Vec<Change> = dead.map(|s| Change::Session(ended(s))).collect();
    let over = rows.sessions.iter().filter(|(_, s)| s.ended);
    let over = over.take(SESSIONS_REMOVED_MAX);
    changes.extend(over.map(|(id, _)| Change::SessionGone(*id)));
    changes.push(Change::LastSession(session));
    changes.push(Change::Session(SessionRecord {
        session,
        counter: 1,
        ended: false,
        host: host.to_owned(),
        begun_ms: now_ms,
    }));
    (SessionId(session), changes)
}

/// Ends a session; ended already is fine.
pub(crate) fn end_session(rows: &Rows, session: SessionId) -> Result<Vec<Change>, Fault> {
    match rows.sessions.get(&session) {
        None if session.0 <= rows.last_session => Ok(Vec::new()),
        None => Err(Fault::new(
            ErrorKind::NotFound,
            format!("session {session} never was"),
        )),
        Some(s) if s.ended => Ok(Vec::new()),
        Some(s) => Ok(vec![Change::Session(ended(s))]),
    }
}

fn ended(session: &SessionRecord) -> SessionRecord {
    SessionRecord {
        ended: true,
        ..session.clone()
    }
}

/// Whether a session may be given extents.
pub(crate) fn lives(rows: &Rows, session: SessionId) -> bool {
    rows.sessions.get(&session).is_some_and(|s| !s.ended)
}

/// Open extents that nobody writes to: an ended session's, or this session's own whose grant never got through.
pub(crate) fn left_open(rows: &Rows, session: SessionId, granted: &BTreeSet<ExtentId>) -> Vec<ExtentRecord> {
    let nobodys = |e: &&ExtentRecord| {
        let writer = SessionId(e.session);
        e.state == OPEN
            && if writer == session {
                !granted.contains(&ExtentId(e.extent))
            } else {
                !lives(rows, writer)
            }
    };
    rows.extents.values().filter(nobodys).cloned().collect()
}

/// Gives a left-open extent to `session`, at a higher epoch unless it was its own all along.
pub(crate) fn resume(extent: &ExtentRecord, session: SessionId) -> (ExtentRecord, Vec<Change>) {
    if extent.session == session.0 {
        return (extent.clone(), Vec::new());
    }
    let resumed = ExtentRecord {
        session: session.0,
        epoch: Epoch(extent.epoch).next().0,
        ..extent.clone()
    };
    (resumed.clone(), vec![Change::Extent(resumed)])
}

/// Marks an extent as sealed at `end` bytes.
pub(crate) fn sealed(extent: &ExtentRecord, epoch: Epoch, end: u64) -> Vec<Change> {
    vec![Change::Extent(ExtentRecord {
        state: SEALED,
        epoch: epoch.0.max(extent.epoch),
        sealed_bytes: end,
        ..extent.clone()
    })]
}

/// Marks an extent as one that takes no appends but whose members have not all been heard.
pub(crate) fn sealing(extent: &ExtentRecord) -> Vec<Change> {
    vec![Change::Extent(ExtentRecord {
        state: SEALING,
        ..extent.clone()
    })]
}

/// Decides `generation` of an extent: it drops what is on `pages`, and nothing else. `moved` is what of that comes to it now.
pub(crate) fn generation(
    extent: &ExtentRecord,
    generation: u64,
    moved: &[(u64, Page)],
    pages: &BTreeMap<u64, Page>,
) -> Vec<Change> {
    let id = ExtentId(extent.extent);
    let bytes: u64 = moved.iter().map(|(_, page)| page.bytes).sum();
    let needles: u64 = moved.iter().map(|(_, page)| page.count()).sum();
    let decided = ExtentRecord {
        deciding: generation,
        deciding_bytes: extent.deciding_bytes.saturating_add(bytes),
        deciding_needles: extent.deciding_needles.saturating_add(needles),
        dropped_bytes: extent.dropped_bytes.saturating_sub(bytes),
        dropped_needles: extent.dropped_needles.saturating_sub(needles),
        ..extent.clone()
    };
    let moved = moved.iter().flat_map(|(number, _)| {
        let dropping = Change::Page(Pages::Dropping, id, *number, pages[number].record());
        [dropping, Change::PageGone(Pages::Dropped, id, *number)]
    });
    moved.chain([Change::Extent(decided)]).collect()
}

/// An extent whose decided generation is on every copy and ends at `end` bytes.
pub(crate) fn generation_done(extent: &ExtentRecord, end: u64) -> ExtentRecord {
    ExtentRecord {
        generation: extent.deciding,
        deciding: 0,
        deciding_bytes: 0,
        deciding_needles: 0,
        sealed_bytes: end,
        ..extent.clone()
    }
}

/// A disk as its node told, and which node.
pub(crate) type Told = (NodeId, DiskStatus);

/// A new extent for `session`, on disks with room.
pub(crate) fn new_extent(
    rows: &Rows,
    stamp: StampId,
    session: SessionId,
    policy: Policy,
    disks: &[Told],
) -> Result<(ExtentRecord, Vec<Change>), Fault> {
    let highest = rows
        .extents
        .last_key_value()
        .map_or(0, |(e, _)| e.0 & ((1 << 48) - 1));
    let serial = rows.last_extent.max(highest) + 1;
    let extent = ExtentId(stamp.id(serial));
    let Policy::Replicated(copies) = policy else {
        return Err(Fault::new(
            ErrorKind::Fault,
            "coded extents are not written by this build",
        ));
    };
    let candidates: Vec<Candidate> = disks
        .iter()
        .filter(|(_, d)| d.refusing.is_none())
        .map(|(node, d)| candidate(rows, *node, d))
        .collect();
    let chosen = layout::choose(extent, policy.width(), &candidates).map_err(|e| no_place(&e, disks))?;
    let smallest = disks
        .iter()
        .filter(|(_, d)| chosen.contains(&d.disk))
        .map(|(_, d)| {
            d.extent_bytes
                .min((d.total / DISK_PARTS_MIN).max(EXTENT_BYTES_MIN))
        })
        .min();
    let record = ExtentRecord {
        extent: extent.0,
        state: OPEN,
        epoch: 1,
        session: session.0,
        disks: chosen.iter().map(|d| d.to_bytes().to_vec()).collect(),
        bytes_max: smallest.unwrap_or(0),
        policy_copies: copies,
        width: copies,
        floor: copies,
        ..ExtentRecord::default()
    };
    let copy = |disk: &DiskId| {
        let record = CopyRecord {
            extent: extent.0,
            state: COPY_PRESENT,
            verified_ms: 0,
        };
        Change::Copy(*disk, record)
    };
    let mut changes = vec![Change::LastExtent(serial), Change::Extent(record.clone())];
    changes.extend(chosen.iter().map(copy));
    Ok((record, changes))
}

fn candidate(rows: &Rows, node: NodeId, disk: &DiskStatus) -> Candidate {
    let (rack, zone) = rows
        .nodes
        .get(&node)
        .map_or_else(Default::default, |n| (n.rack.clone(), n.zone.clone()));
    Candidate {
        disk: disk.disk,
        node,
        rack,
        zone,
        weight: disk.free,
    }
}

/// Why no disk takes an extent: what the disks themselves say, where they say anything.
fn no_place(error: &LayoutError, disks: &[Told]) -> Fault {
    match disks.iter().find_map(|(_, d)| d.refusing.clone()) {
        Some(fault) => fault,
        None if disks.is_empty() => Fault::new(ErrorKind::Unavailable, "no node answered for its disks"),
        None => Fault::new(ErrorKind::Full, error.to_string()),
    }
}

/// Rows for nodes and disks that are new or have changed.
pub(crate) fn register(rows: &Rows, nodes: &[NodeId], disks: &[Told]) -> Vec<Change> {
    let new_nodes = nodes.iter().filter(|n| !rows.nodes.contains_key(n)).map(|n| {
        Change::Node(NodeRecord {
            node: n.0,
            state: IN_SERVICE,
            ..NodeRecord::default()
        })
    });
    let disks = disks.iter().filter_map(|(node, d)| {
        let old = rows.disks.get(&d.disk);
        let record = DiskRecord {
            disk: d.disk.to_bytes().to_vec(),
            node: node.0,
            total_bytes: d.total,
            state: old.map_or(IN_SERVICE, |o| o.state),
            weight: old.map_or(0, |o| o.weight),
        };
        (old != Some(&record)).then_some(Change::Disk(record))
    });
    new_nodes.chain(disks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(rows: &mut Rows, changes: Vec<Change>) {
        changes.into_iter().for_each(|c| rows.apply(c));
    }

    fn disk(id: u128, free: u64, refusing: Option<ErrorKind>) -> Told {
        let status = DiskStatus {
            disk: DiskId(id),
            total: 1000,
            free,
            extent_bytes: 100 + id as u64,
            refusing: refusing.map(|k| Fault::new(k, "because")),
            extents: (0, 0),
            compacted: wire::node::Compacted::default(),
        };
        (NodeId(1), status)
    }

    fn grow(rows: &mut Rows, session: SessionId) -> ExtentRecord {
        let one = Policy::Replicated(1);
        let (record, changes) = new_extent(rows, StampId::FIRST, session, one, &[disk(1, 9, None)]).unwrap();
        apply(rows, changes);
        record
    }

    #[test]
    fn a_host_has_one_living_session() {
        let mut rows = Rows::default();
        for (host, living) in [("a", 1), ("b", 2), ("a", 2), ("a", 2)] {
            let (session, changes) = begin_session(&rows, host, 0);
            assert!(rows.sessions.keys().all(|s| *s < session));
            apply(&mut rows, changes);
            assert!(lives(&rows, session));
            assert_eq!(rows.sessions.values().filter(|s| !s.ended).count(), living);
        }
    }

    #[test]
    fn what_a_dead_writer_left_open_goes_on_at_a_higher_epoch() {
        let mut rows = Rows::default();
        let (first, changes) = begin_session(&rows, "a", 0);
        apply(&mut rows, changes);
        let extent = grow(&mut rows, first);
        let granted = BTreeSet::from([ExtentId(extent.extent)]);
        assert_eq!(left_open(&rows, first, &granted), [], "one writer (I6)");
        assert_eq!(
            left_open(&rows, first, &BTreeSet::new()),
            std::slice::from_ref(&extent),
            "its grant never got through"
        );
        let (second, changes) = begin_session(&rows, "a", 0);
        apply(&mut rows, changes);
        assert_eq!(left_open(&rows, second, &granted), std::slice::from_ref(&extent));
        let (resumed, _) = resume(&extent, second);
        assert_eq!((resumed.epoch, resumed.session), (extent.epoch + 1, second.0));
        assert_eq!(resume(&extent, first).0, extent);
    }

    #[test]
    fn a_living_session_of_another_host_keeps_its_extents() {
        let mut rows = Rows::default();
        let (first, changes) = begin_session(&rows, "a", 0);
        apply(&mut rows, changes);
        grow(&mut rows, first);
        let (second, changes) = begin_session(&rows, "b", 0);
        apply(&mut rows, changes);
        assert_eq!(left_open(&rows, second, &BTreeSet::new()), []);
    }

    #[test]
    fn a_disk_that_refuses_is_not_chosen_and_says_why() {
        let rows = Rows::default();
        let new =
            |disks: &[Told]| new_extent(&rows, StampId::FIRST, SessionId(1), Policy::Replicated(1), disks);
        let (record, _) = new(&[disk(1, 9, Some(ErrorKind::Full)), disk(2, 1, None)]).unwrap();
        assert_eq!(
            (record.disks, record.bytes_max),
            (vec![DiskId(2).to_bytes().to_vec()], 102)
        );
        let full = new(&[disk(1, 9, Some(ErrorKind::Full))]).unwrap_err();
        assert_eq!(full.kind, ErrorKind::Full);
        assert_eq!(new(&[disk(1, 0, None)]).unwrap_err().kind, ErrorKind::Full);
        assert_eq!(new(&[]).unwrap_err().kind, ErrorKind::Unavailable);
    }

    proptest! {
        #[test]
        fn extent_numbers_are_never_given_twice(lost in proptest::collection::vec(any::<bool>(), 1..20)) {
            let mut rows = Rows::default();
            let mut given = BTreeSet::new();
            for lost in lost {
                let record = grow(&mut rows, SessionId(1));
                prop_assert!(given.insert(record.extent));
                if lost {
                    rows.extents.remove(&ExtentId(record.extent));
                }
            }
        }
    }

    /// A start is a session: their rows are as many as there were starts otherwise.
    #[test]
    fn rows_of_ended_sessions_do_not_pile_up() {
        let mut rows = Rows::default();
        for n in 1..=10 {
            let (session, changes) = begin_session(&rows, "here", 0);
            assert_eq!(session, SessionId(n));
            changes.into_iter().for_each(|change| rows.apply(change));
            assert!(rows.sessions.len() <= 2, "{} rows", rows.sessions.len());
        }
    }
}
