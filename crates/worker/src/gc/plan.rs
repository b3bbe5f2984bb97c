//! What gc is to do: pure functions of what was seen.
//!
//! ```text
//!   free of a disk   |- full -|--- short ---|------------------ calm ------------------|
//!                    0       2 %           10 %     (calm again only from 20 % on)
//!   collected           all at once: no grace          after the grace
//!   an extent goes   at 1/64 dropped   at 1/16         at 1/4
//!   is sealed for it at 1/16 of what it may hold       at 1/4      (full, and nothing else gives anything: at 1/64 of what it holds)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{DiskId, Epoch, ErrorKind, ExtentId};
use wire::control::{ExtentUse, Stage};
use wire::index::Booked;
use wire::node::{DiskStatus, ExtentStatus};

/// Free bytes of a disk, in percent, below which it is short of room.
const SHORT_PERCENT: u64 = 10;
/// How much more must be free, in percent, before it is not any more.
const CALM_MORE_PERCENT: u64 = 10;
/// Below which it is as good as full.
const FULL_PERCENT: u64 = 2;
/// What a file of an extent takes beside its needles.
const EXTENT_HEAD_BYTES: u64 = 4096;
/// Dropped bytes below which no open extent is taken from its writer, however full its disk is.
const SEAL_BYTES_MIN: u64 = 256 << 10;

/// How short of room a disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// There is room.
    #[default]
    Calm = 0,
    /// There is little.
    Short = 1,
    /// Writes are refused, or are about to be.
    Full = 2,
}

impl Level {
    /// Percent of time that gc may work.
    pub fn share_percent(self) -> u32 {
        match self {
            Self::Calm => 25,
            Self::Short | Self::Full => 100,
        }
    }

    /// Dropped bytes that make an extent of `bytes` worth writing anew.
    fn worth(self, bytes: u64) -> u64 {
        match self {
            Self::Calm => bytes / 4,
            Self::Short => bytes / 16,
            Self::Full => bytes / 64,
        }
    }
}

/// How short of room each disk is, given how it was when it was looked at last.
pub fn levels(disks: &[DiskStatus], before: &BTreeMap<DiskId, Level>) -> BTreeMap<DiskId, Level> {
    let level = |d: &DiskStatus| {
        let was = before.get(&d.disk).copied().unwrap_or_default();
        let percent = |p: u64| d.total / 100 * p;
        let refuses = d.refusing.as_ref().is_some_and(|f| f.kind == ErrorKind::Full);
        let short = percent(SHORT_PERCENT);
        match d.free {
            _ if refuses => Level::Full,
            free if free < percent(FULL_PERCENT) => Level::Full,
            free if free < short => Level::Short,
            free if free < short + percent(CALM_MORE_PERCENT) && was > Level::Calm => Level::Short,
            _ => Level::Calm,
        }
    };
    disks.iter().map(|d| (d.disk, level(d))).collect()
}

/// Bytes that a compaction of an extent may take of its disks, so that writers find room meanwhile. Where they are refused already it may
/// take what there is. `None`: its disks are not known.
pub fn room(u: &ExtentUse, disks: &[DiskStatus], levels: &BTreeMap<DiskId, Level>) -> Option<u64> {
    let room = |d: &DiskStatus| match levels.get(&d.disk) {
        Some(Level::Full) => u64::MAX,
        _ => d.free.saturating_sub(d.total / 100 * FULL_PERCENT),
    };
    let of = |disk: &DiskId| disks.iter().find(|d| d.disk == *disk).map(room);
    u.replicas.iter().filter_map(|(_, disk)| of(disk)).min()
}

/// What a compaction of an extent keeps, at most.
pub fn kept(u: &ExtentUse, status: Option<&ExtentStatus>) -> u64 {
    bytes(u, status).saturating_sub(u.dropped_bytes + u.deciding_bytes)
}

fn bytes(u: &ExtentUse, status: Option<&ExtentStatus>) -> u64 {
    let end = status.map_or(u.bytes, |s| s.end);
    end.saturating_sub(EXTENT_HEAD_BYTES).max(1)
}

/// The level of each extent: that of its shortest disk.
pub fn extent_levels(uses: &[ExtentUse], levels: &BTreeMap<DiskId, Level>) -> BTreeMap<ExtentId, Level> {
    let level = |u: &ExtentUse| {
        let of = u.replicas.iter().filter_map(|(_, disk)| levels.get(disk));
        of.max().copied().unwrap_or_default()
    };
    uses.iter().map(|u| (u.extent, level(u))).collect()
}

/// Whether the bytes of a booking may go as far as time is concerned.
pub fn is_ripe(booked: &Booked, now_ms: u64, grace: Duration, levels: &BTreeMap<ExtentId, Level>) -> bool {
    let age = now_ms.saturating_sub(booked.row.booked.wall_ms());
    let short = |place: &u64| levels.get(&ExtentId(*place)).is_some_and(|l| *l > Level::Calm);
    u128::from(age) >= grace.as_millis() || booked.chunks.iter().any(|c| short(&c.place))
}

/// Something to do with an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is in it: its rows and its file go.
    Bury(ExtentId),
    /// Its decided generation is to be made, or one is to be decided.
    Compact(ExtentId),
    /// It holds so much garbage that its writer is to take another.
    Seal(ExtentId, Epoch),
}

impl Step {
    /// With which.
    pub fn extent(&self) -> ExtentId {
        match self {
            Self::Bury(extent) | Self::Compact(extent) | Self::Seal(extent, _) => *extent,
        }
    }
}

/// What is known of all extents.
#[derive(Clone, Debug, Default)]
pub struct Extents {
    /// As the control plane has them.
    pub uses: Vec<ExtentUse>,
    /// As nodes have them.
    pub statuses: BTreeMap<ExtentId, ExtentStatus>,
    /// How short of room they are.
    pub levels: BTreeMap<ExtentId, Level>,
    /// What a compaction of them may take of their disks.
    pub rooms: BTreeMap<ExtentId, u64>,
    /// Writers were asked to let them go, and give them to no append any more.
    pub released: BTreeSet<ExtentId>,
    /// Not to be tried now: it failed a while ago.
    pub resting: BTreeSet<ExtentId>,
}

/// A step, and what it comes after.
type Ordered = (u8, u64, Step);

/// What to do with extents: what costs nothing first, then what gives back most for what it costs.
pub fn extent_steps(extents: &Extents) -> Vec<Step> {
    let mut steps: Vec<Ordered> = Vec::new();
    for u in extents
        .uses
        .iter()
        .filter(|u| !extents.resting.contains(&u.extent))
    {
        let level = extents.levels.get(&u.extent).copied().unwrap_or_default();
        let status = extents.statuses.get(&u.extent);
        match u.stage {
            Stage::Gone => steps.push((0, 0, Step::Bury(u.extent))),
            Stage::Open => {
                let released = extents.released.contains(&u.extent);
                if released || wants_seal(u, level) {
                    steps.push((1, 0, Step::Seal(u.extent, u.epoch)));
                }
            }
            Stage::Sealing => steps.push((1, 0, Step::Seal(u.extent, u.epoch))),
            Stage::Sealed if u.deciding.is_none() && is_empty(u, status) => {
                steps.push((0, 0, Step::Bury(u.extent)));
            }
            Stage::Sealed => {
                let (bytes, kept) = (bytes(u, status), kept(u, status));
                if extents.rooms.get(&u.extent).is_some_and(|room| kept > *room) {
                    continue;
                }
                if u.deciding.is_some() {
                    steps.push((2, 0, Step::Compact(u.extent)));
                } else if u.dropped_needles > 0 && u.dropped_bytes >= level.worth(bytes) {
                    steps.push((3, kept.saturating_mul(1000) / bytes, Step::Compact(u.extent)));
                }
            }
        }
    }
    steps.extend(last_seals(extents, &steps));
    steps.sort_by_key(|(order, kept, _)| (*order, *kept));
    steps.into_iter().map(|(_, _, step)| step).collect()
}

/// Open extents to seal on full disks to which no other step gives anything.
fn last_seals(extents: &Extents, steps: &[Ordered]) -> Vec<Ordered> {
    let stepped: BTreeSet<ExtentId> = steps.iter().map(|(_, _, step)| step.extent()).collect();
    let given = extents.uses.iter().filter(|u| stepped.contains(&u.extent));
    let given: BTreeSet<DiskId> = given.flat_map(disks_of).collect();
    let last = |u: &&ExtentUse| {
        u.stage == Stage::Open
            && extents.levels.get(&u.extent) == Some(&Level::Full)
            && !extents.resting.contains(&u.extent)
            && disks_of(u).all(|disk| !given.contains(&disk))
            && wants_seal_at_last(u, extents.statuses.get(&u.extent))
    };
    let seal = |u: &ExtentUse| (1, 0, Step::Seal(u.extent, u.epoch));
    extents.uses.iter().filter(last).map(seal).collect()
}

fn disks_of(u: &ExtentUse) -> impl Iterator<Item = DiskId> {
    u.replicas.iter().map(|(_, disk)| *disk)
}

/// Whether an open extent is to be taken from its writer. One that is sealed too soon stays small for as long as anything in it is alive,
/// and a store that lives on a disk short of room would come to have ever more of them.
fn wants_seal(u: &ExtentUse, level: Level) -> bool {
    let enough = match level {
        Level::Calm => u.bytes_max / 4,
        Level::Short | Level::Full => u.bytes_max / 16,
    };
    u.dropped_needles > 0 && u.dropped_bytes >= enough
}

/// The same on a full disk of which no sealed extent gives anything: little is much then.
fn wants_seal_at_last(u: &ExtentUse, status: Option<&ExtentStatus>) -> bool {
    let written = status.map_or(u.bytes_max, |s| s.end);
    let enough = SEAL_BYTES_MIN
        .min(u.bytes_max / 16)
        .max(Level::Full.worth(written));
    u.dropped_needles > 0 && u.dropped_bytes >= enough
}

fn is_empty(u: &ExtentUse, status: Option<&ExtentStatus>) -> bool {
    match status {
        Some(status) => status.sealed && status.needles == 0,
        // Its node has no such extent, and nothing was in it when it was sealed.
        None => u.bytes == 0,
    }
}

/// How long to wait until the next pass.
pub fn next_pass(
    oldest_ms: Option<u64>,
    now_ms: u64,
    grace: Duration,
    longest: Duration,
    look: Duration,
) -> Duration {
    // What is booked from now on ripens no sooner than the grace.
    let ripe_in = oldest_ms.map_or(grace, |oldest| {
        let ripe_at = u128::from(oldest) + grace.as_millis();
        let left = ripe_at.saturating_sub(u128::from(now_ms));
        Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))
    });
    // Bookings ripen one after the other: a pass for each would read all of them each time.
    ripe_in.max(grace / 24).min(longest).max(look)
}
