//! What every job does alike: it waits for answers with a deadline and for time to pass, and ends soon once it is told to stop.

use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use types::ErrorKind;
use types::limits::CALL_MS_MAX;
use wire::Fault;
use world::World;

/// Why work ended early.
#[derive(Debug)]
pub(crate) enum End {
    /// The job is to stop.
    Stopped,
    /// A role did not do it.
    Failed(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// A job at work: its world and its stop.
pub(crate) struct Work {
    pub(crate) world: World,
    stop: watch::Receiver<bool>,
}

impl Work {
    /// A job that ends soon after `stop` says so.
    pub(crate) fn new(world: World, stop: watch::Receiver<bool>) -> Self {
        Self { world, stop }
    }

    /// Waits for an answer of a role: until the deadline of calls, or until the job is to stop.
    pub(crate) async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, End> {
        self.call_in(what, Duration::from_millis(CALL_MS_MAX), call).await
    }

    /// The same with a deadline of its own.
    pub(crate) async fn call_in<T>(
        &self,
        what: &str,
        deadline: Duration,
        call: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, End> {
        tokio::select! {
            biased;
            () = self.stopped() => Err(End::Stopped),
            answer = call => answer.map_err(|f| End::Failed(Fault::new(f.kind, format!("{what}: {}", f.what)))),
            () = self.world.clock.sleep(deadline) =>
                Err(End::Failed(Fault::new(ErrorKind::Unknown, format!("{what}: no answer in {deadline:?}")))),
        }
    }

    /// Lets time pass.
    pub(crate) async fn sleep(&self, time: Duration) -> Result<(), End> {
        tokio::select! {
            biased;
            () = self.stopped() => Err(End::Stopped),
            () = self.world.clock.sleep(time) => Ok(()),
        }
    }

    /// Ends once the job is to stop; whoever could say so being gone says it too.
    pub(crate) async fn stopped(&self) {
        drop(self.stop.clone().wait_for(|stop| *stop).await);
    }
}
