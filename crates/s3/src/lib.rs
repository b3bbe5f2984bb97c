//! The S3 face: routing, one file an operation, XML and errors.

pub mod body;
