//! A large needle under way: one frame is written while the next one arrives.

use crate::disk::{DiskService, Job};
use crate::translate::{Synced, appended, fault, head};
use extent::{ExtentError, LargeAppend};
use std::sync::Arc;
use tokio::sync::oneshot;
use types::{Epoch, ErrorKind, ExtentId};
use wire::Fault;
use wire::node::{Ack, Appended, Appending, Checked, NeedleHead};
use world::JobSender;

type Written = (LargeAppend, Result<(), ExtentError>);

/// Dropped at any point, the append is given up by whoever holds the [`LargeAppend`] then: here, or the loop.
pub(crate) struct LocalAppending {
    disk: Arc<DiskService>,
    writer: JobSender<Job>,
    state: State,
}

enum State {
    Idle(Box<LargeAppend>),
    /// A frame is being written.
    Writing(oneshot::Receiver<Box<Written>>),
    Failed,
}

impl LocalAppending {
    pub(crate) async fn begin(
        disk: Arc<DiskService>,
        extent: ExtentId,
        epoch: Epoch,
        needle: NeedleHead,
    ) -> Result<Self, Fault> {
        let writer = disk.writer();
        let dir = disk.dir.clone();
        let begun = crate::disk::run(&writer, move || dir.begin(extent, epoch, head(needle))).await?;
        Ok(Self {
            disk,
            writer,
            state: State::Idle(Box::new(begun.map_err(|e| fault(&e))?)),
        })
    }

    /// Waits until no frame is being written.
    async fn idle(&mut self) -> Result<Box<LargeAppend>, Fault> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(large) => Ok(large),
            State::Failed => Err(Fault::new(ErrorKind::Conflict, "the append has failed before")),
            State::Writing(written) => {
                let gone = |_dropped| Fault::new(ErrorKind::Unknown, "the disk's loop has ended");
                let (large, result) = *written.await.map_err(gone)?;
                result.map_err(|e| fault(&e))?;
                Ok(Box::new(large))
            }
        }
    }
}

#[async_trait::async_trait]
impl Appending for LocalAppending {
    async fn frame(&mut self, frame: Checked) -> Result<(), Fault> {
        let mut large = self.idle().await?;
        let (tx, rx) = oneshot::channel();
        let job: Job = Box::new(move || {
            let result = large.frame(&frame.bytes, &frame.crcs);
            // Nobody waits any more: the append is dropped, and given up, here.
            drop(tx.send(Box::new((*large, result))));
        });
        let gone = |_closed| Fault::new(ErrorKind::Unknown, "the disk's loop has ended");
        self.writer.send(job).await.map_err(gone)?;
        self.state = State::Writing(rx);
        Ok(())
    }

    async fn finish(mut self: Box<Self>, ack: Ack) -> Result<Appended, Fault> {
        let large = self.idle().await?;
        let (done, synced) = Synced::new(ack);
        let finished = crate::disk::run(&self.writer, move || large.finish(done)).await?;
        let needle = finished.map_err(|e| fault(&e))?;
        synced.wait().await?;
        Ok(appended(&self.disk.dir, needle))
    }
}
