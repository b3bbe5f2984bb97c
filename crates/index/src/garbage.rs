//! Pages of what gc works through: bookings, and uploads that nobody works on.
//!
//! A cursor is the row key to go on from, and how far its row was read: a booking's manifest pages, an upload's parts. What
//! is done with a row in between is no harm: the rows that are left say all there is to say.
//!
//! Rows that cannot be read are gone past: what they booked stays, what stands behind them goes. A booking whose manifest cannot be read to
//! its end is not begun: its needles would be handed over, reclaimed and handed over again, for it is never forgotten.

use crate::fetch::{corrupt, first_rows};
use crate::handle::Handle;
use crate::past::{NextRows, next_rows};
use crate::reach::read_page;
use crate::rows::{BadRow, Range, Row, RowRef, after, decode};
use bytes::Bytes;
use std::sync::Arc;
use store::{Snapshot, StoreError};
use types::limits::{GARBAGE_PAGE_CHUNKS, PART_NUMBER_MAX};
use types::{BucketId, Hlc, ObjectKey, UploadId};
use wire::Fault;
use wire::index::{Booked, BookedRef, IdleUpload};
use wire::records::{GarbageRecord, PartRecord, UploadRecord};

/// Rows read at once: one can hold some thousand chunks.
const ROWS_AT_ONCE: usize = 32;
/// Rows that a page of uploads reads.
const UPLOADS_ROWS_MAX: usize = 512;

/// Where to go on.
struct Cursor {
    /// How far the row was read.
    within: u32,
    row: Bytes,
}

impl Cursor {
    /// From what a caller got, in `range`; `None` at its end.
    fn parse(bytes: &Bytes, range: &Range) -> Option<Self> {
        let (within, row) = match bytes.split_first_chunk::<4>() {
            Some((within, row)) => (u32::from_be_bytes(*within), Bytes::copy_from_slice(row)),
            None => (0, Bytes::new()),
        };
        let row = row.max(range.start.clone());
        (row < range.end).then_some(Self { within, row })
    }

    fn bytes(&self) -> Bytes {
        [&self.within.to_be_bytes()[..], &self.row].concat().into()
    }

    fn past(row: &[u8]) -> Self {
        Self {
            within: 0,
            row: after(row),
        }
    }
}

impl Handle {
    /// See [`wire::index::Reclaim::garbage`].
    pub(crate) async fn garbage(
        &self,
        cursor: &Bytes,
        count_max: usize,
    ) -> Result<(Vec<Booked>, Bytes), Fault> {
        self.at_one_moment(|snapshot| async move {
            let mut page = Bookings {
                count_max: count_max.max(1),
                entries: Vec::new(),
                chunks: 0,
            };
            let next = page.fill(&snapshot, cursor).await?;
            Ok((page.entries, next))
        })
        .await
    }

    /// See [`wire::index::Reclaim::uploads_idle`].
    pub(crate) async fn uploads_idle(
        &self,
        cursor: &Bytes,
        before_ms: u64,
    ) -> Result<(Vec<IdleUpload>, Bytes), Fault> {
        self.at_one_moment(|snapshot| async move {
            let mut page = Idle {
                snapshot,
                before_ms,
                entries: Vec::new(),
                rows_left: UPLOADS_ROWS_MAX,
            };
            let next = page.fill(cursor).await?;
            Ok((page.entries, next))
        })
        .await
    }
}

/// A page of bookings.
struct Bookings {
    count_max: usize,
    entries: Vec<Booked>,
    chunks: usize,
}

impl Bookings {
    fn is_full(&self) -> bool {
        self.entries.len() >= self.count_max || self.chunks >= GARBAGE_PAGE_CHUNKS
    }

    /// Fills it from a cursor; the next.
    async fn fill(&mut self, snapshot: &Arc<dyn Snapshot>, cursor: &Bytes) -> Result<Bytes, StoreError> {
        let mut range = Range::garbage();
        let Some(mut cursor) = Cursor::parse(cursor, &range) else {
            return Ok(Bytes::new());
        };
        loop {
            range.start = cursor.row.clone();
            let NextRows { rows, next, .. } = next_rows(&**snapshot, &range, ROWS_AT_ONCE).await?;
            for (row, value) in rows {
                let from = if row == cursor.row { cursor.within } else { 0 };
                let before = (self.entries.len(), self.chunks);
                match self.booking(snapshot, (&row, &value), from).await {
                    Ok(Some(page)) => return Ok(Cursor { within: page, row }.bytes()),
                    Ok(None) => {}
                    // A page of its manifest.
                    Err(StoreError::Corrupt(why)) => {
                        tracing::debug!(why, "a booking stays");
                        self.entries.truncate(before.0);
                        self.chunks = before.1;
                    }
                    Err(e) => return Err(e),
                }
                cursor = Cursor::past(&row);
                if self.is_full() {
                    return Ok(cursor.bytes());
                }
            }
            if next >= range.end {
                return Ok(Bytes::new());
            }
            cursor = Cursor { within: 0, row: next };
        }
    }

    /// Adds a booking's needles from page `from` on; the page to go on with, if this page is full before.
    async fn booking(
        &mut self,
        snapshot: &Arc<dyn Snapshot>,
        (row, value): (&Bytes, &Bytes),
        from: u32,
    ) -> Result<Option<u32>, StoreError> {
        let Row::Garbage(bucket, key, blob) = Row::parse(row).map_err(|e| corrupt(&e))? else {
            return Err(corrupt(&BadRow::new("a row that is no booking among them")));
        };
        let garbage: GarbageRecord = decode(row, value).map_err(|e| corrupt(&e))?;
        let booked = BookedRef {
            bucket,
            key,
            blob,
            booked: Hlc(garbage.booked_hlc),
        };
        let pages = garbage.manifest.map_or(0, |m| m.pages);
        if from >= pages {
            // A short list, or a manifest whose pages were all forgotten.
            self.add(&booked, from, true, garbage.chunks);
        }
        for page in from..pages {
            if page > from && self.is_full() {
                if from == 0 {
                    check_pages(snapshot, &booked, page..pages).await?;
                }
                return Ok(Some(page));
            }
            let row = RowRef::Manifest(booked.bucket, &booked.key, blob, page);
            let chunks = read_page(&**snapshot, &row).await?.chunks;
            self.add(&booked, page, page + 1 == pages, chunks);
        }
        Ok(None)
    }

    fn add(&mut self, row: &BookedRef, page: u32, is_last: bool, chunks: Vec<wire::records::Chunk>) {
        self.chunks += chunks.len();
        self.entries.push(Booked {
            row: row.clone(),
            page,
            is_last,
            chunks,
        });
    }
}

/// Reads manifest pages that another answer will have.
async fn check_pages(
    snapshot: &Arc<dyn Snapshot>,
    booked: &BookedRef,
    pages: std::ops::Range<u32>,
) -> Result<(), StoreError> {
    for page in pages {
        let row = RowRef::Manifest(booked.bucket, &booked.key, booked.blob, page);
        read_page(&**snapshot, &row).await?;
    }
    Ok(())
}

/// A page of uploads that nobody works on.
struct Idle {
    snapshot: Arc<dyn Snapshot>,
    before_ms: u64,
    entries: Vec<IdleUpload>,
    rows_left: usize,
}

/// What is known of an upload.
enum Activity {
    /// Somebody worked on it since.
    Fresh,
    /// Nobody did.
    None,
    /// Its parts above this number are still to be looked at.
    After(u32),
}

impl Idle {
    async fn fill(&mut self, cursor: &Bytes) -> Result<Bytes, StoreError> {
        let mut range = Range::uploads();
        let Some(mut cursor) = Cursor::parse(cursor, &range) else {
            return Ok(Bytes::new());
        };
        loop {
            range.start = cursor.row.clone();
            let NextRows { rows, next, .. } = next_rows(&*self.snapshot, &range, ROWS_AT_ONCE).await?;
            for (row, value) in rows {
                let above = if row == cursor.row { cursor.within } else { 0 };
                let Row::Upload(bucket, key, upload) = Row::parse(&row).map_err(|e| corrupt(&e))? else {
                    return Err(corrupt(&BadRow::new("a row that is no upload among them")));
                };
                let record: UploadRecord = decode(&row, &value).map_err(|e| corrupt(&e))?;
                self.rows_left = self.rows_left.saturating_sub(1);
                match self.activity((bucket, &key, upload), &record, above).await {
                    // A part that cannot be read may be of today.
                    Ok(Activity::Fresh) | Err(StoreError::Corrupt(_)) => {}
                    Err(e) => return Err(e),
                    Ok(Activity::None) => {
                        let key = ObjectKey::new(&key);
                        let key = key.map_err(|e| corrupt(&BadRow::new(format!("an upload's key: {e}"))))?;
                        self.entries.push(IdleUpload { bucket, key, upload });
                    }
                    Ok(Activity::After(within)) => return Ok(Cursor { within, row }.bytes()),
                }
                cursor = Cursor::past(&row);
                if self.rows_left == 0 {
                    return Ok(cursor.bytes());
                }
            }
            if next >= range.end {
                return Ok(Bytes::new());
            }
            cursor = Cursor { within: 0, row: next };
        }
    }

    /// Whether anything was done since. What a part took is in its own row: there is nothing to keep up to date for this.
    async fn activity(
        &mut self,
        (bucket, key, upload): (BucketId, &str, UploadId),
        record: &UploadRecord,
        above: u32,
    ) -> Result<Activity, StoreError> {
        let laying = record.laying.as_ref().map_or(0, |l| Hlc(l.hlc).wall_ms());
        if record.initiated_ms.max(laying) >= self.before_ms {
            return Ok(Activity::Fresh);
        }
        let mut range = Range::parts(bucket, key, upload);
        let mut above = above;
        loop {
            range.start = RowRef::Part(bucket, key, upload, above.min(PART_NUMBER_MAX) + 1).key();
            let rows = first_rows(&*self.snapshot, &range, ROWS_AT_ONCE).await?;
            self.rows_left = self.rows_left.saturating_sub(rows.len());
            for (row, value) in &rows {
                let part: PartRecord = decode(row, value).map_err(|e| corrupt(&e))?;
                if part.modified_ms >= self.before_ms {
                    return Ok(Activity::Fresh);
                }
                above = part.number;
            }
            if rows.len() < ROWS_AT_ONCE {
                return Ok(Activity::None);
            }
            if self.rows_left == 0 {
                return Ok(Activity::After(above));
            }
        }
    }
}
