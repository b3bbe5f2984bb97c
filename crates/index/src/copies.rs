//! Copies of buckets that rows of an index lack, or have as they were before the directory's: every page of the objects' partition may be the one that could not be read, also the one
//! that says which buckets there are and how they keep versions. The directory knows the same of every open bucket.

use crate::rows::{Row, RowRef, decode, encode};
use bytes::Bytes;
use std::collections::BTreeMap;
use types::{BucketId, PartitionId};
use wire::records::{BucketCopy, BucketRecord};

/// `BucketRecord::state` and `BucketCopy::state` of a bucket that takes puts. One in any other state is settled by whoever comes next.
const OPEN: u32 = 2;
const COPY_OPEN: u32 = 1;

/// What rows tell of buckets.
#[derive(Default)]
pub struct Copies {
    /// As the directory has them.
    open: BTreeMap<BucketId, BucketCopy>,
    /// Turn and configuration of those that are there.
    there: BTreeMap<BucketId, (u64, u64)>,
}

impl Copies {
    /// Takes what a row tells. What does not decode tells nothing.
    pub fn take(&mut self, partition: PartitionId, key: &Bytes, value: &Bytes) {
        match Row::parse(key) {
            Ok(Row::BucketName(_)) if partition == PartitionId::DIRECTORY => {
                if let Ok(record) = decode::<BucketRecord>(key, value)
                    && record.state == OPEN
                {
                    let copy = BucketCopy {
                        turn: record.turn,
                        state: COPY_OPEN,
                        configuration: record.configuration,
                        versioning: record.versioning,
                        owner: record.owner,
                    };
                    self.open.insert(BucketId(record.bucket), copy);
                }
            }
            Ok(Row::Bucket(bucket)) if partition == PartitionId::FIRST_DATA => {
                let copy: BucketCopy = decode(key, value).unwrap_or_default();
                self.there.insert(bucket, (copy.turn, copy.configuration));
            }
            _ => {}
        }
    }

    /// The rows that are missing, and those that take the place of older ones, ascending.
    pub fn missing(&self) -> impl Iterator<Item = (PartitionId, Bytes, Bytes)> {
        let is_missing = |(bucket, copy): &(&BucketId, &BucketCopy)| {
            self.there
                .get(bucket)
                .is_none_or(|there| *there < (copy.turn, copy.configuration))
        };
        let missing = self.open.iter().filter(is_missing);
        missing.map(|(bucket, copy)| {
            let key = RowRef::Bucket(*bucket).key();
            (PartitionId::FIRST_DATA, key, encode(copy))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_buckets_without_a_copy_get_what_the_directory_says() {
        let mut copies = Copies::default();
        let bucket = |number, state| BucketRecord {
            bucket: number,
            state,
            turn: 3,
            configuration: 7,
            versioning: 1,
            owner: 9,
            ..BucketRecord::default()
        };
        for (name, number, state) in [
            ("a", 1, OPEN),
            ("b", 2, OPEN),
            ("c", 3, 1),
            ("d", 4, 3),
            ("e", 5, OPEN),
            ("f", 6, OPEN),
        ] {
            let key = RowRef::BucketName(name).key();
            copies.take(PartitionId::DIRECTORY, &key, &encode(&bucket(number, state)));
        }
        for (number, configuration) in [(2, 7), (5, 8), (6, 6)] {
            let there = BucketCopy {
                turn: 3,
                configuration,
                ..BucketCopy::default()
            };
            let key = RowRef::Bucket(BucketId(number)).key();
            copies.take(PartitionId::FIRST_DATA, &key, &encode(&there));
        }
        copies.take(PartitionId::FIRST_DATA, &RowRef::State.key(), &Bytes::new());
        let missing: Vec<_> = copies.missing().collect();
        let expected = BucketCopy {
            turn: 3,
            state: COPY_OPEN,
            configuration: 7,
            versioning: 1,
            owner: 9,
        };
        let row = |number| {
            let key = RowRef::Bucket(BucketId(number)).key();
            (PartitionId::FIRST_DATA, key, encode(&expected))
        };
        assert_eq!(missing, [row(1), row(6)]);
    }
}
