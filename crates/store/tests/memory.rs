//! The memory engine keeps the suite's promises.

use std::sync::Arc;
use store::memory::{Fault, Memory};
use store::{Store, suite};

struct MemoryRig {
    memory: Arc<Memory>,
    fault: Fault,
}

#[async_trait::async_trait]
impl suite::Rig for MemoryRig {
    fn store(&self) -> Arc<dyn Store> {
        self.memory.clone()
    }
    async fn crash(&mut self) {
        self.memory = Arc::new(self.memory.crash());
    }
    async fn settle(&mut self) {}
    fn next_commit_unknown(&mut self) -> bool {
        self.memory.fail_next(self.fault);
        true
    }
}

#[tokio::test]
async fn it_conforms() {
    for fault in [Fault::UnknownKept, Fault::UnknownLost] {
        suite::all(async || MemoryRig {
            memory: Arc::new(Memory::new()),
            fault,
        })
        .await;
    }
}

#[tokio::test]
async fn a_dead_engine_answers_nothing() {
    let dead = Memory::new();
    let fence = dead.take(types::PartitionId::CONTROL).await.unwrap();
    let alive = dead.crash();
    assert!(dead.take(types::PartitionId::CONTROL).await.is_err());
    assert!(matches!(
        dead.commit(fence, store::Batch::default()).await,
        store::Committed::Unknown(_)
    ));
    assert!(alive.snapshot(types::PartitionId::CONTROL).await.is_ok());
}
