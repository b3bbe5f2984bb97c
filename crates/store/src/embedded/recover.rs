//! Opening: the form as it was last written, and the log's batches above it.
//!
//! The batches above the form's mark must follow it without a gap, each naming the crc of the one before. Anything else is corruption of that
//! partition, said and not served; it is never cut short in silence, because what is missing was acknowledged. Those who go past damage get what
//! there is, also behind a gap: rows are whole values, so what the missing batches wrote is as it was before them, and nothing else is.

use super::batch;
use super::core::DIR;
use super::files::{Files, Whose, path_of};
use super::form::Mark;
use super::pages::Unusable;
use super::partition::{Generation, Recovered, Span};
use crate::StoreError;
use extent::{LogBatch, Lost};
use std::sync::Arc;
use types::{JournalSeq, LogSeq};
use world::Disk;

/// Batches of one partition, in the journal's order.
pub(super) type LogTail = Vec<(JournalSeq, LogBatch)>;

/// Opens one partition, which is listed with `count` files. Where [`Recovered::lost`] says that it is not all of it, only those who go past damage
/// are given all that there is.
pub(super) fn open(
    disk: &dyn Disk,
    (whose, count): (&Whose, u16),
    log: LogTail,
    (lost, past_damage): (&[Lost], bool),
) -> Result<Recovered, StoreError> {
    let first = log.first().map(|(_, first)| first.sequence);
    let (files, mark, bad) = match open_first(disk, whose)? {
        Ok((files, mark)) => {
            let (files, mark, bad) = files.open_over(disk, whose, (mark, count, first))?;
            (Some(files), mark, bad)
        }
        Err(why) => {
            begin_again(disk, (whose, count), why, first)?;
            (None, Mark::default(), None)
        }
    };
    let mut recovered = Recovered {
        files: None,
        written: mark.sequence,
        tail: mark,
        span: Span {
            first: None,
            last: mark,
        },
        rows: Generation::default(),
        lost: bad.into_iter().collect(),
    };
    let newest = path_of(
        whose.partition,
        files.as_ref().map_or(0, |files| files.count() - 1),
    );
    for (at, batch) in log {
        let goes_on = match place_of(&recovered.tail, &newest, whose, (at, &batch)) {
            Place::Known => continue,
            Place::Next => true,
            Place::Behind(why) => {
                recovered.lost.push(why);
                past_damage
            }
            Place::Nowhere(why) => {
                recovered.lost.push(why);
                false
            }
        };
        if !goes_on {
            break;
        }
        if let Err(why) = replay(&mut recovered, whose, (at, batch)) {
            recovered.lost.push(why);
            if !past_damage {
                break;
            }
        }
    }
    // A gap in the log would show what was lost before its last batch; after it, nothing does.
    let known = recovered.tail.place;
    if let Some(lost) = lost.iter().find(|lost| lost.may_be_batch() && lost.to > known) {
        let after = recovered.tail.sequence.0;
        recovered.lost.push(StoreError::Corrupt(format!(
            "journal records {} to {} were synced and cannot be read: batches of partition {} after {after} may be among them",
            lost.from.0, lost.to.0, whose.partition
        )));
    }
    if let Some(files) = files {
        let reader = Arc::new(files.reader()?);
        recovered.files = Some((files, reader));
    }
    Ok(recovered)
}

/// Makes room for a file that is made anew from the log, which begins at `first`. Only a log from its very first batch makes up for the
/// file; a partition without either is not opened at all, unless it is listed as having had a file.
fn begin_again(
    disk: &dyn Disk,
    (whose, count): (&Whose, u16),
    why: Option<Unusable>,
    first: Option<LogSeq>,
) -> Result<(), StoreError> {
    let path = path_of(whose.partition, 0);
    let path = path.as_str();
    let is_there = why.is_some();
    let why = why.map_or(format!("{path}: the file is missing"), |why| {
        why.store_error(path).to_string()
    });
    // Files that lie over it were begun when it had batches that the log has no more.
    if first != Some(LogSeq(1)) || count > 1 {
        let log = first.map_or("has nothing of it".into(), |first| {
            format!("begins at batch {}", first.0)
        });
        return Err(StoreError::Corrupt(format!(
            "{why}; the log {log} and cannot rebuild it"
        )));
    }
    // Nothing of it is needed: the log has every batch that was ever committed.
    if is_there {
        tracing::warn!(path, why, "the file is made anew from the log");
        let failed = |e: std::io::Error| StoreError::io(path, &e);
        disk.remove(path).map_err(failed)?;
        disk.sync_dir(DIR).map_err(failed)?;
    }
    Ok(())
}

type Opened = Result<(Files, Mark), Option<Unusable>>;

/// The first file; `Err(None)` where there is no file, `Err(Some)` where it is not usable.
fn open_first(disk: &dyn Disk, whose: &Whose) -> Result<Opened, StoreError> {
    match Files::open(disk, whose) {
        Ok(Some(opened)) => Ok(Ok(opened)),
        Ok(None) => Ok(Err(None)),
        // The log never takes the place of what may be right: a laid index is not what the log says.
        Err((
            path,
            e @ (Unusable::Unread(_) | Unusable::Newer(_) | Unusable::Io(_) | Unusable::Refused(_)),
        )) => Err(e.store_error(&path)),
        Err((_, e)) => Ok(Err(Some(e))),
    }
}

/// Where a batch stands to those before it.
enum Place {
    /// In the form already.
    Known,
    Next,
    /// Of the same log, but batches before it are missing.
    Behind(StoreError),
    /// It is of another log, or not to be told.
    Nowhere(StoreError),
}

fn place_of(tail: &Mark, path: &str, whose: &Whose, (place, batch): (JournalSeq, &LogBatch)) -> Place {
    let nowhere = |what: String| Place::Nowhere(corrupt(whose, place, &what));
    if batch.members != [whose.disk] {
        return nowhere(format!("its member disks are {:?}", batch.members));
    }
    let number = batch.sequence.0;
    if batch.sequence <= tail.sequence {
        // The last of them must be the very one that the form ends with.
        return match batch.sequence == tail.sequence && batch.crc() != tail.crc {
            true => nowhere(format!("batch {number} is not the one that {path} ends with")),
            false => Place::Known,
        };
    }
    if batch.epoch < tail.epoch {
        return nowhere(format!("batch {number} is of an owner before the last one"));
    }
    if number != tail.sequence.0 + 1 {
        let (from, to) = (tail.sequence.0 + 1, number - 1);
        let missing = format!("batches {from} to {to} are missing: what they wrote is as it was before them");
        return Place::Behind(corrupt(whose, place, &missing));
    }
    match batch.previous_crc == tail.crc {
        true => Place::Next,
        false => nowhere(format!("batch {number} does not follow the one before it")),
    }
}

fn corrupt(whose: &Whose, place: JournalSeq, what: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "the log of partition {} at journal record {}: {what}",
        whose.partition, place.0
    ))
}

/// Lays a batch over what there is. Of one that says nothing no rows are laid, and the next one still follows it.
fn replay(
    recovered: &mut Recovered,
    whose: &Whose,
    (place, batch): (JournalSeq, LogBatch),
) -> Result<(), StoreError> {
    let rows = batch::decode(&batch.payload);
    recovered.tail = Mark {
        epoch: batch.epoch,
        sequence: batch.sequence,
        crc: batch.crc(),
        place,
    };
    recovered.span.first.get_or_insert(place);
    recovered.span.last = recovered.tail;
    match rows {
        Ok(rows) => {
            recovered.rows.insert(batch.sequence, rows);
            Ok(())
        }
        Err(what) => Err(corrupt(
            whose,
            place,
            &format!(
                "batch {}: {what}: what it wrote is as it was before it",
                batch.sequence.0
            ),
        )),
    }
}
