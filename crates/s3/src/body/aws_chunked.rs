//! The aws-chunked framing.

/// Longest line of framing.
pub const LINE_BYTES_MAX: usize = 1024;
