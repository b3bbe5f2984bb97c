//! What the store says, in the model's words.

use crate::model::Version;
use crate::sequence::pairs;
use crate::value::{Value, crc64_of};
use objects::ObjectsError;
use types::VersionId;
use wire::index::Reason;
use wire::records::{Checksum, ObjectRecord};

/// CRC-64/NVME as records number it.
const CRC64NVME: u32 = 3;

/// What S3 calls a refusal.
pub(crate) fn code_of(error: &ObjectsError) -> &'static str {
    match error {
        ObjectsError::Deleted { is_current: true, .. } => "NoSuchKey",
        ObjectsError::Deleted { .. } => "MethodNotAllowed",
        ObjectsError::BadDigest => "BadDigest",
        ObjectsError::MetadataOfAppend => "InvalidRequest",
        ObjectsError::Refused { reason, .. } => match reason {
            Reason::NoSuchBucket => "NoSuchBucket",
            Reason::BucketNotEmpty => "BucketNotEmpty",
            Reason::NoSuchKey | Reason::NoSuchKeyForMatch => "NoSuchKey",
            Reason::NoSuchVersion => "NoSuchVersion",
            Reason::NoSuchUpload => "NoSuchUpload",
            Reason::InvalidPart => "InvalidPart",
            Reason::InvalidPartOrder => "InvalidPartOrder",
            Reason::EntityTooSmall => "EntityTooSmall",
            Reason::PreconditionFailed => "PreconditionFailed",
            Reason::InvalidWriteOffset => "InvalidWriteOffset",
            Reason::TooManyParts => "TooManyParts",
            Reason::AppendVersioned => "NotImplemented",
            Reason::DeleteMarker => "MethodNotAllowed",
            Reason::OtherThanSaid => "InvalidRequest",
            _ => "unexpected",
        },
        _ => "unexpected",
    }
}

fn checksum_of(bytes: &[u8]) -> Vec<Checksum> {
    vec![Checksum {
        algorithm: CRC64NVME,
        value: crc64_of(bytes).to_vec(),
    }]
}

pub(crate) fn id_of(version: &[u8]) -> u128 {
    VersionId::from_slice(version).expect("a version id").0
}

/// Holds checksums against bytes.
#[track_caller]
pub(crate) fn same_checksums(checksums: &[Checksum], bytes: &[u8]) {
    assert_eq!(
        checksums,
        checksum_of(bytes),
        "the checksum of {} bytes",
        bytes.len()
    );
}

/// Holds a record against a version.
#[track_caller]
pub(crate) fn same(record: &ObjectRecord, version: &Version) {
    assert_eq!(id_of(&record.version), version.id, "its version");
    let kind = (record.null_version, record.delete_marker);
    assert_eq!(kind, (version.null, version.marker), "null, and a delete marker");
    if version.marker {
        return;
    }
    assert_eq!(record.size, version.size(), "its size");
    let etag = (record.etag_md5.as_slice(), record.etag_parts);
    assert_eq!(etag, (&version.etag.md5[..], version.etag.part_count), "its ETag");
    assert_eq!(Some(record.modified_ms), version.modified_ms, "its time");
    let content_type = record.headers.as_ref().map_or("", |h| &h.content_type);
    assert_eq!(content_type, version.told.content_type, "its content type");
    assert_eq!(record.metadata, pairs(&version.told.metadata), "its metadata");
    assert_eq!(record.tags, pairs(&version.told.tags), "its tags");
    same_checksums(&record.checksums, &version.bytes);
}

/// A value, noted short.
pub(crate) fn short(value: &Value) -> String {
    format!("{} bytes {:02x?}", value.bytes.len(), &value.md5[..2])
}
