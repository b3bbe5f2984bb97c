//! Serial loops: a stateful owner of a disk that takes jobs in batches, in order.
//!
//! For real each loop is a named thread; in simulation a task of the one thread. The loop body is the same.

use std::future::Future;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use tokio::sync::mpsc;

/// How loops and tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exec {
    /// A named thread for each loop.
    Threads,
    /// A task in the caller's single-threaded runtime.
    Inline,
}

/// Where a loop's jobs are put; the loop ends once every clone is gone.
pub type JobSender<J> = mpsc::Sender<J>;

/// The body of a serial loop.
pub trait Loop<J>: Send + 'static {
    /// Does the jobs, in order; leaves `jobs` empty. May block.
    fn apply(&mut self, jobs: &mut Vec<J>);
}

/// Waits for a loop's end, which comes once every sender is gone and the last job is done. That is each loop's stop; a disk's
/// owner may drop this, because what its loops still do once the journal is closed changes nothing that was promised.
pub struct LoopEnd(Pin<Box<dyn Future<Output = ()> + Send>>);

impl LoopEnd {
    /// Waits.
    pub async fn wait(self) {
        self.0.await;
    }
}

impl Exec {
    /// How many threads run at the same time.
    pub fn cores(self) -> usize {
        match self {
            Self::Threads => std::thread::available_parallelism().map_or(1, NonZero::get),
            Self::Inline => 1,
        }
    }

    /// Starts a loop of `name` that takes up to `batch_max` jobs at once from a queue of `queue_max`. A panic of a loop in a
    /// thread of its own ends the process: what it owned is lost, and recovery is made for that.
    ///
    /// # Panics
    /// When the operating system has no thread to give.
    pub fn run_loop<J: Send + 'static>(
        self,
        name: &str,
        queue_max: usize,
        batch_max: usize,
        mut body: impl Loop<J>,
    ) -> (JobSender<J>, LoopEnd) {
        let (tx, mut rx) = mpsc::channel(queue_max);
        let end: Pin<Box<dyn Future<Output = ()> + Send>> = match self {
            Self::Threads => {
                let (done_tx, done_rx) = tokio::sync::oneshot::channel::<()>();
                let name = name.to_owned();
                std::thread::Builder::new()
                    .name(name.clone())
                    .spawn(move || {
                        let mut jobs = Vec::new();
                        let run = AssertUnwindSafe(|| {
                            while rx.blocking_recv_many(&mut jobs, batch_max) > 0 {
                                body.apply(&mut jobs);
                                jobs.clear();
                            }
                            drop(body);
                        });
                        if catch_unwind(run).is_err() {
                            // Its state is half changed and whoever waits for it would wait for ever.
                            tracing::error!(name, "a loop panicked: the process ends, as by a crash");
                            std::process::abort();
                        }
                        drop(done_tx);
                    })
                    .expect("the system has a thread for each disk loop");
                Box::pin(async move {
                    // The sender is only ever dropped: this is the thread's end.
                    let _ended = done_rx.await;
                })
            }
            Self::Inline => {
                let task = tokio::spawn(async move {
                    let mut jobs = Vec::new();
                    while rx.recv_many(&mut jobs, batch_max).await > 0 {
                        body.apply(&mut jobs);
                        jobs.clear();
                    }
                });
                Box::pin(async move {
                    let _ended = task.await;
                })
            }
        };
        (tx, LoopEnd(end))
    }
}
