//! What a put, get, copy, part means: joins blob and index. s3, admin and later dialects call it; it knows no dialect.
//!
//! A put is two strokes: bytes down (`blob`), then the name (`wire::index`). If the second never happens the bytes are
//! orphans and gc removes them; nothing ever names bytes that are not durable.

mod api;
mod append;
mod buckets;
mod commands;
mod copy;
mod deletion;
mod digests;
mod get;
mod in_hand;
mod intake;
mod keys;
mod md5;
mod put;
mod readers;
mod service;
mod settings;
mod upload;

pub use api::{
    Body, BodyError, Caller, CompleteUpload, DeleteObject, Expect, Headed, ListBuckets, ListObjects,
    ListParts, ListUploads, ListVersions, ObjectsError, Opened, PutObject, PutPart, StartUpload,
};
pub use blob::Blob;
pub use copy::{CopyObject, CopyPart};
pub use get::GetReader;
pub use service::Objects;
