//! What becomes of a partition's own row when its rows are those of an earlier moment: numbers and times that were given since are passed
//! over, so that none is given twice, and every session that was has ended.

use crate::rows::{RowRef, decode};
use bytes::Bytes;
use prost::Message as _;
use types::{ErrorKind, Hlc, SessionId};
use wire::Fault;
use wire::records::PartitionState;

/// Numbers of versions, uploads and buckets that may have been given since.
const SERIALS_PASSED: u64 = 1 << 20;

/// What was given at the latest.
#[derive(Clone, Copy, Debug)]
pub struct Floors {
    /// The newest time that anything is known to have got: versions get later ones.
    pub hlc: Hlc,
    /// The first session that is given from here on.
    pub first_session: SessionId,
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
    let raised = PartitionState {
        // Of a log that is not this one: the next owner's are above any.
        epoch: 0,
        sequence: 0,
        hlc: state.hlc.max(floors.hlc.0),
        serial: state.serial + SERIALS_PASSED,
        sessions_ended_below: state.sessions_ended_below.max(floors.first_session.0),
    };
    Ok(raised.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_partitions_own_row_changes() {
        let floors = Floors {
            hlc: Hlc(900),
            first_session: SessionId(50),
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
}
