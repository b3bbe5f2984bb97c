//! Ranges of row keys.

use super::key::table;
use super::{RowRef, escape};
use bytes::Bytes;
use types::{AccountId, BlobId, BucketId, Hlc, UploadId, VersionId};

/// Row keys from `start` up to but not with `end`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    /// First.
    pub(crate) start: Bytes,
    /// One past the last.
    pub(crate) end: Bytes,
}

/// A table that listings walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Visible objects.
    Current,
    /// Older versions and delete markers.
    Versions,
    /// Uploads.
    Uploads,
}

impl Place {
    fn byte(self) -> u8 {
        match self {
            Self::Current => table::CURRENT,
            Self::Versions => table::VERSIONS,
            Self::Uploads => table::UPLOADS,
        }
    }

    /// Rows of a bucket whose object keys begin with `prefix`.
    pub(crate) fn with_prefix(self, bucket: BucketId, prefix: &str) -> Range {
        let mut start = self.bucket(bucket, prefix.len());
        escape::push_open(&mut start, prefix);
        Range::under(start)
    }

    /// The first row key past every row of object key `key`.
    pub(crate) fn after_key(self, bucket: BucketId, key: &str) -> Bytes {
        let mut row = self.bucket(bucket, key.len());
        escape::push(&mut row, key);
        Range::under(row).end
    }

    /// The head of a bucket's rows, with room for so much of a key: a page of common prefixes makes a thousand of them.
    fn bucket(self, bucket: BucketId, room: usize) -> Vec<u8> {
        let mut head = Vec::with_capacity(size_of::<u8>() + size_of::<u64>() + room + 8);
        head.push(self.byte());
        head.extend(bucket.0.to_be_bytes());
        head
    }
}

impl Range {
    /// All row keys that begin with `head`.
    fn under(head: Vec<u8>) -> Self {
        let mut end = head.clone();
        while end.last() == Some(&0xFF) {
            end.pop();
        }
        *end.last_mut().expect("a table's byte is never FF") += 1;
        Self {
            start: head.into(),
            end: end.into(),
        }
    }

    /// Older versions and delete markers of a key, newest first.
    pub(crate) fn versions(bucket: BucketId, key: &str) -> Self {
        let mut head = vec![table::VERSIONS];
        head.extend(bucket.0.to_be_bytes());
        escape::push(&mut head, key);
        Self::under(head)
    }

    /// Those of them that were made after `time`.
    pub(crate) fn versions_since(bucket: BucketId, key: &str, time: Hlc) -> Self {
        // Newest first: the inverted time stands in the upper half.
        let first_not = VersionId(u128::from(!time.0) << 64);
        Self {
            end: RowRef::Version(bucket, key, first_not).key(),
            ..Self::versions(bucket, key)
        }
    }

    /// The parts of an upload.
    pub(crate) fn parts(bucket: BucketId, key: &str, upload: UploadId) -> Self {
        let mut head = RowRef::Part(bucket, key, upload, 0).key().to_vec();
        head.truncate(head.len() - 4);
        Self::under(head)
    }

    /// Manifest pages of a blob from page `from` on.
    pub(crate) fn pages((bucket, key): (BucketId, &str), blob: BlobId, from: u32) -> Self {
        let start = RowRef::Manifest(bucket, key, blob, from).key();
        let all = Self::under(start[..start.len() - 4].to_vec());
        Self { start, ..all }
    }

    /// Uploads that ended and still have rows.
    pub(crate) fn ended() -> Self {
        Self::under(vec![table::ENDED])
    }

    /// Usage of a bucket.
    pub(crate) fn usage(bucket: BucketId) -> Self {
        let mut head = vec![table::USAGE];
        head.extend(bucket.0.to_be_bytes());
        Self::under(head)
    }

    /// All buckets.
    pub(crate) fn bucket_names() -> Self {
        Self::under(vec![table::BUCKET_NAMES])
    }

    /// Bucket names of an account that begin with `prefix`.
    pub(crate) fn account_buckets(account: AccountId, prefix: &str) -> Self {
        let mut head = vec![table::ACCOUNT_BUCKETS];
        head.extend(account.0.to_be_bytes());
        escape::push_open(&mut head, prefix);
        Self::under(head)
    }

    /// What a bucket was told.
    pub(crate) fn bucket_settings(bucket: BucketId) -> Self {
        let mut head = vec![table::BUCKET_SETTINGS];
        head.extend(bucket.0.to_be_bytes());
        Self::under(head)
    }

    /// All answers.
    pub(crate) fn done() -> Self {
        Self::under(vec![table::DONE])
    }

    /// All floors of sessions.
    pub(crate) fn sessions() -> Self {
        Self::under(vec![table::SESSIONS])
    }

    /// The tables that a walk takes, in its order: those that name bytes, and those that others own.
    pub(crate) fn walked() -> [Self; 7] {
        [
            table::CURRENT,
            table::VERSIONS,
            table::PARTS,
            table::MANIFESTS,
            table::INLINE,
            table::NULLS,
            table::GARBAGE,
        ]
        .map(|t| Self::under(vec![t]))
    }

    /// All bookings.
    pub(crate) fn garbage() -> Self {
        Self::under(vec![table::GARBAGE])
    }

    /// All uploads.
    pub(crate) fn uploads() -> Self {
        Self::under(vec![table::UPLOADS])
    }

    /// All condemned needles.
    pub(crate) fn condemned() -> Self {
        Self::under(vec![table::CONDEMNED])
    }
}

/// The first key after `key`.
pub(crate) fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prefix_range_has_just_its_keys(prefix in "[\0\u{1}a/\u{ff}]{0,3}", key in "[\0\u{1}a/\u{ff}]{1,5}") {
            let bucket = BucketId(u64::MAX);
            let range = Place::Current.with_prefix(bucket, &prefix);
            let row = RowRef::Current(bucket, &key).key();
            prop_assert_eq!(range.start <= row && row < range.end, key.starts_with(&prefix));
        }

        #[test]
        fn after_key_is_past_its_rows_and_before_the_next(a in "[\0\u{1}a/]{0,3}", b in "[\0\u{1}a/]{0,3}", u in any::<u128>()) {
            let row = RowRef::Upload(BucketId(3), &b, UploadId(u)).key();
            prop_assert_eq!(row >= Place::Uploads.after_key(BucketId(3), &a), b > a);
        }
    }
}
