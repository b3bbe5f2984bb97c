//! Reading one moment: rows of the generations over those of the form.

use super::form::{Reader, Row, RowsOf};
use super::leaps::Way;
use super::partition::{Generation, Partition, View};
use crate::{Rows, Scan, Skips, Snapshot, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use types::LogSeq;
use types::limits::SCAN_ROWS_MAX;
use world::rot::{self, Rot};

/// Rows taken from each generation at first, unless the page is of fewer; twice as many each time it is not full yet. Most pages find few rows there.
const COVER_ROWS: usize = 32;

/// Rows looked at in one go. Files that lie over others keep a mark of each row that is removed.
const LOOK_ROWS_MAX: usize = 4096;

/// After so many steps that led nowhere a leap searches at once, and of so many leaps one steps again.
const STEPS_MISSED_MAX: u32 = 4;
const STEP_EACH: u32 = 16;

/// A partition at one sequence.
pub(super) struct EmbeddedSnapshot {
    pub(super) partition: Arc<Partition>,
    pub(super) view: Arc<View>,
    pub(super) at: LogSeq,
}

/// Rows and removals that lie over the form, up to where they are known.
struct Cover {
    /// Ascending, each key once.
    rows: Vec<(Bytes, Option<Bytes>)>,
    end: Bytes,
}

impl EmbeddedSnapshot {
    fn one(&self, key: &Bytes) -> Result<Option<Bytes>, StoreError> {
        let generations = std::iter::once(&self.view.active).chain(&self.view.frozen);
        for generation in generations {
            let rows = generation.rows.read().expect("no panic under this lock");
            if let Some(value) = rows.get(self.at, key) {
                return Ok(value.cloned());
            }
        }
        match &self.view.form {
            Some(form) => form.get(key),
            None => Ok(None),
        }
    }

    fn cover(&self, start: &Bytes, end: &Bytes, rows: usize) -> Cover {
        let mut cover = Cover {
            rows: Vec::new(),
            end: end.clone(),
        };
        // Newer first: their rows stand for those of older ones.
        for generation in std::iter::once(&self.view.active).chain(&self.view.frozen) {
            cover.add(generation, self.at, start, rows);
        }
        let known = cover.rows.partition_point(|(key, _)| *key < cover.end);
        cover.rows.truncate(known);
        cover
    }

    /// The first rows from `start` on of what `cover` knows, into `out`, at most `max` in all; where to go on, if not behind the cover: it looked
    /// at [`LOOK_ROWS_MAX`] before, or leapt over the cover's end.
    fn merge(
        &self,
        start: &Bytes,
        cover: Cover,
        (max, skips): (usize, Option<Skips<'_>>),
        out: &mut Rows,
    ) -> Result<Option<Bytes>, StoreError> {
        let mut over = cover.rows.into_iter().peekable();
        let mut below = match &self.view.form {
            Some(form) if *start < cover.end => Some(Below::at(form, start, &cover.end)),
            _ => None,
        };
        let mut looked = 0;
        while out.len() < max {
            let lower = below.as_mut().map_or(Ok(None), Below::peek)?;
            let below_first = match (lower, over.peek()) {
                (None, None) => break,
                (Some(lower), Some((upper, _))) if lower == upper => {
                    if let Some(below) = &mut below {
                        below.take();
                    }
                    false
                }
                (Some(lower), Some((upper, _))) => lower < upper,
                (lower, None) => lower.is_some(),
                (None, Some(_)) => false,
            };
            let row = match &mut below {
                Some(below) if below_first => below.take(),
                _ => over.next(),
            };
            let Some((key, value)) = row else { break };
            looked += 1;
            let Some(value) = value else {
                if looked >= LOOK_ROWS_MAX {
                    return Ok(Some([&key, &b"\0"[..]].concat().into()));
                }
                continue;
            };
            let past = skips.and_then(|skips| skips(&key));
            out.push((key, value));
            // What is behind the last row nobody asked for: it need not even be readable.
            if let Some(past) = past.filter(|_| out.len() < max) {
                if past >= cover.end {
                    return Ok(Some(past));
                }
                while over.next_if(|(key, _)| *key < past).is_some() {}
                if let Some(below) = &mut below {
                    below.leap(past)?;
                }
            }
        }
        Ok(None)
    }

    async fn page(&self, scan: &Scan, skips: Option<Skips<'_>>) -> Result<Rows, StoreError> {
        let mut out = Rows::new();
        let mut start = scan.start.clone();
        // A page of one or two rows is one that asks often.
        let mut rows = scan.max.min(COVER_ROWS);
        while out.len() < scan.max && start < scan.end {
            let cover = self.cover(&start, &scan.end, rows);
            rows = (2 * rows).min(SCAN_ROWS_MAX);
            let next = cover.end.clone();
            start = match self.merge(&start, cover, (scan.max, skips), &mut out)? {
                None => next,
                Some(next) => {
                    // Much was looked at that is not in the page: others have the thread in between.
                    tokio::task::yield_now().await;
                    next
                }
            };
        }
        Ok(out)
    }

    fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Err(StoreError::Corrupt(place)) => {
                rot::found(Rot::IndexPage, place);
            }
            Err(e @ StoreError::Failed(_)) => {
                tracing::error!(partition = %self.partition.id, error = %e, "the index cannot be read");
            }
            _ => {}
        }
        result
    }
}

/// Rows of the form from a key on, one of them seen ahead.
struct Below<'a> {
    form: &'a Reader,
    end: &'a Bytes,
    /// `None`: to be had from `from` on, once they are wanted.
    rows: Option<RowsOf<'a>>,
    from: Bytes,
    ahead: Option<Row>,
    way: Way<'a>,
    /// How often in a row the row after one was not what a leap led to, up to [`STEPS_MISSED_MAX`].
    missed: u32,
    leaps: u32,
}

impl<'a> Below<'a> {
    fn at(form: &'a Reader, start: &Bytes, end: &'a Bytes) -> Self {
        Self {
            form,
            end,
            rows: None,
            from: start.clone(),
            ahead: None,
            way: Way::new(&form.leaps),
            missed: 0,
            leaps: 0,
        }
    }

    fn peek(&mut self) -> Result<Option<&Bytes>, StoreError> {
        if self.ahead.is_none() {
            let rows = match &mut self.rows {
                Some(rows) => rows,
                none => none.insert(self.form.range(&self.from, self.end)?),
            };
            self.ahead = rows.next().transpose()?;
        }
        Ok(self.ahead.as_ref().map(|(key, _)| key))
    }

    fn take(&mut self) -> Option<Row> {
        if let (None, Some((key, _))) = (&self.rows, &self.ahead) {
            self.from = [key, &b"\0"[..]].concat().into();
        }
        self.ahead.take()
    }

    /// Goes on from `key`, which is before the end.
    fn leap(&mut self, key: Bytes) -> Result<(), StoreError> {
        if self.ahead.as_ref().is_some_and(|(ahead, _)| *ahead >= key) {
            return Ok(());
        }
        if let Some(row) = self.way.row(&key) {
            self.rows = None;
            self.from = if row.0 < self.end { key } else { self.end.clone() };
            self.ahead = Some(row).filter(|(found, _)| found < self.end);
            return Ok(());
        }
        if self.steps_to(&key) {
            return Ok(());
        }
        self.from = key.clone();
        (self.rows, self.ahead) = (None, None);
        if self.peek()?.is_some()
            && let Some(row) = &self.ahead
        {
            self.form.leaps.insert(key, row.clone());
        }
        Ok(())
    }

    /// Whether the next row is where a leap to `key` leads to. It costs a tenth of a search, so it is looked at first, unless that was in vain
    /// before: then only now and then. Nothing is wanted of the rows before `key`: that one of them cannot be read keeps nobody from those behind.
    fn steps_to(&mut self, key: &Bytes) -> bool {
        self.leaps = self.leaps.wrapping_add(1);
        if self.missed >= STEPS_MISSED_MAX && !self.leaps.is_multiple_of(STEP_EACH) {
            return false;
        }
        match self.peek() {
            Ok(ahead) if ahead.is_none_or(|ahead| ahead >= key) => {
                self.missed = 0;
                true
            }
            _ => {
                self.missed = (self.missed + 1).min(STEPS_MISSED_MAX);
                false
            }
        }
    }
}

impl Cover {
    /// Takes in the rows of a generation that is older than those taken in before.
    fn add(&mut self, generation: &Generation, at: LogSeq, start: &Bytes, max: usize) {
        let newer = self.rows.len();
        let rows = generation.rows.read().expect("no panic under this lock");
        for (key, value) in rows.range(at, start, &self.end).take(max) {
            self.rows.push((key.clone(), value.cloned()));
        }
        drop(rows);
        if let (true, Some((last, _))) = (self.rows.len() - newer == max, self.rows.last()) {
            // More may follow: nothing is known past the last one.
            self.end = [last, &b"\0"[..]].concat().into();
        }
        if newer > 0 {
            // Two ascending runs; of one key the first stays, which is the newer's.
            self.rows.sort_by(|(a, _), (b, _)| a.cmp(b));
            self.rows.dedup_by(|(later, _), (first, _)| later == first);
        }
    }
}

#[async_trait::async_trait]
impl Snapshot for EmbeddedSnapshot {
    async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.noted(keys.iter().map(|key| self.one(key)).collect())
    }

    async fn scan(&self, scan: &Scan) -> Result<Rows, StoreError> {
        assert!(scan.max <= SCAN_ROWS_MAX, "a scan asks for a page");
        self.noted(self.page(scan, None).await)
    }

    async fn leap(&self, scan: &Scan, skips: Skips<'_>) -> Result<Rows, StoreError> {
        assert!(scan.max <= SCAN_ROWS_MAX, "a scan asks for a page");
        self.noted(self.page(scan, Some(skips)).await)
    }

    fn upper(&self) -> Option<Arc<dyn Snapshot>> {
        let form = self.view.form.as_ref()?.but_lowest();
        let view = View {
            active: self.view.active.clone(),
            frozen: self.view.frozen.clone(),
            form: form.map(Arc::new),
            readers: self.view.readers.clone(),
        };
        Some(Arc::new(Self {
            partition: self.partition.clone(),
            view: Arc::new(view),
            at: self.at,
        }))
    }
}
