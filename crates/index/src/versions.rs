//! Pages of versions: `current` and `versions` walked side by side, key by key, newest first, from one snapshot.
//!
//! A page costs what it holds: behind a common prefix both walks seek to the first key past it. After a version of a key
//! the page begins with the next older one of it, whether that version is still there or not.

use crate::fetch::{corrupt, first_rows};
use crate::handle::Handle;
use crate::listing::Most;
use crate::read::{Source, version_of};
use crate::rows::{Place, Range, Row, RowRef, after, decode};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use store::{Snapshot, StoreError};
use types::limits::LIST_LINE_BYTES;
use types::{BucketId, VersionId};
use wire::Fault;
use wire::index::{VersionRef, VersionsEntry, VersionsPage, VersionsQuery};
use wire::records::ObjectRecord;

/// Rows of the first scan where there are common prefixes to seek past.
const WINDOW_MIN: usize = 32;

/// Rows of a table in their order, fetched some at a time.
struct Walk {
    snapshot: Arc<dyn Snapshot>,
    place: Place,
    /// What is not fetched yet.
    rest: Range,
    fetched: VecDeque<(Bytes, Bytes)>,
    window: usize,
    most: usize,
}

impl Walk {
    /// The next row's object key, with the row.
    async fn peek(&mut self) -> Result<Option<(String, &(Bytes, Bytes))>, StoreError> {
        if self.fetched.is_empty() && self.rest.start < self.rest.end {
            let rows = first_rows(&*self.snapshot, &self.rest, self.window).await?;
            self.rest.start = match rows.last() {
                Some((last, _)) if rows.len() == self.window => after(last),
                _ => self.rest.end.clone(),
            };
            self.fetched = rows.into();
            self.window = (self.window * 2).min(self.most);
        }
        let Some(row) = self.fetched.front() else {
            return Ok(None);
        };
        match Row::parse(&row.0).map_err(|e| corrupt(&e))? {
            Row::Current(_, key) | Row::Version(_, key, _) => Ok(Some((key, row))),
            other => Err(StoreError::Corrupt(format!("{other:?} in a listing"))),
        }
    }

    /// Goes on at `start`, without reading what is before.
    fn seek(&mut self, start: Bytes) {
        let before = self.fetched.partition_point(|(row, _)| *row < start);
        self.fetched.drain(..before);
        if self.fetched.is_empty() {
            if before > 0 {
                // Rows that were seeked past were read for nothing: read less.
                self.window = (self.window / 4).max(2);
            }
            self.rest.start = self.rest.start.clone().max(start);
        }
    }
}

/// A listing of versions under way.
struct Listing<'a> {
    query: &'a VersionsQuery,
    snapshot: Arc<dyn Snapshot>,
    current: Walk,
    older: Walk,
    /// The key whose newest version has been passed.
    begun: Option<String>,
    /// Of the lines so far.
    bytes: usize,
}

impl<'a> Listing<'a> {
    fn new(query: &'a VersionsQuery, snapshot: Arc<dyn Snapshot>, most: usize) -> Self {
        let walk = |place: Place| Walk {
            snapshot: snapshot.clone(),
            place,
            rest: place.with_prefix(query.bucket, &query.prefix),
            fetched: VecDeque::new(),
            window: if query.delimiter.is_empty() {
                most
            } else {
                most.min(WINDOW_MIN)
            },
            most,
        };
        Self {
            query,
            current: walk(Place::Current),
            older: walk(Place::Versions),
            snapshot,
            begun: None,
            bytes: 0,
        }
    }

    /// The common prefix that a key belongs to.
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        let (prefix, delimiter) = (&self.query.prefix, &self.query.delimiter);
        if delimiter.is_empty() {
            return None;
        }
        let at = key.strip_prefix(prefix.as_str())?.find(delimiter.as_str())?;
        Some(&key[..prefix.len() + at + delimiter.len()])
    }

    /// Goes to the first version after the query's `after`.
    async fn start(&mut self) -> Result<(), StoreError> {
        let (key, version) = (&self.query.after.0, self.query.after.1);
        if key.is_empty() {
            return Ok(());
        }
        let bucket = self.query.bucket;
        if let Some(common) = self.common_prefix(key) {
            self.skip_prefix(common);
            return Ok(());
        }
        let position = match version {
            None | Some(VersionRef::Current) => None,
            Some(VersionRef::Id(id)) => Some(id),
            Some(VersionRef::Null) => match self.null_version(bucket, key).await? {
                Some(id) => Some(id),
                None => {
                    // Gone since the last page: what is left of its key comes again rather than not at all.
                    let row = RowRef::Current(bucket, key).key();
                    self.current.seek(row);
                    self.older.seek(Range::versions(bucket, key).start);
                    return Ok(());
                }
            },
        };
        let Some(id) = position else {
            self.current.seek(Place::Current.after_key(bucket, key));
            self.older.seek(Place::Versions.after_key(bucket, key));
            return Ok(());
        };
        self.start_after(key, id).await
    }

    /// Goes to the first version of `key` that is older than `id`.
    async fn start_after(&mut self, key: &str, id: VersionId) -> Result<(), StoreError> {
        let bucket = self.query.bucket;
        let source = Source::Snapshot(self.snapshot.clone());
        let current: Option<ObjectRecord> = source.get(RowRef::Current(bucket, key)).await?;
        let mut newest = current.as_ref().map(version_of).transpose()?;
        let is_before_current = newest.is_some_and(|current| current > id);
        if newest.is_none() {
            let first = first_rows(&*self.snapshot, &Range::versions(bucket, key), 1).await?;
            if let Some((row, value)) = first.first() {
                let first: ObjectRecord = decode(row, value).map_err(|e| corrupt(&e))?;
                newest = Some(version_of(&first)?);
            }
        }
        if newest.is_some_and(|newest| newest <= id) {
            self.begun = Some(key.to_owned());
        }
        self.current.seek(if is_before_current {
            RowRef::Current(bucket, key).key()
        } else {
            Place::Current.after_key(bucket, key)
        });
        self.older.seek(after(&RowRef::Version(bucket, key, id).key()));
        Ok(())
    }

    async fn null_version(&self, bucket: BucketId, key: &str) -> Result<Option<VersionId>, StoreError> {
        let source = Source::Snapshot(self.snapshot.clone());
        let current: Option<ObjectRecord> = source.get(RowRef::Current(bucket, key)).await?;
        let null = match current.filter(|c| c.null_version) {
            Some(current) => Some(current),
            None => source.older_null((bucket, key)).await?,
        };
        null.as_ref().map(version_of).transpose()
    }

    fn skip_prefix(&mut self, common: &str) {
        for walk in [&mut self.current, &mut self.older] {
            let past = walk.place.with_prefix(self.query.bucket, common).end;
            walk.seek(past);
        }
    }

    /// The next line.
    async fn next(&mut self) -> Result<Option<VersionsEntry>, StoreError> {
        let current = self.current.peek().await?.map(|(key, _)| key);
        let older = self.older.peek().await?.map(|(key, _)| key);
        let (key, is_current) = match (current, older) {
            (None, None) => return Ok(None),
            (Some(current), Some(older)) if older < current => (older, false),
            (Some(current), _) => (current, true),
            (None, Some(older)) => (older, false),
        };
        if let Some(common) = self.common_prefix(&key) {
            let common = common.to_owned();
            self.skip_prefix(&common);
            self.bytes += LIST_LINE_BYTES + common.len();
            return Ok(Some(VersionsEntry::Prefix(common)));
        }
        let walk = if is_current {
            &mut self.current
        } else {
            &mut self.older
        };
        let Some((row, value)) = walk.fetched.pop_front() else {
            return Ok(None);
        };
        self.bytes += LIST_LINE_BYTES + row.len() + value.len();
        let record: ObjectRecord = decode(&row, &value).map_err(|e| corrupt(&e))?;
        let is_latest = self.begun.as_ref() != Some(&key);
        if is_latest {
            self.begun = Some(key.clone());
        }
        Ok(Some(VersionsEntry::Version {
            key,
            record,
            is_latest,
        }))
    }

    async fn page(mut self, most: Most) -> Result<VersionsPage, StoreError> {
        let mut page = VersionsPage::default();
        if most.lines == 0 {
            return Ok(page);
        }
        self.start().await?;
        while let Some(entry) = self.next().await? {
            if most.is_full(page.entries.len(), self.bytes) {
                page.truncated = true;
                break;
            }
            page.entries.push(entry);
        }
        Ok(page)
    }
}

impl Handle {
    /// A page of versions.
    pub(crate) async fn list_versions(&self, query: &VersionsQuery) -> Result<VersionsPage, Fault> {
        let most = Most::of(query.max);
        // Two tables are read side by side.
        let rows = (most.lines + 1).min((most.rows / 2).max(2));
        self.at_one_moment(|snapshot| Listing::new(query, snapshot, rows).page(most))
            .await
    }
}
