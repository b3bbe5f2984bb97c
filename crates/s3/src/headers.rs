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
    "x-amz-cf-id",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-mode",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-checksum-type",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-expected-bucket-owner",
    "x-amz-mp-object-size",
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
    "x-amz-bypass-governance-retention",
    "x-amz-mfa",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
];
const REFUSED_PREFIXES: &[&str] = &[
    "x-amz-copy-source",
    "x-amz-grant-",
    "x-amz-if-match-",
    "x-amz-object-lock-",
    "x-amz-server-side-encryption",
    "x-amz-tagging",
];

/// Read as one value wherever they are read: given twice, one of the two would be ignored.
const SINGLE: &[&str] = &[
    "content-md5",
    "content-type",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

fn reads(operation: Operation) -> bool {
    ["Get", "Head", "List"]
        .iter()
        .any(|verb| operation.name().starts_with(verb))
}

/// Checks a request's headers for `operation` by `account`.
///
/// # Errors
/// NotImplemented naming the header, or the code that S3 has for a bad value.
pub(crate) fn check(operation: Operation, headers: &HeaderMap, account: AccountId) -> Result<(), Error> {
    single(headers)?;
    for name in headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|n| n.starts_with("x-amz-"))
    {
        let refused = REFUSED.contains(&name) || REFUSED_PREFIXES.iter().any(|p| name.starts_with(p));
        let unknown = !TAKEN.contains(&name) && !name.starts_with("x-amz-meta-");
        if refused || (unknown && !reads(operation)) {
            return Err(Error::header_not_implemented(name));
        }
    }
    expected_owner(headers, account)?;
    canned_acl(headers)?;
    storage_class(headers)?;
    ownership(headers)
}

fn single(headers: &HeaderMap) -> Result<(), Error> {
    let is_single = |name: &str| {
        SINGLE.contains(&name) || (name.starts_with("x-amz-") && !name.starts_with("x-amz-meta-"))
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

/// Buckets that a caller can reach are its own, so the owner it expects must be itself.
fn expected_owner(headers: &HeaderMap, account: AccountId) -> Result<(), Error> {
    match value(headers, "x-amz-expected-bucket-owner") {
        None => Ok(()),
        Some(owner) if owner.len() != 12 || !owner.bytes().all(|b| b.is_ascii_digit()) => Err(Error::with(
            Code::InvalidRequest,
            "The value of the expected bucket owner parameter must be an AWS account ID",
        )),
        Some(owner) if owner == crate::owner::account_number(account) => Ok(()),
        Some(_) => Err(Error::new(Code::AccessDenied)),
    }
}

fn canned_acl(headers: &HeaderMap) -> Result<(), Error> {
    match value(headers, "x-amz-acl") {
        None | Some("private" | "bucket-owner-full-control") => Ok(()),
        Some(
            "public-read" | "public-read-write" | "authenticated-read" | "aws-exec-read"
            | "bucket-owner-read" | "log-delivery-write",
        ) => Err(Error::header_not_implemented("x-amz-acl")),
        Some(other) => Err(Error::argument(
            "x-amz-acl",
            other,
            Code::InvalidArgument.message(),
        )),
    }
}

fn storage_class(headers: &HeaderMap) -> Result<(), Error> {
    match value(headers, "x-amz-storage-class") {
        None | Some("STANDARD") => Ok(()),
        Some(other) => Err(Error::new(Code::InvalidStorageClass).field("StorageClassRequested", other)),
    }
}

fn ownership(headers: &HeaderMap) -> Result<(), Error> {
    match value(headers, "x-amz-object-ownership") {
        None | Some("BucketOwnerEnforced") => Ok(()),
        Some("BucketOwnerPreferred" | "ObjectWriter") => {
            Err(Error::header_not_implemented("x-amz-object-ownership"))
        }
        Some(other) => Err(Error::argument(
            "x-amz-object-ownership",
            other,
            Code::InvalidArgument.message(),
        )),
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
            ("x-amz-meta-a", None),
            ("accept", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(name, "private".parse().unwrap());
            headers.append(name, "*".parse().unwrap());
            let got = check(Operation::PutObject, &headers, AccountId::ROOT)
                .err()
                .map(|e| e.code());
            assert_eq!(got, code, "{name}");
        }
    }

    #[test]
    fn rules() {
        let (put, get, create) = (
            Operation::PutObject,
            Operation::GetObject,
            Operation::CreateBucket,
        );
        let cases: &[(Operation, &str, &str, Option<Code>)] = &[
            (put, "content-type", "x", None),
            (put, "x-amz-meta-anything", "x", None),
            (put, "x-amz-date", "x", None),
            (put, "x-amzn-trace-id", "x", None),
            (put, "x-amz-request-payer", "requester", None),
            (
                put,
                "x-amz-server-side-encryption",
                "AES256",
                Some(Code::NotImplemented),
            ),
            (
                get,
                "x-amz-server-side-encryption-customer-key",
                "x",
                Some(Code::NotImplemented),
            ),
            (
                put,
                "x-amz-object-lock-mode",
                "GOVERNANCE",
                Some(Code::NotImplemented),
            ),
            (put, "x-amz-copy-source", "/b/k", Some(Code::NotImplemented)),
            (put, "x-amz-tagging", "a=b", Some(Code::NotImplemented)),
            (
                put,
                "x-amz-website-redirect-location",
                "/x",
                Some(Code::NotImplemented),
            ),
            (put, "x-amz-write-offset-bytes", "0", Some(Code::NotImplemented)),
            (put, "x-amz-grant-read", "id=1", Some(Code::NotImplemented)),
            (
                create,
                "x-amz-bucket-object-lock-enabled",
                "true",
                Some(Code::NotImplemented),
            ),
            (
                Operation::DeleteObject,
                "x-amz-mfa",
                "1 2",
                Some(Code::NotImplemented),
            ),
            (put, "x-amz-checksum-xxhash64", "x", Some(Code::NotImplemented)),
            (put, "x-amz-newest-guarantee", "x", Some(Code::NotImplemented)),
            (get, "x-amz-newest-guarantee", "x", None),
            (put, "x-amz-acl", "private", None),
            (put, "x-amz-acl", "bucket-owner-full-control", None),
            (put, "x-amz-acl", "public-read", Some(Code::NotImplemented)),
            (put, "x-amz-acl", "nonsense", Some(Code::InvalidArgument)),
            (put, "x-amz-storage-class", "STANDARD", None),
            (
                put,
                "x-amz-storage-class",
                "GLACIER",
                Some(Code::InvalidStorageClass),
            ),
            (create, "x-amz-object-ownership", "BucketOwnerEnforced", None),
            (
                create,
                "x-amz-object-ownership",
                "ObjectWriter",
                Some(Code::NotImplemented),
            ),
            (get, "x-amz-expected-bucket-owner", "000000000001", None),
            (
                get,
                "x-amz-expected-bucket-owner",
                "000000000002",
                Some(Code::AccessDenied),
            ),
            (
                get,
                "x-amz-expected-bucket-owner",
                "me",
                Some(Code::InvalidRequest),
            ),
        ];
        for (operation, name, value, code) in cases {
            let headers: HeaderMap = [(name.parse::<HeaderName>().unwrap(), value.parse().unwrap())]
                .into_iter()
                .collect();
            let got = check(*operation, &headers, AccountId::ROOT)
                .err()
                .map(|e| e.code());
            assert_eq!(got, *code, "{operation:?} {name}: {value}");
        }
    }
}
