//! How much memory a page of a listing, or a document that a client sends, takes: with what is made of it until it is answered.

use crate::operation::Operation as Op;
use crate::request::Request;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::limits::{LIST_BUCKETS_MAX, LIST_KEYS_MAX, XML_BYTES_MAX, list_page_bytes};
use world::Share;

/// What a bucket takes in a page of them: its row and its XML.
const BUCKET_BYTES: u64 = 1 << 10;
/// Buckets that a page of them has room for from the start. Few accounts have more.
pub(crate) const BUCKETS_AT_FIRST: u32 = 64;
/// What any takes.
const PAGE_BYTES: u64 = 64 << 10;
/// A document as it came, as it is read, and what is made of it.
const DOCUMENT_COPIES: u64 = 3;
/// A page's rows as they are stored, as they are read, and the XML of them.
const ROW_COPIES: u64 = 3;

/// What an element of a document takes beside its text, for each `<` of it: with room to grow.
const ELEMENT_BYTES: u64 = 176;

/// The memory of a page or document: taken before it is there, settled once it is known what it comes to. A page comes to no more than was
/// taken for it: it ends early (`limits::list_page_bytes`). Its answer's body has the memory in the end.
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

    /// Whether there is memory for so many buckets more, which it then has.
    pub(crate) fn more_buckets(&self, buckets: u32) -> bool {
        let bytes = u64::from(buckets) * BUCKET_BYTES;
        self.share().as_mut().is_none_or(|share| share.try_more(bytes))
    }

    /// The share, for the answer.
    pub(crate) fn take(&self) -> Option<Share> {
        self.share().take()
    }
}

/// What a request takes, if it is for a page or brings a document.
pub(crate) fn bytes(request: &Request) -> Option<u64> {
    let asked = |parameter: &str, most: u32| {
        let asked = request.query.get(parameter).and_then(|n| n.parse::<u32>().ok());
        asked.unwrap_or(most).min(most)
    };
    let page = |parameter: &str| Some(of_page(asked(parameter, LIST_KEYS_MAX)));
    match request.operation {
        Op::ListObjects | Op::ListObjectsV2 | Op::ListObjectVersions => page("max-keys"),
        Op::ListParts => page("max-parts"),
        Op::ListMultipartUploads => page("max-uploads"),
        Op::ListBuckets => {
            let buckets = asked("max-buckets", LIST_BUCKETS_MAX).min(BUCKETS_AT_FIRST);
            Some(PAGE_BYTES + u64::from(buckets) * BUCKET_BYTES)
        }
        operation if brings_a_document(operation) => {
            let most = XML_BYTES_MAX as u64;
            let length = request.plan.length().map_or(most, |length| length.min(most));
            Some(PAGE_BYTES + DOCUMENT_COPIES * length)
        }
        _ => None,
    }
}

/// What a page of at most so many lines takes.
fn of_page(lines: u32) -> u64 {
    PAGE_BYTES + ROW_COPIES * list_page_bytes(lines) as u64
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
    use types::limits::LIST_LINE_BYTES;
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

    // I9: what an index may make of a page, by its own bound, is what was taken for it.
    #[tokio::test]
    async fn a_page_comes_to_no_more_than_was_taken() {
        let budget = Budget::new("test", 64 << 20, Arc::new(real::RealClock::new()));
        for lines in [0, 1, 64, LIST_KEYS_MAX, u32::MAX] {
            let taken = of_page(lines);
            let paged = Paged::new(budget.take(Claim::Page, taken).await.unwrap());
            paged.rows(list_page_bytes(lines));
            assert_eq!(budget.used(), taken, "of {lines}");
        }
        // A thousand keys of usual length are one page, of some MiB at most.
        let usual = list_page_bytes(LIST_KEYS_MAX) / LIST_KEYS_MAX as usize;
        assert!(usual >= LIST_LINE_BYTES + 300, "{usual}");
        assert!(of_page(LIST_KEYS_MAX) <= 2304 << 10);
    }

    #[tokio::test]
    async fn a_page_of_buckets_grows_only_by_what_is_free() {
        let budget = Budget::new("test", 1 << 20, Arc::new(real::RealClock::new()));
        let paged = Paged::new(budget.take(Claim::Page, 128 << 10).await.unwrap());
        assert!(paged.more_buckets(640));
        assert_eq!(budget.used(), 768 << 10);
        assert!(!paged.more_buckets(1), "a quarter is for those who begin");
        assert!(Paged::default().more_buckets(1), "nothing is counted");
    }
}
