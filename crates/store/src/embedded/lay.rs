//! Laying a fresh index into a stopped directory, from rows: after a restore, or when an index was rebuilt from the extents.
//!
//! ```text
//!   index/<partition>.laid, each whole and synced ─▶ index-laid, durable: from here on they count
//!        ─▶ catalogue away ─▶ old files set aside, new ones in their place ─▶ catalogue ─▶ index-laid away
//! ```
//! A crash before `index-laid` leaves the old index, one after it the new one: whoever opens the directory next finishes ([`finish`]). Between
//! the two an older build refuses the directory, for its catalogue is missing. The journal is not touched: batches of the old index that it still
//! has are at or below the mark of the new files, so they are passed over and released.

use super::catalogue::{self, Catalogue};
use super::core::DIR;
use super::files::{Whose, file_of, open_one, path_of};
use super::form::{Form, Mark};
use super::pages::{Retired, Unusable};
use crate::{Batch, StoreError};
use bytes::Bytes;
use extent::LogBatch;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use types::limits::{ROW_KEY_BYTES_MAX, WRITE_BEHIND_STEP_BYTES};
use types::{DiskId, Epoch, JournalSeq, LogSeq, PartitionId};
use world::{Disk, Overlay, read_patiently};

/// Says, while it is there, that the new files count; its bytes are the catalogue that they get.
pub(super) const LAID: &str = "index-laid";
const SUFFIX: &str = ".laid";
/// In the place of its bytes, neither copy of which is whole.
const NO_WORD: &[u8] = b"nobody knows which index counts: another is to be laid\n";
/// The same once what was laid before is set aside: what is there from then on is of the one that is being laid.
const SET_ASIDE: &[u8] = b"nobody knows which index counts: another is being laid\n";

/// What the journal of a directory has of its old index.
#[derive(Clone, Copy)]
pub struct OldLog<'a> {
    /// Batches that are not released (`extent::Opened::batches`).
    pub batches: &'a [(JournalSeq, LogBatch)],
    /// The next record's number (`extent::Journal::next`).
    pub next: JournalSeq,
}

/// Rows of all partitions, ascending by partition and key.
pub type LaidRows<'a> = &'a mut dyn Iterator<Item = Result<(PartitionId, Bytes, Bytes), StoreError>>;

/// Replaces the index of a directory that is open and whose index is not: all of it, by `rows`, or on an error none. Answers how many rows.
/// The old files are kept, as `index/<name>.old<n>`.
///
/// # Errors
/// The disk's, those of `rows`, and rows that are out of order.
pub fn lay(
    disk: &Arc<dyn Disk>,
    owner: DiskId,
    under: OldLog<'_>,
    rows: LaidRows<'_>,
) -> Result<u64, StoreError> {
    let failed = |e: io::Error| StoreError::io(DIR, &e);
    if !disk.exists(DIR).map_err(failed)? {
        disk.create_dir(DIR).map_err(failed)?;
        disk.sync_dir("").map_err(failed)?;
    }
    match finish(disk, owner) {
        Err(StoreError::Corrupt(why)) => set_aside(&**disk, &why)?,
        other => other?,
    }
    let (laid, count) = match written(&**disk, owner, under, rows) {
        Ok(written) => written,
        Err(e) => {
            // What is left of it would take its room until the next start. That counts it for nothing, so it may as well stay.
            let removed = remove_laid(&**disk);
            tracing::debug!(?removed, "an index was not laid");
            return Err(e);
        }
    };
    catalogue::write_as(&**disk, LAID, owner, &laid).map_err(|e| StoreError::io(LAID, &e))?;
    finish(disk, owner)?;
    Ok(count)
}

/// Writes the files, whole and synced; which, and how many rows.
fn written(
    disk: &dyn Disk,
    owner: DiskId,
    under: OldLog<'_>,
    rows: LaidRows<'_>,
) -> Result<(BTreeSet<PartitionId>, u64), StoreError> {
    let mut marks = marks_over(under);
    let mut laying = Laying {
        disk,
        owner,
        under,
        form: None,
        step: Vec::new(),
        step_bytes: 0,
        last: None,
        laid: BTreeSet::new(),
        count: 0,
    };
    for row in rows {
        let (partition, key, value) = row?;
        laying.take(&mut marks, partition, (key, value))?;
    }
    laying.end()?;
    // What the log still has batches of, and the rows nothing: it is empty now.
    while let Some((partition, _)) = marks.first_key_value() {
        let partition = *partition;
        laying.begin(&mut marks, partition)?;
        laying.end()?;
    }
    disk.sync_dir(DIR).map_err(|e| StoreError::io(DIR, &e))?;
    Ok((laying.laid, laying.count))
}

/// Removes files that were to be laid and do not count.
fn remove_laid(disk: &dyn Disk) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::io(DIR, &e);
    let names = disk.list(DIR).map_err(failed)?;
    for name in names.iter().filter(|name| name.ends_with(SUFFIX)) {
        disk.remove(&format!("{DIR}/{name}")).map_err(failed)?;
    }
    Ok(())
}

/// Where the log of each partition has come to: the new files are above it.
fn marks_over(under: OldLog<'_>) -> BTreeMap<PartitionId, Mark> {
    let mut marks = BTreeMap::<PartitionId, Mark>::new();
    for (_, batch) in under.batches {
        let mark = marks.entry(batch.partition).or_default();
        mark.epoch = mark.epoch.max(batch.epoch);
        mark.sequence = mark.sequence.max(batch.sequence);
    }
    marks
}

/// One partition after another.
struct Laying<'a> {
    disk: &'a dyn Disk,
    owner: DiskId,
    under: OldLog<'a>,
    form: Option<(Form, PartitionId, Mark)>,
    step: Vec<(Bytes, Bytes)>,
    step_bytes: usize,
    last: Option<Bytes>,
    laid: BTreeSet<PartitionId>,
    count: u64,
}

impl Laying<'_> {
    fn begin(
        &mut self,
        marks: &mut BTreeMap<PartitionId, Mark>,
        partition: PartitionId,
    ) -> Result<(), StoreError> {
        if !self.laid.insert(partition) {
            return Err(StoreError::Corrupt(format!(
                "rows to lay: those of partition {partition} do not stand together"
            )));
        }
        let log = marks.remove(&partition).unwrap_or_default();
        let mark = Mark {
            epoch: Epoch(log.epoch.0.max(1)),
            sequence: LogSeq(log.sequence.0 + 1),
            crc: 0,
            place: JournalSeq(self.under.next.0.saturating_sub(1)),
        };
        let mut place = Whose::of(self.owner, partition).place(0);
        place.path = laid_path(partition);
        self.form = Some((Form::create(self.disk, &place)?, partition, mark));
        self.last = None;
        Ok(())
    }

    fn take(
        &mut self,
        marks: &mut BTreeMap<PartitionId, Mark>,
        partition: PartitionId,
        (key, value): (Bytes, Bytes),
    ) -> Result<(), StoreError> {
        if self.form.as_ref().is_none_or(|(_, of, _)| *of != partition) {
            self.end()?;
            self.begin(marks, partition)?;
        }
        if key.is_empty() || key.len() > ROW_KEY_BYTES_MAX {
            return Err(StoreError::TooLarge(format!("a row key of {} bytes", key.len())));
        }
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(StoreError::Corrupt(format!(
                "rows to lay: {} does not come after the one before it",
                key.escape_ascii()
            )));
        }
        self.last = Some(key.clone());
        self.step_bytes += Batch::row_bytes(&key, Some(&value));
        self.step.push((key, value));
        self.count += 1;
        if self.step_bytes >= WRITE_BEHIND_STEP_BYTES {
            self.write(None)?;
        }
        Ok(())
    }

    fn write(&mut self, moved: Option<Mark>) -> Result<(), StoreError> {
        if let Some((form, _, _)) = &self.form {
            let rows = self.step.iter().map(|(key, value)| (key, Some(value)));
            form.write(rows, moved)?;
        }
        self.step.clear();
        self.step_bytes = 0;
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        if let Some((_, _, mark)) = &self.form {
            let mark = *mark;
            self.write(Some(mark))?;
        }
        self.form = None;
        Ok(())
    }
}

/// What an old file is called from here on: it is kept, for whoever wants to look at it or to have its room.
fn aside(names: &[String], name: &str) -> String {
    let free = |n: &u64| !names.contains(&format!("{name}.old{n}"));
    let n = (1..).find(free).unwrap_or(u64::MAX);
    format!("{name}.old{n}")
}

fn laid_path(partition: PartitionId) -> String {
    format!("{DIR}/{partition}{SUFFIX}")
}

/// Ends what a crash left of [`lay`]: the new files take their places, or, where they do not count yet, they go.
pub(super) fn finish(disk: &Arc<dyn Disk>, owner: DiskId) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::io(DIR, &e);
    let laid = catalogue::read_as(&**disk, LAID, owner)?;
    let Some(laid) = laid else {
        return remove_laid(&**disk);
    };
    let names = disk.list(DIR).map_err(failed)?;
    remove_if_there(&**disk, catalogue::NAME)?;
    disk.sync_dir("").map_err(failed)?;
    let is_there = |partition: PartitionId| names.contains(&format!("{partition}{SUFFIX}"));
    let old = names.iter().filter(|name| {
        // What has its place already is not old.
        file_of(name).is_some_and(|(of, number)| number > 0 || !laid.contains(&of) || is_there(of))
    });
    for name in old {
        let aside = aside(&names, name);
        disk.rename(&format!("{DIR}/{name}"), &format!("{DIR}/{aside}"))
            .map_err(failed)?;
    }
    for partition in laid.iter().filter(|partition| is_there(**partition)) {
        let from = laid_path(*partition);
        disk.rename(&from, &path_of(*partition, 0)).map_err(failed)?;
    }
    disk.sync_dir(DIR).map_err(failed)?;
    catalogue::write_as(&**disk, catalogue::NAME, owner, &laid).map_err(failed)?;
    remove_if_there(&**disk, LAID)?;
    disk.sync_dir("").map_err(failed)?;
    // The superblock learns of the catalogue, if it did not know.
    Catalogue::open(disk.clone(), owner, Retired::default(), std::iter::empty())?;
    Ok(())
}

/// Where nobody can say any more whether an index that was laid counts, another is laid over both: its files are kept with those that it was to
/// take the place of.
fn set_aside(disk: &dyn Disk, why: &str) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::io(DIR, &e);
    match disk.exists(LAID).map_err(failed)? {
        true => tracing::warn!(why, "an index that was being laid is set aside"),
        false => return Err(StoreError::Corrupt(why.to_owned())),
    }
    if is_set_aside(disk) {
        // What is there is of the laying that set the others aside, and was cut off.
        return remove_laid(disk);
    }
    // It stays until the new one says that it counts: without it the old index would, unasked. And it says nothing from here on, also where the
    // device did not give it and gives it again: of what it spoke of nothing is in its place any more, and old files would be taken for that.
    let say = |what| extent::write_whole(disk, LAID, what).map_err(|e| StoreError::io(LAID, &e));
    say(NO_WORD)?;
    let mut names = disk.list(DIR).map_err(failed)?;
    // The last first: some of them beside others that are gone look like those of a laying that was cut off (`whole_laid`), not like all of one.
    names.sort();
    for name in names.iter().rev().filter(|name| name.ends_with(SUFFIX)) {
        let aside = aside(&names, name);
        disk.rename(&format!("{DIR}/{name}"), &format!("{DIR}/{aside}"))
            .map_err(failed)?;
    }
    disk.sync_dir(DIR).map_err(failed)?;
    say(SET_ASIDE)
}

/// Whether what was laid before is set aside, and another laying has begun.
fn is_set_aside(disk: &dyn Disk) -> bool {
    let mut word = [0; SET_ASIDE.len()];
    let mut read = || {
        let file = disk.open(LAID)?;
        read_patiently(&*file, &mut word, 0)?;
        file.len()
    };
    read().is_ok_and(|length| length == SET_ASIDE.len() as u64) && word == SET_ASIDE
}

/// Which files count that were to take the place of others, where the word of them cannot be read. They were whole and synced before it was
/// written, so those of a laying that was cut off before count for nothing: such a one has come to some partitions only, in their order, or not to the end
/// of one, and has not touched the files that are there.
fn whole_laid(
    disk: &dyn Disk,
    owner: DiskId,
    (laid, there): (BTreeSet<PartitionId>, &BTreeSet<PartitionId>),
) -> BTreeSet<PartitionId> {
    let first = laid.first().copied();
    let is_cut_short = laid.is_subset(there)
        && there
            .iter()
            .any(|partition| !laid.contains(partition) && Some(*partition) > first);
    let is_begun = |partition: &PartitionId| {
        let mut place = Whose::of(owner, *partition).place(0);
        place.path = laid_path(*partition);
        match open_one(disk, &place) {
            Ok(file) => file.is_some_and(|(_, mark)| mark.sequence == LogSeq(0)),
            Err((_, why)) => matches!(why, Unusable::NoHead),
        }
    };
    match is_set_aside(disk) || is_cut_short || laid.iter().any(is_begun) {
        true => BTreeSet::new(),
        false => laid,
    }
}

/// [`finish`] for those who go past damage, in a view of the disk that is dropped: where nobody can say any more which files count, laid ones do
/// that are whole ([`whole_laid`]), and the others where there is no laid one; with why that may be wrong.
pub(super) fn finish_past_damage(
    disk: &Arc<Overlay>,
    owner: DiskId,
) -> Result<Option<StoreError>, StoreError> {
    let failed = |e: io::Error| StoreError::io(DIR, &e);
    let view: Arc<dyn Disk> = disk.clone();
    let why = match finish(&view, owner) {
        Err(StoreError::Corrupt(why)) if disk.exists(LAID).map_err(failed)? => why,
        other => return other.map(|()| None),
    };
    let names = disk.list(DIR).map_err(failed)?;
    let files: BTreeSet<(PartitionId, u16)> = names.iter().filter_map(|name| file_of(name)).collect();
    let of_laid = |name: &String| u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok();
    let laid = names.iter().filter_map(of_laid).map(PartitionId).collect();
    let there = files.iter().map(|(partition, _)| *partition).collect();
    let laid = whole_laid(&**disk, owner, (laid, &there));
    for (partition, number) in files.iter().filter(|(partition, _)| laid.contains(partition)) {
        disk.remove(&path_of(*partition, *number)).map_err(failed)?;
    }
    for partition in &laid {
        disk.rename(&laid_path(*partition), &path_of(*partition, 0))
            .map_err(failed)?;
    }
    if !laid.is_empty() {
        // It is of the files whose place they took.
        let all = there.union(&laid).copied().collect();
        catalogue::write_as(&**disk, catalogue::NAME, owner, &all).map_err(failed)?;
    }
    disk.remove(LAID).map_err(failed)?;
    let names: Vec<String> = laid.iter().map(ToString::to_string).collect();
    let taken = match names.len() {
        0 => "those that have their place: none that was to take it is whole".to_owned(),
        n => format!(
            "those that were to take their place of {n} partitions ({}), and those that had it of others",
            names.join(", ")
        ),
    };
    Ok(Some(StoreError::Corrupt(format!(
        "{why}: which index counts is not known. Taken are the files, {taken}"
    ))))
}

fn remove_if_there(disk: &dyn Disk, path: &str) -> Result<(), StoreError> {
    match disk.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path, &e)),
        _ => Ok(()),
    }
}
