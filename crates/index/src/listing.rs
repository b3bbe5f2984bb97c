//! Pages of objects, uploads and parts, from one snapshot each.
//!
//! A page costs what it holds: behind a common prefix the scan leaps to the first key past it instead of walking it. After a
//! page's last entry the next begins behind it: behind a common prefix that means behind all its keys. So it does where `after` lies
//! inside a common prefix, as S3's `start-after` may: the prefix is not greater than what the listing starts after.
//!
//! I9: what a page may hold is bounded in bytes too, `list_page_bytes` of the lines that were asked for; it ends early rather than grow past
//! them. Nor is more read at once than such a page takes in the end.

use crate::fetch::{corrupt, first_rows};
use crate::rows::{BadRow, Place, Range, Row, RowRef, after, decode};
use bytes::Bytes;
use store::{Snapshot, StoreError};
use types::limits::{LIST_KEYS_MAX, LIST_LINE_BYTES, PART_NUMBER_MAX, list_page_bytes, list_rows_at_once};
use types::{BucketId, UploadId};
use wire::Fault;
use wire::index::{
    ListEntry, ListPage, ListQuery, PartsPage, ReadAnswer, Reason, UploadsEntry, UploadsPage, UploadsQuery,
};
use wire::records::PartRecord;

use crate::handle::Handle;

/// A listing of keys.
struct Listing<'a> {
    place: Place,
    bucket: BucketId,
    prefix: &'a str,
    delimiter: &'a str,
    most: Most,
}

/// What a page holds at most.
#[derive(Clone, Copy)]
pub(crate) struct Most {
    pub(crate) lines: usize,
    bytes: usize,
    /// Rows that it reads at once.
    pub(crate) rows: usize,
}

impl Most {
    pub(crate) fn of(max: u32) -> Self {
        let max = max.min(LIST_KEYS_MAX);
        Self {
            lines: max as usize,
            bytes: list_page_bytes(max),
            rows: list_rows_at_once(max),
        }
    }

    /// Whether a page of so many lines takes no further one, with which it would be of so many bytes. The first it takes always.
    pub(crate) fn is_full(self, lines: usize, bytes: usize) -> bool {
        lines >= self.lines || (lines > 0 && bytes > self.bytes)
    }
}

/// A line: a common prefix, or a key with its row.
enum Line {
    Prefix(String),
    Row(String, (Bytes, Bytes)),
}

impl Listing<'_> {
    /// The common prefix that a key belongs to.
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        if self.delimiter.is_empty() {
            return None;
        }
        let at = key.strip_prefix(self.prefix)?.find(self.delimiter)?;
        Some(&key[..self.prefix.len() + at + self.delimiter.len()])
    }

    /// Where the rows after key `key` begin; after its upload `upload` when given.
    fn start(&self, key: &str, upload: Option<UploadId>) -> Bytes {
        let first = self.place.with_prefix(self.bucket, self.prefix).start;
        if key.is_empty() {
            return first;
        }
        let past = match (self.common_prefix(key), upload) {
            (Some(common), _) => self.place.with_prefix(self.bucket, common).end,
            (None, Some(upload)) => after(&RowRef::Upload(self.bucket, key, upload).key()),
            (None, None) => self.place.after_key(self.bucket, key),
        };
        first.max(past)
    }

    /// The first row key behind the common prefix that a row's key belongs to.
    fn behind_prefix(&self, row: &[u8]) -> Option<Bytes> {
        // A row that is none ends the listing when its line is made.
        let key = key_of(row).ok()?;
        let common = self.common_prefix(&key)?;
        Some(self.place.with_prefix(self.bucket, common).end)
    }

    /// The page from `start`, and whether there is more.
    async fn page(&self, snapshot: &dyn Snapshot, mut start: Bytes) -> Result<(Vec<Line>, bool), StoreError> {
        let end = self.place.with_prefix(self.bucket, self.prefix).end;
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while self.most.lines > 0 && start < end {
            let scan = store::Scan {
                start: start.clone(),
                end: end.clone(),
                max: (self.most.lines + 1 - lines.len()).min(self.most.rows),
            };
            let rows = if self.delimiter.is_empty() {
                snapshot.scan(&scan).await?
            } else {
                snapshot.leap(&scan, &|row| self.behind_prefix(row)).await?
            };
            let is_last = rows.len() < scan.max;
            let last = rows.len().saturating_sub(1);
            for (n, (row, value)) in rows.into_iter().enumerate() {
                let key = key_of(&row).map_err(|e| corrupt(&e))?;
                let common = self.common_prefix(&key);
                let line = common.map_or(row.len() + value.len(), str::len);
                bytes += LIST_LINE_BYTES + line;
                if self.most.is_full(lines.len(), bytes) {
                    return Ok((lines, true));
                }
                if n == last {
                    start = common.map_or_else(
                        || after(&row),
                        |common| self.place.with_prefix(self.bucket, common).end,
                    );
                }
                if let Some(common) = common {
                    lines.push(Line::Prefix(common.to_owned()));
                } else {
                    lines.push(Line::Row(key, (row, value)));
                }
            }
            if is_last {
                break;
            }
        }
        Ok((lines, false))
    }
}

/// Rows of the first scan of parts: one that came slowly names its bytes in thousands of places.
const PARTS_AT_FIRST: usize = 2;

/// Rows of a page of parts, and whether there are more.
async fn parts_rows(
    snapshot: &dyn Snapshot,
    mut range: Range,
    most: Most,
) -> Result<(Vec<(Bytes, Bytes)>, bool), StoreError> {
    let (mut rows, mut bytes, mut window) = (Vec::new(), 0, PARTS_AT_FIRST);
    while rows.len() < most.lines {
        let window_now = window.min(most.lines - rows.len() + 1);
        let some = first_rows(snapshot, &range, window_now).await?;
        let is_last = some.len() < window_now;
        for (row, value) in some {
            bytes += LIST_LINE_BYTES + row.len() + value.len();
            if most.is_full(rows.len(), bytes) {
                return Ok((rows, true));
            }
            range.start = after(&row);
            rows.push((row, value));
        }
        if is_last {
            return Ok((rows, false));
        }
        // As many as would fill the page, if they go on as they began.
        let left = most.bytes.saturating_sub(bytes);
        let fill = rows.len() * left / bytes.max(1);
        window = (window * 4).min(fill).clamp(1, most.rows);
    }
    let more = most.lines > 0 && !first_rows(snapshot, &range, 1).await?.is_empty();
    Ok((rows, more))
}

fn key_of(row: &[u8]) -> Result<String, BadRow> {
    match Row::parse(row)? {
        Row::Current(_, key) | Row::Version(_, key, _) | Row::Upload(_, key, _) => Ok(key),
        other => Err(BadRow::new(format!("{other:?} in a listing"))),
    }
}

impl Handle {
    /// A page of objects.
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage, Fault> {
        let listing = Listing {
            place: Place::Current,
            bucket: query.bucket,
            prefix: &query.prefix,
            delimiter: &query.delimiter,
            most: Most::of(query.max),
        };
        let start = listing.start(&query.after, None);
        let (listing, start) = (&listing, &start);
        let (lines, truncated) = self
            .at_one_moment(|snapshot| async move { listing.page(&*snapshot, start.clone()).await })
            .await?;
        let entry = |line| match line {
            Line::Prefix(prefix) => ListEntry::Prefix(prefix),
            Line::Row(key, (_, record)) => ListEntry::Object { key, record },
        };
        Ok(ListPage {
            entries: lines.into_iter().map(entry).collect(),
            truncated,
        })
    }

    /// A page of uploads.
    pub(crate) async fn uploads(&self, query: &UploadsQuery) -> Result<UploadsPage, Fault> {
        let listing = Listing {
            place: Place::Uploads,
            bucket: query.bucket,
            prefix: &query.prefix,
            delimiter: &query.delimiter,
            most: Most::of(query.max),
        };
        let start = listing.start(&query.after.0, query.after.1);
        let (listing, start) = (&listing, &start);
        let (entries, truncated) = self
            .at_one_moment(|snapshot| async move {
                let (lines, truncated) = listing.page(&*snapshot, start.clone()).await?;
                let entry = |line| match line {
                    Line::Prefix(prefix) => Ok(UploadsEntry::Prefix(prefix)),
                    Line::Row(key, (row, value)) => {
                        decode(&row, &value).map(|record| UploadsEntry::Upload { key, record })
                    }
                };
                let entries: Result<Vec<_>, BadRow> = lines.into_iter().map(entry).collect();
                Ok((entries.map_err(|e| corrupt(&e))?, truncated))
            })
            .await?;
        Ok(UploadsPage { entries, truncated })
    }

    /// An upload and its parts above number `above`.
    pub(crate) async fn parts(
        &self,
        (bucket, key): (BucketId, &str),
        upload: UploadId,
        above: u32,
        max: u32,
    ) -> ReadAnswer<PartsPage> {
        let most = Most::of(max);
        self.at_one_moment(|snapshot| async move {
            let row = RowRef::Upload(bucket, key, upload).key();
            let Some(value) = snapshot.get(std::slice::from_ref(&row)).await?.pop().flatten() else {
                return Ok(Err(Reason::NoSuchUpload));
            };
            let mut range = Range::parts(bucket, key, upload);
            range.start = RowRef::Part(bucket, key, upload, above.min(PART_NUMBER_MAX) + 1).key();
            let (rows, truncated) = parts_rows(&*snapshot, range, most).await?;
            let parts: Result<Vec<PartRecord>, _> = rows.iter().map(|(k, v)| decode(k, v)).collect();
            Ok(Ok(PartsPage {
                upload: decode(&row, &value).map_err(|e| corrupt(&e))?,
                parts: parts.map_err(|e| corrupt(&e))?,
                truncated,
            }))
        })
        .await
    }
}
