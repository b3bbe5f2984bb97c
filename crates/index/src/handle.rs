//! A partition as the rest of the role sees it: a queue to its owner, and reads beside it.

use crate::owner::{Job, Owner, Shared};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::Store;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use types::limits::{OWNER_QUEUE_MAX, ROW_CACHE_BYTES_MAX, SERVING_MS_MAX};
use types::{ErrorKind, PartitionId, SessionId, StampId};
use wire::Fault;
use wire::index::{Answered, Call};
use world::{Clock, World};

/// A partition that this process owns.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    /// `None` once shut down.
    running: Mutex<Option<Running>>,
}

struct Running {
    queue: mpsc::Sender<Job>,
    task: JoinHandle<()>,
}

impl Handle {
    /// Takes a partition and starts its owner.
    pub(crate) async fn open(
        world: World,
        store: Arc<dyn Store>,
        id: PartitionId,
        (stamp, row_cache_bytes): (StampId, usize),
    ) -> Result<Self, Fault> {
        let cache_bytes = row_cache_bytes.min(ROW_CACHE_BYTES_MAX);
        let shared = Arc::new(Shared::new(store, id, world.clock.clone(), cache_bytes));
        let owner = Owner::new(world, stamp, shared.clone());
        let (queue, jobs) = mpsc::channel(OWNER_QUEUE_MAX);
        let task = tokio::spawn(owner.run(jobs));
        let handle = Self {
            shared,
            running: Mutex::new(Some(Running { queue, task })),
        };
        handle.ready().await?;
        Ok(handle)
    }

    /// Decides and commits a call.
    pub(crate) async fn call(&self, call: Call) -> Answered {
        self.send(|to| Job::Call(Box::new(call), to)).await
    }

    /// No command of a lower session takes effect once this is answered.
    pub(crate) async fn end_sessions_below(&self, mark: SessionId) -> Result<(), Fault> {
        self.send(|to| Job::EndSessions(mark, to)).await
    }

    /// Waits until reads may be answered.
    pub(crate) async fn ready(&self) -> Result<(), Fault> {
        if self.shared.is_serving() {
            return Ok(());
        }
        self.send(Job::Serve).await
    }

    /// Whether the owner comes to what it is sent. One that has much to do serves.
    pub(crate) async fn serving(&self, clock: &dyn Clock) -> Result<(), Fault> {
        let late = Duration::from_millis(SERVING_MS_MAX);
        tokio::select! {
            biased;
            answer = self.send(Job::Serve) => answer.or_else(|fault| match fault.kind {
                ErrorKind::Busy => Ok(()),
                _ => Err(fault),
            }),
            () = clock.sleep(late) => {
                let what = format!("{} does not answer in {SERVING_MS_MAX} ms", self.shared.id);
                Err(Fault::new(ErrorKind::Unavailable, what))
            }
        }
    }

    async fn send<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Fault>>) -> Job) -> Result<T, Fault> {
        let (to, answer) = oneshot::channel();
        {
            let running = self.running.lock().expect("no panic under this lock");
            let Some(running) = running.as_ref() else {
                return Err(Fault::new(ErrorKind::Unavailable, "the index is shut down"));
            };
            running.queue.try_send(job(to)).map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => {
                    Fault::new(ErrorKind::Busy, "too many commands wait for the index")
                }
                mpsc::error::TrySendError::Closed(_) => {
                    Fault::new(ErrorKind::Fault, "the partition's owner is gone")
                }
            })?;
        }
        let gone = |_| Fault::new(ErrorKind::Unknown, "the partition's owner went away over it");
        answer.await.unwrap_or_else(|e| Err(gone(e)))
    }

    /// Answers what was sent, then stops.
    pub(crate) async fn shutdown(&self) {
        let running = self.running.lock().expect("no panic under this lock").take();
        if let Some(Running { queue, task }) = running {
            drop(queue);
            if let Err(e) = task.await {
                tracing::error!(partition = %self.shared.id, error = %e, "the partition's owner ended badly");
            }
        }
    }
}
