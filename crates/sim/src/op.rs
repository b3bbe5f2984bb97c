//! What clients do and what they are told.

use crate::model::State;
use crate::stack::Entry;
use types::ErrorKind;
use wire::index::Reason;

/// An operation of a run, from 1. 0 is none.
pub type OpId = u16;

/// Buckets of a run.
pub const BUCKETS: usize = 2;
/// Keys of each bucket.
pub const KEYS: [&str; 4] = ["a", "a/b", "a/c\u{1f}", "\u{1faa8}"];
/// Multipart uploads of a run, at most.
pub const UPLOADS: usize = 16;
/// Part numbers used: 1 and 7.
pub const PARTS: [u32; 2] = [1, 7];

/// A condition on the current object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// None.
    Always,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match` with the ETag of what this operation stored.
    Is(OpId),
}

/// A version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The null one.
    Null,
    /// That of this operation: an object's, or a delete marker.
    Of(OpId),
}

/// What a client does to a body to spoil it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// Nothing.
    Whole,
    /// The client goes away half-way through.
    Vanishes,
    /// `Content-MD5` of something else.
    WrongMd5,
}

/// One call of a client. Buckets, keys and uploads by number.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "they are named as in S3")]
pub enum Op {
    CreateBucket {
        bucket: usize,
    },
    HeadBucket {
        bucket: usize,
    },
    DeleteBucket {
        bucket: usize,
    },
    ListBuckets,
    Put {
        bucket: usize,
        key: usize,
        size: u64,
        condition: Condition,
        spoil: Spoil,
        /// It is a copy of what this operation stored, which is itself no copy.
        of: Option<OpId>,
    },
    Get {
        bucket: usize,
        key: usize,
        range: Option<(u64, u64)>,
    },
    Head {
        bucket: usize,
        key: usize,
    },
    Delete {
        bucket: usize,
        key: usize,
        condition: Condition,
    },
    /// 1 enables, 2 suspends.
    SetVersioning {
        bucket: usize,
        versioning: u32,
    },
    GetVersion {
        bucket: usize,
        key: usize,
        which: Which,
    },
    DeleteVersion {
        bucket: usize,
        key: usize,
        which: Which,
    },
    ListVersions {
        bucket: usize,
        query: Query,
    },
    SetTags {
        bucket: usize,
        key: usize,
    },
    GetTags {
        bucket: usize,
        key: usize,
    },
    List {
        bucket: usize,
        query: Query,
    },
    StartUpload {
        bucket: usize,
        key: usize,
        upload: usize,
    },
    PutPart {
        bucket: usize,
        key: usize,
        upload: usize,
        part: usize,
        size: u64,
        spoil: Spoil,
    },
    CompleteUpload {
        bucket: usize,
        key: usize,
        upload: usize,
        parts: [OpId; PARTS.len()],
        condition: Condition,
    },
    AbortUpload {
        bucket: usize,
        key: usize,
        upload: usize,
    },
    ListParts {
        bucket: usize,
        key: usize,
        upload: usize,
    },
    ListUploads {
        bucket: usize,
    },
    /// Everything as of one moment.
    Snapshot,
}

/// A page that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Only keys that begin so.
    pub prefix: &'static str,
    /// Grouped by it, unless empty.
    pub delimiter: &'static str,
    /// Only what comes after.
    pub after: String,
    /// At most.
    pub max: u32,
}

/// A line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A key, and the operation whose object it leads to.
    Key(usize, OpId),
    /// A version, and whether it is the newest of its key.
    Version(usize, Entry, bool),
    /// A common prefix.
    Prefix(String),
}

/// A success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is so.
    Done,
    /// It is so, and was (`true`) or was not before; or: it is there, or not.
    Existed(bool),
    /// A delete marker was put over what was (`true`) or was not there.
    Marked(bool),
    /// The operation whose object it is, or whose tags; 0: no tags.
    Value(OpId),
    /// Buckets or uploads, by bit; or a bucket's versioning.
    Set(u32),
    /// A page, and whether there are more.
    Page(Vec<Line>, bool),
    /// The operation that each part is of; 0: none.
    Parts([OpId; PARTS.len()]),
    /// Everything there is, as far as these things go.
    State(Box<State>, Things),
}

/// How a call ended for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Answered(Answer),
    /// The state refused it.
    Refused(Reason),
    /// Its body was refused: it had no effect.
    Spoiled,
    /// A role failed and says that it had no effect.
    Failed(ErrorKind),
    /// No answer, or one that says that nobody knows.
    Unknown,
}

const BUCKET_BIT: u32 = 0;
const KEY_BIT: u32 = BUCKET_BIT + BUCKETS as u32;
const UPLOAD_BIT: u32 = KEY_BIT + (BUCKETS * KEYS.len()) as u32;

/// Things that operations touch, by bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Things(pub u64);

impl Things {
    /// A bucket's being there, and its versioning.
    pub fn bucket(bucket: usize) -> Self {
        Self(1 << (BUCKET_BIT + bucket as u32))
    }

    /// All buckets' being there.
    pub fn buckets() -> Self {
        Self((1 << BUCKETS) - 1)
    }

    /// Everything.
    pub fn all() -> Self {
        Self(u64::MAX)
    }

    /// One key's object.
    pub fn key(bucket: usize, key: usize) -> Self {
        Self(1 << (KEY_BIT + (bucket * KEYS.len() + key) as u32))
    }

    /// The objects of a bucket.
    pub fn keys(bucket: usize) -> Self {
        (0..KEYS.len()).fold(Self(0), |all, key| all.with(Self::key(bucket, key)))
    }

    /// One upload.
    pub fn upload(upload: usize) -> Self {
        Self(1 << (UPLOAD_BIT + upload as u32))
    }

    /// All uploads.
    pub fn uploads() -> Self {
        Self(((1 << UPLOADS) - 1) << UPLOAD_BIT)
    }

    /// Both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All but these.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether they have one in common.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl Op {
    /// What its answer depends on.
    pub fn reads(&self) -> Things {
        let in_bucket = |bucket: &usize| Things::bucket(*bucket);
        match self {
            Self::Snapshot => Things::all(),
            Self::ListBuckets => Things::buckets(),
            Self::CreateBucket { bucket } | Self::HeadBucket { bucket } => in_bucket(bucket),
            Self::DeleteBucket { bucket } => in_bucket(bucket)
                .with(Things::keys(*bucket))
                .with(Things::uploads()),
            Self::List { bucket, .. } | Self::ListVersions { bucket, .. } => {
                in_bucket(bucket).with(Things::keys(*bucket))
            }
            Self::SetVersioning { bucket, .. } => in_bucket(bucket),
            Self::ListUploads { bucket } => in_bucket(bucket).with(Things::uploads()),
            Self::Put { bucket, key, .. }
            | Self::Get { bucket, key, .. }
            | Self::Head { bucket, key }
            | Self::GetVersion { bucket, key, .. }
            | Self::DeleteVersion { bucket, key, .. }
            | Self::SetTags { bucket, key }
            | Self::GetTags { bucket, key }
            | Self::Delete { bucket, key, .. } => in_bucket(bucket).with(Things::key(*bucket, *key)),
            Self::StartUpload { bucket, upload, .. }
            | Self::PutPart { bucket, upload, .. }
            | Self::AbortUpload { bucket, upload, .. }
            | Self::ListParts { bucket, upload, .. } => in_bucket(bucket).with(Things::upload(*upload)),
            Self::CompleteUpload {
                bucket, key, upload, ..
            } => in_bucket(bucket)
                .with(Things::upload(*upload))
                .with(Things::key(*bucket, *key)),
        }
    }

    /// What it changes when it succeeds.
    pub fn writes(&self) -> Things {
        match self {
            Self::CreateBucket { bucket } | Self::SetVersioning { bucket, .. } => Things::bucket(*bucket),
            Self::DeleteBucket { bucket } => Things::bucket(*bucket).with(Things::uploads()),
            Self::Put { bucket, key, .. }
            | Self::Delete { bucket, key, .. }
            | Self::DeleteVersion { bucket, key, .. }
            | Self::SetTags { bucket, key } => Things::key(*bucket, *key),
            Self::StartUpload { upload, .. }
            | Self::PutPart { upload, .. }
            | Self::AbortUpload { upload, .. } => Things::upload(*upload),
            Self::CompleteUpload {
                bucket, key, upload, ..
            } => Things::upload(*upload).with(Things::key(*bucket, *key)),
            _ => Things::default(),
        }
    }

    /// Whether it can change anything.
    pub fn is_write(&self) -> bool {
        self.writes() != Things::default()
    }

    /// Its name, for counting: the outcome's is appended.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateBucket { .. } => "create_bucket",
            Self::HeadBucket { .. } => "head_bucket",
            Self::DeleteBucket { .. } => "delete_bucket",
            Self::ListBuckets => "list_buckets",
            Self::Put { .. } => "put",
            Self::Get { .. } => "get",
            Self::Head { .. } => "head",
            Self::Delete { .. } => "delete",
            Self::SetVersioning { .. } => "set_versioning",
            Self::GetVersion { .. } => "get_version",
            Self::DeleteVersion { .. } => "delete_version",
            Self::ListVersions { .. } => "list_versions",
            Self::SetTags { .. } => "set_tags",
            Self::GetTags { .. } => "get_tags",
            Self::List { .. } => "list",
            Self::StartUpload { .. } => "start_upload",
            Self::PutPart { .. } => "put_part",
            Self::CompleteUpload { .. } => "complete_upload",
            Self::AbortUpload { .. } => "abort_upload",
            Self::ListParts { .. } => "list_parts",
            Self::ListUploads { .. } => "list_uploads",
            Self::Snapshot => "snapshot",
        }
    }
}
