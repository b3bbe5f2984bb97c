//! A partition as its owner has it in memory, and a batch as it is decided. Synchronous: nothing here waits.
//!
//! ```text
//!   Partition ── begin ──▶ Draft ── decide, decide, … ──▶ seal ──▶ Batch ──(commit)──▶ committed ──▶ Partition
//! ```
//! A draft is decided on durable rows and on what it decided before; it is thrown away if its commit is not done.
//!
//! I11: a command id that has an answer gets that answer; a command below its session's floor, or of an ended session,
//! never takes effect again. Both are rows, so they hold for every later owner. Answers of ended sessions stay until the
//! next sessions end, so that one that was still waiting is not told of a refusal that is not true. Where answers cannot be read
//! (the index rotted) nothing is decided until their sessions are ended.

use crate::commands;
use crate::rows::{RowRef, decode, encode};
use crate::view::{Change, Known, Needs, Now, Stop, View, Writes, writes_bytes};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use store::{Batch, Fence};
use types::limits::{BATCH_COMMANDS_MAX, BATCH_FILL_BYTES, COMMAND_BYTES_MAX};
use types::{CommandId, ErrorKind, Hlc, SessionId, StampId};
use wire::Fault;
use wire::index::{Call, Reason};
use wire::node::Ordered;
use wire::records::{Answer, DoneRecord, PartitionState, Refused, SessionFloor, answer};
use world::plant::{Plant, is_planted};

/// The last moment that has a calendar date of four digits: clocks past it are read as it.
const WALL_MS_MAX: u64 = 253_402_300_799_999;

/// Answers removed in one batch; what is left goes with the next.
const FORGET_MAX: usize = 4 * BATCH_COMMANDS_MAX;

/// What the owner of a partition knows of it without asking the store.
pub(crate) struct Partition {
    pub(crate) fence: Fence,
    pub(crate) stamp: StampId,
    pub(crate) state: PartitionState,
    /// Every answer there is, encoded.
    pub(crate) done: BTreeMap<CommandId, Bytes>,
    /// Serials below it are answered and may not come again.
    pub(crate) floors: BTreeMap<SessionId, u64>,
    /// Answers kept, `limits::DONE_ROWS_MAX`.
    pub(crate) done_rows_max: usize,
    /// Sessions whose answers go, a batch's worth at a time: all below.
    pub(crate) forget_below: SessionId,
    /// Answers could not be read, of sessions that were not ended below this one.
    pub(crate) answers_lost: Option<SessionId>,
    /// No needle was ever condemned here: their rows need not be asked for.
    pub(crate) none_condemned: bool,
    /// There may be ended uploads with rows to sweep, from this row on.
    pub(crate) unswept: Option<Bytes>,
}

/// A batch being decided.
pub(crate) struct Draft {
    /// Durable rows it is decided on.
    pub(crate) known: Known,
    writes: Writes,
    bytes: usize,
    behind: Vec<Ordered>,
    state: PartitionState,
    done: BTreeMap<CommandId, Answer>,
    floors: BTreeMap<SessionId, u64>,
    forget_below: SessionId,
    unswept: Option<Bytes>,
}

/// What comes of deciding one call.
pub(crate) enum Verdict {
    /// The answer it got before, which is durable.
    Known(Answer),
    /// The answer it gets once the draft is durable.
    Decided(Answer),
    /// A step is in the draft: to be decided again once that is durable.
    Step,
    /// A step of the sweep is in the draft.
    Swept,
    /// The draft has no room for it: to be decided on the next.
    Later,
    /// It is not decided, and nothing of it will be.
    Failed(Fault),
    /// These durable rows are missing.
    Needs(Needs),
}

impl Partition {
    /// An empty draft.
    pub(crate) fn begin(&self) -> Draft {
        Draft {
            known: Known::default(),
            writes: Writes::new(),
            bytes: 0,
            behind: Vec::new(),
            state: self.state,
            done: BTreeMap::new(),
            floors: BTreeMap::new(),
            forget_below: self.forget_below,
            unswept: self.unswept.clone(),
        }
    }

    /// Decides a call on top of the draft.
    pub(crate) fn decide(&self, draft: &mut Draft, call: &Call, wall_ms: u64) -> Verdict {
        if let Some(answer) = draft.done.get(&call.id) {
            return Verdict::Decided(answer.clone());
        }
        if let Some(bytes) = self.done.get(&call.id).filter(|_| !is_planted(Plant::ForgetDone)) {
            return match decode::<Answer>(&call.id.to_bytes(), bytes) {
                Ok(answer) => Verdict::Known(answer),
                Err(bad) => Verdict::Failed(Fault::new(ErrorKind::Corrupt, bad.to_string())),
            };
        }
        let session = call.id.session();
        if session.0 < draft.state.sessions_ended_below {
            return Verdict::Decided(session_ended());
        }
        if self
            .answers_lost
            .is_some_and(|at| draft.state.sessions_ended_below <= at.0)
        {
            let what =
                "answers of earlier sessions cannot be read: nothing is decided before those are ended";
            return Verdict::Failed(Fault::new(ErrorKind::Unavailable, what));
        }
        let floor = self.floor(draft, session);
        if call.id.serial() < floor {
            // It will not take effect now; whether it once did is no longer known.
            let what = format!("the answer of command {} was let go", call.id);
            return Verdict::Failed(Fault::new(ErrorKind::Unknown, what));
        }
        let now = self.now(draft, call.id, wall_ms);
        match commands::decide(&call.command, &View::new(&draft.known, &draft.writes), &now) {
            Ok(decision) => {
                let bytes = decision.change.len_bytes();
                if bytes > COMMAND_BYTES_MAX {
                    let what = format!("{bytes} bytes of rows in one command");
                    return Verdict::Failed(Fault::new(ErrorKind::Invalid, what));
                }
                if draft.bytes + bytes > COMMAND_BYTES_MAX {
                    return Verdict::Later;
                }
                let is_step = decision.change.is_step;
                draft.take(decision.change, &now);
                if is_step {
                    return Verdict::Step;
                }
                draft.done.insert(call.id, decision.answer.clone());
                // A command cannot be done below itself.
                let said = call.done_below.min(call.id.serial());
                let floor = floor.max(said).max(self.floor_by_count(session));
                draft.floors.insert(session, floor);
                Verdict::Decided(decision.answer)
            }
            Err(Stop::Needs(needs)) => Verdict::Needs(needs),
            Err(Stop::Bad(bad)) => Verdict::Failed(Fault::new(ErrorKind::Corrupt, bad.to_string())),
            Err(Stop::Refused(_)) => unreachable!("a refusal is a decision"),
        }
    }

    /// Takes a step of the sweep of ended uploads, on top of the draft.
    pub(crate) fn sweep(&self, draft: &mut Draft, wall_ms: u64) -> Verdict {
        let now = self.now(draft, CommandId::default(), wall_ms);
        let mut change = Change::default();
        let from = draft.unswept.clone().unwrap_or_default();
        let view = View::new(&draft.known, &draft.writes);
        match commands::sweep(&from, &view, &now, &mut change) {
            Ok(_) if draft.bytes + change.len_bytes() > COMMAND_BYTES_MAX => Verdict::Later,
            Ok(unswept) => {
                draft.unswept = unswept;
                draft.take(change, &now);
                Verdict::Swept
            }
            Err(Stop::Needs(needs)) => Verdict::Needs(needs),
            Err(Stop::Bad(bad)) => Verdict::Failed(Fault::new(ErrorKind::Corrupt, bad.to_string())),
            Err(Stop::Refused(_)) => unreachable!("nobody asked"),
        }
    }

    fn now(&self, draft: &Draft, command: CommandId, wall_ms: u64) -> Now {
        let wall_ms = wall_ms.min(WALL_MS_MAX);
        Now {
            hlc: Hlc(draft.state.hlc).after(wall_ms),
            wall_ms,
            stamp: self.stamp,
            serial: draft.state.serial + 1,
            command,
            ended_below: SessionId(draft.state.sessions_ended_below),
        }
    }

    fn floor(&self, draft: &Draft, session: SessionId) -> u64 {
        let floor = draft.floors.get(&session).or_else(|| self.floors.get(&session));
        floor.copied().unwrap_or(0)
    }

    /// The floor of a session that never says what it has: its oldest answers go once there are too many of them all.
    fn floor_by_count(&self, session: SessionId) -> u64 {
        let over = (self.done.len() + BATCH_COMMANDS_MAX).saturating_sub(self.done_rows_max);
        if over == 0 {
            return 0;
        }
        let oldest = self
            .done
            .range(CommandId::new(session, 0)..=CommandId::new(session, u64::MAX));
        oldest.take(over).last().map_or(0, |(id, _)| id.serial() + 1)
    }

    /// Ends all sessions below `mark`, on top of the draft.
    pub(crate) fn end_sessions_below(&self, draft: &mut Draft, mark: SessionId) {
        let ended = draft.state.sessions_ended_below;
        if mark.0 > ended {
            draft.forget_below = SessionId(ended);
            draft.state.sessions_ended_below = mark.0;
        }
    }

    /// The draft as rows to commit; `None` when there is nothing to write.
    pub(crate) fn seal(&self, draft: &mut Draft) -> Option<Batch> {
        if draft.state == self.state {
            return None;
        }
        draft.state.epoch = self.fence.epoch.0;
        draft.state.sequence = self.fence.sequence.0 + 1;
        for (id, answer) in &draft.done {
            let record = DoneRecord {
                answer: Some(answer.clone()),
                hlc: draft.state.hlc,
            };
            draft
                .writes
                .insert(RowRef::Done(*id).key(), Some(encode(&record)));
        }
        draft
            .floors
            .retain(|s, floor| self.floors.get(s).copied().unwrap_or(0) < *floor);
        for (session, floor) in &draft.floors {
            let record = SessionFloor { done_below: *floor };
            draft
                .writes
                .insert(RowRef::Session(*session).key(), Some(encode(&record)));
        }
        for id in self.forgotten(draft) {
            draft.writes.insert(RowRef::Done(id).key(), None);
        }
        for (session, _) in self.floors.range(..draft.forget_below) {
            draft.writes.insert(RowRef::Session(*session).key(), None);
        }
        draft
            .writes
            .insert(RowRef::State.key(), Some(encode(&draft.state)));
        Some(Batch {
            rows: draft.writes.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            behind: draft.behind.iter().map(|o| (o.disk, o.sequence)).collect(),
        })
    }

    /// Answers that nobody will ask for again.
    fn forgotten(&self, draft: &Draft) -> Vec<CommandId> {
        let below = |session, serial| {
            self.done
                .range(CommandId::new(session, 0)..CommandId::new(session, serial))
        };
        let fetched = draft.floors.iter().flat_map(|(s, floor)| below(*s, *floor));
        let ended = self.done.range(..CommandId::new(draft.forget_below, 0));
        fetched.chain(ended).map(|(id, _)| *id).take(FORGET_MAX).collect()
    }

    /// The sealed draft is durable under `fence`; gives its rows back.
    pub(crate) fn committed(&mut self, draft: Draft, fence: Fence) -> Writes {
        assert!(
            fence.sequence.0 == draft.state.sequence && fence.epoch.0 == draft.state.epoch,
            "the store counts batches as the partition does"
        );
        for id in self.forgotten(&draft) {
            self.done.remove(&id);
        }
        self.forget_below = draft.forget_below;
        self.floors = self.floors.split_off(&draft.forget_below);
        self.floors.extend(draft.floors);
        let done = draft.done.into_iter();
        self.done
            .extend(done.map(|(id, answer)| (id, Bytes::from(answer.encode_to_vec()))));
        self.none_condemned &= !draft.writes.keys().any(|k| crate::rows::is_condemned(k));
        let mut there = draft.writes.iter().filter(|(_, value)| value.is_some());
        let ended = there.find_map(|(key, _)| crate::rows::is_ended(key).then(|| key.clone()));
        self.unswept = draft.unswept.into_iter().chain(ended).min();
        self.state = draft.state;
        self.fence = fence;
        draft.writes
    }
}

impl Draft {
    fn take(&mut self, change: Change, now: &Now) {
        self.state.hlc = now.hlc.0;
        self.state.serial = now.serial;
        self.bytes += writes_bytes(&change.writes);
        self.writes.extend(change.writes);
        self.behind.extend(change.behind);
    }

    /// Whether the next command should wait for the next batch.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= BATCH_FILL_BYTES
    }

    /// Rows of the commands decided so far.
    pub(crate) fn writes(&self) -> &Writes {
        &self.writes
    }
}

fn session_ended() -> Answer {
    let refused = Refused {
        reason: Reason::SessionEnded as u32,
        ..Refused::default()
    };
    Answer {
        kind: Some(answer::Kind::Refused(refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{BucketId, BucketName, Epoch, LogSeq, PartitionId};
    use wire::index::Command;

    fn partition(done_rows_max: usize) -> Partition {
        Partition {
            fence: Fence {
                partition: PartitionId::DIRECTORY,
                epoch: Epoch(1),
                sequence: LogSeq(1),
            },
            stamp: StampId::FIRST,
            state: PartitionState::default(),
            done: BTreeMap::new(),
            floors: BTreeMap::new(),
            done_rows_max,
            forget_below: SessionId::default(),
            answers_lost: None,
            none_condemned: true,
            unswept: None,
        }
    }

    fn call(serial: u64, done_below: u64) -> Call {
        Call {
            id: CommandId::new(SessionId(1), serial),
            done_below,
            command: Command::CancelDeleteBucket {
                name: BucketName::new("none").unwrap(),
                bucket: BucketId(1),
                turn: 1,
            },
        }
    }

    /// Decides one call in a batch of its own.
    fn run(p: &mut Partition, call: &Call, wall_ms: u64) -> Verdict {
        let mut draft = p.begin();
        let row = RowRef::BucketName("none").key();
        draft.known.rows.insert(row, None);
        let verdict = p.decide(&mut draft, call, wall_ms);
        if p.seal(&mut draft).is_some() {
            let fence = Fence {
                sequence: LogSeq(p.fence.sequence.0 + 1),
                ..p.fence
            };
            p.committed(draft, fence);
        }
        verdict
    }

    #[test]
    fn answers_are_bounded_and_what_was_let_go_is_unknown() {
        // I11, I9
        let bound = BATCH_COMMANDS_MAX + 50;
        let mut p = partition(bound);
        for serial in 1..=200 {
            assert!(matches!(run(&mut p, &call(serial, 0), 5), Verdict::Decided(_)));
            assert!(p.done.len() <= bound);
        }
        assert!(matches!(run(&mut p, &call(200, 0), 5), Verdict::Known(_)));
        assert!(matches!(run(&mut p, &call(1, 0), 5), Verdict::Failed(f) if f.kind == ErrorKind::Unknown));
    }

    #[test]
    fn time_only_rises_and_stays_in_the_calendar() {
        let mut p = partition(usize::MAX);
        let mut last = 0;
        for (serial, wall_ms) in [1000, 5, u64::MAX, 0, WALL_MS_MAX].into_iter().enumerate() {
            run(&mut p, &call(serial as u64 + 1, 0), wall_ms);
            assert!(p.state.hlc > last && Hlc(p.state.hlc).wall_ms() <= WALL_MS_MAX);
            last = p.state.hlc;
        }
    }

    #[test]
    fn a_session_says_what_it_has() {
        let mut p = partition(usize::MAX);
        for serial in 1..=9 {
            run(&mut p, &call(serial, serial.saturating_sub(3)), 5);
        }
        let kept: Vec<u64> = p.done.keys().map(|id| id.serial()).collect();
        assert_eq!(kept, [6, 7, 8, 9]);
        let mut draft = p.begin();
        p.end_sessions_below(&mut draft, SessionId(2));
        assert!(matches!(p.decide(&mut draft, &call(9, 0), 5), Verdict::Known(_)));
        assert!(matches!(p.decide(&mut draft, &call(10, 0), 5), Verdict::Decided(a) if a == session_ended()));
    }
}
