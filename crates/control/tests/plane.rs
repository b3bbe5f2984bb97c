//! The control plane over the engine in memory and an honest node, with lost answers and crashes.

use control::ControlPlane;
use std::sync::Arc;
use store::{Memory, memory};
use types::{DiskId, Epoch, ErrorKind, NodeId, SessionId};
use wire::Fault;
use wire::control::Control;
use wire::double::{Failure, MemoryNode, On};
use wire::node::Node;
use world::World;

const EXTENT_BYTES: u64 = 1 << 20;

struct Bench {
    store: Arc<Memory>,
    node: MemoryNode,
    plane: ControlPlane,
}

async fn open(store: Arc<Memory>, node: &MemoryNode) -> ControlPlane {
    let nodes: Vec<(NodeId, Arc<dyn Node>)> = vec![(NodeId(1), Arc::new(node.clone()))];
    ControlPlane::open(World::real(), store, nodes).await.unwrap()
}

async fn bench() -> Bench {
    let store = Arc::new(Memory::new());
    let node = MemoryNode::new(DiskId(7), EXTENT_BYTES);
    let plane = open(Arc::clone(&store), &node).await;
    Bench { store, node, plane }
}

impl Bench {
    /// The process dies and starts again.
    async fn crash(self) -> (Self, SessionId) {
        let store = Arc::new(self.store.crash());
        let plane = open(Arc::clone(&store), &self.node).await;
        let session = plane.begin_session("here").await.unwrap();
        let node = self.node;
        (Self { store, node, plane }, session)
    }
}

#[tokio::test]
async fn a_grant_opens_the_extent_on_its_node() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    let grant = b.plane.grant(session).await.unwrap();
    assert_eq!((grant.epoch, grant.bytes_max), (Epoch(1), EXTENT_BYTES));
    assert_eq!(grant.replicas, [(NodeId(1), DiskId(7))]);
    assert_eq!(b.node.extent(grant.extent).await.unwrap().epoch, Epoch(1));
    assert_eq!(
        b.plane.locate(grant.extent).await.unwrap().replicas,
        grant.replicas
    );
    assert_ne!(
        b.plane.grant(session).await.unwrap().extent,
        grant.extent,
        "one writer an extent (I6)"
    );
    assert_eq!(b.plane.locations().await.unwrap().len(), 2);
}

#[tokio::test]
async fn sessions_ascend_across_crashes_and_lost_answers() {
    let mut b = bench().await;
    let mut last = b.plane.begin_session("here").await.unwrap();
    for fault in [memory::Fault::UnknownKept, memory::Fault::UnknownLost] {
        b.store.fail_next(fault);
        let next = b.plane.begin_session("here").await.unwrap();
        assert!(next > last, "{fault:?}");
        let (again, after) = b.crash().await;
        assert!(after > next, "{fault:?}");
        (b, last) = (again, after);
    }
}

#[tokio::test]
async fn a_full_engine_refuses_and_goes_on() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    b.store.fail_next(memory::Fault::Full);
    assert_eq!(b.plane.grant(session).await.unwrap_err().kind, ErrorKind::Full);
    b.plane.grant(session).await.unwrap();
}

#[tokio::test]
async fn an_ended_session_is_given_nothing() {
    let b = bench().await;
    let first = b.plane.begin_session("here").await.unwrap();
    let second = b.plane.begin_session("here").await.unwrap();
    assert_eq!(b.plane.grant(first).await.unwrap_err().kind, ErrorKind::Conflict);
    b.plane.end_session(second).await.unwrap();
    b.plane.end_session(second).await.unwrap();
    assert_eq!(b.plane.grant(second).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(
        b.plane.end_session(SessionId(99)).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    // Its row goes with the next beginning; it has ended all the same.
    let third = b.plane.begin_session("here").await.unwrap();
    assert!(third > second);
    b.plane.end_session(first).await.unwrap();
    assert_eq!(b.plane.grant(first).await.unwrap_err().kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn what_a_dead_session_left_open_is_resumed_at_a_higher_epoch() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    let before = b.plane.grant(session).await.unwrap();
    let (b, session) = b.crash().await;
    let after = b.plane.grant(session).await.unwrap();
    assert_eq!((after.extent, after.epoch), (before.extent, before.epoch.next()));
    assert_eq!(
        b.node.extent(after.extent).await.unwrap().epoch,
        after.epoch,
        "the old writer is fenced (I6)"
    );
}

#[tokio::test]
async fn a_crash_between_row_and_node_leaves_a_row_that_the_next_grant_finishes() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    b.node.plan(On::Open, [Failure::Before(ErrorKind::Unavailable)]);
    assert_eq!(
        b.plane.grant(session).await.unwrap_err().kind,
        ErrorKind::Unavailable
    );
    let location = b.plane.locations().await.unwrap();
    let (b, session) = b.crash().await;
    let grant = b.plane.grant(session).await.unwrap();
    assert_eq!(grant.extent, location[0].extent);
    assert_eq!(b.plane.locations().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_of_the_node_is_asked_for_again() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    b.node.plan(On::Open, [Failure::After(ErrorKind::Unknown)]);
    b.plane.grant(session).await.unwrap_err();
    let grant = b.plane.grant(session).await.unwrap();
    assert_eq!(
        (grant.epoch, b.plane.locations().await.unwrap().len()),
        (Epoch(1), 1)
    );
}

#[tokio::test]
async fn a_disk_that_opens_nothing_does_not_pile_up_rows() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    for _ in 0..5 {
        b.node.plan(On::Open, [Failure::Before(ErrorKind::Full)]);
        assert!(b.plane.grant(session).await.is_err());
    }
    assert_eq!(b.plane.locations().await.unwrap().len(), 1);
    b.plane.grant(session).await.unwrap();
}

#[tokio::test]
async fn an_unknown_commit_of_a_grant_loses_no_number() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    for fault in [memory::Fault::UnknownKept, memory::Fault::UnknownLost] {
        b.store.fail_next(fault);
        let one = b.plane.grant(session).await.unwrap();
        let two = b.plane.grant(session).await.unwrap();
        assert_ne!(one.extent, two.extent, "{fault:?}");
    }
    assert_eq!(b.plane.locations().await.unwrap().len(), 4);
}

#[tokio::test]
async fn sealed_is_for_ever() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    let grant = b.plane.grant(session).await.unwrap();
    b.plane.seal(grant.extent, grant.epoch).await.unwrap();
    b.plane.seal(grant.extent, grant.epoch).await.unwrap();
    assert!(b.node.extent(grant.extent).await.unwrap().sealed);
    let (b, session) = b.crash().await;
    assert_ne!(b.plane.grant(session).await.unwrap().extent, grant.extent);
    b.plane.locate(grant.extent).await.unwrap();
}

#[tokio::test]
async fn a_stale_writer_seals_nothing() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    let old = b.plane.grant(session).await.unwrap();
    let (b, session) = b.crash().await;
    let new = b.plane.grant(session).await.unwrap();
    assert_eq!(
        b.plane.seal(old.extent, old.epoch).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
    assert!(!b.node.extent(new.extent).await.unwrap().sealed);
}

#[tokio::test]
async fn a_seal_that_the_node_did_not_hear_is_finished_later() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    let grant = b.plane.grant(session).await.unwrap();
    b.node.plan(On::Seal, [Failure::Before(ErrorKind::Unavailable)]);
    assert_eq!(
        b.plane.seal(grant.extent, grant.epoch).await.unwrap_err().kind,
        ErrorKind::Unavailable
    );
    assert_ne!(b.plane.grant(session).await.unwrap().extent, grant.extent);
    assert!(b.node.extent(grant.extent).await.unwrap().sealed);
}

/// Extents that cannot be sealed, for as long as it may be, keep no other from it.
#[tokio::test]
async fn what_is_left_half_sealed_is_tried_in_turns() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    let mut half = Vec::new();
    for _ in 0..3 {
        half.push(b.plane.grant(session).await.unwrap());
    }
    b.node
        .plan(On::Seal, vec![Failure::Before(ErrorKind::Unavailable); 3 + 2]);
    for grant in &half {
        b.plane.seal(grant.extent, grant.epoch).await.unwrap_err();
    }
    // Two of them fail again, then it is the third's turn.
    for _ in 0..2 {
        b.plane.grant(session).await.unwrap();
    }
    assert!(b.node.extent(half[2].extent).await.unwrap().sealed);
}

#[tokio::test]
async fn an_extent_found_sealed_is_not_resumed() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    let grant = b.plane.grant(session).await.unwrap();
    b.node.seal(grant.extent, grant.epoch.next()).await.unwrap();
    let (b, session) = b.crash().await;
    assert_ne!(b.plane.grant(session).await.unwrap().extent, grant.extent);
}

#[tokio::test]
async fn a_full_disk_is_told_as_full() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    b.node
        .refuse(Some(Fault::new(ErrorKind::Full, "the disk is full")));
    assert_eq!(b.plane.grant(session).await.unwrap_err().kind, ErrorKind::Full);
    assert_eq!(b.plane.locations().await.unwrap(), [], "nothing was promised");
    b.node.refuse(None);
    b.plane.grant(session).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_vanishes_midway_leaves_nothing_half_known() {
    let b = bench().await;
    let session = b.plane.begin_session("here").await.unwrap();
    let mut grant = Box::pin(b.plane.grant(session));
    // Polled once: its commit has begun, and is dropped with it.
    assert!(futures_util::poll!(grant.as_mut()).is_pending());
    drop(grant);
    let one = b.plane.grant(session).await.unwrap();
    let two = b.plane.grant(session).await.unwrap();
    assert_ne!(one.extent, two.extent);
}

#[tokio::test]
async fn what_never_was_is_proven_absent() {
    let b = bench().await;
    assert_eq!(
        b.plane.locate(types::ExtentId(9)).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(
        b.plane.seal(types::ExtentId(9), Epoch(1)).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
}
