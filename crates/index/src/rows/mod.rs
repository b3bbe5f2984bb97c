//! The rows of the index: their keys, their order and their values. docs/formats/rows.md is the page of this room.
//!
//! Invariants: row keys sort as their fields do, and object keys as S3 sorts them (by the bytes of their UTF-8); every
//! key decodes to exactly what it was made of, and nothing else decodes at all.

mod escape;
mod key;
mod range;

pub(crate) use key::{Row, RowOf, RowRef, bucket_of, is_cached, is_condemned, is_ended, names_bytes};
pub(crate) use range::{Place, Range, after};

use bytes::Bytes;
use prost::Message;

/// A row that is not what this build writes: corruption, never absence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad row: {0}")]
pub(crate) struct BadRow(String);

impl BadRow {
    /// Because of `what`.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// The value of a row as its message.
pub(crate) fn decode<M: Message + Default>(key: &[u8], value: &Bytes) -> Result<M, BadRow> {
    M::decode(&value[..]).map_err(|e| BadRow::new(format!("{e} in the row {}", Hex(key))))
}

/// A message as the value of a row.
pub(crate) fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// Row keys in messages for people.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
