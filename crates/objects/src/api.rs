//! What callers hand in and get back.

use crate::get::GetReader;
use bytes::Bytes;
use types::{
    AccountId, BucketName, Checksum, ChecksumAlgorithm, ChecksumKind, ErrorKind, Kind, ObjectKey, UploadId,
};
use wire::Fault;
use wire::index::{Expected, NamedPart, Precondition, Reason, VersionRef};
use wire::records::{ContentHeaders, ObjectRecord, Pair, Part};
use world::Share;

/// Who asks, already authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account whose access key signed.
    pub account: AccountId,
}

/// A body as it arrives: already de-framed and its signatures checked. An error means nothing may be named.
#[async_trait::async_trait]
pub trait Body: Send {
    /// The next bytes, never empty; `None` once all have come and every check of the body's own (payload hash, chunk
    /// signatures, lengths) has held.
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError>;
    /// Checksums from the trailer, once `next` has answered `None`.
    fn trailer(&mut self) -> Vec<Checksum>;
    /// How much memory it holds itself while it is read, beside what its connection does.
    fn holds(&self) -> u64 {
        0
    }
    /// Memory that was taken for the put of it before, with what it holds.
    fn taken(&mut self) -> Option<Share> {
        None
    }
    /// Whether it comes from our own disks.
    fn is_ours(&self) -> bool {
        false
    }
}

/// Why a body did not arrive whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client went away or sent fewer bytes than it said.
    #[error("the body ended early")]
    Incomplete,
    /// Nothing came for too long.
    #[error("the body stalled")]
    TimedOut,
    /// The dialect has its own error for it; it keeps the details.
    #[error("{0}")]
    Refused(String),
    /// The bytes come from elsewhere in the store, and could not be read there.
    #[error(transparent)]
    Unreadable(#[from] Fault),
}

/// What a body must turn out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// Checksums given ahead of the body.
    pub checksums: Vec<Checksum>,
    /// Checksums that the trailer will give: computed as the body passes, and missing ones refused.
    pub trailing: Vec<ChecksumAlgorithm>,
}

/// A put.
pub struct PutObject {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// Exactly how many bytes `body` will give.
    pub length: u64,
    /// The bytes.
    pub body: Box<dyn Body>,
    /// What they must be.
    pub expect: Expect,
    /// Content headers to keep.
    pub headers: ContentHeaders,
    /// User metadata, names in lower case.
    pub metadata: Vec<Pair>,
    /// Tags.
    pub tags: Vec<Pair>,
    /// The one checksum to keep; those that came with the body unless given.
    pub checksum: Option<ChecksumAlgorithm>,
    /// Decided in the commit.
    pub precondition: Precondition,
}

/// A part of an upload.
pub struct PutPart {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// Which upload.
    pub upload: UploadId,
    /// 1 to 10,000.
    pub number: u32,
    /// Exactly how many bytes `body` will give.
    pub length: u64,
    /// The bytes.
    pub body: Box<dyn Body>,
    /// What they must be.
    pub expect: Expect,
}

/// The beginning of a multipart upload.
pub struct StartUpload {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// Content headers to keep.
    pub headers: ContentHeaders,
    /// User metadata, names in lower case.
    pub metadata: Vec<Pair>,
    /// The object's tags.
    pub tags: Vec<Pair>,
    /// Checksum that every part will have.
    pub checksum: Option<ChecksumAlgorithm>,
    /// How the object's is made of the parts'.
    pub checksum_kind: Option<ChecksumKind>,
}

/// An object found; its bytes not read yet.
pub struct Opened {
    /// Its record.
    pub record: ObjectRecord,
    /// The parts it was made of, in order; none when it was one body, or is opened to be copied.
    pub parts: Vec<Part>,
    /// Its bucket keeps versions, or did: this one has an id to be named by.
    pub versioned: bool,
    /// For its bytes.
    pub reader: GetReader,
}

/// A page of the caller's buckets is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListBuckets {
    /// Only names that begin so.
    pub prefix: String,
    /// Only names after this one.
    pub after: String,
    /// At most so many; fewer are the last.
    pub max: u32,
}

impl Default for ListBuckets {
    /// The first page, as long as pages are.
    fn default() -> Self {
        Self {
            prefix: String::new(),
            after: String::new(),
            max: types::limits::LIST_BUCKETS_MAX,
        }
    }
}

/// An object found, without its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Headed {
    /// Its record.
    pub record: ObjectRecord,
    /// As in [`Opened`].
    pub versioned: bool,
}

/// A delete.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteObject {
    /// Under which key.
    pub key: ObjectKey,
    /// `Current`: what the bucket's versioning says. Else just that version goes.
    pub version: VersionRef,
    /// Decided in the commit, on the version meant.
    pub precondition: Precondition,
}

impl DeleteObject {
    /// Of the object that the key names, whatever it is.
    pub fn current(key: ObjectKey) -> Self {
        Self {
            key,
            version: VersionRef::Current,
            precondition: Precondition::default(),
        }
    }
}

/// A page of a bucket's objects is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListObjects {
    /// Whose objects.
    pub bucket: BucketName,
    /// Only keys that begin so.
    pub prefix: String,
    /// Keys that share the bytes up to it, past the prefix, are one common prefix. Empty: none.
    pub delimiter: String,
    /// Only keys and common prefixes after this one.
    pub after: String,
    /// Keys and common prefixes at most, up to `limits::LIST_KEYS_MAX`.
    pub max: u32,
}

/// A page of a bucket's versions is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListVersions {
    /// Whose versions.
    pub bucket: BucketName,
    /// Only keys that begin so.
    pub prefix: String,
    /// As in [`ListObjects`].
    pub delimiter: String,
    /// Only keys after this one, and the versions of this key after that one when given.
    pub after: (String, Option<VersionRef>),
    /// Versions and common prefixes at most, up to `limits::LIST_KEYS_MAX`.
    pub max: u32,
}

/// A page of a bucket's uploads is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListUploads {
    /// Whose uploads.
    pub bucket: BucketName,
    /// Only keys that begin so.
    pub prefix: String,
    /// As in [`ListObjects`].
    pub delimiter: String,
    /// Only uploads after this key, and after this upload of that key when given.
    pub after: (String, Option<UploadId>),
    /// At most, up to `limits::LIST_KEYS_MAX`.
    pub max: u32,
}

/// A page of an upload's parts is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListParts {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// Which upload.
    pub upload: UploadId,
    /// Only parts above this number.
    pub after: u32,
    /// At most, up to `limits::LIST_KEYS_MAX`.
    pub max: u32,
}

/// The end of a multipart upload.
#[derive(Clone, Debug, PartialEq)]
pub struct CompleteUpload {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// Which upload.
    pub upload: UploadId,
    /// The parts the object is made of, in order.
    pub parts: Vec<NamedPart>,
    /// Decided in the commit.
    pub precondition: Precondition,
    /// What the object must turn out to be.
    pub expected: Expected,
}

/// Why an operation did not do what was asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ObjectsError {
    /// The state refuses it.
    #[error("{reason:?}: {detail}")]
    Refused {
        /// Why.
        reason: Reason,
        /// More, for people.
        detail: String,
        /// Which part, where one is at fault.
        part_number: u32,
        /// Its size, likewise.
        size: u64,
    },
    /// The bucket is another account's.
    #[error("another account's")]
    Denied,
    /// The version meant is a delete marker.
    #[error("a delete marker")]
    Deleted {
        /// Its record.
        marker: Box<ObjectRecord>,
        /// It is the newest, and the key's object was asked for, not a version.
        is_current: bool,
    },
    /// The body did not arrive whole.
    #[error(transparent)]
    Body(BodyError),
    /// `Content-MD5` does not fit the bytes.
    #[error("Content-MD5 does not fit the bytes")]
    BadDigest,
    /// A checksum does not fit the bytes, or the trailer did not bring it.
    #[error("{} does not fit the bytes", .0.name())]
    BadChecksum(ChecksumAlgorithm),
    /// What is appended comes with another algorithm's checksum than the object's.
    #[error("expected {}, actual {}", .expected.name(), .actual.name())]
    OtherChecksum {
        /// The object's.
        expected: ChecksumAlgorithm,
        /// The body's.
        actual: ChecksumAlgorithm,
    },
    /// Metadata or tags came with an append to an object that has its own.
    #[error("metadata for an object that is there")]
    MetadataOfAppend,
    /// The read's range begins past the end.
    #[error("range past the end of {0} bytes")]
    BadRange(u64),
    /// A role, disk or connection failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Kind for ObjectsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::Conflict,
            Self::Denied => ErrorKind::Denied,
            Self::Deleted { .. } => ErrorKind::NotFound,
            Self::Body(_)
            | Self::BadDigest
            | Self::BadChecksum(_)
            | Self::OtherChecksum { .. }
            | Self::MetadataOfAppend
            | Self::BadRange(_) => ErrorKind::Invalid,
            Self::Fault(f) => f.kind,
        }
    }
}

impl From<Reason> for ObjectsError {
    fn from(reason: Reason) -> Self {
        Self::Refused {
            reason,
            detail: String::new(),
            part_number: 0,
            size: 0,
        }
    }
}

impl From<BodyError> for ObjectsError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Unreadable(fault) => Self::Fault(fault),
            error => Self::Body(error),
        }
    }
}

impl ObjectsError {
    /// Why the state refused it, where that is what happened.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            _ => None,
        }
    }
}
