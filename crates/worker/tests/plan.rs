//! The plan, with examples: no role, no clock, no disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{BlobId, BucketId, DiskId, Epoch, ErrorKind, ExtentId, Generation, Hlc, NodeId};
use wire::Fault;
use wire::control::{ExtentUse, Stage};
use wire::index::{Booked, BookedRef};
use wire::node::{Compacted, DiskStatus, ExtentStatus};
use wire::records::Chunk;
use worker::gc::plan::{Extents, Level, Step, extent_levels, extent_steps, is_ripe, levels, next_pass, room};

const DISK: DiskId = DiskId(7);
const MIB: u64 = 1 << 20;

fn disk(free_percent: u64, refusing: Option<ErrorKind>) -> DiskStatus {
    DiskStatus {
        disk: DISK,
        total: 1000 * MIB,
        free: free_percent * 10 * MIB,
        extent_bytes: 128 * MIB,
        refusing: refusing.map(|kind| Fault::new(kind, "because")),
        extents: (0, 0),
        compacted: Compacted::default(),
    }
}

fn level(before: Level, free_percent: u64, refusing: Option<ErrorKind>) -> Level {
    levels(&[disk(free_percent, refusing)], &BTreeMap::from([(DISK, before)]))[&DISK]
}

#[test]
fn a_disk_is_short_until_it_has_room_to_spare() {
    use Level::{Calm, Full, Short};
    for (before, free, want) in [
        (Calm, 10, Calm),
        (Calm, 9, Short),
        (Short, 19, Short),
        (Short, 20, Calm),
        (Calm, 1, Full),
        (Full, 3, Short),
    ] {
        assert_eq!(level(before, free, None), want, "{before:?} {free} %");
    }
    assert_eq!(level(Calm, 50, Some(ErrorKind::Full)), Full, "it says so itself");
    assert_eq!(
        level(Calm, 50, Some(ErrorKind::Fault)),
        Calm,
        "room is not what it lacks"
    );
}

fn usage(extent: u64, stage: Stage, dropped_mib: u64) -> ExtentUse {
    ExtentUse {
        extent: ExtentId(extent),
        stage,
        epoch: Epoch(3),
        generation: Generation(0),
        bytes: if stage == Stage::Open { 0 } else { 64 * MIB },
        bytes_max: 128 * MIB,
        dropped_bytes: dropped_mib * MIB,
        dropped_needles: dropped_mib,
        deciding: None,
        deciding_bytes: 0,
        swept: false,
        replicas: vec![(NodeId(1), DISK)],
    }
}

fn status(extent: u64, needles: u64) -> (ExtentId, ExtentStatus) {
    let status = ExtentStatus {
        extent: ExtentId(extent),
        epoch: Epoch(3),
        sealed: true,
        end: 64 * MIB,
        needles,
        generation: Generation(0),
        salt: 0,
    };
    (ExtentId(extent), status)
}

fn steps(uses: Vec<ExtentUse>, level: Level) -> Vec<Step> {
    let statuses = uses.iter().map(|u| status(u.extent.0, 100)).collect();
    extent_steps(&Extents {
        levels: extent_levels(&uses, &BTreeMap::from([(DISK, level)])),
        statuses,
        uses,
        ..Extents::default()
    })
}

#[test]
fn an_extent_goes_when_it_is_worth_while_and_sooner_when_room_is_short() {
    let all = || {
        [15, 16, 63, 4, 1, 0]
            .iter()
            .zip(1..)
            .map(|(mib, n)| usage(n, Stage::Sealed, *mib))
            .collect()
    };
    let compact = |ids: &[u64]| {
        ids.iter()
            .map(|n| Step::Compact(ExtentId(*n)))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        steps(all(), Level::Calm),
        compact(&[3, 2]),
        "what gives back most is first"
    );
    assert_eq!(steps(all(), Level::Short), compact(&[3, 2, 1, 4]));
    assert_eq!(steps(all(), Level::Full), compact(&[3, 2, 1, 4, 5]));
}

#[test]
fn what_is_begun_is_ended_before_anything_is_begun() {
    let mut deciding = usage(3, Stage::Sealed, 0);
    deciding.deciding = Some(Generation(1));
    let uses = vec![
        usage(1, Stage::Sealed, 64),
        usage(2, Stage::Sealing, 0),
        deciding,
        usage(4, Stage::Gone, 0),
    ];
    let want = [
        Step::Bury(ExtentId(4)),
        Step::Seal(ExtentId(2), Epoch(3)),
        Step::Compact(ExtentId(3)),
        Step::Compact(ExtentId(1)),
    ];
    assert_eq!(steps(uses, Level::Calm), want);
}

#[test]
fn an_open_extent_is_taken_from_its_writer_for_much_garbage_only() {
    let seals = |mib, level| !steps(vec![usage(1, Stage::Open, mib)], level).is_empty();
    assert!(!seals(31, Level::Calm) && seals(32, Level::Calm));
    // Short of room: a sixteenth of what it may hold, not of what it holds. They would become many.
    assert!(!seals(7, Level::Short) && seals(8, Level::Short));
    assert!(
        !seals(0, Level::Full) && seals(1, Level::Full),
        "nothing else gives anything"
    );
}

#[test]
fn little_garbage_takes_an_extent_from_its_writer_only_where_nothing_else_gives_anything() {
    let open = |mib| usage(1, Stage::Open, mib);
    assert_eq!(steps(vec![open(1)], Level::Short), []);
    assert_eq!(
        steps(vec![open(1)], Level::Full),
        [Step::Seal(ExtentId(1), Epoch(3))]
    );
    assert_eq!(steps(vec![open(0)], Level::Full), []);
    let other = usage(2, Stage::Sealed, 40);
    assert_eq!(
        steps(vec![open(1), other.clone()], Level::Full),
        [Step::Compact(ExtentId(2))]
    );
    let mut elsewhere = other;
    elsewhere.replicas = vec![(NodeId(1), DiskId(8))];
    assert_eq!(
        steps(vec![open(1), elsewhere], Level::Full),
        [Step::Seal(ExtentId(1), Epoch(3)), Step::Compact(ExtentId(2))],
        "what another disk gives is no room here"
    );
}

#[test]
fn what_a_writer_was_asked_for_is_sealed_whatever_the_level_is_by_now() {
    let uses = vec![usage(1, Stage::Open, 0), usage(2, Stage::Open, 0)];
    let extents = Extents {
        released: BTreeSet::from([ExtentId(2)]),
        uses,
        ..Extents::default()
    };
    assert_eq!(extent_steps(&extents), [Step::Seal(ExtentId(2), Epoch(3))]);
}

#[test]
fn an_empty_sealed_extent_is_buried_and_one_that_rests_is_let_be() {
    let uses = vec![
        usage(1, Stage::Sealed, 0),
        usage(2, Stage::Sealed, 64),
        usage(3, Stage::Sealed, 0),
    ];
    let mut unsealed = status(3, 0);
    unsealed.1.sealed = false;
    let extents = Extents {
        statuses: [status(1, 0), status(2, 5), unsealed].into(),
        resting: BTreeSet::from([ExtentId(2)]),
        uses,
        ..Extents::default()
    };
    assert_eq!(extent_steps(&extents), [Step::Bury(ExtentId(1))]);
}

#[test]
fn a_booking_is_ripe_after_the_grace_or_when_its_disk_is_short_of_room() {
    let booked = Booked {
        row: BookedRef {
            bucket: BucketId(1),
            key: "k".into(),
            blob: BlobId(1),
            booked: Hlc::at(1_000),
        },
        page: 0,
        is_last: true,
        chunks: vec![Chunk {
            place: 9,
            ..Chunk::default()
        }],
    };
    let ripe = |now_ms, level| {
        let levels = BTreeMap::from([(ExtentId(9), level), (ExtentId(8), Level::Full)]);
        is_ripe(&booked, now_ms, Duration::from_millis(500), &levels)
    };
    assert!(!ripe(1_499, Level::Calm) && ripe(1_500, Level::Calm) && ripe(1_001, Level::Short));
    assert!(!ripe(0, Level::Calm), "a clock that went back makes nothing ripe");
}

#[test]
fn passes_follow_what_ripens_but_not_each_of_it() {
    let (look, hour, day) = (
        Duration::from_secs(1),
        Duration::from_secs(3600),
        Duration::from_secs(24 * 3600),
    );
    let next = |oldest, grace| next_pass(oldest, 10_000, grace, hour, look);
    assert_eq!(next(None, day), hour);
    assert_eq!(next(None, Duration::from_secs(4)), Duration::from_secs(4));
    assert_eq!(next(Some(0), day), hour, "ripe in a day, looked at in an hour");
    assert_eq!(next(Some(9_000), Duration::from_secs(4)), Duration::from_secs(3));
    assert_eq!(next(Some(0), Duration::from_secs(4)), look);
    assert_eq!(
        next(Some(0), Duration::from_secs(11)),
        look,
        "not sooner than looks"
    );
    assert_eq!(next(Some(0), Duration::ZERO), look);
}

#[test]
fn a_compaction_leaves_room_to_writers_unless_there_is_none() {
    let uses = vec![usage(1, Stage::Sealed, 32)];
    let steps = |free_percent, level| {
        let levels = BTreeMap::from([(DISK, level)]);
        extent_steps(&Extents {
            statuses: [status(1, 5)].into(),
            levels: extent_levels(&uses, &levels),
            rooms: uses
                .iter()
                .filter_map(|u| Some((u.extent, room(u, &[disk(free_percent, None)], &levels)?)))
                .collect(),
            uses: uses.clone(),
            ..Extents::default()
        })
    };
    // It keeps 32 MiB; 20 are left to writers.
    assert_eq!(steps(6, Level::Calm), [Step::Compact(ExtentId(1))]);
    assert_eq!(steps(5, Level::Short), []);
    assert_eq!(
        steps(1, Level::Full),
        [Step::Compact(ExtentId(1))],
        "nobody writes"
    );
}
