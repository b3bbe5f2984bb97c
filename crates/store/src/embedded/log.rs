//! What the engine asks of the disk's journal.

use crate::StoreError;
use extent::{Consumer, ExtentError, Journal, LogBatch};
use types::{DiskId, JournalSeq};

/// Hears how a record ended.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A disk's journal, as far as the engine sees it.
pub trait Log: Send + Sync {
    /// The disk.
    fn disk(&self) -> DiskId;
    /// Queues a batch; `done` runs once it is on stable storage or has failed, never inside the call. An error: nothing was queued.
    ///
    /// # Errors
    /// Busy, too large, or out of service.
    fn submit(&self, batch: LogBatch, done: Done) -> Result<JournalSeq, StoreError>;
    /// Called after each `submit`, with no lock held that a `done` takes: what is queued may be written now, by the caller.
    fn drive(&self) {}
    /// The next sequence to be queued.
    fn next(&self) -> JournalSeq;
    /// Everything below is in synced files of the engine's own.
    fn release(&self, below: JournalSeq);
    /// A sync of one of the engine's files failed, so nothing is released any more: the disk takes nothing either.
    fn out_of_service(&self, why: &str);
}

/// The real journal and the engine's hold on it.
pub(super) struct JournalLog {
    journal: Journal,
    consumer: Consumer,
}

impl JournalLog {
    /// Claims the batches that recovery found.
    pub(super) fn new(journal: Journal) -> Self {
        let consumer = journal.consumer("index");
        Self { journal, consumer }
    }
}

pub(super) fn meaning(error: &ExtentError) -> StoreError {
    let text = error.to_string();
    match error {
        ExtentError::Busy(_) => StoreError::Busy(text),
        ExtentError::Invalid(_) => StoreError::TooLarge(text),
        ExtentError::Full(_) => StoreError::Full(text),
        ExtentError::Corrupt(_) => StoreError::Corrupt(text),
        _ => StoreError::Failed(text),
    }
}

impl Log for JournalLog {
    fn disk(&self) -> DiskId {
        self.journal.disk()
    }
    fn submit(&self, batch: LogBatch, done: Done) -> Result<JournalSeq, StoreError> {
        let heard = Box::new(move |result: Result<(), ExtentError>| done(result.map_err(|e| meaning(&e))));
        self.journal
            .submit_batch_to_drive(batch, heard)
            .map_err(|e| meaning(&e))
    }
    fn drive(&self) {
        self.journal.drive();
    }
    fn next(&self) -> JournalSeq {
        self.journal.next()
    }
    fn release(&self, below: JournalSeq) {
        self.consumer.release(below);
    }
    fn out_of_service(&self, why: &str) {
        self.journal.fail(why);
    }
}
