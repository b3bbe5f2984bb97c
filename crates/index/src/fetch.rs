//! What the owner reads of the store: its partition's own rows when it takes it, and the rows that commands need.

use crate::commands;
use crate::owner::{Job, Owner};
use crate::partition::{Draft, Partition};
use crate::past::{NextRows, next_rows, readable};
use crate::rows::{BadRow, Range, Row, RowRef, after, decode, is_condemned};
use crate::view::{Needs, Readable};
use bytes::Bytes;
use std::collections::BTreeMap;
use store::{Snapshot, StoreError};
use types::SessionId;
use types::limits::{DONE_ROWS_MAX, SCAN_ROWS_MAX};
use wire::records::{DoneRecord, PartitionState, SessionFloor};

/// Why rows could not be had.
pub(crate) enum Missed {
    /// The store failed.
    Failed(StoreError),
    /// The partition is not as this owner left it: another has been here.
    Stale,
}

impl From<StoreError> for Missed {
    fn from(e: StoreError) -> Self {
        Self::Failed(e)
    }
}

impl Owner {
    /// Takes the partition and reads what its owner must know.
    ///
    /// Answers and floors that cannot be read: they can only be those of sessions before this life's, as long as it has decided nothing.
    /// Commands wait until those are ended, which makes them refused for ever. Of rows that were decided in this life nothing may be missing.
    pub(crate) async fn load(&self) -> Result<Partition, StoreError> {
        let fence = self.shared.store.take(self.shared.id).await?;
        let snapshot = self.shared.store.snapshot(self.shared.id).await?;
        let key = RowRef::State.key();
        let state: PartitionState = match snapshot.get(std::slice::from_ref(&key)).await?.pop().flatten() {
            Some(value) => decode(&key, &value).map_err(|e| corrupt(&e))?,
            None => PartitionState::default(),
        };
        if state.epoch >= fence.epoch.0 || state.sequence > fence.sequence.0 {
            let what = format!(
                "the partition says epoch {}, batch {}; the store {fence:?}",
                state.epoch, state.sequence
            );
            return Err(StoreError::Corrupt(what));
        }
        let done = readable(&*snapshot, &Range::done()).await?;
        let floors = readable(&*snapshot, &Range::sessions()).await?;
        let lost = done.lost.into_iter().chain(floors.lost).next();
        if let Some(lost) = &lost {
            if self.has_decided {
                return Err(lost.clone());
            }
            tracing::error!(partition = %self.shared.id, error = %lost, "answers of earlier sessions cannot be read; they go on being refused");
        }
        let mut partition = Partition {
            fence,
            stamp: self.stamp,
            state,
            done: BTreeMap::new(),
            floors: BTreeMap::new(),
            done_rows_max: DONE_ROWS_MAX,
            forget_below: SessionId::default(),
            answers_lost: lost.map(|_| SessionId(state.sessions_ended_below)),
            none_condemned: !may_have(&*snapshot, &Range::condemned()).await?,
            unswept: may_have(&*snapshot, &Range::ended())
                .await?
                .then(|| Range::ended().start),
        };
        for (key, value) in done.rows {
            let record: DoneRecord = decode(&key, &value).map_err(|e| corrupt(&e))?;
            let answer = prost::Message::encode_to_vec(&record.answer.unwrap_or_default());
            if let Row::Done(id) = Row::parse(&key).map_err(|e| corrupt(&e))? {
                partition.done.insert(id, answer.into());
            }
        }
        for (key, value) in floors.rows {
            let record: SessionFloor = decode(&key, &value).map_err(|e| corrupt(&e))?;
            if let Row::Session(session) = Row::parse(&key).map_err(|e| corrupt(&e))? {
                partition.floors.insert(session, record.done_below);
            }
        }
        Ok(partition)
    }

    /// Fetches what the commands themselves tell, for the whole batch at once. An error here is found again, by the one
    /// command that it belongs to.
    pub(crate) async fn prefetch(&self, draft: &mut Draft, jobs: &[Job]) -> Result<(), Missed> {
        let mut rows = Vec::new();
        for job in jobs {
            if let Job::Call(call, _) = job {
                commands::first_rows(&call.command, &mut rows);
            }
        }
        rows.sort();
        rows.dedup();
        let needs = Needs {
            rows,
            ..Needs::default()
        };
        let fetched = self.fetch(draft, needs).await;
        if let Err(Missed::Failed(e)) = &fetched {
            tracing::debug!(partition = %self.shared.id, error = %e, "rows of a batch could not be fetched at once");
        }
        fetched
    }

    /// Brings rows into the draft.
    pub(crate) async fn fetch(&self, draft: &mut Draft, needs: Needs) -> Result<(), Missed> {
        let none_condemned = self.taken().none_condemned;
        let seen = {
            let mut cache = self.shared.cache();
            for key in &needs.rows {
                let known = if none_condemned && is_condemned(key) {
                    Some(None)
                } else {
                    cache.get(key)
                };
                if let Some(value) = known {
                    draft.known.rows.insert(key.clone(), value);
                }
            }
            cache.seen()
        };
        let known = &draft.known.rows;
        let mut missing: Vec<Bytes> = needs
            .rows
            .into_iter()
            .filter(|k| !known.contains_key(k))
            .collect();
        if missing.is_empty() && needs.ranges.is_empty() && needs.readable.is_empty() {
            return Ok(());
        }
        // The partition's own row tells whether these rows are still what this owner left.
        missing.push(RowRef::State.key());
        let (wanted, ranges, readable) = (&missing, &needs.ranges, &needs.readable);
        let read = self.shared.read(|snapshot| async move {
            let values = snapshot.get(wanted).await?;
            let mut found = Vec::with_capacity(ranges.len());
            for (range, max) in ranges {
                found.push(match first_rows(&*snapshot, range, *max).await {
                    Err(StoreError::Corrupt(why)) => Err(BadRow::new(why)),
                    other => Ok(other?),
                });
            }
            let mut past = Vec::with_capacity(readable.len());
            for (range, max) in readable {
                let NextRows { rows, next, .. } = next_rows(&*snapshot, range, *max).await?;
                past.push(Readable { rows, next });
            }
            Ok((values, found, past))
        });
        let (values, found, past) = read.await?;
        draft
            .known
            .readable
            .extend(needs.readable.iter().cloned().zip(past));
        let state = missing.iter().zip(&values).next_back();
        if state.is_none_or(|(key, value)| !self.is_ours(key, value.as_ref())) {
            return Err(Missed::Stale);
        }
        {
            let mut cache = self.shared.cache();
            for (key, value) in missing.into_iter().zip(values) {
                cache.fill(seen, &key, &value);
                draft.known.rows.insert(key, value);
            }
        }
        for (range, found) in needs.ranges.into_iter().zip(found) {
            match found {
                Ok(rows) => drop(draft.known.ranges.insert(range, rows)),
                Err(bad) => drop(draft.known.unreadable.insert(range, bad)),
            }
        }
        Ok(())
    }

    fn is_ours(&self, key: &Bytes, value: Option<&Bytes>) -> bool {
        let state = value.map(|v| decode::<PartitionState>(key, v)).transpose();
        state.is_ok_and(|state| state.unwrap_or_default() == self.taken().state)
    }
}

/// A row of the partition's own that is not what this build writes.
pub(crate) fn corrupt(e: &BadRow) -> StoreError {
    StoreError::Corrupt(e.to_string())
}

/// The first `max` rows of a range.
pub(crate) async fn first_rows(
    snapshot: &dyn Snapshot,
    range: &Range,
    max: usize,
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let mut rows = Vec::new();
    let mut start = range.start.clone();
    while rows.len() < max && start < range.end {
        let scan = store::Scan {
            start,
            end: range.end.clone(),
            max: (max - rows.len()).min(SCAN_ROWS_MAX),
        };
        let page = snapshot.scan(&scan).await?;
        let Some((last, _)) = page.last().filter(|_| page.len() == scan.max) else {
            rows.extend(page);
            break;
        };
        start = after(last);
        rows.extend(page);
    }
    Ok(rows)
}

/// Whether a range has rows, or may have: one that cannot be read is one.
async fn may_have(snapshot: &dyn Snapshot, range: &Range) -> Result<bool, StoreError> {
    match first_rows(snapshot, range, 1).await {
        Ok(rows) => Ok(!rows.is_empty()),
        Err(StoreError::Corrupt(_)) => Ok(true),
        Err(e) => Err(e),
    }
}
