//! Versions of a key: how one is named, and pages of them.

use crate::records::ObjectRecord;
use prost::Message as _;
use types::limits::LIST_LINE_BYTES;
use types::{BucketId, VersionId};

/// What a bucket does with what a key named before. The numbers are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[repr(u32)]
pub enum Versioning {
    /// It goes: versioning was never enabled.
    #[default]
    Never = 0,
    /// It is kept.
    Enabled = 1,
    /// It is kept unless it is the null version, and the new one is that.
    Suspended = 2,
}

impl Versioning {
    /// The stored number back; what a newer build may have added keeps everything.
    pub fn from_number(n: u32) -> Self {
        match n {
            0 => Self::Never,
            2 => Self::Suspended,
            _ => Self::Enabled,
        }
    }
}

/// Which version of a key is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum VersionRef {
    /// The newest.
    #[default]
    Current,
    /// The one of this id.
    Id(VersionId),
    /// The one that was made while the bucket's versioning was not enabled, wherever it stands among the others.
    Null,
}

/// One page of versions is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionsQuery {
    /// Whose versions.
    pub bucket: BucketId,
    /// Only keys that begin so.
    pub prefix: String,
    /// As in [`super::index::ListQuery`].
    pub delimiter: String,
    /// Only keys and common prefixes after this one; with a version, also the versions of this key that are older than
    /// it, whether it still exists or not. A null version that does not exist stands before all of its key's.
    pub after: (String, Option<VersionRef>),
    /// Versions and common prefixes at most, up to `limits::LIST_KEYS_MAX`.
    pub max: u32,
}

/// One page of versions.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct VersionsPage {
    /// By key, then newest first; common prefixes in between.
    pub entries: Vec<VersionsEntry>,
    /// Whether there are more; the next page begins after the last entry.
    pub truncated: bool,
}

impl VersionsPage {
    /// How many bytes it takes, about, as it is stored.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |entry: &VersionsEntry| match entry {
            VersionsEntry::Version { key, record, .. } => key.len() + record.encoded_len(),
            VersionsEntry::Prefix(prefix) => prefix.len(),
        };
        self.entries.iter().map(|entry| LIST_LINE_BYTES + of(entry)).sum()
    }
}

/// A line of a listing of versions.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a page is records either way; boxing each would cost more than it saves"
)]
pub enum VersionsEntry {
    /// An object's version or a delete marker.
    Version {
        key: String,
        record: ObjectRecord,
        /// It is what the key names now.
        is_latest: bool,
    },
    /// A common prefix.
    Prefix(String),
}
