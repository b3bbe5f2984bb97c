//! The vocabulary of Cairn: what every room calls things.
//!
//! Ids are newtypes, names are validated where they are made, limits have a unit and a bound in their name.
//! No I/O, no clock, no async. Imports nothing of ours.

mod checksum;
mod error;
mod etag;
mod id;
pub mod limits;
mod name;
mod range;
mod rot;

pub use checksum::{Checksum, ChecksumAlgorithm, ChecksumKind};
pub use error::{ErrorKind, Kind};
pub use etag::ETag;
pub use id::{
    AccountId, BlobId, BucketId, CommandId, DiskId, Epoch, ExtentId, Generation, Hlc, JournalSeq, LogSeq,
    NeedleId, NodeId, PartitionId, SessionId, StampId, UploadId, VersionId,
};
pub use name::{BucketName, BucketNameError, ObjectKey, ObjectKeyError};
pub use range::ByteRange;
pub use rot::Rot;
