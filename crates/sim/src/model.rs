//! What the store is meant to be: one state, and what each operation does to it. Pure.
//!
//! The oracle asks of each history whether some order of its operations, within their times, is a run of this model.

use crate::op::{Answer, BUCKETS, Condition, KEYS, Line, Op, OpId, Outcome, PARTS, Query, Things, UPLOADS};
use crate::stack::{Entry, StackId, Stacks, looks_like};
use std::collections::BTreeMap;
use types::limits::PART_BYTES_MIN;
use wire::index::Reason;

/// Everything that can be seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct State {
    /// Which buckets are there, by bit.
    pub buckets: u32,
    /// What each bucket does with what a key named before: 0 replaces, 1 keeps, 2 replaces the null version.
    pub versioning: [u8; BUCKETS],
    /// The versions of each key.
    pub stacks: [[StackId; KEYS.len()]; BUCKETS],
    /// Uploads under way, by bit.
    pub uploads: u32,
    /// The operation that stored each part.
    pub parts: [[OpId; PARTS.len()]; UPLOADS],
}

/// All operations of a run, by id: what the model must know of the past to judge the present.
#[derive(Default)]
pub struct Book {
    ops: Vec<Op>,
    /// What each one's object is known by: of two completions of an upload with the same parts, the first.
    stores: Vec<OpId>,
    /// Bucket and key of each upload.
    homes: [Option<(usize, usize)>; UPLOADS],
    /// Versions of keys, by number.
    pub stacks: Stacks,
    /// The id of the version that each operation made: once seen, fixed. Newer ones are lower.
    pub versions: BTreeMap<OpId, Vec<u8>>,
    /// Buckets that keep versions or may come to.
    versioned: [bool; BUCKETS],
}

/// What an operation does in a state.
type Effect = Result<(State, Answer), Vec<Reason>>;

impl Book {
    /// Takes in a new operation.
    pub fn add(&mut self, op: Op) -> OpId {
        if let Op::StartUpload { bucket, key, upload } = op {
            self.homes[upload] = Some((bucket, key));
        }
        if let Op::SetVersioning { bucket, .. } = op {
            self.versioned[bucket] = true;
        }
        let same = |earlier: &Op| match (earlier, &op) {
            (
                Op::CompleteUpload {
                    upload: u, parts: p, ..
                },
                Op::CompleteUpload { upload, parts, .. },
            ) => u == upload && p == parts,
            _ => false,
        };
        let stores = self.ops.iter().position(same).unwrap_or(self.ops.len());
        self.stores.push(stores as OpId + 1);
        self.ops.push(op);
        OpId::try_from(self.ops.len()).expect("a run has fewer than 65,536 operations")
    }

    /// An operation.
    pub fn op(&self, id: OpId) -> &Op {
        &self.ops[usize::from(id) - 1]
    }

    /// Ids of all of them.
    pub fn ids(&self) -> std::ops::RangeInclusive<OpId> {
        1..=self.ops.len() as OpId
    }

    /// Bucket and key of an upload.
    pub fn home(&self, upload: usize) -> Option<(usize, usize)> {
        self.homes[upload]
    }

    /// What the object that an operation stores is known by.
    pub fn stores(&self, id: OpId) -> OpId {
        self.stores[usize::from(id) - 1]
    }

    /// Whether what an operation does is known by who did it: of two that do the same it matters which one it was.
    pub fn leaves_its_name(&self, id: OpId) -> bool {
        match self.op(id) {
            Op::Put { .. } | Op::PutPart { .. } | Op::SetTags { .. } => true,
            Op::Delete { bucket, .. } => self.versioned[*bucket],
            _ => false,
        }
    }

    /// Forgets which versions completions made.
    pub fn forget_completions(&mut self) {
        let ops = &self.ops;
        let is_other = |op: &OpId| !matches!(ops[usize::from(*op) - 1], Op::CompleteUpload { .. });
        self.versions.retain(|op, _| is_other(op));
    }

    /// Bytes that an operation stores: of an object or a part.
    pub fn size(&self, id: OpId) -> u64 {
        match self.op(id) {
            Op::Put { size, .. } | Op::PutPart { size, .. } => *size,
            Op::CompleteUpload { parts, .. } => parts.iter().filter(|p| **p > 0).map(|p| self.size(*p)).sum(),
            _ => 0,
        }
    }

    /// The operation whose bytes an operation stores: of a copy, the one that was copied.
    pub fn root(&self, id: OpId) -> OpId {
        match self.op(id) {
            Op::Put { of: Some(of), .. } => *of,
            _ => id,
        }
    }

    /// Whether two operations store the same bytes in the same way, so that their ETags are the same.
    fn same_etag(&self, a: OpId, b: OpId) -> bool {
        let empty_put = |id| matches!(self.op(id), Op::Put { size: 0, .. });
        let empty_part = |id| matches!(self.op(id), Op::PutPart { size: 0, .. });
        match (self.op(a), self.op(b)) {
            _ if a == b => true,
            (Op::Put { .. }, Op::Put { .. }) if self.root(a) == self.root(b) => true,
            (Op::CompleteUpload { parts: x, .. }, Op::CompleteUpload { parts: y, .. }) => x
                .iter()
                .zip(y)
                .all(|(x, y)| (*x > 0) == (*y > 0) && (*x == 0 || self.same_etag(*x, *y))),
            _ => (empty_put(a) && empty_put(b)) || (empty_part(a) && empty_part(b)),
        }
    }

    /// The state after `op` ended so in `state`; `None` when it cannot have. An unknown end is taken as success, if it
    /// would change anything.
    pub fn step(&self, state: &State, id: OpId, outcome: &Outcome) -> Option<State> {
        match outcome {
            Outcome::Spoiled => return Some(*state),
            Outcome::Answered(Answer::State(seen, known)) => {
                return state.agrees(self, seen, *known).then_some(*state);
            }
            _ => {}
        }
        match (self.act(state, id), outcome) {
            (Ok((next, answer)), Outcome::Answered(given)) => is_told(&answer, given).then_some(next),
            (Ok((next, _)), Outcome::Unknown) => (next != *state).then_some(next),
            // Of two gateways that remove a bucket the overtaken one finds it gone.
            (Ok((next, _)), Outcome::Refused(Reason::NoSuchBucket)) if self.removes_bucket(id) => Some(next),
            (Err(reasons), Outcome::Refused(given)) => reasons.contains(given).then_some(*state),
            _ => None,
        }
    }

    /// Whether an operation is the removal of a bucket.
    pub fn removes_bucket(&self, id: OpId) -> bool {
        matches!(self.op(id), Op::DeleteBucket { .. })
    }

    fn act(&self, state: &State, id: OpId) -> Effect {
        let op = self.op(id);
        let mut next = *state;
        let here = |bucket: usize| {
            if state.buckets >> bucket & 1 == 1 {
                Ok(())
            } else {
                Err(vec![Reason::NoSuchBucket])
            }
        };
        let answer = match op {
            // What a snapshot shows is held against all of the state, by `step`.
            Op::ListBuckets | Op::Snapshot => Answer::Set(state.buckets),
            Op::CreateBucket { bucket } => {
                next.buckets |= 1 << bucket;
                Answer::Existed(next.buckets == state.buckets)
            }
            Op::HeadBucket { bucket } => {
                here(*bucket)?;
                Answer::Set(u32::from(state.versioning[*bucket]))
            }
            Op::DeleteBucket { bucket } => {
                here(*bucket)?;
                if state.stacks[*bucket].iter().any(|o| *o > 0) {
                    return Err(vec![Reason::BucketNotEmpty]);
                }
                let uploads = self.uploads_in(state, *bucket);
                (0..UPLOADS)
                    .filter(|u| uploads >> u & 1 == 1)
                    .for_each(|u| next.end_upload(u));
                next.buckets &= !(1 << bucket);
                next.versioning[*bucket] = 0;
                Answer::Done
            }
            Op::List { bucket, query } => {
                here(*bucket)?;
                let objects = state.stacks[*bucket].map(|stack| self.stacks.visible(stack));
                let (lines, more) = page(&objects, query);
                Answer::Page(lines, more)
            }
            Op::ListVersions { bucket, query } => {
                here(*bucket)?;
                let stacks = state.stacks[*bucket].map(|stack| self.stacks.get(stack));
                let (lines, more) = page_of_versions(&stacks, query);
                Answer::Page(lines, more)
            }
            Op::SetVersioning { bucket, versioning } => {
                here(*bucket)?;
                next.versioning[*bucket] = *versioning as u8;
                Answer::Done
            }
            Op::ListUploads { bucket } => {
                here(*bucket)?;
                Answer::Set(self.uploads_in(state, *bucket))
            }
            Op::Put { bucket, key, .. }
            | Op::Get { bucket, key, .. }
            | Op::Head { bucket, key }
            | Op::GetVersion { bucket, key, .. }
            | Op::Delete { bucket, key, .. }
            | Op::DeleteVersion { bucket, key, .. }
            | Op::SetTags { bucket, key }
            | Op::GetTags { bucket, key } => {
                here(*bucket)?;
                return self.act_on_key(state, (*bucket, *key), id);
            }
            _ => {
                here(self.bucket_of(op))?;
                return self.act_on_upload(state, id);
            }
        };
        Ok((next, answer))
    }

    fn act_on_key(&self, state: &State, at: (usize, usize), id: OpId) -> Effect {
        let mut next = *state;
        let stack = state.stacks[at.0][at.1];
        let newest = self.stacks.newest(stack);
        let object = || match newest {
            None => Err(vec![Reason::NoSuchKey]),
            Some(newest) if newest.marker => Err(vec![Reason::DeleteMarker]),
            Some(newest) => Ok(newest),
        };
        let answer = match self.op(id) {
            Op::Put { condition, .. } => {
                self.check(self.visible(state, at), *condition)?;
                self.push(&mut next, at, id, false)?;
                Answer::Done
            }
            Op::Get { .. } | Op::Head { .. } => Answer::Value(object()?.op),
            Op::GetTags { .. } => Answer::Value(object()?.tags),
            Op::GetVersion { which, .. } => match self.stacks.find(stack, *which) {
                None => return Err(vec![Reason::NoSuchVersion]),
                Some(found) if found.marker => return Err(vec![Reason::DeleteMarker]),
                Some(found) => Answer::Value(found.op),
            },
            Op::DeleteVersion { which, .. } => {
                next.stacks[at.0][at.1] = self.stacks.without(stack, *which);
                Answer::Existed(self.stacks.find(stack, *which).is_some())
            }
            Op::SetTags { .. } => {
                // A marker over all is no object to tag, whichever it is called.
                if object().is_err() {
                    return Err(vec![Reason::NoSuchKey, Reason::DeleteMarker]);
                }
                next.stacks[at.0][at.1] = self.stacks.tagged(stack, id);
                Answer::Done
            }
            Op::Delete { condition, .. } => {
                self.check(self.visible(state, at), *condition)?;
                let existed = self.visible(state, at) > 0;
                if state.versioning[at.0] == 0 {
                    next.stacks[at.0][at.1] = 0;
                    Answer::Existed(existed)
                } else {
                    self.push(&mut next, at, id, true)?;
                    Answer::Marked(existed)
                }
            }
            other => unreachable!("{other:?} is not on a key"),
        };
        Ok((next, answer))
    }

    fn visible(&self, state: &State, (bucket, key): (usize, usize)) -> OpId {
        self.stacks.visible(state.stacks[bucket][key])
    }

    /// Puts a version over what a key has. Its id, where it is known, says that it is the newest: else it did not happen in
    /// this order, and no refusal would explain it either.
    fn push(
        &self,
        next: &mut State,
        (bucket, key): (usize, usize),
        op: OpId,
        marker: bool,
    ) -> Result<(), Vec<Reason>> {
        let versioning = u32::from(next.versioning[bucket]);
        let stack = &mut next.stacks[bucket][key];
        if let Some(version) = self.versions.get(&op) {
            let below = self.stacks.newest(*stack).and_then(|e| self.versions.get(&e.op));
            if below.is_some_and(|below| below <= version) {
                return Err(Vec::new());
            }
        }
        *stack = self.stacks.push(*stack, versioning, op, marker);
        Ok(())
    }

    fn act_on_upload(&self, state: &State, id: OpId) -> Effect {
        let mut next = *state;
        let open = |upload: usize| {
            if state.uploads >> upload & 1 == 1 {
                Ok(())
            } else {
                Err(vec![Reason::NoSuchUpload])
            }
        };
        let answer = match self.op(id) {
            Op::StartUpload { upload, .. } => {
                next.uploads |= 1 << upload;
                Answer::Done
            }
            Op::PutPart { upload, part, .. } => {
                open(*upload)?;
                next.parts[*upload][*part] = id;
                Answer::Done
            }
            Op::AbortUpload { upload, .. } => {
                open(*upload)?;
                next.end_upload(*upload);
                Answer::Done
            }
            Op::ListParts { upload, .. } => {
                open(*upload)?;
                Answer::Parts(state.parts[*upload])
            }
            Op::CompleteUpload {
                bucket,
                key,
                upload,
                parts,
                condition,
            } => {
                // Asked for again, what was done is answered again.
                let current = self.visible(state, (*bucket, *key));
                if open(*upload).is_err() && current == self.stores(id) {
                    return Ok((*state, Answer::Done));
                }
                open(*upload)?;
                self.check_parts(&state.parts[*upload], parts, current, *condition)?;
                next.end_upload(*upload);
                self.push(&mut next, (*bucket, *key), self.stores(id), false)?;
                Answer::Done
            }
            other => unreachable!("{other:?} is not on an upload"),
        };
        Ok((next, answer))
    }

    fn check(&self, current: OpId, condition: Condition) -> Result<(), Vec<Reason>> {
        match condition {
            Condition::Absent if current > 0 => Err(vec![Reason::PreconditionFailed]),
            Condition::Is(_) if current == 0 => Err(vec![Reason::NoSuchKeyForMatch]),
            Condition::Is(wanted) if !self.same_etag(wanted, current) => {
                Err(vec![Reason::PreconditionFailed])
            }
            _ => Ok(()),
        }
    }

    /// All that is wrong with a completion: which of it is told first is the store's choice.
    fn check_parts(
        &self,
        stored: &[OpId; PARTS.len()],
        named: &[OpId; PARTS.len()],
        current: OpId,
        condition: Condition,
    ) -> Result<(), Vec<Reason>> {
        let mut wrong = self.check(current, condition).err().unwrap_or_default();
        let last = named.iter().rposition(|p| *p > 0);
        for (n, (stored, named)) in stored.iter().zip(named).enumerate() {
            if *named == 0 {
                continue;
            }
            if *stored == 0 || !self.same_etag(*stored, *named) {
                wrong.push(Reason::InvalidPart);
            } else if Some(n) != last && self.size(*stored) < PART_BYTES_MIN {
                wrong.push(Reason::EntityTooSmall);
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The bucket that an operation on objects or uploads is in.
    fn bucket_of(&self, op: &Op) -> usize {
        match op {
            Op::StartUpload { bucket, .. }
            | Op::PutPart { bucket, .. }
            | Op::CompleteUpload { bucket, .. }
            | Op::AbortUpload { bucket, .. }
            | Op::ListParts { bucket, .. } => *bucket,
            other => unreachable!("{other:?} is not on an upload"),
        }
    }

    fn uploads_in(&self, state: &State, bucket: usize) -> u32 {
        (0..UPLOADS)
            .filter(|u| state.uploads >> u & 1 == 1 && self.homes[*u].is_some_and(|(home, _)| home == bucket))
            .fold(0, |set, u| set | 1 << u)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for bucket in 0..BUCKETS {
            let there = if self.buckets >> bucket & 1 == 1 {
                ""
            } else {
                "no "
            };
            let (versioning, stacks) = (self.versioning[bucket], &self.stacks[bucket]);
            write!(f, "{there}bucket {bucket} ({versioning}) {stacks:?}; ")?;
        }
        let open = (0..UPLOADS).filter(|u| self.uploads >> u & 1 == 1);
        let open: Vec<_> = open.map(|u| (u, self.parts[u])).collect();
        write!(f, "uploads {open:?}")
    }
}

impl State {
    /// Whether this is what was seen of `things`.
    pub fn agrees(&self, book: &Book, seen: &Self, things: Things) -> bool {
        let asked = |thing: Things| things.meets(thing);
        let bit = |set: u32, n: usize| set >> n & 1;
        (0..BUCKETS).all(|b| {
            let same =
                bit(self.buckets, b) == bit(seen.buckets, b) && self.versioning[b] == seen.versioning[b];
            (!asked(Things::bucket(b)) || same)
                && (0..KEYS.len()).all(|k| {
                    !asked(Things::key(b, k)) || book.stacks.is_seen(self.stacks[b][k], seen.stacks[b][k])
                })
        }) && (0..UPLOADS).all(|u| {
            !asked(Things::upload(u))
                || (bit(self.uploads, u) == bit(seen.uploads, u) && self.parts[u] == seen.parts[u])
        })
    }

    /// Whether this is the same but for the ids of delete markers that only one of them knows.
    pub fn is_alike(&self, book: &Book, other: &Self) -> bool {
        let stacks = |state: &Self| state.stacks.concat();
        let alike = |(a, b): (&StackId, &StackId)| book.stacks.is_seen(*a, *b) || book.stacks.is_seen(*b, *a);
        let bare = |state: &Self| Self {
            stacks: Default::default(),
            ..*state
        };
        bare(self) == bare(other) && stacks(self).iter().zip(&stacks(other)).all(alike)
    }

    fn end_upload(&mut self, upload: usize) {
        self.uploads &= !(1 << upload);
        self.parts[upload] = [0; PARTS.len()];
    }
}

/// Whether an answer is what was given: a marker that is seen may be of unknown id.
fn is_told(answer: &Answer, given: &Answer) -> bool {
    let (Answer::Page(lines, more), Answer::Page(seen, seen_more)) = (answer, given) else {
        return answer == given;
    };
    let same = |line: &Line, seen: &Line| match (line, seen) {
        (Line::Version(key, entry, latest), Line::Version(k, seen, l)) => {
            (key, latest) == (k, l) && looks_like(entry, seen)
        }
        _ => line == seen,
    };
    more == seen_more && lines.len() == seen.len() && lines.iter().zip(seen).all(|(a, b)| same(a, b))
}

/// The common prefix of a key in a listing, if it has one; `None` when the listing has not the key.
fn group_of(name: &'static str, query: &Query) -> Option<Option<&'static str>> {
    let rest = name.strip_prefix(query.prefix)?;
    let group = (!query.delimiter.is_empty())
        .then(|| rest.find(query.delimiter))
        .flatten()
        .map(|at| &name[..query.prefix.len() + at + query.delimiter.len()]);
    // After a common prefix, or a key of it, means after all its keys: the prefix is not greater.
    let passed =
        name.as_bytes() <= query.after.as_bytes() || group.is_some_and(|g| query.after.starts_with(g));
    (!passed).then_some(group)
}

/// A page of a bucket's objects.
fn page(objects: &[OpId; KEYS.len()], query: &Query) -> (Vec<Line>, bool) {
    let object = |key: usize| (objects[key] > 0).then(|| vec![Line::Key(key, objects[key])]);
    page_of(query, |key| object(key).unwrap_or_default())
}

/// A page of a bucket's versions and delete markers.
fn page_of_versions(stacks: &[Vec<Entry>; KEYS.len()], query: &Query) -> (Vec<Line>, bool) {
    page_of(query, |key| {
        let entries = stacks[key].iter().enumerate();
        entries
            .map(|(n, entry)| Line::Version(key, *entry, n == 0))
            .collect()
    })
}

fn page_of(query: &Query, lines_of: impl Fn(usize) -> Vec<Line>) -> (Vec<Line>, bool) {
    let mut lines: Vec<Line> = Vec::new();
    let mut names: Vec<usize> = (0..KEYS.len()).collect();
    names.sort_by_key(|k| KEYS[*k].as_bytes());
    for key in names {
        let (Some(group), of_key) = (group_of(KEYS[key], query), lines_of(key)) else {
            continue;
        };
        match group {
            _ if of_key.is_empty() => {}
            Some(group) if lines.last() == Some(&Line::Prefix(group.to_owned())) => {}
            Some(group) => lines.push(Line::Prefix(group.to_owned())),
            None => lines.extend(of_key),
        }
    }
    let more = lines.len() > query.max as usize;
    lines.truncate(query.max as usize);
    (lines, more)
}
