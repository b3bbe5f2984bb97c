//! What becomes of a partition's own row when its rows are those of an earlier moment: numbers and times that were given since are passed
//! over, so that none is given twice, and every session that was has ended.

use crate::rows::{Row, RowRef, bucket_of, decode, encode};
use bytes::Bytes;
use store::{Places, Scan, Snapshot, StoreError, readable_rows};
use types::limits::{ROW_KEY_BYTES_MAX, SCAN_ROWS_MAX};
use types::{BucketId, ErrorKind, Hlc, SessionId, VersionId};
use wire::Fault;
use wire::records::{BucketRecord, ObjectRecord, PartitionState};

/// Numbers of versions, uploads and buckets that may have been given since.
const SERIALS_PASSED: u64 = 1 << 20;

/// What was given at the latest.
#[derive(Clone, Copy, Debug)]
pub struct Floors {
    /// The newest time that anything is known to have got: versions get later ones.
    pub hlc: Hlc,
    /// The first session that is given from here on.
    pub first_session: SessionId,
    /// The highest bucket that is known to have been.
    pub bucket: BucketId,
    /// How far an index counted that another takes the place of.
    pub serial: u64,
}

/// What the rows of a partition tell of numbers that were given, whether or not its own row is among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Whether its own row is: that knows best.
    pub has_state: bool,
    /// The highest bucket.
    pub bucket: BucketId,
    /// The highest session.
    pub session: SessionId,
    /// The newest time; of versions where there is no other.
    pub hlc: Hlc,
    /// How far it counted what has no number of its own row.
    pub serial: u64,
}

impl Told {
    /// What a partition tells of an index that another is to take the place of: its own row, which knows of numbers that no needle has; or, where
    /// that cannot be read, all others that can be. With what could not.
    ///
    /// # Errors
    /// The engine's, but for [`StoreError::Corrupt`].
    pub async fn of(partition: &dyn Snapshot) -> Result<(Self, Vec<StoreError>), StoreError> {
        let key = RowRef::State.key();
        let mut told = Self::default();
        let why = match partition.get(std::slice::from_ref(&key)).await {
            Ok(values) => {
                if let Some(value) = values.into_iter().next().flatten() {
                    told.take(&key, &value);
                }
                return Ok((told, Vec::new()));
            }
            Err(why @ StoreError::Corrupt(_)) => why,
            Err(e) => return Err(e),
        };
        let (mut lost, mut start) = (vec![why], Bytes::from_static(&[0]));
        let mut places = Places::default();
        let end = Bytes::from_static(&[0xFF]);
        while start < end {
            let scan = Scan {
                start,
                end: end.clone(),
                max: SCAN_ROWS_MAX,
            };
            let page = readable_rows(partition, scan, ROW_KEY_BYTES_MAX, &mut places).await?;
            for (key, value) in &page.rows {
                told.take(key, value);
            }
            lost.extend(page.lost);
            start = page.next;
        }
        Ok((told, lost))
    }

    /// Takes what a row tells, ascending. What does not decode tells nothing.
    pub fn take(&mut self, key: &Bytes, value: &Bytes) {
        if let Some(bucket) = bucket_of(key) {
            self.bucket = self.bucket.max(bucket);
            if self.has_state {
                return;
            }
        }
        match Row::parse(key) {
            Ok(Row::State) => {
                let state = decode::<PartitionState>(key, value).unwrap_or_default();
                self.has_state = true;
                self.saw_session(state.sessions_ended_below);
                self.hlc = self.hlc.max(Hlc(state.hlc));
                self.serial = self.serial.max(state.serial);
            }
            Ok(Row::BucketName(_)) => {
                let record = decode::<BucketRecord>(key, value).unwrap_or_default();
                self.bucket = self.bucket.max(BucketId(record.bucket));
            }
            Ok(Row::Done(command)) => self.saw_session(command.session().0),
            Ok(Row::Session(session)) => self.saw_session(session.0),
            Ok(Row::Version(_, _, version)) => self.hlc = self.hlc.max(version.time()),
            Ok(Row::Upload(_, _, upload)) => self.hlc = self.hlc.max(upload.time()),
            Ok(Row::Current(..)) => {
                let record = decode::<ObjectRecord>(key, value).unwrap_or_default();
                let version = VersionId::from_slice(&record.version);
                self.hlc = self.hlc.max(version.map_or(Hlc(0), VersionId::time));
            }
            _ => {}
        }
    }

    fn saw_session(&mut self, session: u64) {
        self.session = self.session.max(SessionId(session));
    }
}

/// A row of the directory or of objects as it is to be laid: as it is, unless it is the partition's own.
///
/// # Errors
/// The partition's own row does not decode.
pub fn raised(key: &Bytes, value: Bytes, floors: &Floors) -> Result<Bytes, Fault> {
    if *key != RowRef::State.key() {
        return Ok(value);
    }
    let state: PartitionState =
        decode(key, &value).map_err(|bad| Fault::new(ErrorKind::Corrupt, bad.to_string()))?;
    Ok(encode(&over(&state, floors)))
}

/// The own row of a partition whose own row is lost: without one it would give its first numbers again.
pub fn begun(floors: &Floors) -> (Bytes, Bytes) {
    (
        RowRef::State.key(),
        encode(&over(&PartitionState::default(), floors)),
    )
}

fn over(state: &PartitionState, floors: &Floors) -> PartitionState {
    let of_bucket = floors.bucket.0 & ((1 << 48) - 1);
    PartitionState {
        // Of a log that is not this one: the next owner's are above any.
        epoch: 0,
        sequence: 0,
        hlc: state.hlc.max(floors.hlc.0),
        serial: state.serial.max(of_bucket).max(floors.serial) + SERIALS_PASSED,
        sessions_ended_below: state.sessions_ended_below.max(floors.first_session.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use store::{Batch, Memory, Rows, Store as _};
    use types::{AccountId, CommandId, PartitionId, StampId};

    #[test]
    fn only_the_partitions_own_row_changes() {
        let floors = Floors {
            hlc: Hlc(900),
            first_session: SessionId(50),
            bucket: BucketId(1 << 48 | 2),
            serial: 0,
        };
        let state = PartitionState {
            epoch: 5,
            sequence: 6,
            hlc: 7,
            serial: 3,
            sessions_ended_below: 2,
        };
        let key = RowRef::State.key();
        let value = raised(&key, state.encode_to_vec().into(), &floors).unwrap();
        let now = PartitionState::decode(value).unwrap();
        assert_eq!((now.hlc, now.sessions_ended_below), (900, 50));
        assert_eq!((now.epoch, now.sequence), (0, 0));
        assert!(now.serial > 3 + 1000);
        let other = Bytes::from_static(b"\x10other");
        assert_eq!(
            raised(&other, Bytes::from_static(b"v"), &floors).unwrap(),
            &b"v"[..]
        );
        assert!(raised(&key, Bytes::from_static(b"\xFF\xFF"), &floors).is_err());
    }

    #[test]
    fn a_partition_without_its_own_row_begins_above_all_that_is_told() {
        let bucket = |n| StampId(1).id(n);
        let record = BucketRecord {
            bucket: bucket(40),
            ..BucketRecord::default()
        };
        let version = VersionId::new(Hlc(700 << 16), StampId(1), 3);
        let object = ObjectRecord {
            version: version.to_bytes().to_vec(),
            ..ObjectRecord::default()
        };
        let rows = [
            (RowRef::Done(CommandId(9 << 64 | 4)), Bytes::new()),
            (RowRef::Current(BucketId(bucket(41)), "k"), encode(&object)),
            (RowRef::BucketName("b"), encode(&record)),
            (RowRef::AccountBucket(AccountId(u64::MAX), "b"), Bytes::new()),
        ];
        let mut told = Told::default();
        for (row, value) in &rows {
            told.take(&row.key(), value);
        }
        let expected = Told {
            has_state: false,
            bucket: BucketId(bucket(41)),
            session: SessionId(9),
            hlc: Hlc(700 << 16),
            serial: 0,
        };
        assert_eq!(told, expected);
        let floors = Floors {
            hlc: told.hlc,
            first_session: SessionId(50),
            bucket: told.bucket,
            serial: told.serial,
        };
        let (key, value) = begun(&floors);
        let state = PartitionState::decode(value.clone()).unwrap();
        assert!(state.serial > 41 + 1000, "no bucket's number is given twice");
        assert_eq!((state.hlc, state.sessions_ended_below), (700 << 16, 50));
        told.take(&key, &value);
        assert!(told.has_state);
    }

    /// A partition of which the rows below a key are on a page that cannot be read.
    struct Holed(std::sync::Arc<dyn Snapshot>, Bytes);

    impl Holed {
        fn judge(&self, key: &Bytes) -> Result<(), StoreError> {
            match *key < self.1 {
                true => Err(StoreError::Corrupt("the page at byte 5".into())),
                false => Ok(()),
            }
        }
    }

    #[async_trait::async_trait]
    impl Snapshot for Holed {
        async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
            keys.iter().try_for_each(|key| self.judge(key))?;
            self.0.get(keys).await
        }
        async fn scan(&self, scan: &Scan) -> Result<Rows, StoreError> {
            let rows = self.0.scan(scan).await?;
            rows.iter().try_for_each(|(key, _)| self.judge(key))?;
            Ok(rows)
        }
    }

    /// An index is laid twice over what made a bucket in between: the second time it begins above what the first gave. Where the row that
    /// counts cannot be read the others tell.
    #[tokio::test]
    async fn what_an_index_gave_is_told_though_it_is_damaged() {
        let store = Memory::new();
        let fence = store.take(PartitionId::DIRECTORY).await.unwrap();
        let floors = Floors {
            hlc: Hlc(5),
            first_session: SessionId(50),
            bucket: BucketId(0),
            serial: 0,
        };
        let (state, value) = begun(&floors);
        let record = BucketRecord {
            bucket: StampId(1).id(7_000_000),
            ..BucketRecord::default()
        };
        let done = RowRef::Done(CommandId(60 << 64 | 4)).key();
        let name = RowRef::BucketName("b").key();
        let rows = vec![
            (state.clone(), Some(value.clone())),
            (done, Some(Bytes::new())),
            (name, Some(encode(&record))),
        ];
        let behind = Vec::new();
        store.commit(fence, Batch { rows, behind }).await;
        let whole = store.snapshot(PartitionId::DIRECTORY).await.unwrap();
        let (told, lost) = Told::of(&*whole).await.unwrap();
        assert_eq!(
            (told.session, told.serial, lost.len()),
            (SessionId(50), SERIALS_PASSED, 0)
        );
        let again = Floors {
            serial: told.serial,
            ..floors
        };
        let older = encode(&PartitionState::default());
        let laid = PartitionState::decode(raised(&state, older, &again).unwrap()).unwrap();
        assert!(laid.serial > told.serial, "no number is given twice");

        let end = [&state[..], b"\0"].concat().into();
        let (told, lost) = Told::of(&Holed(whole, end)).await.unwrap();
        assert!(lost.len() == 2 && !told.has_state, "{lost:?}");
        assert_eq!(
            (told.session, told.bucket),
            (SessionId(60), BucketId(StampId(1).id(7_000_000)))
        );
    }
}
