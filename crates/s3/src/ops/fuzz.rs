//! Request documents of operations, for the fuzzer: what is taken is within its bounds.

use super::{bucket_cors, complete_upload, create_bucket, delete_objects, public_access, versioning};
use types::limits::{CORS_RULES_MAX, DELETE_KEYS_MAX, PART_NUMBER_MAX};

/// Reads a document as each operation would.
pub(crate) fn documents(document: &[u8]) {
    if let Ok(parts) = complete_upload::parts(document) {
        let numbers: Vec<u32> = parts.iter().map(|p| p.number).collect();
        assert!(!numbers.is_empty() && numbers.len() <= PART_NUMBER_MAX as usize);
        assert!(numbers.iter().all(|n| (1..=PART_NUMBER_MAX).contains(n)));
        assert!(
            numbers.windows(2).all(|two| two[0] != two[1]),
            "a part named twice on end"
        );
    }
    if let Ok((named, _)) = delete_objects::read(document) {
        assert!((1..=DELETE_KEYS_MAX).contains(&named.len()));
    }
    if let Ok(rules) = bucket_cors::from_document(document) {
        assert!(rules.rules.len() <= CORS_RULES_MAX);
        let written = bucket_cors::to_document(&rules);
        assert_eq!(bucket_cors::from_document(written.as_bytes()), Ok(rules));
    }
    let _versioning = versioning::read(document);
    let _blocked = public_access::from_document(document);
    let _tags = create_bucket::read_configuration(document, "us-east-1");
}
