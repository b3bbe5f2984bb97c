//! Reads a whole journal file and finds every header in it.

use super::record::{HEADER_BYTES, Header, MAGIC, NoHeader};
use crate::ExtentError;
use crate::fields::crc32c;
use bytes::Bytes;
use std::io;
use world::{DiskFile, read_patiently};

const WINDOW_BYTES: usize = 1 << 20;

/// A header whose crc holds, with that crc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundHeader {
    pub(crate) header: Header,
    pub(crate) crc: u32,
}

/// What a scan finds.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// Every good header, in order of position.
    pub(crate) headers: Vec<FoundHeader>,
    /// Positions of blocks that the device did not give.
    pub(crate) unreadable: Vec<u64>,
}

/// Looks for headers in the first `bytes` of the file.
pub(crate) fn scan(file: &dyn DiskFile, bytes: u64, salt: u64) -> Result<Scanned, ExtentError> {
    let mut scanned = Scanned::default();
    let mut window = vec![0; WINDOW_BYTES + HEADER_BYTES];
    let mut at = 0;
    while at < bytes {
        let len = ((bytes - at) as usize).min(window.len());
        read_what_can_be(file, &mut window[..len], at, &mut scanned.unreadable);
        let part = &window[..len];
        let starts = len.min(WINDOW_BYTES);
        for offset in (0..starts).step_by(8) {
            if part[offset..].len() < HEADER_BYTES || part[offset..offset + 4] != MAGIC {
                continue;
            }
            match Header::decode(salt, &part[offset..], at + offset as u64) {
                Ok((header, crc)) if header.end() <= bytes => {
                    scanned.headers.push(FoundHeader { header, crc });
                }
                Ok(_) | Err(NoHeader::Garbage) => {}
                Err(NoHeader::Newer(version)) => {
                    return Err(ExtentError::Newer {
                        what: "the journal".into(),
                        found: u32::from(version),
                        known: u32::from(super::record::FORMAT),
                    });
                }
            }
        }
        at += starts as u64;
    }
    Ok(scanned)
}

/// Reads a window; where the device cannot, block by block, so that one bad block hides no other. What cannot be read is zero: patiently, because
/// that may be taken for what was never written.
fn read_what_can_be(file: &dyn DiskFile, window: &mut [u8], at: u64, unreadable: &mut Vec<u64>) {
    if read_patiently(file, window, at).is_ok() {
        return;
    }
    for (i, block) in window.chunks_mut(4096).enumerate() {
        let at = at + 4096 * i as u64;
        match read_patiently(file, block, at) {
            Ok(()) => {}
            // The file is shorter than the journal: nothing was ever there.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => block.fill(0),
            Err(e) => {
                tracing::warn!(at, error = %e, "a block of the journal cannot be read");
                block.fill(0);
                unreadable.push(at);
            }
        }
    }
}

/// The payload of a record; `None` when it is not what was written.
///
/// # Errors
/// It cannot be read: whether it is whole is not known.
pub(crate) fn payload(file: &dyn DiskFile, header: &Header) -> io::Result<Option<Bytes>> {
    let mut body = vec![0; header.payload_length as usize];
    match read_patiently(file, &mut body, header.position + HEADER_BYTES as u64) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    Ok((crc32c(&body) == header.payload_crc).then(|| body.into()))
}
