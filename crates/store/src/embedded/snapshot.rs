//! Reading one moment: rows of the generations over those of the form.

use super::form::Row;
use super::partition::{Generation, Partition, View};
use crate::{Rows, Scan, Snapshot, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::LogSeq;
use types::limits::SCAN_ROWS_MAX;
use world::rot::{self, Rot};

/// Rows taken from each generation at first, unless the page is of fewer; twice as many each time it is not full yet. Most pages find few rows there.
const COVER_ROWS: usize = 32;

/// Rows looked at in one go. Files that lie over others keep a mark of each row that is removed.
const LOOK_ROWS_MAX: usize = 4096;

/// A partition at one sequence.
pub(super) struct EmbeddedSnapshot {
    pub(super) partition: Arc<Partition>,
    pub(super) view: Arc<View>,
    pub(super) at: LogSeq,
}

/// Rows and removals that lie over the form, up to where they are known.
struct Cover {
    rows: BTreeMap<Bytes, Option<Bytes>>,
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
            rows: BTreeMap::new(),
            end: end.clone(),
        };
        // Older first: newer rows replace them.
        for generation in self.view.frozen.iter().chain(std::iter::once(&self.view.active)) {
            cover.add(generation, self.at, start, rows);
        }
        cover.rows.split_off(&cover.end);
        cover
    }

    /// The first rows from `start` on of what `cover` knows, into `out`, at most `max` in all; where to go on, if it looked at
    /// [`LOOK_ROWS_MAX`] before.
    fn merge(
        &self,
        start: &Bytes,
        cover: Cover,
        max: usize,
        out: &mut Rows,
    ) -> Result<Option<Bytes>, StoreError> {
        let mut over = cover.rows.into_iter().peekable();
        let mut below = match &self.view.form {
            Some(form) if *start < cover.end => Some(form.range(start, &cover.end)?),
            _ => None,
        };
        let mut below_row: Option<Row> = None;
        let mut looked = 0;
        while out.len() < max {
            if below_row.is_none() {
                below_row = below.as_mut().and_then(Iterator::next).transpose()?;
            }
            let below_first = match (&below_row, over.peek()) {
                (None, None) => break,
                (Some((lower, _)), Some((upper, _))) => {
                    if lower == upper {
                        below_row = None;
                        false
                    } else {
                        lower < upper
                    }
                }
                (lower, _) => lower.is_some(),
            };
            let row = if below_first {
                below_row.take()
            } else {
                over.next()
            };
            let Some((key, value)) = row else { break };
            looked += 1;
            match value {
                Some(value) => out.push((key, value)),
                None if looked >= LOOK_ROWS_MAX => return Ok(Some([&key, &b"\0"[..]].concat().into())),
                None => {}
            }
        }
        Ok(None)
    }

    async fn page(&self, scan: &Scan) -> Result<Rows, StoreError> {
        let mut out = Rows::new();
        let mut start = scan.start.clone();
        // A page of one or two rows is a listing that seeks: it asks a thousand times.
        let mut rows = scan.max.min(COVER_ROWS);
        while out.len() < scan.max && start < scan.end {
            let cover = self.cover(&start, &scan.end, rows);
            rows = (2 * rows).min(SCAN_ROWS_MAX);
            let next = cover.end.clone();
            start = match self.merge(&start, cover, scan.max, &mut out)? {
                None => next,
                Some(next) => {
                    // Removed rows are not in the page: others have the thread in between.
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

impl Cover {
    fn add(&mut self, generation: &Generation, at: LogSeq, start: &Bytes, max: usize) {
        let rows = generation.rows.read().expect("no panic under this lock");
        let mut taken = 0;
        let mut last = None;
        for (key, value) in rows.range(at, start, &self.end).take(max) {
            self.rows.insert(key.clone(), value.cloned());
            last = Some(key);
            taken += 1;
        }
        if let (true, Some(last)) = (taken == max, last) {
            // More may follow: nothing is known past the last one.
            self.end = [last, &b"\0"[..]].concat().into();
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
        self.noted(self.page(scan).await)
    }
}
