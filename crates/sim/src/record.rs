//! What happened in a run: the operations, the events of this life of the machine, facts once seen, counts, and a log whose
//! hash two runs of a seed share.

#![allow(clippy::print_stdout, reason = "a verbose run prints its log")]

use crate::SimDisk;
use crate::disk::Counts;
use crate::model::Book;
use crate::op::{KEYS, Op, OpId, Outcome, PARTS, UPLOADS};
use crate::oracle::Event;
use crate::value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use types::{JournalSeq, UploadId};
use wire::index::Call;
use wire::records::{Chunk, ObjectRecord, ScrubTally};

/// The record of one run; clones share it.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Record>>);

/// Everything that a run has recorded.
pub struct Record {
    /// All operations.
    pub book: Book,
    /// Since the machine was started.
    pub events: Vec<Event>,
    /// How far the journal was synced when each event happened.
    synced: Vec<JournalSeq>,
    /// Commands that were lost on their way.
    pub late: Vec<Call>,
    /// The open journal.
    pub journal: Option<extent::Journal>,
    /// How often each kind of thing happened.
    pub counts: Counts,
    /// What is wrong whatever the order: each ends the run.
    pub violations: Vec<String>,
    /// Ids of the uploads that are known, by number.
    pub uploads: [Option<UploadId>; UPLOADS],
    /// Numbers given out.
    pub uploads_begun: usize,
    /// Operations that stored something under each key, newest last: for conditions and completions.
    pub stored: BTreeMap<(usize, usize), Vec<OpId>>,
    /// Deletes of each key: in a bucket that keeps versions each leaves a marker.
    pub deleted: BTreeMap<(usize, usize), Vec<OpId>>,
    /// Answered parts of each upload.
    pub parts: [[OpId; PARTS.len()]; UPLOADS],
    /// Gets whose bytes could not be read, with the chunks that hold them: to be excused or not.
    pub unreadable: Vec<(OpId, Vec<Chunk>, Outcome)>,
    /// What scrubs found in this life and not before, in words.
    pub found: Vec<String>,
    /// All that they ever found.
    found_ever: BTreeSet<String>,
    md5: BTreeMap<OpId, [u8; 16]>,
    log: Log,
    disk: SimDisk,
}

/// A running hash of lines; the lines themselves are printed when they are wanted.
struct Log {
    hash: u64,
    verbose: bool,
}

impl fmt::Write for Log {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.verbose {
            print!("{s}");
        }
        Ok(())
    }
}

impl Recorder {
    /// An empty record of a run on `disk`; `verbose` prints the lines of the log.
    pub fn new(disk: SimDisk, verbose: bool) -> Self {
        Self(Arc::new(Mutex::new(Record {
            book: Book::default(),
            events: Vec::new(),
            synced: Vec::new(),
            journal: None,
            late: Vec::new(),
            counts: Counts::default(),
            violations: Vec::new(),
            uploads: [None; UPLOADS],
            uploads_begun: 0,
            stored: BTreeMap::new(),
            deleted: BTreeMap::new(),
            parts: [[0; PARTS.len()]; UPLOADS],
            unreadable: Vec::new(),
            found: Vec::new(),
            found_ever: BTreeSet::new(),
            md5: BTreeMap::new(),
            log: Log {
                hash: 0xcbf2_9ce4_8422_2325,
                verbose,
            },
            disk,
        })))
    }

    /// The record.
    ///
    /// # Panics
    /// Never: nothing panics under the lock but a failed run.
    pub fn get(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes a line into the log.
    pub fn note(&self, line: fmt::Arguments<'_>) {
        self.get().note(line);
    }

    /// An operation begins.
    pub fn begin(&self, op: Op) -> OpId {
        let record = &mut *self.get();
        let id = record.book.add(op);
        let op = record.book.op(id).clone();
        match op {
            Op::Put { bucket, key, .. } | Op::CompleteUpload { bucket, key, .. } => {
                record.stored.entry((bucket, key)).or_default().push(id);
            }
            Op::Delete { bucket, key, .. } => {
                record.deleted.entry((bucket, key)).or_default().push(id);
            }
            _ => {}
        }
        record.push(Event::Begin(id));
        record.note(format_args!("{id} {op:?}"));
        id
    }

    /// It ended.
    pub fn end(&self, id: OpId, outcome: Outcome) {
        let record = &mut *self.get();
        record.note(format_args!("{id} -> {outcome:?}"));
        record.counts.add(record.book.op(id).name(), 1);
        record
            .counts
            .add(&format!("{}.{}", record.book.op(id).name(), name_of(&outcome)), 1);
        record.push(Event::End(id, outcome));
    }

    /// What an operation came to whose end was told before that was known. Of a life that is over it stays untold.
    pub fn amend(&self, id: OpId, outcome: Outcome) {
        let record = &mut *self.get();
        record.note(format_args!("{id} came to {outcome:?}"));
        let is_its = |event: &&mut Event| matches!(event, Event::End(ended, _) if *ended == id);
        if let Some(event) = record.events.iter_mut().find(is_its) {
            *event = Event::End(id, outcome);
        }
    }

    /// An operation of the run's own, while nobody else is there: no event.
    pub fn aside(&self, op: Op) -> OpId {
        let record = &mut *self.get();
        let id = record.book.add(op);
        record.note(format_args!("{id} (aside)"));
        id
    }

    /// Something is wrong whatever the order.
    pub fn violation(&self, what: String) {
        let record = &mut *self.get();
        record.note(format_args!("VIOLATION {what}"));
        record.violations.push(what);
    }

    /// One more of `name`.
    pub fn count(&self, name: &str) {
        self.get().counts.add(name, 1);
    }
}

fn name_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered(crate::op::Answer::Existed(existed)) => format!("ok_existed_{existed}"),
        Outcome::Answered(crate::op::Answer::Marked(existed)) => format!("marked_{existed}"),
        Outcome::Answered(_) => "ok".into(),
        Outcome::Refused(reason) => format!("{reason:?}"),
        Outcome::Spoiled => "spoiled".into(),
        Outcome::Failed(kind) => format!("failed_{kind:?}"),
        Outcome::Unknown => "unknown".into(),
    }
}

impl Record {
    fn push(&mut self, event: Event) {
        self.events.push(event);
        let journal = self.journal.as_ref();
        self.synced
            .push(journal.map_or(JournalSeq(0), extent::Journal::synced));
        self.disk.set_moment(self.events.len() as u64);
    }

    /// The first event that may rest on the journal's record `sequence`.
    pub fn rests_on(&self, sequence: JournalSeq) -> usize {
        self.synced.partition_point(|synced| *synced < sequence)
    }

    /// The events of the life that has ended.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.journal = None;
        self.synced.clear();
        std::mem::take(&mut self.events)
    }

    /// A scrub says what it has found so far.
    pub fn scrubbed(&mut self, tally: &ScrubTally) {
        // What a machine says without power nobody hears.
        if self.disk.is_off() {
            return;
        }
        for what in &tally.found {
            if self.found_ever.insert(what.clone()) {
                self.note(format_args!("scrub: {what}"));
                self.counts.add("scrub.findings", 1);
                self.found.push(what.clone());
            }
        }
    }

    /// Writes a line into the log.
    pub fn note(&mut self, line: fmt::Arguments<'_>) {
        let written = fmt::write(&mut self.log, format_args!("{line}\n"));
        debug_assert!(written.is_ok(), "a log in memory takes every line");
    }

    /// The log's hash.
    pub fn log_hash(&self) -> u64 {
        self.log.hash
    }

    /// MD5 of what an operation stored, the parts' for a completion.
    pub fn md5(&mut self, id: OpId) -> [u8; 16] {
        if let Some(md5) = self.md5.get(&id) {
            return *md5;
        }
        let md5 = match self.book.op(id).clone() {
            Op::CompleteUpload { parts, .. } => {
                let parts: Vec<[u8; 16]> = parts.iter().filter(|p| **p > 0).map(|p| self.md5(*p)).collect();
                value::md5_of_parts(&parts)
            }
            _ => value::md5(&value::whole(&self.pieces(id))),
        };
        self.md5.insert(id, md5);
        md5
    }

    /// What an object's bytes are made of.
    pub fn pieces(&self, id: OpId) -> value::Pieces {
        match self.book.op(id) {
            Op::CompleteUpload { parts, .. } => {
                let parts = parts.iter().filter(|p| **p > 0);
                parts.map(|p| (*p, self.book.size(*p))).collect()
            }
            Op::Put { of: Some(of), .. } => self.pieces(*of),
            _ => vec![(id, self.book.size(id))],
        }
    }

    /// The operation whose object a record is of, by the mark in its metadata and its ETag; and that its version is the
    /// one that it had before.
    ///
    /// # Errors
    /// What no operation can have stored.
    pub fn identify(&mut self, bucket: usize, key: usize, object: &ObjectRecord) -> Result<OpId, String> {
        let mark = mark_of(&object.metadata).filter(|m| self.book.ids().contains(m));
        let mark = mark.ok_or_else(|| format!("a record without a mark: {object:?}"))?;
        let id = match *self.book.op(mark) {
            Op::Put {
                bucket: b, key: k, ..
            } if (b, k) == (bucket, key) => mark,
            Op::StartUpload {
                bucket: b,
                key: k,
                upload,
            } if (b, k) == (bucket, key) => {
                let completions: Vec<OpId> = (self.book.ids())
                    .filter(|id| matches!(self.book.op(*id), Op::CompleteUpload { upload: u, .. } if *u == upload))
                    .collect();
                let fits = |record: &mut Self, id: OpId| {
                    record.book.size(id) == object.size && record.md5(id)[..] == object.etag_md5[..]
                };
                completions
                    .into_iter()
                    .find(|id| fits(self, *id))
                    .ok_or_else(|| {
                        format!("an object that no completion of upload {upload} makes: {object:?}")
                    })?
            }
            ref other => return Err(format!("key {} of bucket {bucket} is of {other:?}", KEYS[key])),
        };
        if object.size != self.book.size(id) || object.etag_md5 != self.md5(id) {
            return Err(format!(
                "size or ETag is not what operation {id} stored: {object:?}"
            ));
        }
        self.see_version(id, &object.version)?;
        Ok(id)
    }

    /// The id of the version that an operation made, if it was ever told.
    pub fn version_of(&self, id: OpId) -> Option<Vec<u8>> {
        self.book.versions.get(&id).cloned()
    }

    /// The operation that made the version of an id, if that was ever told.
    pub fn op_of_version(&self, version: &[u8]) -> Option<OpId> {
        let made = self.book.versions.iter().find(|(_, known)| *known == version);
        made.map(|(id, _)| *id)
    }

    /// An object's version: the same whenever it is seen (I11: an answer is what happened, and happened once).
    ///
    /// # Errors
    /// It was another one.
    pub fn see_version(&mut self, id: OpId, version: &[u8]) -> Result<(), String> {
        match self.book.versions.get(&id) {
            Some(before) if before != version => Err(format!(
                "operation {id} made version {before:x?} and then {version:x?}"
            )),
            Some(_) => Ok(()),
            None => {
                self.book.versions.insert(id, version.to_vec());
                Ok(())
            }
        }
    }
}

/// The operation that a record's metadata names.
pub fn mark_of(metadata: &[wire::records::Pair]) -> Option<OpId> {
    let pair = metadata.iter().find(|pair| pair.name == "op")?;
    pair.value.parse().ok()
}
