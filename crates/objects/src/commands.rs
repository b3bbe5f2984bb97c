//! Mutating commands on their way to the index: ids, the watermark, retries.
//!
//! ```text
//!   issued ──answer──▶ answered                       the serial may be passed by `done_below`
//!     │ └──proof that it had no effect──▶ answered
//!     ├──caller vanished──▶ abandoned ──asked again, the same──▶ answered | lost
//!     └──retries ended without an answer──▶ lost       `done_below` never passes it: its answer stays known
//! ```
//! A command is sent again only unchanged, under its own id, so it cannot act twice (I11). It is never sent again after
//! its caller has been told that its fate is unknown: a client that has moved on must not be overtaken by its past.

use crate::ObjectsError;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use types::limits::{CALL_MS_MAX, OWNER_QUEUE_MAX, RETRIES_MAX};
use types::{CommandId, ErrorKind, SessionId};
use wire::Fault;
use wire::index::{Call, Command, Index, Reason};
use wire::records::answer::Kind as AnswerKind;
use world::Clock;

/// Abandoned commands asked about at once.
const ABANDONED_AT_ONCE: usize = 64;

/// Which serials of the session have no answer yet.
#[derive(Debug, Default)]
struct Ledger {
    last: u64,
    unanswered: BTreeSet<u64>,
    /// The lowest serial whose answer was never learned.
    lost: Option<u64>,
}

impl Ledger {
    /// The next serial, and the watermark to send with it.
    fn issue(&mut self) -> Option<(u64, u64)> {
        if self.unanswered.len() >= OWNER_QUEUE_MAX {
            return None;
        }
        self.last += 1;
        self.unanswered.insert(self.last);
        let lowest = self.unanswered.first().copied().unwrap_or(self.last);
        Some((self.last, self.lost.map_or(lowest, |lost| lost.min(lowest))))
    }

    fn answered(&mut self, serial: u64) {
        self.unanswered.remove(&serial);
    }

    fn lose(&mut self, serial: u64) {
        self.unanswered.remove(&serial);
        self.lost = Some(self.lost.map_or(serial, |lost| lost.min(serial)));
    }
}

/// Sends commands; one a gateway.
pub(crate) struct Commands {
    line: Arc<Line>,
    session: SessionId,
    abandoned: Mutex<Option<mpsc::Sender<Call>>>,
    resolver: Mutex<Option<JoinHandle<()>>>,
}

/// What the sender and the resolver share.
struct Line {
    index: Arc<dyn Index>,
    clock: Arc<dyn Clock>,
    ledger: Mutex<Ledger>,
}

/// A command that was issued and has no answer yet.
struct Sent<'a> {
    commands: &'a Commands,
    call: Option<Call>,
}

impl Sent<'_> {
    fn call(&self) -> &Call {
        self.call.as_ref().expect("it is taken only at its end")
    }

    fn answered(mut self) {
        if let Some(call) = self.call.take() {
            self.commands.line.ledger().answered(call.id.serial());
        }
    }

    fn lost(mut self) {
        if let Some(call) = self.call.take() {
            self.commands.line.ledger().lose(call.id.serial());
        }
    }
}

impl Drop for Sent<'_> {
    /// The caller vanished while the command was on its way: it is asked about until it is answered.
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        let serial = call.id.serial();
        let sender = self
            .commands
            .abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if sender.as_ref().is_none_or(|s| s.try_send(call).is_err()) {
            self.commands.line.ledger().lose(serial);
        }
    }
}

impl Line {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a command until it is answered, proven to have had no effect, or tries end (`Unknown`).
    async fn drive(&self, call: &Call) -> Result<AnswerKind, Fault> {
        let mut maybe = false;
        let mut attempt = 0;
        loop {
            let fault = match self.once(call.clone()).await {
                Ok(answer) => {
                    let none = || Fault::new(ErrorKind::Fault, "the index answered nothing");
                    return answer.kind.ok_or_else(none);
                }
                Err(fault) => fault,
            };
            maybe |= fault.kind == ErrorKind::Unknown;
            let again = matches!(
                fault.kind,
                ErrorKind::Unknown | ErrorKind::Unavailable | ErrorKind::Busy
            );
            if !again || attempt >= RETRIES_MAX {
                let kind = if maybe { ErrorKind::Unknown } else { fault.kind };
                return Err(Fault::new(kind, fault.what));
            }
            self.clock
                .sleep(Duration::from_millis(10 << (2 * attempt).min(8)))
                .await;
            attempt += 1;
        }
    }

    async fn once(&self, call: Call) -> wire::index::Answered {
        let id = call.id;
        tokio::select! {
            biased;
            answer = self.index.call(call) => answer,
            () = self.clock.sleep(Duration::from_millis(CALL_MS_MAX)) =>
                Err(Fault::new(ErrorKind::Unknown, format!("command {id}: no answer in {CALL_MS_MAX} ms"))),
        }
    }

    async fn resolve(&self, call: Call) {
        let serial = call.id.serial();
        match self.drive(&call).await {
            Err(fault) if fault.kind == ErrorKind::Unknown => self.ledger().lose(serial),
            _ => self.ledger().answered(serial),
        }
    }
}

impl Commands {
    /// Starts the resolver too: a task of the current runtime, ended by [`Commands::shutdown`].
    pub(crate) fn new(index: Arc<dyn Index>, clock: Arc<dyn Clock>, session: SessionId) -> Self {
        let line = Arc::new(Line {
            index,
            clock,
            ledger: Mutex::default(),
        });
        let (sender, receiver) = mpsc::channel::<Call>(OWNER_QUEUE_MAX);
        let shared = Arc::clone(&line);
        let resolver = tokio::spawn(async move {
            let calls = stream::unfold(
                receiver,
                |mut r| async move { r.recv().await.map(|call| (call, r)) },
            );
            let line = &shared;
            calls
                .for_each_concurrent(ABANDONED_AT_ONCE, |call| async move { line.resolve(call).await })
                .await;
        });
        Self {
            line,
            session,
            abandoned: Mutex::new(Some(sender)),
            resolver: Mutex::new(Some(resolver)),
        }
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// What the state refuses; a fault of kind `Unknown` when it may have taken effect, else it has not.
    pub(crate) async fn send(&self, command: Command) -> Result<AnswerKind, ObjectsError> {
        let sent = self.issue(command)?;
        let answer = self.line.drive(sent.call()).await;
        match &answer {
            Err(fault) if fault.kind == ErrorKind::Unknown => sent.lost(),
            _ => sent.answered(),
        }
        match answer? {
            AnswerKind::Refused(refused) => match Reason::from_number(refused.reason) {
                Some(reason) => Err(ObjectsError::Refused {
                    reason,
                    detail: refused.detail,
                    part_number: refused.part_number,
                    size: refused.size,
                }),
                None => {
                    let what = format!(
                        "the index refuses for reason {}, which is not known here",
                        refused.reason
                    );
                    Err(Fault::new(ErrorKind::Fault, what).into())
                }
            },
            kind => Ok(kind),
        }
    }

    /// The planted bug of answering before the index: the command is sent, some time, and nobody waits.
    pub(crate) fn send_some_time(&self, command: Command) -> Result<(), ObjectsError> {
        drop(self.issue(command)?);
        Ok(())
    }

    fn issue(&self, command: Command) -> Result<Sent<'_>, Fault> {
        let issued = self.line.ledger().issue();
        let Some((serial, done_below)) = issued else {
            return Err(Fault::new(
                ErrorKind::Busy,
                "too many commands wait for their answers",
            ));
        };
        Ok(Sent {
            commands: self,
            call: Some(Call {
                id: CommandId::new(self.session, serial),
                done_below,
                command,
            }),
        })
    }

    /// Waits until every abandoned command has been asked about.
    pub(crate) async fn shutdown(&self) {
        self.abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let resolver = self
            .resolver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(resolver) = resolver
            && let Err(error) = resolver.await
        {
            tracing::error!(%error, "the resolver of abandoned commands ended badly");
        }
    }
}

impl Drop for Commands {
    /// Without [`Commands::shutdown`], as when a process dies: nothing more is asked.
    fn drop(&mut self) {
        let resolver = self.resolver.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(resolver) = resolver.take() {
            resolver.abort();
        }
    }
}

/// An answer of another kind than the command's: a bug of the index, told as a fault.
pub(crate) fn unexpected(answer: &AnswerKind) -> ObjectsError {
    Fault::new(ErrorKind::Fault, format!("an answer of another kind: {answer:?}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_stops_at_what_has_no_answer() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.issue(), Some((1, 1)));
        assert_eq!(ledger.issue(), Some((2, 1)));
        ledger.answered(2);
        assert_eq!(ledger.issue(), Some((3, 1)), "1 is still on its way");
        ledger.answered(1);
        assert_eq!(ledger.issue(), Some((4, 3)));
        ledger.answered(3);
        ledger.lose(4);
        assert_eq!(
            ledger.issue(),
            Some((5, 4)),
            "a lost answer stays known for ever (I11)"
        );
        ledger.answered(5);
        assert_eq!(ledger.issue(), Some((6, 4)));
    }
}
