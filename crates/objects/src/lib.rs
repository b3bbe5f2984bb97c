//! What a put, get, copy, part means: joins blob and index. s3, admin and later dialects call it; it knows no dialect.
//!
//! A put is two strokes: bytes down (`blob`), then the name (`wire::index`). If the second never happens the bytes are
//! orphans and gc removes them; nothing ever names bytes that are not durable.

mod api;

pub use api::{
    Body, BodyError, Caller, Expect, GetReader, ObjectsError, Opened, PutObject, PutPart, StartUpload,
};
