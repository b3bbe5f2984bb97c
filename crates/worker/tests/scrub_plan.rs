//! The scrub's decisions: what comes next, when, what is told.

use bytes::Bytes;
use std::time::Duration;
use types::limits::SCRUB_FINDINGS_MAX;
use types::{BlobId, BucketId, DiskId, ExtentId, Generation, NeedleId, NodeId, Rot, SessionId, UploadId};
use wire::node::{NeedleHead, OwnerRef, WalkCursor, Walked};
use wire::records::{ScrubPass, ScrubState, ScrubTally};
use worker::scrub::plan::{self, Place};

const DAY_MS: u64 = 86_400_000;

#[test]
fn a_place_comes_back_from_what_is_kept() {
    let places = [
        Place::Disks(None),
        Place::Disks(Some(DiskId(7))),
        Place::Files(Bytes::new()),
        Place::Files(Bytes::from_static(b"somewhere")),
        Place::Rows(Bytes::from_static(b"else")),
        Place::before_extents(),
        Place::Extents(
            (ExtentId(9), NodeId(1)),
            WalkCursor {
                generation: Generation(2),
                offset: 4096,
                needle: NeedleId(3),
            },
        ),
    ];
    let pass = ScrubPass {
        begun_ms: 3,
        ..ScrubPass::default()
    };
    let mut state = ScrubState {
        begun_ms: 5,
        last_extent: 77,
        tally: Some(ScrubTally {
            bytes: 8,
            ..ScrubTally::default()
        }),
        last: Some(pass.clone()),
        ..ScrubState::default()
    };
    // Each is put over the one before: nothing of that is left.
    for place in places.iter().chain(places.iter().rev()) {
        place.put(&mut state);
        assert_eq!(&Place::of(&state), place);
    }
    assert_eq!((state.begun_ms, state.last_extent), (5, 77));
    assert_eq!(state.tally.unwrap().bytes, 8);
    assert_eq!(state.last, Some(pass));
    assert_eq!(Place::of(&ScrubState::default()), Place::Disks(None));
}

/// Whatever byte it is: from one pass to the next it is read within the period.
#[test]
fn passes_follow_each_other_so_that_each_byte_is_read_within_a_period() {
    let period = Duration::from_secs(30 * 86_400);
    let stretch = plan::stretch(period);
    let total = 1_000_000;
    let read_at = |begun_ms: u64, done: u64| {
        begun_ms + plan::until_due((begun_ms, begun_ms), stretch, (done, total)).as_millis() as u64
    };
    let first = 40 * DAY_MS;
    let last = ScrubPass {
        begun_ms: first,
        ended_ms: read_at(first, total),
        ..ScrubPass::default()
    };
    let second = last.ended_ms + plan::until_next(Some(&last), last.ended_ms, stretch).as_millis() as u64;
    for done in [0, 1, total / 2, total - 1, total] {
        let between = read_at(second, done) - read_at(first, done);
        assert!(between <= period.as_millis() as u64, "{done}: {between}");
        assert!(
            between > period.as_millis() as u64 / 2,
            "it is spread: {done}: {between}"
        );
    }
}

#[test]
fn what_is_late_is_due_at_once_and_a_clock_that_jumps_stops_nothing() {
    let stretch = Duration::from_secs(100);
    let due = |passed_ms: u64, done: u64| plan::until_due((1_000, 1_000 + passed_ms), stretch, (done, 100));
    assert_eq!(due(0, 0), Duration::ZERO);
    assert_eq!(due(0, 50), Duration::from_secs(50));
    assert_eq!(due(20_000, 50), Duration::from_secs(30));
    assert_eq!(due(80_000, 50), Duration::ZERO);
    // More was read than there is: extents shrank.
    assert_eq!(due(0, 5_000), stretch);
    assert_eq!(plan::until_due((0, 0), stretch, (0, 0)), Duration::ZERO);
    let last = |begun_ms| ScrubPass {
        begun_ms,
        ..ScrubPass::default()
    };
    assert_eq!(plan::until_next(None, 5, stretch), Duration::ZERO);
    assert_eq!(plan::until_next(Some(&last(5)), 5, stretch), stretch);
    assert_eq!(
        plan::until_next(Some(&last(5)), u64::MAX, stretch),
        Duration::ZERO
    );
    assert_eq!(
        plan::until_next(Some(&last(10 * DAY_MS)), 5, stretch),
        Duration::ZERO,
        "the clock went back"
    );
}

#[test]
fn copies_come_in_order_and_a_late_pass_ends_with_those_it_began_with() {
    let copy = |extent, node| (ExtentId(extent), NodeId(node));
    let copies = [copy(5, 1), copy(3, 2), copy(3, 1), copy(9, 1)];
    let mut at = copy(0, 0);
    let mut order = Vec::new();
    while let Some(next) = plan::next_copy(&copies, at, (ExtentId(5), false)) {
        order.push(next);
        at = next;
    }
    assert_eq!(order, [copy(3, 1), copy(3, 2), copy(5, 1), copy(9, 1)]);
    assert_eq!(plan::next_copy(&copies, copy(5, 1), (ExtentId(5), true)), None);
    assert_eq!(
        plan::next_copy(&copies, copy(3, 2), (ExtentId(5), true)),
        Some(copy(5, 1))
    );
    // One that is gone since is no place to stay at.
    assert_eq!(
        plan::next_copy(&copies, copy(4, 1), (ExtentId(5), false)),
        Some(copy(5, 1))
    );
}

fn bad(head: Option<NeedleHead>, offset: u64, stored_length: u64) -> Walked {
    Walked {
        needle: NeedleId(if head.is_some() { 4 } else { 0 }),
        offset,
        stored_length,
        head,
        crc32c: None,
        damage: Some("the checksum of block 1 does not hold".into()),
    }
}

#[test]
fn a_finding_names_the_place_and_whose_it_is() {
    let head = NeedleHead {
        blob: BlobId(1),
        owner: OwnerRef {
            bucket: BucketId(6),
            key: "a/\"b".into(),
            upload: Some((UploadId(8), 3)),
        },
        ordinal: 1,
        logical_offset: 1000,
        last: true,
        length: 24,
        append_hlc: 0,
        session: SessionId(1),
    };
    let walked = bad(Some(head), 4096, 100);
    let (rot, text) = plan::finding(ExtentId(0x0001_0000_0000_0002), &walked, Some("photos"));
    assert_eq!(rot, Rot::Needle);
    for part in [
        "0001000000000002",
        "offset 4096",
        "needle 4",
        "block 1",
        "photos",
        r#""a/\"b""#,
        "part 3",
        "1000 to 1024",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        plan::finding(ExtentId(2), &walked, None)
            .1
            .contains("bucket of id")
    );
    // Around the needles, and where a header is bad.
    assert_eq!(plan::finding(ExtentId(2), &bad(None, 0, 0), None).0, Rot::Extent);
    assert_eq!(
        plan::finding(ExtentId(2), &bad(None, 9000, 0), None).0,
        Rot::NeedleMap
    );
    let (rot, text) = plan::finding(ExtentId(2), &bad(None, 4096, 640), None);
    assert!(
        rot == Rot::Needle && text.contains("640 bytes") && text.contains("not known"),
        "{text}"
    );
}

// I9
#[test]
fn findings_are_all_counted_and_some_kept() {
    let mut tally = ScrubTally::default();
    let count = 3 * SCRUB_FINDINGS_MAX;
    (0..count).for_each(|n| plan::note(&mut tally, n.to_string()));
    assert_eq!(
        (tally.findings, tally.found.len()),
        (count as u64, SCRUB_FINDINGS_MAX)
    );
}
