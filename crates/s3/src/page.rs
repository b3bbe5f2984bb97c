//! How much memory a page of a listing, or a document that a client sends, takes: with what is made of it until it is answered.

use crate::operation::Operation as Op;
use crate::request::Request;
use types::limits::{LIST_BUCKETS_MAX, LIST_KEYS_MAX, XML_BYTES_MAX};

/// What an entry of a page takes: its row and its XML, keys and headers of a usual length.
const ENTRY_BYTES: u64 = 1 << 10;
/// What any takes.
const PAGE_BYTES: u64 = 64 << 10;
/// A document as it came, as it is read, and what is made of it.
const DOCUMENT_COPIES: u64 = 3;

/// What a request takes, if it is for a page or brings a document.
pub(crate) fn bytes(request: &Request) -> Option<u64> {
    let page = |parameter: &str, most: u32| {
        let asked = request.query.get(parameter).and_then(|n| n.parse::<u32>().ok());
        PAGE_BYTES + u64::from(asked.unwrap_or(most).min(most)) * ENTRY_BYTES
    };
    match request.operation {
        Op::ListObjects | Op::ListObjectsV2 | Op::ListObjectVersions => Some(page("max-keys", LIST_KEYS_MAX)),
        Op::ListParts => Some(page("max-parts", LIST_KEYS_MAX)),
        Op::ListMultipartUploads => Some(page("max-uploads", LIST_KEYS_MAX)),
        Op::ListBuckets => Some(page("max-buckets", LIST_BUCKETS_MAX)),
        Op::DeleteObjects | Op::CompleteMultipartUpload => {
            let most = XML_BYTES_MAX as u64;
            let length = request.plan.length().map_or(most, |length| length.min(most));
            Some(PAGE_BYTES + DOCUMENT_COPIES * length)
        }
        _ => None,
    }
}
