//! How much memory a page of a listing, or a document that a client sends, takes: with what is made of it until it is answered.

use crate::operation::Operation as Op;
use crate::request::Request;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::limits::{LIST_BUCKETS_MAX, LIST_KEYS_MAX, XML_BYTES_MAX};
use world::Share;

/// What an entry of a page takes: its row and its XML, keys and headers of a usual length.
const ENTRY_BYTES: u64 = 1 << 10;
/// What any takes.
const PAGE_BYTES: u64 = 64 << 10;
/// A document as it came, as it is read, and what is made of it.
const DOCUMENT_COPIES: u64 = 3;
/// A page's rows as they are stored, as they are read, and the XML of them.
const ROW_COPIES: u64 = 3;

/// What an element of a document takes beside its text, for each `<` of it: with room to grow.
const ELEMENT_BYTES: u64 = 176;

/// The memory of a page or document: taken before it is there, settled once it is known what it comes to. Its answer's body has it in the end.
#[derive(Clone, Default)]
pub(crate) struct Paged(Arc<Mutex<Option<Share>>>);

impl Paged {
    pub(crate) fn new(share: Share) -> Self {
        Self(Arc::new(Mutex::new(Some(share))))
    }

    fn share(&self) -> MutexGuard<'_, Option<Share>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is for comes to so much.
    fn settle(&self, bytes: u64) {
        if let Some(share) = &mut *self.share() {
            share.settle(bytes);
        }
    }

    /// A document has come; what is made of it comes.
    pub(crate) fn document(&self, document: &[u8]) {
        let elements = document.iter().filter(|byte| **byte == b'<').count();
        let copies = DOCUMENT_COPIES * document.len() as u64;
        self.settle(PAGE_BYTES + copies + ELEMENT_BYTES * elements as u64);
    }

    /// The rows of a page are there, encoded so long; its XML comes.
    pub(crate) fn rows(&self, encoded: usize) {
        self.settle(PAGE_BYTES + ROW_COPIES * encoded as u64);
    }

    /// The share, for the answer.
    pub(crate) fn take(&self) -> Option<Share> {
        self.share().take()
    }
}

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
        operation if brings_a_document(operation) => {
            let most = XML_BYTES_MAX as u64;
            let length = request.plan.length().map_or(most, |length| length.min(most));
            Some(PAGE_BYTES + DOCUMENT_COPIES * length)
        }
        _ => None,
    }
}

/// Those that read their body whole.
fn brings_a_document(operation: Op) -> bool {
    matches!(
        operation,
        Op::DeleteObjects
            | Op::CompleteMultipartUpload
            | Op::CreateBucket
            | Op::PutBucketAcl
            | Op::PutBucketCors
            | Op::PutBucketOwnershipControls
            | Op::PutBucketTagging
            | Op::PutBucketVersioning
            | Op::PutObjectAcl
            | Op::PutObjectTagging
            | Op::PutPublicAccessBlock
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use world::{Budget, Claim, real};

    #[tokio::test]
    async fn what_it_comes_to_is_counted_once_it_is_known() {
        let budget = Budget::new("test", 64 << 20, Arc::new(real::RealClock::new()));
        let paged = Paged::new(budget.take(Claim::Page, PAGE_BYTES).await.unwrap());
        let many = "<a/>".repeat(100_000);
        paged.document(many.as_bytes());
        assert!(
            budget.used() >= 100_000 * 2 * size_of::<crate::xml::Element>() as u64,
            "{}",
            budget.used()
        );
        paged.rows(4 << 20);
        assert_eq!(budget.used(), PAGE_BYTES + (12 << 20));
        drop(paged.take());
        assert_eq!(budget.used(), 0);
    }
}
