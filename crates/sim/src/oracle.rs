//! Judges a history: is there one order of its operations, each within its time, that is a run of the model?
//!
//! Linearizability just in time (Lowe, "Testing for linearizability", 2017): a set of configurations, each a state of the
//! model and which pending operations have taken effect in it. When an operation ends, every configuration lets pending
//! ones take effect in every order until that one has, with the answer that was given; what cannot is dropped. No
//! configuration left: no order explains the answers.
//!
//! ```text
//!   begun ──▶ pending ──answer──▶ judged, gone
//!                └──no answer──▶ carried over the restart: the first look at everything says whether it took effect;
//!                                if it had not by then, it never will (I11)
//! ```
//! Reads and refusals are let happen as soon as they can: they change nothing, so that is never wrong. Which configurations
//! need not be kept is in `frontier`.

use crate::frontier::{Configuration, Frontier, Kinds};
use crate::model::{Book, State};
use crate::op::{Answer, Op, OpId, Outcome, Things};
use std::collections::{BTreeMap, BTreeSet};
use wire::index::Reason;

/// Pending operations at once, at most.
const PENDING_MAX: usize = 128;
/// Configurations at once, at most; past it a run is given up: some 100 MiB.
const CONFIGURATIONS_MAX: usize = 200_000;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operation began.
    Begin(OpId),
    /// It ended so.
    End(OpId, Outcome),
}

/// What a look at everything, with nobody else there, showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What was seen.
    pub state: State,
    /// Of these; the rest could not be read.
    pub known: Things,
}

/// Why a history is not right, or cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No order explains this end.
    Wrong {
        /// Of which operation.
        op: OpId,
        /// What was seen.
        seen: Outcome,
        /// States that were possible before it, a few.
        possible: Vec<State>,
    },
    /// No order explains what was there after a restart.
    WrongAfterRestart {
        /// What was seen.
        look: Box<Look>,
        /// States that were possible, a few.
        possible: Vec<State>,
    },
    /// Too many orders are possible.
    GivenUp,
}

struct Pending {
    op: OpId,
    outcome: Outcome,
    /// Slots of operations that must have taken effect before it can.
    needs: u128,
}

/// The judge of one run.
pub struct Oracle {
    configurations: Vec<Configuration>,
    pending: Vec<Option<Pending>>,
    /// Slots in use.
    live: u128,
    kinds: Kinds,
}

impl Default for Oracle {
    fn default() -> Self {
        Self {
            configurations: vec![Configuration {
                state: State::default(),
                done: 0,
            }],
            pending: (0..PENDING_MAX).map(|_| None).collect(),
            live: 0,
            kinds: Kinds::default(),
        }
    }
}

fn slots(mut mask: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(slot)
    })
}

impl Oracle {
    /// Judges what happened from one start of the machine to the next. Answers from event `trusted` on were promised by
    /// a sync that lied: what they were of may be lost, but only the newest of it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn judge(&mut self, book: &Book, events: &[Event], trusted: usize) -> Result<(), Verdict> {
        let ends = ends(book, events, trusted);
        let mut ended = 0;
        for (n, event) in events.iter().enumerate() {
            match event {
                Event::Begin(op) => {
                    let end = ends.get(op).cloned().unwrap_or(End::Never);
                    self.begin(book, *op, end, ended)?;
                }
                Event::End(op, outcome) => {
                    let slot =
                        slots(self.live).find(|s| self.pending[*s].as_ref().is_some_and(|p| p.op == *op));
                    match slot {
                        Some(slot) if n < trusted => self.end(book, slot, outcome)?,
                        // What was promised falsely survives only with all that was promised before it.
                        Some(slot) if is_effect_told(book, *op, outcome) => {
                            ended |= 1 << slot;
                        }
                        _ => {}
                    }
                }
            }
        }
        assert_eq!(self.kinds.passive, 0, "an answer that came was judged");
        Ok(())
    }

    /// Judges what is there after a restart: whatever had no answer took effect before it or never will.
    ///
    /// # Errors
    /// What is wrong.
    pub fn look(&mut self, book: &Book, look: &Look) -> Result<(), Verdict> {
        for group in self.groups(book) {
            let writes = slots(group).fold(Things::default(), |all, s| {
                all.with(book.op(self.at(s).op).writes())
            });
            let seen = Things(writes.0 & look.known.0);
            let mut next = Frontier::new(&self.kinds);
            self.reach(book, group, |c| {
                if c.state.agrees(book, &look.state, seen) {
                    next.insert(Configuration {
                        done: c.done & !group,
                        ..c
                    });
                }
                true
            })?;
            let next = next.all();
            self.replace(next, look)?;
            for slot in slots(group) {
                self.pending[slot] = None;
            }
            self.live &= !group;
            self.kinds.forget(group);
        }
        let agree = |c: &&Configuration| c.state.agrees(book, &look.state, look.known);
        let next = self.configurations.iter().filter(agree).copied().collect();
        self.replace(next, look)
    }

    /// The store is set to this state: whatever has not taken effect never will.
    pub fn restart(&mut self, state: State) {
        *self = Self {
            configurations: vec![Configuration { state, done: 0 }],
            ..Self::default()
        };
    }

    fn replace(&mut self, next: Vec<Configuration>, look: &Look) -> Result<(), Verdict> {
        if next.is_empty() {
            return Err(Verdict::WrongAfterRestart {
                look: Box::new(look.clone()),
                possible: self.possible(),
            });
        }
        self.take(next)
    }

    /// Pending operations, apart by what they touch: those of two groups do not see each other.
    fn groups(&self, book: &Book) -> Vec<u128> {
        if slots(self.live).any(|s| self.at(s).needs != 0) {
            return vec![self.live];
        }
        let mut left = self.live;
        let mut groups = Vec::new();
        while left != 0 {
            let first = left.trailing_zeros() as usize;
            let op = book.op(self.at(first).op);
            let group = (self.related(book, op.reads(), op.writes()) | 1 << first) & left;
            groups.push(group);
            left &= !group;
        }
        groups
    }

    /// States that are possible now, a few.
    pub fn possible(&self) -> Vec<State> {
        let states: BTreeSet<State> = self.configurations.iter().map(|c| c.state).collect();
        states.into_iter().take(4).collect()
    }

    fn at(&self, slot: usize) -> &Pending {
        self.pending[slot].as_ref().expect("live slots are taken")
    }

    fn begin(&mut self, book: &Book, op: OpId, end: End, needs: u128) -> Result<(), Verdict> {
        let (outcome, is_free) = match end {
            End::Never => (Outcome::Unknown, true),
            End::Distrusted => (Outcome::Unknown, false),
            End::Judged(outcome) => (outcome, false),
        };
        if matches!(outcome, Outcome::Failed(_)) || (outcome == Outcome::Unknown && !book.op(op).is_write()) {
            return Ok(());
        }
        let slot = (!self.live).trailing_zeros() as usize;
        if slot >= PENDING_MAX {
            return Err(Verdict::GivenUp);
        }
        let effective = is_effective(book, op, &outcome);
        self.pending[slot] = Some(Pending { op, outcome, needs });
        self.live |= 1 << slot;
        if is_free {
            self.add_free(book, slot);
        }
        if !effective {
            self.kinds.passive |= 1 << slot;
            for n in 0..self.configurations.len() {
                self.configurations[n] = self.with_passive(book, self.configurations[n]);
            }
        }
        Ok(())
    }

    fn add_free(&mut self, book: &Book, slot: usize) {
        self.kinds.free |= 1 << slot;
        let (op, needs) = (self.at(slot).op, self.at(slot).needs);
        if book.leaves_its_name(op) {
            return;
        }
        let is_twin = |twins: &u128| {
            let other = self.at(twins.trailing_zeros() as usize);
            book.op(other.op) == book.op(op) && other.needs == needs
        };
        match self.kinds.twins.iter().position(is_twin) {
            Some(at) => self.kinds.twins[at] |= 1 << slot,
            None => self.kinds.twins.push(1 << slot),
        }
    }

    /// Lets everything that changes nothing happen, where it can.
    fn with_passive(&self, book: &Book, mut c: Configuration) -> Configuration {
        for slot in slots(self.kinds.passive & !c.done) {
            let p = self.at(slot);
            if book.step(&c.state, p.op, &p.outcome).is_some() {
                c.done |= 1 << slot;
            }
        }
        c
    }

    /// Slots of pending operations that can change what one that touches these things is told, through others too.
    fn related(&self, book: &Book, mut reads: Things, mut writes: Things) -> u128 {
        let mut related = 0;
        let placed = self.configurations.iter().fold(u128::MAX, |all, c| all & c.done);
        // A read that has not found its place sees these and others: which of both came first is for it to say.
        let mut readers = self.kinds.passive & self.live & !placed;
        loop {
            let before = related;
            for slot in slots(readers) {
                let op = book.op(self.at(slot).op);
                if op.reads().meets(writes) {
                    readers &= !(1 << slot);
                    reads = reads.with(op.reads());
                }
            }
            for slot in slots(self.live & !self.kinds.passive & !related) {
                let op = book.op(self.at(slot).op);
                if op.writes().meets(reads.with(writes)) || op.reads().meets(writes) {
                    related |= 1 << slot;
                    reads = reads.with(op.reads());
                    writes = writes.with(op.writes());
                }
            }
            if related == before {
                return related;
            }
        }
    }

    /// Visits every configuration that the present ones can become by letting operations of `group` take effect, those
    /// themselves first, less the superfluous; beyond one for which `visit` answers `false` it does not go.
    fn reach(
        &self,
        book: &Book,
        group: u128,
        mut visit: impl FnMut(Configuration) -> bool,
    ) -> Result<(), Verdict> {
        let mut frontier = Frontier::new(&self.kinds);
        self.configurations.iter().for_each(|c| frontier.insert(*c));
        while let Some(c) = frontier.pop() {
            if frontier.len() > CONFIGURATIONS_MAX {
                return Err(Verdict::GivenUp);
            }
            if !visit(c) {
                continue;
            }
            for slot in slots(group & !c.done) {
                let p = self.at(slot);
                if p.needs & !c.done & self.live != 0 {
                    continue;
                }
                if let Some(state) = book.step(&c.state, p.op, &p.outcome) {
                    let done = c.done | 1 << slot;
                    frontier.insert(self.with_passive(book, Configuration { state, done }));
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, book: &Book, slot: usize, outcome: &Outcome) -> Result<(), Verdict> {
        if *outcome == Outcome::Unknown {
            return Ok(());
        }
        let op = self.at(slot).op;
        let bit = 1 << slot;
        let group = self.related(book, book.op(op).reads(), book.op(op).writes()) & !bit;
        let mut next = Frontier::new(&self.kinds);
        self.reach(book, group, |c| {
            if c.done & bit != 0 {
                next.insert(Configuration {
                    done: c.done & !bit,
                    ..c
                });
                return false;
            }
            let Some(state) = book.step(&c.state, op, outcome) else {
                return true;
            };
            let after = self.with_passive(book, Configuration { state, done: c.done });
            next.insert(Configuration {
                done: after.done & !bit,
                ..after
            });
            // What changes nothing need not wait for others; what does may come after any of them.
            self.kinds.passive & bit == 0
        })?;
        let next = next.all();
        if next.is_empty() {
            return Err(Verdict::Wrong {
                op,
                seen: outcome.clone(),
                possible: self.possible(),
            });
        }
        self.pending[slot] = None;
        self.live &= !bit;
        self.kinds.forget(bit);
        self.take(next)
    }

    fn take(&mut self, configurations: Vec<Configuration>) -> Result<(), Verdict> {
        if configurations.len() > CONFIGURATIONS_MAX {
            return Err(Verdict::GivenUp);
        }
        self.configurations = configurations;
        Ok(())
    }
}

/// Whether an operation that ended so may have changed something.
fn is_effective(book: &Book, op: OpId, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Unknown => true,
        Outcome::Answered(Answer::Existed(existed)) => match book.op(op) {
            Op::Delete { .. } | Op::DeleteVersion { .. } => *existed,
            _ => !existed,
        },
        Outcome::Answered(_) => book.op(op).is_write(),
        Outcome::Refused(Reason::NoSuchBucket) => book.removes_bucket(op),
        _ => false,
    }
}

/// Whether an operation that ended so changed something, by what was told.
fn is_effect_told(book: &Book, op: OpId, outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answered(_)) && is_effective(book, op, outcome)
}

/// How an operation is taken to have ended.
#[derive(Clone, Debug)]
enum End {
    /// Without an answer: it may take effect at any time, or never.
    Never,
    /// With an answer that a sync which lied stood behind.
    Distrusted,
    /// With this one.
    Judged(Outcome),
}

/// How each operation ended; that something had no effect is always trusted.
fn ends(book: &Book, events: &[Event], trusted: usize) -> BTreeMap<OpId, End> {
    let end = |(n, event): (usize, &Event)| {
        let Event::End(op, outcome) = event else {
            return None;
        };
        let end = match outcome {
            Outcome::Unknown => End::Never,
            // It may have been the one to remove it, and overtaken on its way to say so.
            Outcome::Refused(Reason::NoSuchBucket) if n >= trusted && book.removes_bucket(*op) => {
                End::Distrusted
            }
            Outcome::Refused(_) | Outcome::Spoiled if n >= trusted => {
                End::Judged(Outcome::Failed(types::ErrorKind::Conflict))
            }
            Outcome::Answered(_) if n >= trusted => End::Distrusted,
            outcome => End::Judged(outcome.clone()),
        };
        Some((*op, end))
    };
    events.iter().enumerate().filter_map(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Condition, Line, Spoil};

    const DONE: Outcome = Outcome::Answered(Answer::Done);

    /// A history over one bucket that is there: operations by letter.
    struct History {
        book: Book,
        events: Vec<Event>,
    }

    fn put(key: usize) -> Op {
        Op::Put {
            bucket: 0,
            key,
            size: 9,
            condition: Condition::Always,
            spoil: Spoil::Whole,
            of: None,
        }
    }

    fn delete(key: usize) -> Op {
        Op::Delete {
            bucket: 0,
            key,
            condition: Condition::Always,
        }
    }

    fn get(key: usize) -> Op {
        Op::Get {
            bucket: 0,
            key,
            range: None,
        }
    }

    fn value(op: OpId) -> Outcome {
        Outcome::Answered(Answer::Value(op))
    }

    impl History {
        fn new() -> Self {
            let mut h = Self {
                book: Book::default(),
                events: Vec::new(),
            };
            h.done(
                Op::CreateBucket { bucket: 0 },
                Outcome::Answered(Answer::Existed(false)),
            );
            h
        }

        fn begin(&mut self, op: Op) -> OpId {
            let id = self.book.add(op);
            self.events.push(Event::Begin(id));
            id
        }

        fn end(&mut self, op: OpId, outcome: Outcome) {
            self.events.push(Event::End(op, outcome));
        }

        fn done(&mut self, op: Op, outcome: Outcome) -> OpId {
            let id = self.begin(op);
            self.end(id, outcome);
            id
        }

        fn judge(&self, oracle: &mut Oracle) -> Result<(), Verdict> {
            oracle.judge(&self.book, &self.events, usize::MAX)
        }

        fn is_right(&self) -> bool {
            self.judge(&mut Oracle::default()).is_ok()
        }
    }

    fn look(book: &Book, objects: [OpId; 4]) -> Look {
        let stack = |op| match op {
            0 => 0,
            op => book.stacks.push(0, 0, op, false),
        };
        let state = State {
            buckets: 1,
            stacks: [objects.map(stack), [0; 4]],
            ..State::default()
        };
        Look {
            state,
            known: Things(u64::MAX),
        }
    }

    // I2
    #[test]
    fn a_read_of_two_things_tells_the_order_of_what_changed_them() {
        for (second_seen, right) in [(false, true), (true, false)] {
            let mut h = History::new();
            let (first, second) = (h.begin(put(0)), h.begin(put(1)));
            let query = crate::op::Query {
                prefix: "",
                delimiter: "",
                after: String::new(),
                max: 9,
            };
            let list = h.begin(Op::List { bucket: 0, query });
            let lines = [Line::Key(0, first), Line::Key(1, second)];
            // The second one ends first, although the list was between both.
            h.end(second, DONE);
            if second_seen {
                h.done(get(0), Outcome::Refused(Reason::NoSuchKey));
            }
            h.end(list, Outcome::Answered(Answer::Page(lines[..1].to_vec(), false)));
            h.end(first, DONE);
            assert_eq!(h.is_right(), right);
        }
    }

    /// It is told only after a sync that lied; what others were told before that is explained by it all the same.
    #[test]
    fn an_overtaken_removal_that_is_not_to_be_trusted_may_have_been_one() {
        let mut h = History::new();
        let removal = h.begin(Op::DeleteBucket { bucket: 0 });
        h.done(put(0), Outcome::Refused(Reason::NoSuchBucket));
        let trusted = h.events.len();
        h.end(removal, Outcome::Refused(Reason::NoSuchBucket));
        h.done(put(1), Outcome::Refused(Reason::NoSuchBucket));
        for trusted in [trusted, usize::MAX] {
            let judged = Oracle::default().judge(&h.book, &h.events, trusted);
            assert_eq!(judged, Ok(()), "{trusted}");
        }
        let judged = Oracle::default().judge(&h.book, &h.events[..2], usize::MAX);
        assert_eq!(judged, Ok(()));
    }

    #[test]
    fn a_read_sees_the_newest_answered_write() {
        for (seen, right) in [(0, false), (1, true)] {
            let mut h = History::new();
            let puts = [h.done(put(0), DONE), h.done(put(0), DONE)];
            h.done(get(1), Outcome::Refused(Reason::NoSuchKey));
            h.done(get(0), value(puts[seen]));
            assert_eq!(h.is_right(), right, "I2");
        }
    }

    #[test]
    fn writes_at_once_may_go_either_way_but_only_one() {
        let mut h = History::new();
        let a = h.begin(put(0));
        let b = h.begin(put(0));
        let early = h.begin(get(0));
        h.end(b, DONE);
        h.end(early, value(a));
        h.end(a, DONE);
        let last = h.begin(get(0));
        let mut other = History::new();
        other.book = Book::default();
        h.end(last, value(b));
        assert!(h.is_right());
        h.done(get(0), value(a));
        assert!(!h.is_right(), "once observed, fixed");
    }

    #[test]
    fn a_write_without_an_answer_took_effect_before_the_restart_or_never() {
        for survived in [true, false] {
            let mut h = History::new();
            let a = h.done(put(0), DONE);
            let b = h.begin(put(0));
            let c = h.begin(put(1));
            h.end(c, Outcome::Unknown);
            let mut oracle = Oracle::default();
            h.judge(&mut oracle).unwrap();
            let now = if survived { b } else { a };
            oracle.look(&h.book, &look(&h.book, [now, 0, 0, 0])).unwrap();
            h.events.clear();
            h.done(get(0), value(now));
            h.judge(&mut oracle).unwrap();
            h.events.clear();
            h.done(get(0), value(if survived { a } else { b }));
            assert!(h.judge(&mut oracle).is_err(), "I11");
        }
    }

    #[test]
    fn an_answered_write_must_be_there_after_a_restart() {
        let mut h = History::new();
        let a = h.done(put(0), DONE);
        let b = h.done(put(0), DONE);
        for (seen, right) in [(b, true), (a, false), (0, false)] {
            let mut oracle = Oracle::default();
            h.judge(&mut oracle).unwrap();
            assert_eq!(
                oracle.look(&h.book, &look(&h.book, [seen, 0, 0, 0])).is_ok(),
                right,
                "I1"
            );
        }
    }

    #[test]
    fn a_lie_takes_the_newest_only() {
        let mut h = History::new();
        let a = h.done(put(0), DONE);
        let lie = h.events.len();
        let b = h.done(put(0), DONE);
        let c = h.done(put(1), DONE);
        for (seen, right) in [
            ([b, c], true),
            ([b, 0], true),
            ([a, 0], true),
            ([a, c], false),
            ([0, 0], false),
        ] {
            let mut oracle = Oracle::default();
            oracle.judge(&h.book, &h.events, lie).unwrap();
            let seen = look(&h.book, [seen[0], seen[1], 0, 0]);
            assert_eq!(oracle.look(&h.book, &seen).is_ok(), right);
        }
    }

    #[test]
    fn a_failed_write_had_no_effect() {
        let mut h = History::new();
        let a = h.done(put(0), Outcome::Failed(types::ErrorKind::Unavailable));
        h.done(get(0), value(a));
        assert!(!h.is_right());
    }

    /// Gateways fight over a bucket and few are told how it ended: what is certain is judged all the same.
    #[test]
    fn many_unknown_ends_hide_nothing_and_are_not_too_many() {
        let mut h = History::new();
        let mut unknown = |op| {
            let id = h.begin(op);
            h.end(id, Outcome::Unknown);
            id
        };
        let mut puts = Vec::new();
        for _ in 0..25 {
            unknown(Op::DeleteBucket { bucket: 0 });
            unknown(Op::CreateBucket { bucket: 0 });
            unknown(delete(0));
            puts.push(unknown(put(0)));
        }
        let told = h.done(put(1), DONE);
        let seen = [
            (get(0), value(puts[7]), true),
            (get(0), value(puts[3]), true),
            (get(0), Outcome::Refused(Reason::NoSuchKey), true),
            (get(0), value(puts[7]), false),
            (get(1), value(told), true),
            (get(1), Outcome::Refused(Reason::NoSuchKey), false),
            (Op::DeleteBucket { bucket: 0 }, DONE, false),
            (
                Op::DeleteBucket { bucket: 0 },
                Outcome::Refused(Reason::BucketNotEmpty),
                true,
            ),
        ];
        for (op, outcome, right) in seen {
            h.done(op, outcome);
            let judged = h.judge(&mut Oracle::default());
            assert_ne!(judged, Err(Verdict::GivenUp));
            assert_eq!(judged.is_ok(), right, "{judged:?}");
            if !right {
                h.events.truncate(h.events.len() - 2);
            }
        }
    }

    /// A lie hides the newest: of what is answered after it nothing is judged, but what was lost in between stays lost.
    #[test]
    fn what_never_ended_is_not_what_a_lie_promised() {
        let mut h = History::new();
        let lie = h.events.len();
        let unknown = h.begin(put(0));
        h.end(unknown, Outcome::Unknown);
        let later = h.done(put(1), DONE);
        for (seen, right) in [([0, later], true), ([unknown, later], true), ([unknown, 0], true)] {
            let mut oracle = Oracle::default();
            oracle.judge(&h.book, &h.events, lie).unwrap();
            assert_eq!(
                oracle
                    .look(&h.book, &look(&h.book, [seen[0], seen[1], 0, 0]))
                    .is_ok(),
                right
            );
        }
    }

    #[test]
    fn a_deletion_does_not_act_twice() {
        let mut h = History::new();
        h.done(put(0), DONE);
        h.done(delete(0), Outcome::Answered(Answer::Existed(true)));
        h.done(put(0), DONE);
        h.done(get(0), Outcome::Refused(Reason::NoSuchKey));
        assert!(!h.is_right(), "I11");
    }
}
