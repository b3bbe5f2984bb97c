//! Which request headers may stand on which operation.
//!
//! A header that asks for what Cairn does not do is refused by name, never ignored: a client that asked for encryption or
//! a lock must not be told 200. On writes an `x-amz-` header that is not known here is refused too; on reads S3's
//! promises are about the answer, so an unknown one is ignored as S3 does.

use crate::error::{Code, Error};
use crate::operation::Operation;
use http::HeaderMap;
use types::AccountId;

/// Known and either acted upon elsewhere, or without meaning for the answer.
const TAKEN: &[&str] = &[
    "x-amz-acl",
    // No bucket has object lock, so there is nothing to bypass.
    "x-amz-bypass-governance-retention",
    "x-amz-cf-id",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-mode",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-expected-bucket-owner",
    "x-amz-object-ownership",
    "x-amz-request-payer",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-security-token",
    "x-amz-storage-class",
    "x-amz-te",
    "x-amz-trailer",
    "x-amz-user-agent",
];

/// Ask for a guarantee, on whatever operation they stand.
const REFUSED: &[&str] = &[
    "x-amz-bucket-object-lock-enabled",
    "x-amz-mfa",
    "x-amz-website-redirect-location",
];
/// Of those, what asks for nothing when it says so.
const HARMLESS: &[(&str, &str)] = &[("x-amz-bucket-object-lock-enabled", "false")];
const REFUSED_PREFIXES: &[&str] = &[
    "x-amz-copy-source-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-server-side-encryption",
];

use Operation::{CompleteMultipartUpload, CopyObject, CreateMultipartUpload, PutObject, UploadPartCopy};
const COPIES: &[Operation] = &[CopyObject, UploadPartCopy];
/// Take an access control list.
const LISTED: &[Operation] = &[
    Operation::CreateBucket,
    Operation::PutBucketAcl,
    Operation::PutObjectAcl,
    PutObject,
    CopyObject,
    CreateMultipartUpload,
];
/// Whose buckets a request is for.
const EXPECTED_OWNERS: &[&str] = &[
    "x-amz-expected-bucket-owner",
    "x-amz-source-expected-bucket-owner",
];
/// Acted upon by these operations; on other writes they would be ignored, so they are refused there.
const ON: &[(&str, &[Operation])] = &[
    (
        "x-amz-checksum-type",
        &[CreateMultipartUpload, CompleteMultipartUpload],
    ),
    ("x-amz-mp-object-size", &[CompleteMultipartUpload]),
    ("x-amz-copy-source", COPIES),
    ("x-amz-copy-source-if-match", COPIES),
    ("x-amz-copy-source-if-modified-since", COPIES),
    ("x-amz-copy-source-if-none-match", COPIES),
    ("x-amz-copy-source-if-unmodified-since", COPIES),
    ("x-amz-copy-source-range", &[UploadPartCopy]),
    ("x-amz-grant-full-control", LISTED),
    ("x-amz-grant-read", LISTED),
    ("x-amz-grant-read-acp", LISTED),
    ("x-amz-grant-write", LISTED),
    ("x-amz-grant-write-acp", LISTED),
    ("x-amz-if-match-last-modified-time", &[Operation::DeleteObject]),
    ("x-amz-if-match-size", &[Operation::DeleteObject]),
    ("x-amz-metadata-directive", &[CopyObject]),
    ("x-amz-source-expected-bucket-owner", COPIES),
    ("x-amz-tagging", &[PutObject, CopyObject, CreateMultipartUpload]),
    ("x-amz-tagging-directive", &[CopyObject]),
    ("x-amz-write-offset-bytes", &[PutObject]),
];

/// Conditions on a write, and where they are decided. On another write they would be passed over, and what was not to be
/// done would be done. A batch of deletes has them in its document, for each key its own.
const CONDITIONS: &[&str] = &["if-match", "if-none-match"];
const CONDITIONAL: &[Operation] = &[
    CompleteMultipartUpload,
    CopyObject,
    Operation::DeleteObject,
    // In fields of the form; in its request's headers they are refused there.
    Operation::PostObject,
    PutObject,
];

/// Read as one value wherever they are read: given twice, one of the two would be ignored.
const SINGLE: &[&str] = &[
    "content-disposition",
    "content-md5",
    "content-type",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
];

fn reads(operation: Operation) -> bool {
    ["Get", "Head", "List"]
        .iter()
        .any(|verb| operation.name().starts_with(verb))
}

/// Checks a request's headers for `operation`.
///
/// # Errors
/// NotImplemented naming the header, or the code that S3 has for a bad value.
pub(crate) fn check(operation: Operation, headers: &HeaderMap) -> Result<(), Error> {
    single(headers)?;
    let condition = CONDITIONS.iter().find(|name| headers.contains_key(**name));
    if let Some(name) = condition
        && !reads(operation)
        && !CONDITIONAL.contains(&operation)
    {
        return Err(Error::header_not_implemented(name));
    }
    for name in headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|n| n.starts_with("x-amz-"))
    {
        if HARMLESS.contains(&(name, value(headers, name).unwrap_or_default())) {
            continue;
        }
        let refused = REFUSED.contains(&name) || REFUSED_PREFIXES.iter().any(|p| name.starts_with(p));
        let here = |(on, operations): &(&str, &[Operation])| *on == name && operations.contains(&operation);
        let unknown = !TAKEN.contains(&name) && !name.starts_with("x-amz-meta-") && !ON.iter().any(here);
        if refused || (unknown && !reads(operation)) {
            return Err(Error::header_not_implemented(name));
        }
    }
    EXPECTED_OWNERS
        .iter()
        .try_for_each(|name| expected_owner(headers, name))?;
    storage_class(headers)
}

/// Refuses conditions that stand in the headers of a request whose own conditions stand elsewhere.
///
/// # Errors
/// NotImplemented.
pub(crate) fn no_conditions(headers: &HeaderMap) -> Result<(), Error> {
    let condition = CONDITIONS.iter().find(|name| headers.contains_key(**name));
    condition.map_or(Ok(()), |name| Err(Error::header_not_implemented(name)))
}

/// Whether the request is for the buckets of another account than the caller's. Buckets that a caller can reach are its
/// own, so the owner it expects must be itself.
pub(crate) fn expects_another_owner(headers: &HeaderMap, account: AccountId) -> bool {
    let is_other = |owner| owner != crate::owner::account_number(account);
    EXPECTED_OWNERS
        .iter()
        .any(|name| value(headers, name).is_some_and(is_other))
}

fn single(headers: &HeaderMap) -> Result<(), Error> {
    let is_single = |name: &str| {
        let is_list = name == "x-amz-object-attributes" || name.starts_with("x-amz-meta-");
        SINGLE.contains(&name) || (name.starts_with("x-amz-") && !is_list)
    };
    let twice = headers
        .keys()
        .find(|n| is_single(n.as_str()) && headers.get_all(*n).iter().nth(1).is_some());
    match twice {
        None => Ok(()),
        Some(name) => {
            let values: Vec<_> = headers
                .get_all(name)
                .iter()
                .map(|v| String::from_utf8_lossy(v.as_bytes()))
                .collect();
            Err(Error::argument(
                name.as_str(),
                &values.join(","),
                "A header was given more than once",
            ))
        }
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|v| v.to_str().unwrap_or("\u{fffd}"))
}

fn expected_owner(headers: &HeaderMap, name: &str) -> Result<(), Error> {
    match value(headers, name) {
        Some(owner) if owner.len() != 12 || !owner.bytes().all(|b| b.is_ascii_digit()) => Err(Error::with(
            Code::InvalidBucketOwnerAWSAccountID,
            format!(
                "The value of the expected bucket owner parameter must be an AWS Account ID... [{owner}]"
            ),
        )),
        _ => Ok(()),
    }
}

fn storage_class(headers: &HeaderMap) -> Result<(), Error> {
    match value(headers, "x-amz-storage-class") {
        None | Some("STANDARD") => Ok(()),
        Some(other) => Err(Error::new(Code::InvalidStorageClass).field("StorageClassRequested", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    #[test]
    fn no_second_value_is_ignored() {
        for (name, code) in [
            ("x-amz-acl", Some(Code::InvalidArgument)),
            ("if-none-match", Some(Code::InvalidArgument)),
            ("range", Some(Code::InvalidArgument)),
            ("if-range", Some(Code::InvalidArgument)),
            ("content-disposition", Some(Code::InvalidArgument)),
            ("cache-control", None),
            ("x-amz-meta-a", None),
            ("accept", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(name, "private".parse().unwrap());
            headers.append(name, "*".parse().unwrap());
            let got = check(Operation::PutObject, &headers).err().map(|e| e.code());
            assert_eq!(got, code, "{name}");
        }
    }

    const PUT: Operation = Operation::PutObject;
    const GET: Operation = Operation::GetObject;
    const CREATE: Operation = Operation::CreateBucket;
    const NOT: Option<Code> = Some(Code::NotImplemented);

    #[rustfmt::skip]
    const RULES: &[(Operation, &str, &str, Option<Code>)] = &[
        (PUT, "content-type", "x", None),
        (PUT, "x-amz-meta-anything", "x", None),
        (PUT, "x-amz-date", "x", None),
        (PUT, "x-amzn-trace-id", "x", None),
        (PUT, "x-amz-request-payer", "requester", None),
        (PUT, "if-match", "*", None),
        (GET, "if-none-match", "*", None),
        (CompleteMultipartUpload, "if-none-match", "*", None),
        (Operation::DeleteObject, "if-match", "*", None),
        (Operation::UploadPart, "if-match", "*", NOT),
        (CreateMultipartUpload, "if-none-match", "*", NOT),
        (Operation::DeleteBucket, "if-match", "*", NOT),
        (Operation::DeleteObjects, "if-match", "*", NOT),
        (Operation::DeleteObjects, "if-none-match", "*", NOT),
        (CREATE, "if-none-match", "*", NOT),
        (PUT, "x-amz-server-side-encryption", "AES256", NOT),
        (GET, "x-amz-server-side-encryption-customer-key", "x", NOT),
        (PUT, "x-amz-object-lock-mode", "GOVERNANCE", NOT),
        (PUT, "x-amz-copy-source", "/b/k", NOT),
        (PUT, "x-amz-tagging", "a=b", None),
        (Operation::UploadPart, "x-amz-tagging", "a=b", NOT),
        (CopyObject, "x-amz-copy-source", "/b/k", None),
        (PUT, "x-amz-checksum-type", "FULL_OBJECT", NOT),
        (PUT, "x-amz-mp-object-size", "1", NOT),
        (CompleteMultipartUpload, "x-amz-mp-object-size", "1", None),
        (CopyObject, "x-amz-copy-source-range", "bytes=0-1", NOT),
        (CopyObject, "x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256", NOT),
        (CopyObject, "x-amz-source-expected-bucket-owner", "000000000002", None),
        (PUT, "x-amz-metadata-directive", "COPY", NOT),
        (PUT, "x-amz-website-redirect-location", "/x", NOT),
        (PUT, "x-amz-write-offset-bytes", "0", None),
        (Operation::UploadPart, "x-amz-write-offset-bytes", "0", NOT),
        (PUT, "x-amz-grant-read", "id=1", None),
        (GET, "x-amz-grant-read", "id=1", None),
        (Operation::UploadPart, "x-amz-grant-read", "id=1", NOT),
        (PUT, "x-amz-grant-everything", "id=1", NOT),
        (CREATE, "x-amz-bucket-object-lock-enabled", "true", NOT),
        (CREATE, "x-amz-bucket-object-lock-enabled", "false", None),
        (Operation::DeleteObject, "x-amz-mfa", "1 2", NOT),
        (Operation::DeleteObject, "x-amz-if-match-size", "1", None),
        (PUT, "x-amz-if-match-size", "1", NOT),
        (PUT, "x-amz-checksum-xxhash64", "x", NOT),
        (PUT, "x-amz-newest-guarantee", "x", NOT),
        (GET, "x-amz-newest-guarantee", "x", None),
        (PUT, "x-amz-acl", "private", None),
        (PUT, "x-amz-acl", "bucket-owner-full-control", None),
        (PUT, "x-amz-storage-class", "STANDARD", None),
        (PUT, "x-amz-storage-class", "GLACIER", Some(Code::InvalidStorageClass)),
        (CREATE, "x-amz-object-ownership", "BucketOwnerEnforced", None),
        (CREATE, "x-amz-object-ownership", "ObjectWriter", None),
        (GET, "x-amz-expected-bucket-owner", "000000000001", None),
        (GET, "x-amz-expected-bucket-owner", "000000000002", None),
        (GET, "x-amz-expected-bucket-owner", "me", Some(Code::InvalidBucketOwnerAWSAccountID)),
        (CopyObject, "x-amz-source-expected-bucket-owner", "0000000000011", Some(Code::InvalidBucketOwnerAWSAccountID)),
    ];

    #[test]
    fn the_owner_that_is_expected() {
        let expects = |name: &'static str, owner: &str| {
            let headers: HeaderMap = [(HeaderName::from_static(name), owner.parse().unwrap())]
                .into_iter()
                .collect();
            expects_another_owner(&headers, AccountId(12))
        };
        for name in EXPECTED_OWNERS {
            assert!(!expects(name, "000000000012"));
            assert!(expects(name, "000000000013"));
        }
        assert!(!expects_another_owner(&HeaderMap::new(), AccountId(12)));
    }

    #[test]
    fn rules() {
        for (operation, name, value, code) in RULES {
            let name: HeaderName = name.parse().unwrap();
            let headers: HeaderMap = [(name.clone(), value.parse().unwrap())].into_iter().collect();
            let got = check(*operation, &headers).err().map(|e| e.code());
            assert_eq!(got, *code, "{operation:?} {name}: {value}");
        }
    }
}
