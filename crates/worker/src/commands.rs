//! The worker's own commands: under a session of its own, one at a time, each sent again until it is answered.

use std::sync::Arc;
use std::time::Duration;
use types::limits::{CALL_MS_MAX, RETRIES_MAX};
use types::{CommandId, ErrorKind, SessionId};
use wire::Fault;
use wire::index::{Call, Command, Reason, Reclaim};
use wire::records::answer::Kind;
use world::Clock;

/// Sends the commands of one session, one after the other.
pub(crate) struct Commands {
    index: Arc<dyn Reclaim>,
    clock: Arc<dyn Clock>,
    session: SessionId,
    last: u64,
}

impl Commands {
    pub(crate) fn new(index: Arc<dyn Reclaim>, clock: Arc<dyn Clock>, session: SessionId) -> Self {
        Self {
            index,
            clock,
            session,
            last: 0,
        }
    }

    /// Sends a command until it has an answer; its own refusal is one.
    ///
    /// # Errors
    /// A refusal as a `Conflict`; else the last fault. What an `Unknown` one did is seen by whoever looks again: each of the worker's
    /// commands may be given twice.
    pub(crate) async fn send(&mut self, command: Command) -> Result<Kind, Fault> {
        self.last += 1;
        let call = Call {
            id: CommandId::new(self.session, self.last),
            done_below: self.last,
            command,
        };
        let mut attempt = 0;
        loop {
            let answered = tokio::select! {
                biased;
                answered = self.index.call(call.clone()) => answered,
                () = self.clock.sleep(Duration::from_millis(CALL_MS_MAX)) =>
                    Err(Fault::new(ErrorKind::Unknown, "the index does not answer gc")),
            };
            match answered.map(|answer| answer.kind) {
                Ok(Some(Kind::Refused(refused))) => {
                    let reason = Reason::from_number(refused.reason);
                    let what = format!("gc's command was refused: {reason:?} {}", refused.detail);
                    return Err(Fault::new(ErrorKind::Conflict, what));
                }
                Ok(Some(kind)) => return Ok(kind),
                Ok(None) => return Err(Fault::new(ErrorKind::Fault, "an answer of no kind")),
                Err(fault) if attempt >= RETRIES_MAX => return Err(fault),
                Err(fault) => match fault.kind {
                    ErrorKind::Unknown | ErrorKind::Busy | ErrorKind::Unavailable => attempt += 1,
                    _ => return Err(fault),
                },
            }
            self.clock
                .sleep(Duration::from_millis(10 << attempt.min(8)))
                .await;
        }
    }
}
