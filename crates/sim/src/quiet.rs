//! What is left once nobody uses the store any more and gc has had its time: everything that is named, and of the rest no more than
//! gc may leave.
//!
//! ```text
//!   booked ─▶ nothing      extents that hold nothing, or too much of it ─▶ nothing      files ─▶ those that a node knows
//!   needle of a sealed extent ─▶ named, or on its extent's dropped list
//! ```
//! On a disk with room a quarter of an extent may be garbage, on a short one a sixteenth, as far as there is room to write what stays.

use crate::SimDisk;
use crate::look::needles;
use crate::machine::Machine;
use crate::run::Run;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{ErrorKind, ExtentId, NeedleId};
use wire::Fault;
use wire::control::{ExtentUse, Reclaim as _, Stage};
use wire::index::{Index as _, Reclaim as _};
use wire::node::{ExtentStatus, Node as _};
use world::{Clock as _, Disk as _};

/// What a file of an extent takes beside its needles.
const HEAD_BYTES: u64 = 4096;
/// Bookings asked for at once.
const PAGE_ROWS: usize = 1000;

/// How much garbage may stay.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// One part in so many of an extent.
    pub of_extent: u64,
    /// Bytes that a compaction may take.
    pub room: u64,
}

/// Times that gc gets, and what each adds to the wall clock: what could not be told is looked at again after an hour.
const TURNS_MAX: usize = 60;
const TURN_MS: i64 = 7_200_000;

/// Waits until gc has nothing left to do.
///
/// # Errors
/// What it leaves.
pub async fn rest(machine: &Machine, run: &Run, short: bool) -> Result<(), String> {
    let mut left = None;
    for turn in 0..TURNS_MAX {
        run.clock.sleep(Duration::from_secs(2)).await;
        let allowed = match short {
            true => allowed_on_short_disk(machine, run).await,
            false => Ok(Allowed {
                of_extent: 4,
                room: u64::MAX,
            }),
        };
        let looked = match allowed {
            Ok(allowed) => left_over(machine, &run.disk, allowed).await,
            Err(fault) => Err(fault),
        };
        match looked {
            Ok(None) => {
                run.recorder
                    .count(if short { "gc.rested_short" } else { "gc.rested" });
                run.recorder.note(format_args!("rest after {turn} turns"));
                return Ok(());
            }
            // What is damaged stays.
            _ if run.damage.any() && turn > 10 => return Ok(()),
            Ok(what) => left = what,
            Err(fault) => left = Some(fault.to_string()),
        }
        run.clock.jump_ms(TURN_MS);
    }
    Err(format!("gc leaves, short {short}: {}", left.unwrap_or_default()))
}

async fn allowed_on_short_disk(machine: &Machine, run: &Run) -> Result<Allowed, Fault> {
    let disks = machine.node.disks().await?;
    let disk = disks
        .first()
        .ok_or_else(|| Fault::new(ErrorKind::Fault, "a node without a disk"))?;
    let room = disk.free.saturating_sub(disk.total / 50);
    let room = match disk.refusing.is_some() {
        // In the ballast.
        true => run.shape.ballast_bytes,
        false => room,
    };
    Ok(Allowed { of_extent: 16, room })
}

/// Needles that have a name, by extent.
pub type NamedNeedles = BTreeMap<ExtentId, BTreeSet<NeedleId>>;

/// The first thing that should not be there any more; `None` when there is nothing.
///
/// # Errors
/// A role does not answer.
pub async fn left_over(machine: &Machine, disk: &SimDisk, allowed: Allowed) -> Result<Option<String>, Fault> {
    let (booked, _) = machine.index.garbage(Bytes::new(), PAGE_ROWS).await?;
    if let Some(booked) = booked.first() {
        return Ok(Some(format!("a booking: {booked:?}")));
    }
    let statuses: BTreeMap<ExtentId, ExtentStatus> = machine
        .node
        .extents()
        .await?
        .into_iter()
        .map(|s| (s.extent, s))
        .collect();
    let uses = machine.control.uses().await?;
    let extent = |u: &ExtentUse| extent_left_over(u, statuses.get(&u.extent), allowed);
    if let Some(what) = uses.iter().find_map(extent) {
        return Ok(Some(what));
    }
    let known: BTreeSet<ExtentId> = uses.iter().map(|u| u.extent).collect();
    if let Some(what) = strange_file(disk, &statuses, &known) {
        return Ok(Some(what));
    }
    let named = named(machine).await?;
    for usage in uses.iter().filter(|u| u.stage == Stage::Sealed) {
        let extent = usage.extent;
        let dropped: BTreeSet<NeedleId> = machine.control.dropped(extent).await?.into_iter().collect();
        let named = named.get(&extent);
        let is_lost = |n: &&u64| {
            !dropped.contains(&NeedleId(**n)) && !named.is_some_and(|all| all.contains(&NeedleId(**n)))
        };
        let there = needles(machine, extent).await?;
        if let Some(lost) = there.keys().find(is_lost) {
            return Ok(Some(format!(
                "needle {lost} of extent {extent} has no name and is not dropped: {:?}",
                there[lost]
            )));
        }
    }
    Ok(None)
}

/// All needles that records and parts name.
async fn named(machine: &Machine) -> Result<NamedNeedles, Fault> {
    let (mut cursor, mut all) = (Bytes::new(), NamedNeedles::new());
    loop {
        let (page, next) = machine.index.walk(cursor).await?;
        for chunk in page.iter().flat_map(crate::look::chunks_of) {
            all.entry(ExtentId(chunk.place))
                .or_default()
                .insert(NeedleId(chunk.needle));
        }
        if next.is_empty() {
            return Ok(all);
        }
        cursor = next;
    }
}

fn extent_left_over(usage: &ExtentUse, status: Option<&ExtentStatus>, allowed: Allowed) -> Option<String> {
    let is_left = match usage.stage {
        Stage::Gone | Stage::Sealing => true,
        Stage::Open => usage.dropped_bytes >= (usage.bytes_max / allowed.of_extent).max(1),
        Stage::Sealed => {
            let bytes = status.map_or(0, |s| s.end).saturating_sub(HEAD_BYTES);
            let kept = bytes.saturating_sub(usage.dropped_bytes + usage.deciding_bytes);
            let much = usage.dropped_needles > 0 && usage.dropped_bytes >= (bytes / allowed.of_extent).max(1);
            let nothing = status.is_none_or(|s| s.needles == 0);
            !usage.swept || nothing || ((much || usage.deciding.is_some()) && kept <= allowed.room)
        }
    };
    is_left.then(|| format!("{usage:?} {status:?}"))
}

/// A file of extents that nobody knows, or an extent without one.
fn strange_file(
    disk: &SimDisk,
    statuses: &BTreeMap<ExtentId, ExtentStatus>,
    known: &BTreeSet<ExtentId>,
) -> Option<String> {
    let mut files: BTreeSet<String> = disk.list("extents").unwrap_or_default().into_iter().collect();
    for status in statuses.values() {
        let name = match status.generation.0 {
            0 => status.extent.to_string(),
            _ => format!("{}.{}", status.extent, status.generation),
        };
        if !files.remove(&name) {
            return Some(format!("{status:?} has no file {name}: {files:?}"));
        }
    }
    // One whose making failed is made anew when it is granted again.
    let to_come = |file: &&String| !known.iter().any(|extent| extent.to_string() == **file);
    files
        .iter()
        .find(to_come)
        .map(|file| format!("file extents/{file} is no extent's"))
}
