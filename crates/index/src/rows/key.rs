//! Row keys: a table's byte and its fields.

use super::{BadRow, escape};
use bytes::Bytes;
use types::{AccountId, BlobId, BucketId, CommandId, ExtentId, NeedleId, SessionId, UploadId, VersionId};

/// Tables by their first byte (docs/formats/rows.md). Numbers are for ever.
pub(super) mod table {
    pub(in crate::rows) const STATE: u8 = 0x01;
    pub(in crate::rows) const BUCKETS: u8 = 0x02;
    pub(in crate::rows) const DONE: u8 = 0x03;
    pub(in crate::rows) const SESSIONS: u8 = 0x04;
    pub(in crate::rows) const USAGE: u8 = 0x05;
    pub(in crate::rows) const CURRENT: u8 = 0x10;
    pub(in crate::rows) const VERSIONS: u8 = 0x11;
    pub(in crate::rows) const UPLOADS: u8 = 0x12;
    pub(in crate::rows) const PARTS: u8 = 0x13;
    pub(in crate::rows) const MANIFESTS: u8 = 0x14;
    pub(in crate::rows) const INLINE: u8 = 0x15;
    pub(in crate::rows) const NULLS: u8 = 0x17;
    pub(in crate::rows) const ENDED: u8 = 0x18;
    pub(in crate::rows) const GARBAGE: u8 = 0x20;
    pub(in crate::rows) const CONDEMNED: u8 = 0x21;
    pub(in crate::rows) const INTENTS: u8 = 0x22;
    pub(in crate::rows) const BUCKET_NAMES: u8 = 0x40;
    pub(in crate::rows) const ACCOUNT_BUCKETS: u8 = 0x41;
    pub(in crate::rows) const BUCKET_SETTINGS: u8 = 0x45;
}

/// Whether a row is worth keeping in memory: what is read by key again and again.
pub(crate) fn is_cached(key: &[u8]) -> bool {
    const CACHED: [u8; 8] = [
        table::BUCKETS,
        table::USAGE,
        table::CURRENT,
        table::UPLOADS,
        table::INLINE,
        table::NULLS,
        table::BUCKET_NAMES,
        table::BUCKET_SETTINGS,
    ];
    key.first().is_some_and(|t| CACHED.contains(t))
}

/// Whether a row names bytes by itself.
pub(crate) fn names_bytes(key: &[u8]) -> bool {
    const NAMING: [u8; 4] = [table::CURRENT, table::VERSIONS, table::PARTS, table::GARBAGE];
    key.first().is_some_and(|t| NAMING.contains(t))
}

/// Whether a row is one of `condemned`.
pub(crate) fn is_condemned(key: &[u8]) -> bool {
    key.first() == Some(&table::CONDEMNED)
}

/// Whether a row is one of `ended`.
pub(crate) fn is_ended(key: &[u8]) -> bool {
    key.first() == Some(&table::ENDED)
}

/// The bucket that a row key names, if its table has one.
pub(crate) fn bucket_of(key: &[u8]) -> Option<BucketId> {
    const OTHERS: [u8; 5] = [
        table::STATE,
        table::DONE,
        table::SESSIONS,
        table::BUCKET_NAMES,
        table::ACCOUNT_BUCKETS,
    ];
    let (table, mut rest) = key.split_first()?;
    let bucket = take(&mut rest).ok().map(u64::from_be_bytes);
    bucket.filter(|_| !OTHERS.contains(table)).map(BucketId)
}

/// The key of a row, its texts borrowed (`&str`, [`RowRef`]) or owned (`String`, [`Row`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RowOf<T> {
    /// PartitionState.
    State,
    /// BucketCopy.
    Bucket(BucketId),
    /// DoneRecord.
    Done(CommandId),
    /// SessionFloor.
    Session(SessionId),
    /// UsageRecord of a storage class.
    Usage(BucketId, u32),
    /// ObjectRecord, visible.
    Current(BucketId, T),
    /// ObjectRecord, older, or a delete marker.
    Version(BucketId, T, VersionId),
    /// UploadRecord.
    Upload(BucketId, T, UploadId),
    /// PartRecord.
    Part(BucketId, T, UploadId, u32),
    /// ManifestPage.
    Manifest(BucketId, T, BlobId, u32),
    /// An object's bytes.
    Inline(BucketId, T, VersionId),
    /// 16 bytes: which of the key's `versions` is its null version. Absent unless one of them is.
    Null(BucketId, T),
    /// EndedUpload.
    Ended(BucketId, T, UploadId),
    /// GarbageRecord.
    Garbage(BucketId, T, BlobId),
    /// CondemnedRecord.
    Condemned(BucketId, T, ExtentId, NeedleId),
    /// IntentRecord.
    Intent(BucketId, T, BlobId),
    /// BucketRecord, in the directory.
    BucketName(T),
    /// Empty, in the directory.
    AccountBucket(AccountId, T),
    /// BucketSetting of a kind, in the directory. The kind is a number: a newer build may have written ones unknown here.
    BucketSetting(BucketId, u32),
}

/// A row key to be written.
pub(crate) type RowRef<'a> = RowOf<&'a str>;
/// A row key read back.
pub(crate) type Row = RowOf<String>;

impl<T: AsRef<str>> RowOf<T> {
    /// Its bytes.
    pub(crate) fn key(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::State => out.push(table::STATE),
            Self::Bucket(b) => fixed(&mut out, table::BUCKETS, &b.0.to_be_bytes()),
            Self::Done(c) => fixed(&mut out, table::DONE, &c.to_bytes()),
            Self::Session(s) => fixed(&mut out, table::SESSIONS, &s.0.to_be_bytes()),
            Self::Usage(b, class) => {
                fixed(&mut out, table::USAGE, &b.0.to_be_bytes());
                out.extend(class.to_be_bytes());
            }
            Self::Current(b, k) => keyed(&mut out, table::CURRENT, *b, k),
            Self::Version(b, k, v) => keyed_by(&mut out, table::VERSIONS, (*b, k), &v.to_bytes()),
            Self::Upload(b, k, u) => keyed_by(&mut out, table::UPLOADS, (*b, k), &u.to_bytes()),
            Self::Part(b, k, u, number) => {
                keyed_by(&mut out, table::PARTS, (*b, k), &u.to_bytes());
                out.extend(number.to_be_bytes());
            }
            Self::Manifest(b, k, blob, page) => {
                keyed_by(&mut out, table::MANIFESTS, (*b, k), &blob.to_bytes());
                out.extend(page.to_be_bytes());
            }
            Self::Inline(b, k, v) => keyed_by(&mut out, table::INLINE, (*b, k), &v.to_bytes()),
            Self::Null(b, k) => keyed(&mut out, table::NULLS, *b, k),
            Self::Ended(b, k, u) => keyed_by(&mut out, table::ENDED, (*b, k), &u.to_bytes()),
            Self::Garbage(b, k, blob) => keyed_by(&mut out, table::GARBAGE, (*b, k), &blob.to_bytes()),
            Self::Condemned(b, k, extent, needle) => {
                keyed_by(&mut out, table::CONDEMNED, (*b, k), &extent.0.to_be_bytes());
                out.extend(needle.0.to_be_bytes());
            }
            Self::Intent(b, k, blob) => keyed_by(&mut out, table::INTENTS, (*b, k), &blob.to_bytes()),
            Self::BucketName(name) => {
                out.push(table::BUCKET_NAMES);
                escape::push(&mut out, name.as_ref());
            }
            Self::AccountBucket(a, name) => {
                fixed(&mut out, table::ACCOUNT_BUCKETS, &a.0.to_be_bytes());
                escape::push(&mut out, name.as_ref());
            }
            Self::BucketSetting(b, kind) => {
                fixed(&mut out, table::BUCKET_SETTINGS, &b.0.to_be_bytes());
                out.extend(kind.to_be_bytes());
            }
        }
        out.into()
    }
}

fn fixed(out: &mut Vec<u8>, table: u8, field: &[u8]) {
    out.push(table);
    out.extend(field);
}

fn keyed(out: &mut Vec<u8>, table: u8, bucket: BucketId, key: &impl AsRef<str>) {
    fixed(out, table, &bucket.0.to_be_bytes());
    escape::push(out, key.as_ref());
}

fn keyed_by(out: &mut Vec<u8>, table: u8, object: (BucketId, &impl AsRef<str>), field: &[u8]) {
    keyed(out, table, object.0, object.1);
    out.extend(field);
}

impl Row {
    /// From a row key's bytes.
    ///
    /// # Errors
    /// [`BadRow`] for anything that [`RowOf::key`] does not write.
    pub(crate) fn parse(key: &[u8]) -> Result<Self, BadRow> {
        let (&table, mut fields) = key.split_first().ok_or_else(|| BadRow::new("an empty row key"))?;
        let rest = &mut fields;
        let row = match table {
            table::STATE => Self::State,
            table::BUCKETS => Self::Bucket(BucketId(u64(rest)?)),
            table::DONE => Self::Done(CommandId(u128(rest)?)),
            table::SESSIONS => Self::Session(SessionId(u64(rest)?)),
            table::USAGE => Self::Usage(BucketId(u64(rest)?), u32(rest)?),
            table::BUCKET_NAMES => Self::BucketName(escape::take(rest)?),
            table::ACCOUNT_BUCKETS => Self::AccountBucket(AccountId(u64(rest)?), escape::take(rest)?),
            table::BUCKET_SETTINGS => Self::BucketSetting(BucketId(u64(rest)?), u32(rest)?),
            _ => {
                let bucket = BucketId(u64(rest)?);
                Self::parse_keyed(table, bucket, escape::take(rest)?, rest)?
            }
        };
        if rest.is_empty() {
            Ok(row)
        } else {
            Err(BadRow::new("bytes after a row key's last field"))
        }
    }

    fn parse_keyed(table: u8, b: BucketId, k: String, rest: &mut &[u8]) -> Result<Self, BadRow> {
        Ok(match table {
            table::CURRENT => Self::Current(b, k),
            table::VERSIONS => Self::Version(b, k, VersionId(u128(rest)?)),
            table::UPLOADS => Self::Upload(b, k, UploadId(u128(rest)?)),
            table::PARTS => Self::Part(b, k, UploadId(u128(rest)?), u32(rest)?),
            table::MANIFESTS => Self::Manifest(b, k, BlobId(u128(rest)?), u32(rest)?),
            table::INLINE => Self::Inline(b, k, VersionId(u128(rest)?)),
            table::NULLS => Self::Null(b, k),
            table::ENDED => Self::Ended(b, k, UploadId(u128(rest)?)),
            table::GARBAGE => Self::Garbage(b, k, BlobId(u128(rest)?)),
            table::CONDEMNED => Self::Condemned(b, k, ExtentId(u64(rest)?), NeedleId(u64(rest)?)),
            table::INTENTS => Self::Intent(b, k, BlobId(u128(rest)?)),
            other => return Err(BadRow::new(format!("no table {other:02x}"))),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadRow> {
    let (field, after) = rest
        .split_first_chunk::<N>()
        .ok_or_else(|| BadRow::new("a row key that ends inside a field"))?;
    *rest = after;
    Ok(*field)
}

fn u32(rest: &mut &[u8]) -> Result<u32, BadRow> {
    take(rest).map(u32::from_be_bytes)
}

fn u64(rest: &mut &[u8]) -> Result<u64, BadRow> {
    take(rest).map(u64::from_be_bytes)
}

fn u128(rest: &mut &[u8]) -> Result<u128, BadRow> {
    take(rest).map(u128::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = String> {
        // Zero, the bytes beside it, and those beside '/' are where an escape could go wrong.
        proptest::collection::vec(
            prop_oneof![
                Just('\0'),
                Just('\u{1}'),
                Just('.'),
                Just('/'),
                Just('0'),
                Just('a'),
                Just('\u{7f}'),
                Just('\u{ff}'),
                any::<char>()
            ],
            0..12,
        )
        .prop_map(String::from_iter)
    }

    fn row() -> impl Strategy<Value = Row> {
        (0..19u8, text(), any::<(u64, u128, u32, u64)>()).prop_map(|(which, k, (a, id, n, c))| {
            let b = BucketId(a);
            match which {
                0 => Row::State,
                1 => Row::Bucket(b),
                2 => Row::Done(CommandId(id)),
                3 => Row::Session(SessionId(a)),
                4 => Row::Usage(b, n),
                5 => Row::Current(b, k),
                6 => Row::Version(b, k, VersionId(id)),
                7 => Row::Upload(b, k, UploadId(id)),
                8 => Row::Part(b, k, UploadId(id), n),
                9 => Row::Manifest(b, k, BlobId(id), n),
                10 => Row::Inline(b, k, VersionId(id)),
                11 => Row::Garbage(b, k, BlobId(id)),
                12 => Row::Condemned(b, k, ExtentId(a), NeedleId(c)),
                13 => Row::Intent(b, k, BlobId(id)),
                14 => Row::BucketName(k),
                15 => Row::AccountBucket(AccountId(a), k),
                16 => Row::BucketSetting(b, n),
                17 => Row::Ended(b, k, UploadId(id)),
                _ => Row::Null(b, k),
            }
        })
    }

    proptest! {
        #[test]
        fn keys_parse_to_what_they_were_made_of(row in row()) {
            prop_assert_eq!(Row::parse(&row.key()), Ok(row));
        }

        #[test]
        fn keys_sort_as_s3_sorts(a in text(), b in text(), u in any::<[u128; 2]>()) {
            let bucket = BucketId(7);
            let order = a.as_bytes().cmp(b.as_bytes());
            prop_assert_eq!(RowRef::Current(bucket, &a).key().cmp(&RowRef::Current(bucket, &b).key()), order);
            let upload = |k, u| RowRef::Upload(bucket, k, UploadId(u)).key();
            prop_assert_eq!(upload(&a, u[0]).cmp(&upload(&b, u[1])), order.then(u[0].cmp(&u[1])));
        }

        #[test]
        fn what_parses_is_what_would_be_written(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(row) = Row::parse(&bytes) {
                prop_assert_eq!(row.key(), bytes);
            }
        }

        #[test]
        fn no_key_is_cut_or_grown(row in row(), more in 1..40usize) {
            let key = row.key();
            prop_assert!(Row::parse(&[&key[..], &vec![9; more]].concat()).is_err());
            // Shorter, an owned field is missing or a text has no end.
            prop_assert!(Row::parse(&key[..key.len() - more.min(key.len())]).is_err());
        }
    }

    #[test]
    fn the_page_of_formats_is_right() {
        let key = |k| RowRef::Current(BucketId(0x0001_0000_0000_0002), k).key();
        let head = [0x10, 0, 1, 0, 0, 0, 0, 0, 2];
        assert_eq!(key("a")[..], [&head[..], &[0x61, 0, 1]].concat());
        assert_eq!(key("a\0")[..], [&head[..], &[0x61, 0, 0xFF, 0, 1]].concat());
        assert_eq!(key("a/b")[..], [&head[..], b"a/b\0\x01"].concat());
        assert!(key("a") < key("a\0") && key("a\0") < key("a/b"));
    }
}
