//! The index service: what the gateway means, decided by the one owner of the keys it touches.
//!
//! Mutations are [`Command`]s under a command id; a known id gets its old answer, a command of an ended session is
//! refused for ever. Reads are answered from durable state by the owner.

use crate::Fault;
pub use crate::listed::Listed;
use crate::node::Ordered;
pub use crate::reclaim::{Booked, BookedRef, Doubt, IdleUpload, Reach, Reached, Reclaim, Unnamed};
use crate::records::{
    Answer, BucketCopy, BucketRecord, BucketSetting, Checksum, ContentHeaders, GarbageRecord, ManifestPage,
    ObjectRecord, Pair, PartRecord, UploadRecord, UsageRecord, bucket_setting,
};
use crate::scrub::Reread;
pub use crate::versions::{VersionRef, Versioning, VersionsEntry, VersionsPage, VersionsQuery};
use bytes::Bytes;
use prost::Message as _;
use types::limits::LIST_LINE_BYTES;
use types::{
    AccountId, BlobId, BucketId, BucketName, CommandId, ETag, ErrorKind, ObjectKey, UploadId, VersionId,
};

/// Why the state refused a command or read. The numbers are stored in `done` rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
pub enum Reason {
    /// No bucket of that name or id, or it is being deleted.
    NoSuchBucket = 1,
    /// The name is another account's.
    BucketExists = 2,
    /// It has objects, versions or delete markers.
    BucketNotEmpty = 3,
    /// No such object.
    NoSuchKey = 4,
    /// No such version of it.
    NoSuchVersion = 5,
    /// No such upload: never begun, completed or aborted.
    NoSuchUpload = 6,
    /// A named part is not there or has another ETag; `part_number`.
    InvalidPart = 7,
    /// Part numbers do not ascend.
    InvalidPartOrder = 8,
    /// A part but the last is under 5 MiB; `part_number`, `size`.
    EntityTooSmall = 9,
    /// If-Match or If-None-Match on a write.
    PreconditionFailed = 10,
    /// If-Match on a write of a key that is not there.
    NoSuchKeyForMatch = 11,
    /// The checksums named at completion do not fit the parts'.
    BadChecksum = 12,
    /// The command's session has ended: it never takes effect.
    SessionEnded = 13,
    /// Its bytes are booked as garbage or condemned: it never takes effect.
    BlobGone = 14,
    /// A change of the bucket is under way; ask again.
    BucketBusy = 15,
    /// The bucket is already the caller's.
    BucketOwned = 16,
    /// A completed object would be over S3's size limit.
    EntityTooLarge = 17,
    /// Another completion of the upload is under way.
    UploadBusy = 18,
    /// An append's offset is not the object's size; `detail`.
    InvalidWriteOffset = 19,
    /// An append past the 10,000th part.
    TooManyParts = 20,
    /// The object was written while bytes to append to it were on their way.
    AppendRaced = 21,
    /// An append in a bucket that keeps versions.
    AppendVersioned = 22,
    /// What is meant is a delete marker.
    DeleteMarker = 23,
    /// What a completion says of the object's size or kind of checksum is not so; `detail`.
    OtherThanSaid = 24,
}

impl Reason {
    /// The stored number back.
    pub fn from_number(n: u32) -> Option<Self> {
        use Reason::*;
        [
            NoSuchBucket,
            BucketExists,
            BucketNotEmpty,
            NoSuchKey,
            NoSuchVersion,
            NoSuchUpload,
            InvalidPart,
            InvalidPartOrder,
            EntityTooSmall,
            PreconditionFailed,
            NoSuchKeyForMatch,
            BadChecksum,
            SessionEnded,
            BlobGone,
            BucketBusy,
            BucketOwned,
            EntityTooLarge,
            UploadBusy,
            InvalidWriteOffset,
            TooManyParts,
            AppendRaced,
            AppendVersioned,
            DeleteMarker,
            OtherThanSaid,
        ]
        .into_iter()
        .find(|r| *r as u32 == n)
    }
}

/// Which of a bucket's settings. The numbers stand in row keys and are those of the record's fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
pub enum SettingKind {
    /// Its tags.
    Tags = 1,
    /// Which web pages may use it.
    Cors = 2,
    /// Who owns what is uploaded.
    Ownership = 3,
    /// Which public access is refused whatever else is said.
    PublicAccess = 4,
}

impl SettingKind {
    /// The kind of a setting; `None` for one that this build does not know.
    pub fn of(setting: &BucketSetting) -> Option<Self> {
        Some(match setting.kind.as_ref()? {
            bucket_setting::Kind::Tags(_) => Self::Tags,
            bucket_setting::Kind::Cors(_) => Self::Cors,
            bucket_setting::Kind::Ownership(_) => Self::Ownership,
            bucket_setting::Kind::PublicAccess(_) => Self::PublicAccess,
        })
    }
}

/// A mutating call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Unique; sent again unchanged until an answer comes.
    pub id: CommandId,
    /// Every command of this session with a lower serial has its answer: their `done` rows may go.
    pub done_below: u64,
    /// What is meant.
    pub command: Command,
}

/// Conditions on the current object, decided in the commit.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Precondition {
    /// `If-Match`: one of these, or any when `*`.
    pub if_match: Option<Match>,
    /// `If-None-Match`: none of these, or nothing at all when `*`.
    pub if_none_match: Option<Match>,
    /// `x-amz-if-match-last-modified-time`: modified then, in whole seconds as HTTP dates carry them.
    pub if_modified_s: Option<u64>,
    /// `x-amz-if-match-size`: of this size.
    pub if_size: Option<u64>,
}

/// The value of a match header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// `*`
    Any,
    /// Entity tags.
    Tags(Vec<ETag>),
}

/// An object's bytes, stored.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum StoredData {
    /// No bytes.
    #[default]
    Empty,
    /// The bytes themselves, at most `limits::INLINE_BYTES_MAX`.
    Inline(Bytes),
    /// Needles, durable or ordered.
    Chunks(StoredChunks),
}

/// Needles of one blob.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredChunks {
    /// Whose bytes.
    pub blob: BlobId,
    /// In order.
    pub chunks: Vec<crate::records::Chunk>,
    /// What the commit must be written behind; empty when every needle is on stable storage.
    pub ordered: Vec<Ordered>,
}

/// What is meant by a mutating call.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Directory: takes a name. Answers the bucket (`existed` when it was the same account's), in state opening or open.
    CreateBucket {
        name: BucketName,
        owner: AccountId,
        region: String,
        /// What a bucket that is made by this is told from the start, at most one of a kind.
        settings: Vec<BucketSetting>,
    },
    /// Directory: every partition has committed `open(turn)`.
    BucketOpened {
        name: BucketName,
        bucket: BucketId,
        turn: u64,
    },
    /// Directory: `deleting(turn + 1)`, if the row is still of this bucket and says what the sender saw: `open(turn)`, or,
    /// when `stale`, the `deleting(turn)` that it takes over. Whose bucket it is was seen with it, and never changes.
    BeginDeleteBucket {
        name: BucketName,
        bucket: BucketId,
        turn: u64,
        stale: bool,
    },
    /// Directory: removes the row only if it still says `deleting(turn)`.
    FinishDeleteBucket {
        name: BucketName,
        bucket: BucketId,
        turn: u64,
    },
    /// Directory: a partition was not empty; back to open at the same turn, if it still says `deleting(turn)`.
    CancelDeleteBucket {
        name: BucketName,
        bucket: BucketId,
        turn: u64,
    },
    /// Directory: tells the bucket something, or with `None` lets it be as a new bucket again.
    PutBucketSetting {
        name: BucketName,
        bucket: BucketId,
        kind: SettingKind,
        value: Option<BucketSetting>,
    },
    /// Directory: versioning is this from a new configuration on, which the answer names. Busy unless the bucket is open.
    SetVersioning {
        name: BucketName,
        bucket: BucketId,
        versioning: Versioning,
    },
    /// Directory: every partition has committed `configuration` at `turn`.
    BucketConfigured {
        name: BucketName,
        bucket: BucketId,
        turn: u64,
        configuration: u64,
    },
    /// Partition: takes puts from turn `copy.turn` on; a lower turn than the row's is ignored.
    OpenBucket { bucket: BucketId, copy: BucketCopy },
    /// Partition: refuses puts, and of uploads all but abortions, from `turn` on; answers whether it is empty or has only
    /// uploads. A lower turn is refused as busy.
    CloseBucket { bucket: BucketId, turn: u64 },
    /// Names an object's bytes. `record` has everything but version, modified time and data.
    Put {
        bucket: BucketId,
        key: ObjectKey,
        record: Box<ObjectRecord>,
        data: StoredData,
        precondition: Precondition,
    },
    /// Of the current object: removes it, or puts a delete marker over it, as the bucket's versioning says. Of a version:
    /// removes just that one. Nothing there is an answer, not an error.
    Delete {
        bucket: BucketId,
        key: ObjectKey,
        version: VersionRef,
        precondition: Precondition,
    },
    /// Puts bytes behind those of the current object. `piece` is their record: size, ETag and checksums; and all that the
    /// object is to be, where there is none yet.
    Append {
        bucket: BucketId,
        key: ObjectKey,
        piece: Box<ObjectRecord>,
        data: Box<AppendData>,
        precondition: Precondition,
    },
    /// Replaces the tags of the current object, or of a version; nothing else of it changes.
    SetTags {
        bucket: BucketId,
        key: ObjectKey,
        version: VersionRef,
        tags: Vec<Pair>,
    },
    /// Begins an upload. `record` has everything but upload id and time.
    CreateUpload {
        bucket: BucketId,
        key: ObjectKey,
        record: Box<UploadRecord>,
    },
    /// Names a part's bytes; an earlier part of that number is garbage. `record` has everything but time and chunks.
    PutPart {
        bucket: BucketId,
        key: ObjectKey,
        upload: UploadId,
        record: Box<PartRecord>,
        data: StoredChunks,
    },
    /// Makes the object of its parts.
    CompleteUpload {
        bucket: BucketId,
        key: ObjectKey,
        upload: UploadId,
        parts: Vec<NamedPart>,
        precondition: Precondition,
        expected: Expected,
    },
    /// Gives the upload up; its parts are garbage.
    AbortUpload {
        bucket: BucketId,
        key: ObjectKey,
        upload: UploadId,
    },
    /// Gives the upload up if nobody has worked on it since: it was begun, each of its parts came and its completion last moved before
    /// `before_ms` of the wall clock. Else it is busy.
    AbortIdleUpload {
        bucket: BucketId,
        key: ObjectKey,
        upload: UploadId,
        before_ms: u64,
    },
    /// Removes bookings, with the manifest pages that they kept. One that is not there, or is another, is no error. At most
    /// `limits::FORGET_ROWS_MAX`.
    ForgetGarbage { rows: Vec<BookedRef> },
    /// Promises of each needle that nothing will ever name it, unless something does since it was looked for. Answers
    /// a [`Reach`] each, never `Unnamed`. At most `limits::DOUBTS_MAX`.
    Condemn { unnamed: Unnamed },
    /// Removes some promises to needles of ended sessions, from an opaque cursor (empty: the start): nothing could name those
    /// anyway. Answers the next cursor, empty at the end.
    ForgetCondemned { after: Bytes },
}

/// Bytes to append, stored to fit the object as its gateway saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct AppendData {
    /// The size that the object must have.
    pub offset: u64,
    /// The object's version as the gateway saw it; `None`: there was none.
    pub seen: Option<VersionId>,
    /// The bytes.
    pub data: StoredData,
    /// They begin with the object's own, which stood inline and had to move.
    pub whole: bool,
}

/// A part as a completion names it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedPart {
    /// 1 to 10,000.
    pub number: u32,
    /// Its MD5; must be the part's.
    pub etag_md5: [u8; 16],
    /// Checksums; each must be the part's.
    pub checksums: Vec<Checksum>,
}

/// What a completion says the object must be.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Expected {
    /// `x-amz-mp-object-size`.
    pub size: Option<u64>,
    /// `x-amz-checksum-*` of the whole object.
    pub checksum: Option<Checksum>,
    /// `x-amz-checksum-type`.
    pub kind: Option<u32>,
}

/// A current object with its inline bytes or manifest, where it has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The record.
    pub record: ObjectRecord,
    /// Bytes, when the record says inline.
    pub inline: Option<Bytes>,
    /// Pages, when the record says manifest and they were asked for.
    pub manifest: Vec<ManifestPage>,
}

/// One page of an account's buckets is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketsQuery {
    /// Whose buckets.
    pub owner: AccountId,
    /// Only names that begin so.
    pub prefix: String,
    /// Only names after this one.
    pub after: String,
    /// At most so many; fewer are the last.
    pub max: u32,
}

impl BucketsQuery {
    /// The first buckets of an account, up to S3's page.
    pub fn of(owner: AccountId) -> Self {
        Self {
            owner,
            prefix: String::new(),
            after: String::new(),
            max: types::limits::LIST_BUCKETS_MAX,
        }
    }
}

/// One page of a listing is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Whose objects.
    pub bucket: BucketId,
    /// Only keys that begin so.
    pub prefix: String,
    /// Keys that share the bytes up to it, past the prefix, are one common prefix. Empty: none.
    pub delimiter: String,
    /// Only keys and common prefixes after this one.
    pub after: String,
    /// Keys and common prefixes at most, up to `limits::LIST_KEYS_MAX`.
    pub max: u32,
}

/// One page of objects.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ListPage {
    /// Keys and common prefixes in their one order.
    pub entries: Vec<ListEntry>,
    /// Whether there are more; the next page begins after the last entry.
    pub truncated: bool,
}

impl ListPage {
    /// How many bytes it takes, about, as it is stored.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |entry: &ListEntry| match entry {
            ListEntry::Object { key, record } => key.len() + record.len(),
            ListEntry::Prefix(prefix) => prefix.len(),
        };
        self.entries.iter().map(|entry| LIST_LINE_BYTES + of(entry)).sum()
    }
}

/// A line of a listing.
#[derive(Clone, Debug, PartialEq)]
pub enum ListEntry {
    /// A key and its record, as it is stored: an `ObjectRecord`, of which a [`Listed`] reads what listings show and no more.
    Object { key: String, record: Bytes },
    /// A common prefix.
    Prefix(String),
}

impl ListEntry {
    /// An object's line.
    pub fn object(key: String, record: &ObjectRecord) -> Self {
        let record = record.encode_to_vec().into();
        Self::Object { key, record }
    }
}

impl ContentHeaders {
    /// As a record has them: there, if there are any.
    ///
    /// They are measured, not compared with none: that compares an empty text with an empty text seven times, which takes some processors
    /// longer than all else that is done here.
    pub fn unless_none(self) -> Option<Self> {
        (self.encoded_len() > 0).then_some(self)
    }
}

/// The whole record of `key` as [`ListEntry::Object`] has it.
///
/// # Errors
/// It is none.
pub fn listed(key: &str, record: &[u8]) -> Result<ObjectRecord, Fault> {
    ObjectRecord::decode(record)
        .map_err(|e| Fault::new(ErrorKind::Corrupt, format!("{e} in the record of {key:?}")))
}

/// What a page of [`Index::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Rows read.
    pub rows: u64,
    /// What is wrong, a sentence with its place each.
    pub damage: Vec<String>,
    /// Where it goes on; empty at the end.
    pub next: Bytes,
}

/// One page of uploads is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadsQuery {
    /// Whose uploads.
    pub bucket: BucketId,
    /// Only keys that begin so.
    pub prefix: String,
    /// As in [`ListQuery`].
    pub delimiter: String,
    /// Only uploads after this key, and after this upload of that key when given.
    pub after: (String, Option<UploadId>),
    /// At most, up to `limits::LIST_KEYS_MAX`.
    pub max: u32,
}

/// One page of uploads.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct UploadsPage {
    /// By key, then by time of initiation.
    pub entries: Vec<UploadsEntry>,
    /// Whether there are more.
    pub truncated: bool,
}

impl UploadsPage {
    /// How many bytes it takes, about, as it is stored.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |entry: &UploadsEntry| match entry {
            UploadsEntry::Upload { key, record } => key.len() + record.encoded_len(),
            UploadsEntry::Prefix(prefix) => prefix.len(),
        };
        self.entries.iter().map(|entry| LIST_LINE_BYTES + of(entry)).sum()
    }
}

/// A line of a listing of uploads.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a page is records either way; boxing each would cost more than it saves"
)]
pub enum UploadsEntry {
    /// An upload.
    Upload { key: String, record: UploadRecord },
    /// A common prefix.
    Prefix(String),
}

/// An upload and a page of its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct PartsPage {
    /// The upload.
    pub upload: UploadRecord,
    /// Parts above the asked number, ascending.
    pub parts: Vec<PartRecord>,
    /// Whether there are more.
    pub truncated: bool,
}

impl PartsPage {
    /// How many bytes it takes, about, as it is stored.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let parts = self.parts.iter().map(|part| LIST_LINE_BYTES + part.encoded_len());
        self.upload.encoded_len() + parts.sum::<usize>()
    }
}

/// What a walk over a whole partition finds that names bytes, or is there for nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Named {
    /// A visible object (or older version) with its manifest pages.
    Object {
        bucket: BucketId,
        key: String,
        found: Box<Found>,
    },
    /// A part of an upload.
    Part {
        bucket: BucketId,
        key: String,
        upload: UploadId,
        part: PartRecord,
    },
    /// A row that nothing owns, or that disagrees with what it stands for: a sentence with its place.
    Stray { what: String },
    /// Bytes that wait for gc.
    Garbage {
        bucket: BucketId,
        key: String,
        garbage: GarbageRecord,
    },
}

/// A mutating call's answer: the stored one, refusals included.
pub type Answered = Result<Answer, Fault>;
/// A read's answer.
pub type ReadAnswer<T> = Result<Result<T, Reason>, Fault>;

/// What the index does. `Fault` of kind `Unknown` from [`Index::call`] means: call again, the same.
#[async_trait::async_trait]
pub trait Index: Send + Sync {
    /// Whether commands are being decided now. A double need not say.
    ///
    /// # Errors
    /// Why not, where an owner is gone, cannot have its partition, or does not come to it.
    async fn serving(&self) -> Result<(), Fault> {
        Ok(())
    }
    /// Decides and commits a command, or gives the answer it got before.
    async fn call(&self, call: Call) -> Answered;
    /// A bucket by name, in whatever state its row is: `opening` and `deleting` too, so that whoever finds a stale one can
    /// finish it. `NoSuchBucket` only when there is no row.
    async fn bucket(&self, name: &BucketName) -> ReadAnswer<BucketRecord>;
    /// A page of an account's buckets, in whatever state, by name.
    async fn buckets(&self, query: BucketsQuery) -> Result<Vec<BucketRecord>, Fault>;
    /// What a bucket was told; `None` where it is as a new one.
    async fn bucket_setting(
        &self,
        bucket: BucketId,
        kind: SettingKind,
    ) -> Result<Option<BucketSetting>, Fault>;
    /// A current object (or a version); `with_manifest` brings the pages too. A delete marker is found like any other
    /// version, also where it is the newest and `Current` is asked for: its record says `delete_marker`.
    async fn get(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        version: VersionRef,
        with_manifest: bool,
    ) -> ReadAnswer<Found>;
    /// A page of objects: a consistent snapshot.
    async fn list(&self, query: ListQuery) -> ReadAnswer<ListPage>;
    /// A page of versions and delete markers: a consistent snapshot.
    async fn list_versions(&self, query: VersionsQuery) -> ReadAnswer<VersionsPage>;
    /// A page of uploads.
    async fn uploads(&self, query: UploadsQuery) -> ReadAnswer<UploadsPage>;
    /// An upload and its parts above number `after`.
    async fn parts(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        upload: UploadId,
        after: u32,
        max: u32,
    ) -> ReadAnswer<PartsPage>;
    /// What a bucket holds, by storage class.
    async fn usage(&self, bucket: BucketId) -> Result<Vec<(u32, UsageRecord)>, Fault>;
    /// A page of everything that names bytes, from an opaque cursor (empty: the start); the next cursor, empty at the end.
    async fn walk(&self, cursor: Bytes) -> Result<(Vec<Named>, Bytes), Fault>;
    /// The same past rows that cannot be had: a sentence for each stretch of them.
    async fn walk_on(&self, cursor: Bytes) -> Result<(Vec<Named>, Vec<String>, Bytes), Fault> {
        let (named, next) = self.walk(cursor).await?;
        Ok((named, Vec::new(), next))
    }
    /// Reads a piece of the engine's files as they are on the disk, of all partitions, whether or not a row needs it; cursors as for
    /// [`Index::walk`]. An engine without files has none.
    async fn verify_files(&self, _cursor: Bytes) -> Result<Reread, Fault> {
        Ok(Reread::default())
    }
    /// What a bucket is called, for people; `None` where that is not known.
    async fn bucket_name(&self, _bucket: BucketId) -> Result<Option<String>, Fault> {
        Ok(None)
    }
    /// Reads a page of every row there is, whatever it is for, past rows that cannot be had; cursors as for [`Index::walk`].
    async fn verify(&self, _cursor: Bytes) -> Result<Verified, Fault> {
        Ok(Verified::default())
    }
}
