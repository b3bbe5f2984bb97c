//! Reads a whole journal file and finds every header in it.

use super::record::{HEADER_BYTES, Header, MAGIC, NoHeader};
use crate::ExtentError;
use crate::fields::crc32c;
use bytes::Bytes;
use std::io;
use world::DiskFile;

const WINDOW_BYTES: usize = 1 << 20;

/// A header whose crc holds, with that crc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundHeader {
    pub(crate) header: Header,
    pub(crate) crc: u32,
}

/// Every good header of the first `bytes` of the file, in order of position. Bytes that cannot be read hold none.
pub(crate) fn scan(file: &dyn DiskFile, bytes: u64, salt: u64) -> Result<Vec<FoundHeader>, ExtentError> {
    let mut found = Vec::new();
    let mut window = vec![0; WINDOW_BYTES + HEADER_BYTES];
    let mut at = 0;
    while at < bytes {
        let len = ((bytes - at) as usize).min(window.len());
        let readable = read_what_can_be(file, &mut window[..len], at)?;
        let part = &window[..len];
        let starts = len.min(WINDOW_BYTES);
        if readable {
            for offset in (0..starts).step_by(8) {
                if part[offset..].len() < HEADER_BYTES || part[offset..offset + 4] != MAGIC {
                    continue;
                }
                match Header::decode(salt, &part[offset..], at + offset as u64) {
                    Ok((header, crc)) if header.end() <= bytes => found.push(FoundHeader { header, crc }),
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
        }
        at += starts as u64;
    }
    Ok(found)
}

/// Reads a window; where the device cannot, block by block, so that one bad block hides no other. What cannot be read is zero.
fn read_what_can_be(file: &dyn DiskFile, window: &mut [u8], at: u64) -> Result<bool, ExtentError> {
    match file.read_exact_at(window, at) {
        Ok(()) => return Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(e) => tracing::warn!(at, error = %e, "journal cannot be read here; block by block"),
    }
    let mut any = false;
    for (i, block) in window.chunks_mut(4096).enumerate() {
        if file.read_exact_at(block, at + 4096 * i as u64).is_err() {
            block.fill(0);
        } else {
            any = true;
        }
    }
    Ok(any)
}

/// The payload of a record; `None` when it is not what was written.
pub(crate) fn payload(file: &dyn DiskFile, header: &Header) -> Option<Bytes> {
    let mut body = vec![0; header.payload_length as usize];
    file.read_exact_at(&mut body, header.position + HEADER_BYTES as u64)
        .ok()?;
    (crc32c(&body) == header.payload_crc).then(|| body.into())
}
