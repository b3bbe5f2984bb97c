//! The control partition's rows (docs/formats/rows.md, "Partition 2").
//!
//! ```text
//!   50 session 8            SessionRecord         54 disk 16 · extent 8   CopyRecord
//!   51 node 8               NodeRecord            57 name 00 01           last number given, 8 bytes
//!   52 disk 16              DiskRecord            01                      PartitionState
//!   53 extent 8             ExtentRecord          58                      ReclaimState
//!   59 extent 8 · page 8    DroppedPage           5A extent 8 · page 8    DroppedPage: of the generation that is decided
//!   5B                      ScrubState
//! ```
//! The pages of 59 and 5A are not kept in memory: an extent may have a quarter of a million needles. Neither is 5B: who scrubs knows it.

use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use types::{DiskId, Epoch, ExtentId, NodeId, SessionId};
use wire::records::{
    CopyRecord, DiskRecord, DroppedPage, ExtentRecord, NodeRecord, PartitionState, ReclaimState, ScrubState,
    SessionRecord,
};

const STATE: u8 = 0x01;
const SESSIONS: u8 = 0x50;
const NODES: u8 = 0x51;
const DISKS: u8 = 0x52;
pub(crate) const EXTENTS: u8 = 0x53;
const COPIES: u8 = 0x54;
const SERIALS: u8 = 0x57;
const RECLAIM: u8 = 0x58;
const DROPPED: u8 = 0x59;
const DROPPING: u8 = 0x5A;
const SCRUB: u8 = 0x5B;

/// The first row key that is read at a start, and one past the last.
pub(crate) const FIRST: u8 = SESSIONS;
pub(crate) const END: u8 = RECLAIM + 1;

const LAST_SESSION: &[u8] = b"session\x00\x01";
const LAST_EXTENT: &[u8] = b"extent\x00\x01";

/// An extent's life: `ExtentRecord::state`.
pub(crate) const OPEN: u32 = 1;
pub(crate) const SEALING: u32 = 2;
pub(crate) const SEALED: u32 = 3;
pub(crate) const GONE: u32 = 4;

/// A disk or node that takes part.
pub(crate) const IN_SERVICE: u32 = 1;

/// A copy whose bytes are where the row says.
pub(crate) const COPY_PRESENT: u32 = 1;

/// Which pages of needles that may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pages {
    /// They go with the next generation.
    Dropped,
    /// They go with the generation that is decided.
    Dropping,
}

impl Pages {
    /// The row key of one page.
    pub(crate) fn row_key(self, extent: ExtentId, page: u64) -> Bytes {
        let table = match self {
            Self::Dropped => DROPPED,
            Self::Dropping => DROPPING,
        };
        key(table, &[&extent.0.to_be_bytes(), &page.to_be_bytes()])
    }

    /// All pages of an extent: the first row key and one past the last.
    pub(crate) fn range(self, extent: ExtentId) -> (Bytes, Bytes) {
        let past = [&self.row_key(extent, u64::MAX)[..], &[0]].concat();
        (self.row_key(extent, 0), past.into())
    }

    /// Which extent's page of which number a row key is of, if it is one of either.
    pub(crate) fn place(row_key: &[u8]) -> Option<(ExtentId, u64)> {
        let (DROPPED | DROPPING, fields) = row_key.split_first().map(|(table, fields)| (*table, fields))?
        else {
            return None;
        };
        let (extent, page) = fields.split_first_chunk::<8>()?;
        let page = u64::from_be_bytes(page.try_into().ok()?);
        Some((ExtentId(u64::from_be_bytes(*extent)), page))
    }

    /// The number of the page that a row key is of.
    pub(crate) fn number(row_key: &[u8]) -> Option<u64> {
        Some(u64::from_be_bytes(row_key.get(9..)?.try_into().ok()?))
    }
}

/// All rows but the copies, which are for plans that go by disk, and pages of needles.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) sessions: BTreeMap<SessionId, SessionRecord>,
    pub(crate) nodes: BTreeMap<NodeId, NodeRecord>,
    pub(crate) disks: BTreeMap<DiskId, DiskRecord>,
    pub(crate) extents: BTreeMap<ExtentId, ExtentRecord>,
    pub(crate) last_session: u64,
    pub(crate) last_extent: u64,
    pub(crate) reclaim: ReclaimState,
}

/// One row to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Session(SessionRecord),
    Node(NodeRecord),
    Disk(DiskRecord),
    Extent(ExtentRecord),
    Copy(DiskId, CopyRecord),
    LastSession(u64),
    LastExtent(u64),
    /// The row goes.
    SessionGone(SessionId),
    Reclaim(ReclaimState),
    Page(Pages, ExtentId, u64, DroppedPage),
    /// The rows go.
    PageGone(Pages, ExtentId, u64),
    ExtentGone(ExtentId),
    CopyGone(DiskId, ExtentId),
    Scrub(Box<ScrubState>),
}

fn key(table: u8, fields: &[&[u8]]) -> Bytes {
    let mut key = vec![table];
    for field in fields {
        key.extend_from_slice(field);
    }
    key.into()
}

/// The key of the scrub's row.
pub(crate) fn scrub_key() -> Bytes {
    key(SCRUB, &[])
}

/// The partition's own row.
pub(crate) fn state(epoch: Epoch, sequence: u64) -> (Bytes, Option<Bytes>) {
    let state = PartitionState {
        epoch: epoch.0,
        sequence,
        ..PartitionState::default()
    };
    (key(STATE, &[]), Some(state.encode_to_vec().into()))
}

impl Change {
    pub(crate) fn row(&self) -> (Bytes, Option<Bytes>) {
        let (key, value) = match self {
            Self::Session(r) => (key(SESSIONS, &[&r.session.to_be_bytes()]), r.encode_to_vec()),
            Self::Node(r) => (key(NODES, &[&r.node.to_be_bytes()]), r.encode_to_vec()),
            Self::Disk(r) => (key(DISKS, &[&r.disk]), r.encode_to_vec()),
            Self::Extent(r) => (key(EXTENTS, &[&r.extent.to_be_bytes()]), r.encode_to_vec()),
            Self::Copy(disk, r) => (
                key(COPIES, &[&disk.to_bytes(), &r.extent.to_be_bytes()]),
                r.encode_to_vec(),
            ),
            Self::LastSession(n) => (key(SERIALS, &[LAST_SESSION]), n.to_be_bytes().to_vec()),
            Self::LastExtent(n) => (key(SERIALS, &[LAST_EXTENT]), n.to_be_bytes().to_vec()),
            Self::SessionGone(id) => return (key(SESSIONS, &[&id.0.to_be_bytes()]), None),
            Self::Reclaim(r) => (key(RECLAIM, &[]), r.encode_to_vec()),
            Self::Page(pages, extent, page, r) => (pages.row_key(*extent, *page), r.encode_to_vec()),
            Self::PageGone(pages, extent, page) => return (pages.row_key(*extent, *page), None),
            Self::Scrub(r) => (scrub_key(), r.encode_to_vec()),
            Self::ExtentGone(id) => return (key(EXTENTS, &[&id.0.to_be_bytes()]), None),
            Self::CopyGone(disk, id) => {
                return (key(COPIES, &[&disk.to_bytes(), &id.0.to_be_bytes()]), None);
            }
        };
        (key, Some(value.into()))
    }
}

impl Rows {
    /// What a committed change makes of the copy in memory.
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Session(r) => drop(self.sessions.insert(SessionId(r.session), r)),
            Change::Node(r) => drop(self.nodes.insert(NodeId(r.node), r)),
            Change::Disk(r) => {
                let disk = DiskId::from_slice(&r.disk).expect("a disk's row has its id");
                self.disks.insert(disk, r);
            }
            Change::Extent(r) => drop(self.extents.insert(ExtentId(r.extent), r)),
            Change::Copy(..)
            | Change::CopyGone(..)
            | Change::Page(..)
            | Change::PageGone(..)
            | Change::Scrub(_) => {}
            Change::ExtentGone(id) => drop(self.extents.remove(&id)),
            Change::Reclaim(r) => self.reclaim = r,
            Change::LastSession(n) => self.last_session = n,
            Change::LastExtent(n) => self.last_extent = n,
            Change::SessionGone(id) => drop(self.sessions.remove(&id)),
        }
    }

    /// Takes a row as it was read; an error names what is wrong with it.
    pub(crate) fn take(&mut self, row_key: &[u8], value: &[u8]) -> Result<(), String> {
        let damaged = || format!("control row {}", hex(row_key));
        let decoded = |e: prost::DecodeError| format!("{}: {e}", damaged());
        let (table, id) = row_key.split_first().ok_or_else(damaged)?;
        let change = match *table {
            SESSIONS => Change::Session(SessionRecord::decode(value).map_err(decoded)?),
            NODES => Change::Node(NodeRecord::decode(value).map_err(decoded)?),
            DISKS => {
                let record = DiskRecord::decode(value).map_err(decoded)?;
                DiskId::from_slice(&record.disk).ok_or_else(damaged)?;
                Change::Disk(record)
            }
            EXTENTS => Change::Extent(ExtentRecord::decode(value).map_err(decoded)?),
            COPIES => {
                let disk = id.get(..16).and_then(DiskId::from_slice).ok_or_else(damaged)?;
                Change::Copy(disk, CopyRecord::decode(value).map_err(decoded)?)
            }
            SERIALS => {
                let n = u64::from_be_bytes(value.try_into().map_err(|_| damaged())?);
                match id {
                    LAST_SESSION => Change::LastSession(n),
                    LAST_EXTENT => Change::LastExtent(n),
                    _ => return Err(damaged()),
                }
            }
            RECLAIM => Change::Reclaim(ReclaimState::decode(value).map_err(decoded)?),
            _ => return Err(damaged()),
        };
        if change.row().0 != row_key {
            return Err(format!("{}: its value is another row's", damaged()));
        }
        self.apply(change);
        Ok(())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The disks of an extent's copies, in chain order.
pub(crate) fn disks_of(record: &ExtentRecord) -> impl Iterator<Item = DiskId> + '_ {
    record.disks.iter().filter_map(|d| DiskId::from_slice(d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_come_back() {
        let changes = [
            Change::LastSession(3),
            Change::LastExtent(9),
            Change::Reclaim(ReclaimState {
                held: true,
                ..Default::default()
            }),
            Change::Session(SessionRecord {
                session: 3,
                host: "h".into(),
                ..Default::default()
            }),
            Change::Node(NodeRecord {
                node: 1,
                ..Default::default()
            }),
            Change::Disk(DiskRecord {
                disk: vec![7; 16],
                node: 1,
                ..Default::default()
            }),
            Change::Extent(ExtentRecord {
                extent: 9,
                state: OPEN,
                disks: vec![vec![7; 16]],
                ..Default::default()
            }),
            Change::Copy(
                DiskId(7),
                CopyRecord {
                    extent: 9,
                    ..Default::default()
                },
            ),
        ];
        let (mut written, mut read) = (Rows::default(), Rows::default());
        for change in changes {
            let (key, value) = change.row();
            written.apply(change);
            read.take(&key, &value.unwrap()).unwrap();
        }
        assert_eq!(written, read);
    }

    #[test]
    fn a_row_under_another_key_is_refused() {
        let (_, value) = Change::Extent(ExtentRecord {
            extent: 9,
            ..Default::default()
        })
        .row();
        let (key, _) = Change::Extent(ExtentRecord {
            extent: 8,
            ..Default::default()
        })
        .row();
        assert!(Rows::default().take(&key, &value.unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn garbage_makes_no_panic(key in proptest::collection::vec(any::<u8>(), 0..40), value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut rows = Rows::default();
            if rows.take(&key, &value).is_err() {
                prop_assert_eq!(rows, Rows::default());
            }
        }
    }
}
