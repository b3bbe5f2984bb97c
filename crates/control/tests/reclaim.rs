//! What the control plane decides about garbage, with lost answers, crashes and everything said twice.

use bytes::Bytes;
use control::ControlPlane;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use store::{Memory, memory};
use types::limits::{
    DROP_NEEDLES_MAX, DROPPED_PAGE_NEEDLES, DROPPED_PAGES_MAX, HOLD_TEXT_BYTES_MAX, HOLDS_MAX,
};
use types::{BlobId, BucketId, DiskId, Epoch, ErrorKind, ExtentId, Generation, NeedleId, NodeId, SessionId};
use wire::control::{Control, Dropped, ExtentUse, Grant, Reclaim, Stage};
use wire::double::MemoryNode;
use wire::node::{Ack, Checked, ExtentStatus, NeedleHead, Node, OwnerRef, Pace};
use world::World;

struct Bench {
    store: Arc<Memory>,
    node: MemoryNode,
    plane: ControlPlane,
    session: SessionId,
}

async fn open(store: Arc<Memory>, node: MemoryNode) -> Bench {
    let nodes: Vec<(NodeId, Arc<dyn Node>)> = vec![(NodeId(1), Arc::new(node.clone()))];
    let plane = ControlPlane::open(World::real(), store.clone(), nodes)
        .await
        .unwrap();
    let session = plane.begin_session("here").await.unwrap();
    Bench {
        store,
        node,
        plane,
        session,
    }
}

async fn bench() -> Bench {
    open(Arc::new(Memory::new()), MemoryNode::new(DiskId(7), 1 << 20)).await
}

impl Bench {
    /// The process dies and starts again.
    async fn crash(self) -> Self {
        open(Arc::new(self.store.crash()), self.node).await
    }

    async fn append(&self, grant: &Grant, serial: u64) {
        let head = NeedleHead {
            blob: BlobId::new(self.session, serial),
            owner: OwnerRef {
                bucket: BucketId(1),
                key: "k".into(),
                upload: None,
            },
            ordinal: 0,
            logical_offset: 0,
            last: true,
            length: 1,
            append_hlc: 0,
            session: self.session,
        };
        let body = Checked {
            bytes: Bytes::from_static(b"x"),
            crcs: vec![0],
        };
        let appended = self
            .node
            .append(grant.extent, grant.epoch, head, body, Ack::Durable);
        appended.await.unwrap();
    }

    /// A sealed extent of so many needles.
    async fn sealed(&self, needles: u64) -> ExtentId {
        let grant = self.plane.grant(self.session).await.unwrap();
        for n in 0..needles {
            self.append(&grant, n).await;
        }
        self.plane.seal(grant.extent, grant.epoch).await.unwrap();
        grant.extent
    }

    async fn usage(&self, extent: ExtentId) -> ExtentUse {
        let uses = self.plane.uses().await.unwrap();
        uses.into_iter().find(|u| u.extent == extent).unwrap()
    }

    /// What its node says once it is of `generation`.
    async fn compacted(&self, extent: ExtentId, generation: Generation) -> ExtentStatus {
        ExtentStatus {
            generation,
            end: 77,
            ..self.node.extent(extent).await.unwrap()
        }
    }
}

fn dropped(extent: ExtentId, needles: impl IntoIterator<Item = u64>) -> Vec<Dropped> {
    let of = |needle| Dropped {
        extent,
        needle: NeedleId(needle),
        stored_length: 100,
    };
    needles.into_iter().map(of).collect()
}

fn ids(needles: impl IntoIterator<Item = u64>) -> Vec<NeedleId> {
    needles.into_iter().map(NeedleId).collect()
}

#[tokio::test]
async fn what_may_go_is_counted_once_and_survives() {
    let b = bench().await;
    let extent = b.sealed(3).await;
    b.plane.drop_needles(&dropped(extent, [3, 1, 1])).await.unwrap();
    b.plane.drop_needles(&dropped(extent, [1, 5000])).await.unwrap();
    let b = b.crash().await;
    b.plane.drop_needles(&dropped(extent, [3])).await.unwrap();
    let usage = b.usage(extent).await;
    assert_eq!((usage.dropped_needles, usage.dropped_bytes), (3, 300));
    assert_eq!(b.plane.dropped(extent).await.unwrap(), ids([1, 3, 5000]));
}

#[tokio::test]
async fn lost_answers_of_the_engine_lose_and_double_nothing() {
    let b = bench().await;
    let extent = b.sealed(3).await;
    for (n, fault) in [memory::Fault::UnknownKept, memory::Fault::UnknownLost]
        .into_iter()
        .enumerate()
    {
        b.store.fail_next(fault);
        b.plane
            .drop_needles(&dropped(extent, [n as u64 + 1]))
            .await
            .unwrap();
        assert_eq!(
            b.usage(extent).await.dropped_bytes,
            100 * (n as u64 + 1),
            "{fault:?}"
        );
    }
    b.store.fail_next(memory::Fault::UnknownKept);
    let decision = b.plane.decide(extent).await.unwrap().unwrap();
    assert_eq!(
        (decision.generation, decision.needles),
        (Generation(1), ids([1, 2]))
    );
}

// I4: a number is one exact list, however often and after whatever it is asked for; the next one drops that and more.
#[tokio::test]
async fn a_decision_is_the_same_until_there_is_more_to_drop() {
    let b = bench().await;
    let extent = b.sealed(9).await;
    assert_eq!(b.plane.decide(extent).await.unwrap(), None, "nothing may go");
    b.plane.drop_needles(&dropped(extent, [2, 4])).await.unwrap();
    let first = b.plane.decide(extent).await.unwrap();
    assert_eq!(first.as_ref().unwrap().needles, ids([2, 4]));
    b.plane.drop_needles(&dropped(extent, [4, 2])).await.unwrap();
    let b = b.crash().await;
    assert_eq!(b.plane.decide(extent).await.unwrap(), first);

    let early = b.node.extent(extent).await.unwrap();
    let refused = b
        .plane
        .generation_done(extent, Generation(1), &early)
        .await
        .unwrap_err();
    assert_eq!(
        refused.kind,
        ErrorKind::Conflict,
        "not done before its node has it (I8)"
    );

    b.plane.drop_needles(&dropped(extent, [6])).await.unwrap();
    let second = b.plane.decide(extent).await.unwrap().unwrap();
    assert_eq!(
        (second.generation, &second.needles),
        (Generation(2), &ids([2, 4, 6]))
    );
    b.plane.drop_needles(&dropped(extent, [6, 2])).await.unwrap();
    assert_eq!(b.usage(extent).await.dropped_needles, 0, "each is in one list");
    let status = b.compacted(extent, Generation(1)).await;
    for generation in [1, 2, 9] {
        let done = b.plane.generation_done(extent, Generation(generation), &status);
        assert_eq!(done.await.unwrap_err().kind, ErrorKind::Conflict, "{generation}");
    }
    let status = b.compacted(extent, Generation(2)).await;
    for _ in 0..2 {
        b.plane
            .generation_done(extent, Generation(2), &status)
            .await
            .unwrap();
    }
    let usage = b.usage(extent).await;
    assert_eq!(
        (usage.generation, usage.deciding, usage.bytes),
        (Generation(2), None, 77)
    );
    assert_eq!(b.plane.decide(extent).await.unwrap(), None);
}

/// What its node has made already is not decided anew: it is only to be said that it is done.
#[tokio::test]
async fn a_generation_that_is_made_is_not_followed_before_it_is_done() {
    let b = bench().await;
    let extent = b.sealed(9).await;
    b.plane.drop_needles(&dropped(extent, [2])).await.unwrap();
    let first = b.plane.decide(extent).await.unwrap().unwrap();
    let status = b
        .node
        .compact(extent, first.generation, first.needles.clone(), &Pace::of(100))
        .await
        .unwrap();
    b.plane.drop_needles(&dropped(extent, [3])).await.unwrap();
    assert_eq!(b.plane.decide(extent).await.unwrap().unwrap(), first);
    b.plane
        .generation_done(extent, first.generation, &status)
        .await
        .unwrap();
    let next = b.plane.decide(extent).await.unwrap().unwrap();
    assert_eq!((next.generation, next.needles), (Generation(2), ids([3])));
}

#[tokio::test]
async fn an_open_extent_is_not_compacted_and_a_sealed_one_not_granted_again() {
    let b = bench().await;
    let grant = b.plane.grant(b.session).await.unwrap();
    b.append(&grant, 1).await;
    b.plane.drop_needles(&dropped(grant.extent, [1])).await.unwrap();
    assert_eq!(b.usage(grant.extent).await.stage, Stage::Open);
    assert_eq!(
        b.plane.decide(grant.extent).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
    assert_eq!(
        b.plane.gone(grant.extent).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
    assert_eq!(
        b.plane.swept(grant.extent).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
    // Left open by a session that is gone: sealed for gc, it is nobody's any more (I6).
    let b = b.crash().await;
    b.plane.seal(grant.extent, grant.epoch).await.unwrap();
    assert_ne!(b.plane.grant(b.session).await.unwrap().extent, grant.extent);
    assert!(b.plane.decide(grant.extent).await.unwrap().is_some());
}

// I3
#[tokio::test]
async fn an_extent_with_a_needle_is_not_gone() {
    let b = bench().await;
    let extent = b.sealed(1).await;
    assert_eq!(b.plane.gone(extent).await.unwrap_err().kind, ErrorKind::Conflict);
    b.plane.locate(extent).await.unwrap();
    assert_eq!(
        b.plane.forget(extent).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
}

#[tokio::test]
async fn a_gone_extent_is_told_to_nobody_and_forgotten_after_its_file() {
    let b = bench().await;
    let extent = b.sealed(0).await;
    b.plane.drop_needles(&dropped(extent, [7])).await.unwrap();
    let deciding = b.plane.decide(extent).await.unwrap().unwrap();
    assert_eq!(
        b.plane.gone(extent).await.unwrap_err().kind,
        ErrorKind::Conflict,
        "a generation is not done"
    );
    let status = b.compacted(extent, deciding.generation).await;
    b.plane
        .generation_done(extent, deciding.generation, &status)
        .await
        .unwrap();
    b.plane.drop_needles(&dropped(extent, [8])).await.unwrap();
    for _ in 0..2 {
        b.plane.gone(extent).await.unwrap();
    }
    assert_eq!(
        b.plane.locate(extent).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    let b = b.crash().await;
    assert_eq!(
        b.plane.locate(extent).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(b.usage(extent).await.stage, Stage::Gone, "its file may be there");
    assert_eq!(b.plane.decide(extent).await.unwrap(), None);
    b.plane.drop_needles(&dropped(extent, [9])).await.unwrap();
    for _ in 0..2 {
        b.plane.forget(extent).await.unwrap();
    }
    assert!(b.plane.uses().await.unwrap().iter().all(|u| u.extent != extent));
    assert_eq!(b.plane.dropped(extent).await.unwrap(), []);
    // Dropped, decided and done again: nothing is there to do it to.
    b.plane.drop_needles(&dropped(extent, [9])).await.unwrap();
    b.plane
        .generation_done(extent, Generation(1), &status)
        .await
        .unwrap();
    b.plane.gone(extent).await.unwrap();
    assert_ne!(
        b.plane.grant(b.session).await.unwrap().extent,
        extent,
        "ids are never given twice"
    );
}

#[tokio::test]
async fn an_extent_that_is_open_on_its_node_though_it_was_sealed_is_sealed_again() {
    let b = bench().await;
    let extent = b.sealed(2).await;
    b.plane.drop_needles(&dropped(extent, [1])).await.unwrap();
    // Its node has lost the record of it.
    let node = MemoryNode::new(DiskId(7), 1 << 20);
    let opened = node.open_extent(DiskId(7), extent, Epoch(1), 1 << 20).await;
    assert!(!opened.unwrap().sealed);
    let b = open(Arc::new(b.store.crash()), node).await;
    assert_eq!(b.plane.decide(extent).await.unwrap().unwrap().needles, ids([1]));
    assert!(b.node.extent(extent).await.unwrap().sealed);
    assert_ne!(b.plane.grant(b.session).await.unwrap().extent, extent);
}

async fn holders(b: &Bench) -> Vec<String> {
    let held = b.plane.held().await.unwrap();
    held.iter().map(|h| format!("{}: {}", h.by, h.why)).collect()
}

#[tokio::test]
async fn a_hold_needs_a_name_and_a_reason_of_bounded_length() {
    let b = bench().await;
    let long = "x".repeat(HOLD_TEXT_BYTES_MAX + 1);
    for (by, why) in [("", "why"), ("by", ""), ("by", &long), (&long, "why")] {
        assert_eq!(b.plane.hold(by, why).await.unwrap_err().kind, ErrorKind::Invalid);
        assert!(b.plane.hold_while(by, why).await.is_err());
    }
    for n in 0..HOLDS_MAX {
        b.plane.hold(&format!("{n}"), "why").await.unwrap();
    }
    b.plane.hold("0", "again").await.unwrap();
    assert_eq!(
        b.plane.hold("another", "why").await.unwrap_err().kind,
        ErrorKind::Busy
    );
}

#[tokio::test]
async fn while_it_is_held_nothing_is_decided() {
    let b = bench().await;
    let extent = b.sealed(2).await;
    b.plane.drop_needles(&dropped(extent, [1])).await.unwrap();
    b.plane.hold("restore", "restored").await.unwrap();
    b.plane.hold("operator", "looking").await.unwrap();
    let _for_now = b.plane.hold_while("backup", "copying").await.unwrap();
    assert_eq!(
        holders(&b).await,
        ["operator: looking", "restore: restored", "backup: copying"]
    );
    let b = b.crash().await;
    assert_eq!(
        holders(&b).await,
        ["operator: looking", "restore: restored"],
        "a process that died copies nothing"
    );
    assert!(b.plane.release("operator").await.unwrap());
    assert!(!b.plane.release("operator").await.unwrap(), "once");
    let refusals = [
        b.plane.decide(extent).await.unwrap_err(),
        b.plane.drop_needles(&dropped(extent, [2])).await.unwrap_err(),
        b.plane.gone(extent).await.unwrap_err(),
    ];
    assert!(
        refusals
            .iter()
            .all(|f| f.kind == ErrorKind::Conflict && f.what.contains("restored")),
        "{refusals:?}"
    );
    let for_now = b.plane.hold_while("backup", "copying").await.unwrap();
    assert!(b.plane.release("restore").await.unwrap());
    assert_eq!(
        b.plane.decide(extent).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
    drop(for_now);
    assert_eq!(b.plane.held().await.unwrap(), []);
    assert_eq!(b.plane.decide(extent).await.unwrap().unwrap().needles, ids([1]));
}

#[tokio::test]
async fn a_quarter_of_a_million_needles_are_one_generation_and_more_pages_than_fit_are_several() {
    let b = bench().await;
    let extent = b.sealed(1).await;
    let many: Vec<Dropped> = dropped(extent, (1..=250_000).step_by(2));
    for needles in many.chunks(DROP_NEEDLES_MAX) {
        b.plane.drop_needles(needles).await.unwrap();
    }
    assert_eq!(
        b.plane.decide(extent).await.unwrap().unwrap().needles.len(),
        125_000
    );
    let too_many = dropped(extent, 0..=DROP_NEEDLES_MAX as u64);
    assert_eq!(
        b.plane.drop_needles(&too_many).await.unwrap_err().kind,
        ErrorKind::Invalid
    );

    let sparse = b.sealed(1).await;
    let pages = DROPPED_PAGES_MAX as u64 + 3;
    b.plane
        .drop_needles(&dropped(sparse, (0..pages).map(|p| p * DROPPED_PAGE_NEEDLES)))
        .await
        .unwrap();
    let mut seen = BTreeSet::new();
    for generation in [1, 2] {
        let decision = b.plane.decide(sparse).await.unwrap().unwrap();
        assert_eq!(decision.generation, Generation(generation));
        seen.extend(decision.needles);
        let status = b.compacted(sparse, decision.generation).await;
        b.plane
            .generation_done(sparse, decision.generation, &status)
            .await
            .unwrap();
    }
    assert_eq!(seen.len() as u64, pages);
    assert_eq!(b.plane.decide(sparse).await.unwrap(), None);
}

#[derive(Clone, Debug)]
enum Step {
    Drop(Vec<u64>),
    Decide,
    Done,
    Crash,
    Fail(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => proptest::collection::vec(prop_oneof![1..9u64, 4092..4100u64], 1..6).prop_map(Step::Drop),
        2 => Just(Step::Decide),
        2 => Just(Step::Done),
        1 => Just(Step::Crash),
        1 => any::<bool>().prop_map(Step::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Against a set: every needle is booked in exactly one of the lists, and the counts are those of the lists.
    #[test]
    fn lists_are_sets(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut b = bench().await;
            let extent = b.sealed(1).await;
            let (mut waiting, mut deciding) = (BTreeSet::<u64>::new(), None::<(Generation, BTreeSet<u64>)>);
            let mut generation = 0;
            for step in steps {
                match step {
                    Step::Drop(needles) => {
                        b.plane.drop_needles(&dropped(extent, needles.clone())).await.unwrap();
                        let decided = |n: &u64| deciding.as_ref().is_some_and(|(_, d)| d.contains(n));
                        waiting.extend(needles.into_iter().filter(|n| !decided(n)));
                    }
                    Step::Decide => {
                        let decision = b.plane.decide(extent).await.unwrap();
                        if !waiting.is_empty() {
                            let (number, mut needles) = deciding.take().unwrap_or((Generation(generation), BTreeSet::new()));
                            needles.append(&mut waiting);
                            deciding = Some((Generation(number.0 + 1), needles));
                        }
                        let told = decision.map(|d| (d.generation, d.needles.iter().map(|n| n.0).collect()));
                        assert_eq!(told, deciding);
                    }
                    Step::Done => {
                        let Some((number, _)) = deciding.take() else { continue };
                        let status = b.compacted(extent, number).await;
                        b.plane.generation_done(extent, number, &status).await.unwrap();
                        generation = number.0;
                    }
                    Step::Crash => b = b.crash().await,
                    Step::Fail(kept) => b.store.fail_next(match kept {
                        true => memory::Fault::UnknownKept,
                        false => memory::Fault::UnknownLost,
                    }),
                }
            }
            let all: BTreeSet<u64> = deciding.iter().flat_map(|(_, d)| d).chain(&waiting).copied().collect();
            assert_eq!(b.plane.dropped(extent).await.unwrap(), ids(all));
            let usage = b.usage(extent).await;
            assert_eq!((usage.dropped_needles, usage.dropped_bytes), (waiting.len() as u64, 100 * waiting.len() as u64));
        });
    }
}
