//! Which operation a request is: a table of (method, level, sub-resource).
//!
//! Nothing falls through: a sub-resource or parameter that an operation does not have is refused, so that what a client
//! meant as `PUT ?retention` can never be taken for a plain `PUT`. Parameters that begin with `x-` (SigV4's own, and
//! whatever clients want in access logs) are ignored, as S3 does.

use crate::error::{Code, Error};
use crate::operation::Operation;
use crate::query::Query;
use crate::target::Level;
use http::{HeaderMap, Method};

/// A row: method, level, sub-resource (`""`: none), operation.
type Row = (&'static str, Level, &'static str, Operation);

use Level::{Bucket, Object, Service};
use Operation as Op;

#[rustfmt::skip]
const ROUTES: &[Row] = &[
    ("GET", Service, "", Op::ListBuckets),
    ("PUT", Bucket, "", Op::CreateBucket),
    ("HEAD", Bucket, "", Op::HeadBucket),
    ("DELETE", Bucket, "", Op::DeleteBucket),
    ("GET", Bucket, "", Op::ListObjects),
    ("GET", Bucket, "list-type", Op::ListObjectsV2),
    ("GET", Bucket, "versions", Op::ListObjectVersions),
    ("GET", Bucket, "uploads", Op::ListMultipartUploads),
    ("GET", Bucket, "location", Op::GetBucketLocation),
    ("POST", Bucket, "delete", Op::DeleteObjects),
    ("POST", Bucket, "", Op::PostObject),
    ("OPTIONS", Bucket, "", Op::PreflightRequest),
    ("GET", Bucket, "session", Op::CreateSession),
    ("GET", Bucket, "abac", Op::GetBucketAbac),
    ("PUT", Bucket, "abac", Op::PutBucketAbac),
    ("GET", Bucket, "accelerate", Op::GetBucketAccelerateConfiguration),
    ("PUT", Bucket, "accelerate", Op::PutBucketAccelerateConfiguration),
    ("GET", Bucket, "acl", Op::GetBucketAcl),
    ("PUT", Bucket, "acl", Op::PutBucketAcl),
    ("GET", Bucket, "analytics", Op::GetBucketAnalyticsConfiguration),
    ("PUT", Bucket, "analytics", Op::PutBucketAnalyticsConfiguration),
    ("DELETE", Bucket, "analytics", Op::DeleteBucketAnalyticsConfiguration),
    ("GET", Bucket, "cors", Op::GetBucketCors),
    ("PUT", Bucket, "cors", Op::PutBucketCors),
    ("DELETE", Bucket, "cors", Op::DeleteBucketCors),
    ("GET", Bucket, "encryption", Op::GetBucketEncryption),
    ("PUT", Bucket, "encryption", Op::PutBucketEncryption),
    ("DELETE", Bucket, "encryption", Op::DeleteBucketEncryption),
    ("GET", Bucket, "intelligent-tiering", Op::GetBucketIntelligentTieringConfiguration),
    ("PUT", Bucket, "intelligent-tiering", Op::PutBucketIntelligentTieringConfiguration),
    ("DELETE", Bucket, "intelligent-tiering", Op::DeleteBucketIntelligentTieringConfiguration),
    ("GET", Bucket, "inventory", Op::GetBucketInventoryConfiguration),
    ("PUT", Bucket, "inventory", Op::PutBucketInventoryConfiguration),
    ("DELETE", Bucket, "inventory", Op::DeleteBucketInventoryConfiguration),
    ("GET", Bucket, "lifecycle", Op::GetBucketLifecycleConfiguration),
    ("PUT", Bucket, "lifecycle", Op::PutBucketLifecycleConfiguration),
    ("DELETE", Bucket, "lifecycle", Op::DeleteBucketLifecycle),
    ("GET", Bucket, "logging", Op::GetBucketLogging),
    ("PUT", Bucket, "logging", Op::PutBucketLogging),
    ("GET", Bucket, "metadataConfiguration", Op::GetBucketMetadataConfiguration),
    ("POST", Bucket, "metadataConfiguration", Op::CreateBucketMetadataConfiguration),
    ("DELETE", Bucket, "metadataConfiguration", Op::DeleteBucketMetadataConfiguration),
    ("PUT", Bucket, "metadataInventoryTable", Op::UpdateBucketMetadataInventoryTableConfiguration),
    ("PUT", Bucket, "metadataJournalTable", Op::UpdateBucketMetadataJournalTableConfiguration),
    ("GET", Bucket, "metadataTable", Op::GetBucketMetadataTableConfiguration),
    ("POST", Bucket, "metadataTable", Op::CreateBucketMetadataTableConfiguration),
    ("DELETE", Bucket, "metadataTable", Op::DeleteBucketMetadataTableConfiguration),
    ("GET", Bucket, "metrics", Op::GetBucketMetricsConfiguration),
    ("PUT", Bucket, "metrics", Op::PutBucketMetricsConfiguration),
    ("DELETE", Bucket, "metrics", Op::DeleteBucketMetricsConfiguration),
    ("GET", Bucket, "notification", Op::GetBucketNotificationConfiguration),
    ("PUT", Bucket, "notification", Op::PutBucketNotificationConfiguration),
    ("GET", Bucket, "object-lock", Op::GetObjectLockConfiguration),
    ("PUT", Bucket, "object-lock", Op::PutObjectLockConfiguration),
    ("GET", Bucket, "ownershipControls", Op::GetBucketOwnershipControls),
    ("PUT", Bucket, "ownershipControls", Op::PutBucketOwnershipControls),
    ("DELETE", Bucket, "ownershipControls", Op::DeleteBucketOwnershipControls),
    ("GET", Bucket, "policy", Op::GetBucketPolicy),
    ("PUT", Bucket, "policy", Op::PutBucketPolicy),
    ("DELETE", Bucket, "policy", Op::DeleteBucketPolicy),
    ("GET", Bucket, "policyStatus", Op::GetBucketPolicyStatus),
    ("GET", Bucket, "publicAccessBlock", Op::GetPublicAccessBlock),
    ("PUT", Bucket, "publicAccessBlock", Op::PutPublicAccessBlock),
    ("DELETE", Bucket, "publicAccessBlock", Op::DeletePublicAccessBlock),
    ("GET", Bucket, "replication", Op::GetBucketReplication),
    ("PUT", Bucket, "replication", Op::PutBucketReplication),
    ("DELETE", Bucket, "replication", Op::DeleteBucketReplication),
    ("GET", Bucket, "requestPayment", Op::GetBucketRequestPayment),
    ("PUT", Bucket, "requestPayment", Op::PutBucketRequestPayment),
    ("GET", Bucket, "tagging", Op::GetBucketTagging),
    ("PUT", Bucket, "tagging", Op::PutBucketTagging),
    ("DELETE", Bucket, "tagging", Op::DeleteBucketTagging),
    ("GET", Bucket, "versioning", Op::GetBucketVersioning),
    ("PUT", Bucket, "versioning", Op::PutBucketVersioning),
    ("GET", Bucket, "website", Op::GetBucketWebsite),
    ("PUT", Bucket, "website", Op::PutBucketWebsite),
    ("DELETE", Bucket, "website", Op::DeleteBucketWebsite),
    ("GET", Object, "", Op::GetObject),
    ("HEAD", Object, "", Op::HeadObject),
    ("PUT", Object, "", Op::PutObject),
    ("DELETE", Object, "", Op::DeleteObject),
    ("OPTIONS", Object, "", Op::PreflightRequest),
    ("POST", Object, "uploads", Op::CreateMultipartUpload),
    ("PUT", Object, "uploadId", Op::UploadPart),
    ("POST", Object, "uploadId", Op::CompleteMultipartUpload),
    ("DELETE", Object, "uploadId", Op::AbortMultipartUpload),
    ("GET", Object, "uploadId", Op::ListParts),
    ("GET", Object, "acl", Op::GetObjectAcl),
    ("PUT", Object, "acl", Op::PutObjectAcl),
    ("GET", Object, "attributes", Op::GetObjectAttributes),
    ("PUT", Object, "encryption", Op::UpdateObjectEncryption),
    ("GET", Object, "legal-hold", Op::GetObjectLegalHold),
    ("PUT", Object, "legal-hold", Op::PutObjectLegalHold),
    ("PUT", Object, "renameObject", Op::RenameObject),
    ("POST", Object, "restore", Op::RestoreObject),
    ("GET", Object, "retention", Op::GetObjectRetention),
    ("PUT", Object, "retention", Op::PutObjectRetention),
    ("POST", Object, "select", Op::SelectObjectContent),
    ("GET", Object, "tagging", Op::GetObjectTagging),
    ("PUT", Object, "tagging", Op::PutObjectTagging),
    ("DELETE", Object, "tagging", Op::DeleteObjectTagging),
    ("GET", Object, "torrent", Op::GetObjectTorrent),
];

/// MinIO's clients ask listings for the objects' metadata too, and read on without where they get none, as from S3.
const METADATA_TOO: &str = "metadata";

/// Parameters that the operations we do take, besides their sub-resource.
fn parameters(operation: Operation) -> &'static [&'static str] {
    const READ: &[&str] = &[
        "versionId",
        "partNumber",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
    ];
    match operation {
        Op::ListBuckets => &["max-buckets", "continuation-token", "prefix", "bucket-region"],
        Op::ListObjects => &["delimiter", "encoding-type", "marker", "max-keys", "prefix"],
        Op::ListObjectsV2 => &[
            "delimiter",
            "encoding-type",
            "max-keys",
            "prefix",
            "continuation-token",
            "fetch-owner",
            "start-after",
            METADATA_TOO,
        ],
        Op::ListObjectVersions => &[
            "delimiter",
            "encoding-type",
            "key-marker",
            "max-keys",
            "prefix",
            "version-id-marker",
            METADATA_TOO,
        ],
        Op::ListMultipartUploads => &[
            "delimiter",
            "encoding-type",
            "key-marker",
            "max-uploads",
            "prefix",
            "upload-id-marker",
        ],
        Op::ListParts => &["max-parts", "part-number-marker"],
        Op::UploadPart | Op::UploadPartCopy => &["partNumber"],
        Op::GetObject | Op::HeadObject => READ,
        Op::DeleteObject
        | Op::GetObjectAcl
        | Op::PutObjectAcl
        | Op::GetObjectRetention
        | Op::GetObjectLegalHold
        | Op::GetObjectTagging
        | Op::PutObjectTagging
        | Op::DeleteObjectTagging
        | Op::GetObjectAttributes => &["versionId"],
        Op::GetBucketAnalyticsConfiguration
        | Op::GetBucketIntelligentTieringConfiguration
        | Op::GetBucketInventoryConfiguration
        | Op::GetBucketMetricsConfiguration => &["id", "continuation-token"],
        Op::DeleteBucketAnalyticsConfiguration
        | Op::DeleteBucketIntelligentTieringConfiguration
        | Op::DeleteBucketInventoryConfiguration
        | Op::DeleteBucketMetricsConfiguration => &["id"],
        _ => &[],
    }
}

/// Finds the operation.
///
/// # Errors
/// MethodNotAllowed, NotImplemented naming what is not known, InvalidArgument for sub-resources that contradict each
/// other.
pub(crate) fn route(
    method: &Method,
    level: Level,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Operation, Error> {
    let known = |name: &str| ROUTES.iter().any(|(_, _, sub, _)| *sub == name);
    let mut subs = query.names().filter(|n| known(n));
    let sub = subs.next().unwrap_or("");
    if let Some(other) = subs.next() {
        return Err(Error::argument(
            "ResourceType",
            sub,
            format!("Conflicting query string parameters: {sub}, {other}"),
        ));
    }
    // Most have none, and comparing nothing with nothing is slow: some processors take a microsecond for a masked load of no bytes.
    let is_sub = |of: &str| if sub.is_empty() { of.is_empty() } else { of == sub };
    let row = |m: &str| {
        ROUTES
            .iter()
            .find(|(rm, rl, rs, _)| *rl == level && *rm == m && is_sub(rs))
    };
    let Some((_, _, _, operation)) = row(method.as_str()) else {
        let resource = match level {
            Service => "SERVICE",
            Bucket => "BUCKET",
            Object => "OBJECT",
        };
        let allowed: Vec<_> = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"]
            .into_iter()
            .filter(|m| row(m).is_some())
            .collect();
        return Err(Error::new(Code::MethodNotAllowed)
            .field("Method", method.as_str())
            .field("ResourceType", if sub.is_empty() { resource } else { sub })
            .header("allow", allowed.join(", ")));
    };
    let copies = headers.contains_key("x-amz-copy-source");
    let operation = match operation {
        Op::PutObject if copies => Op::CopyObject,
        Op::UploadPart if copies => Op::UploadPartCopy,
        other => *other,
    };
    if !built(operation) {
        return Err(Error::operation_not_implemented(operation.name()));
    }
    check_parameters(operation, sub, query)?;
    Ok(operation)
}

/// What a presigned URL of version 2 carries beside the operation's own.
const PRESIGNED_V2: &[&str] = &[
    "AWSAccessKeyId",
    "Signature",
    "Expires",
    "content-type",
    "content-md5",
];

fn check_parameters(operation: Operation, sub: &str, query: &Query) -> Result<(), Error> {
    let taken = parameters(operation);
    let signed: &[&str] = if query.get("AWSAccessKeyId").is_some() {
        PRESIGNED_V2
    } else {
        &[]
    };
    let stranger = query.names().find(|n| {
        let logged_only = n.get(..2).is_some_and(|p| p.eq_ignore_ascii_case("x-"));
        *n != sub && !taken.contains(n) && !logged_only && !signed.contains(n)
    });
    match stranger {
        None => Ok(()),
        Some(name) => Err(Error::with(
            Code::NotImplemented,
            format!(
                "{} with the query parameter {name} is not implemented",
                operation.name()
            ),
        )
        .field("QueryParameter", name)),
    }
}

/// Whether Cairn does `operation`.
pub(crate) fn built(operation: Operation) -> bool {
    #[rustfmt::skip]
    let yes = matches!(
        operation,
        Op::ListBuckets | Op::CreateBucket | Op::HeadBucket | Op::DeleteBucket | Op::GetBucketLocation
            | Op::ListObjects | Op::ListObjectsV2 | Op::PutObject | Op::GetObject | Op::HeadObject
            | Op::DeleteObject | Op::DeleteObjects | Op::CopyObject | Op::UploadPartCopy
            | Op::GetObjectAttributes | Op::PutObjectTagging | Op::DeleteObjectTagging | Op::CreateMultipartUpload | Op::UploadPart
            | Op::CompleteMultipartUpload | Op::AbortMultipartUpload | Op::ListParts | Op::ListMultipartUploads
            | Op::ListObjectVersions | Op::GetBucketVersioning | Op::PutBucketVersioning | Op::GetBucketPolicy | Op::GetBucketLifecycleConfiguration
            | Op::GetBucketCors | Op::GetBucketTagging | Op::GetBucketAcl | Op::GetObjectAcl | Op::GetObjectTagging
            | Op::GetBucketLogging | Op::GetBucketNotificationConfiguration | Op::GetBucketRequestPayment
            | Op::GetBucketWebsite | Op::GetBucketReplication | Op::GetBucketAccelerateConfiguration
            | Op::GetObjectLockConfiguration | Op::GetBucketOwnershipControls | Op::GetPublicAccessBlock
            | Op::PutBucketOwnershipControls | Op::DeleteBucketOwnershipControls | Op::PutPublicAccessBlock
            | Op::DeletePublicAccessBlock | Op::PutBucketTagging | Op::DeleteBucketTagging | Op::PutBucketCors
            | Op::DeleteBucketCors | Op::PutBucketAcl | Op::PutObjectAcl | Op::GetBucketPolicyStatus
            | Op::GetBucketEncryption | Op::GetBucketAnalyticsConfiguration
            | Op::GetBucketIntelligentTieringConfiguration | Op::GetBucketInventoryConfiguration
            | Op::GetBucketMetricsConfiguration | Op::DeleteBucketAnalyticsConfiguration
            | Op::DeleteBucketIntelligentTieringConfiguration | Op::DeleteBucketInventoryConfiguration
            | Op::DeleteBucketMetricsConfiguration | Op::DeleteBucketEncryption | Op::DeleteBucketLifecycle
            | Op::DeleteBucketPolicy | Op::DeleteBucketReplication | Op::DeleteBucketWebsite
            | Op::GetObjectRetention | Op::GetObjectLegalHold
    );
    yes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &str, level: Level, query: &str) -> Result<&'static str, (&'static str, String)> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        route(&method, level, &Query::parse(query).unwrap(), &HeaderMap::new())
            .map(Operation::name)
            .map_err(|e| (e.code().name(), e.message().to_owned()))
    }

    #[test]
    fn requests_find_their_operation() {
        let cases = [
            ("GET", Service, "", "ListBuckets"),
            ("GET", Service, "x-id=ListBuckets", "ListBuckets"),
            ("PUT", Bucket, "", "CreateBucket"),
            ("GET", Bucket, "", "ListObjects"),
            (
                "GET",
                Bucket,
                "list-type=2&prefix=a&encoding-type=url",
                "ListObjectsV2",
            ),
            ("GET", Bucket, "list-type=2&metadata=true", "ListObjectsV2"),
            ("GET", Bucket, "versions&metadata=true", "ListObjectVersions"),
            ("GET", Bucket, "location", "GetBucketLocation"),
            ("GET", Bucket, "location=", "GetBucketLocation"),
            ("GET", Bucket, "uploads&key-marker=k", "ListMultipartUploads"),
            (
                "GET",
                Bucket,
                "versions&key-marker=k&version-id-marker=null",
                "ListObjectVersions",
            ),
            ("PUT", Bucket, "versioning", "PutBucketVersioning"),
            ("POST", Bucket, "delete", "DeleteObjects"),
            ("PUT", Object, "", "PutObject"),
            (
                "PUT",
                Object,
                "X-Amz-Signature=1&X-Amz-Date=2&x-id=PutObject",
                "PutObject",
            ),
            ("PUT", Object, "partNumber=1&uploadId=2", "UploadPart"),
            ("POST", Object, "uploads", "CreateMultipartUpload"),
            ("POST", Object, "uploadId=2", "CompleteMultipartUpload"),
            ("DELETE", Object, "uploadId=2", "AbortMultipartUpload"),
            ("GET", Object, "uploadId=2&max-parts=1", "ListParts"),
            ("GET", Object, "response-content-type=text/plain", "GetObject"),
            ("DELETE", Object, "versionId=null", "DeleteObject"),
            ("GET", Object, "partNumber=1", "GetObject"),
            ("GET", Object, "attributes", "GetObjectAttributes"),
            ("PUT", Object, "tagging&versionId=null", "PutObjectTagging"),
            ("DELETE", Object, "tagging", "DeleteObjectTagging"),
        ];
        for (method, level, query, name) in cases {
            assert_eq!(find(method, level, query), Ok(name), "{method} {level:?} {query}");
        }
    }

    #[test]
    fn nothing_falls_through_to_the_plain_operation() {
        let cases = [
            ("PUT", Object, "retention", "NotImplemented", "PutObjectRetention"),
            (
                "PUT",
                Object,
                "tagging&uploads",
                "InvalidArgument",
                "tagging, uploads",
            ),
            ("PUT", Object, "frobnicate", "NotImplemented", "frobnicate"),
            ("DELETE", Object, "frobnicate=1", "NotImplemented", "frobnicate"),
            ("PUT", Object, "partNumber=1", "NotImplemented", "partNumber"),
            ("PUT", Bucket, "policy", "NotImplemented", "PutBucketPolicy"),
            (
                "PUT",
                Bucket,
                "encryption",
                "NotImplemented",
                "PutBucketEncryption",
            ),
            (
                "PUT",
                Bucket,
                "lifecycle",
                "NotImplemented",
                "PutBucketLifecycleConfiguration",
            ),
            (
                "PUT",
                Bucket,
                "inventory&id=x",
                "NotImplemented",
                "PutBucketInventoryConfiguration",
            ),
            ("PUT", Object, "renameObject", "NotImplemented", "RenameObject"),
            (
                "POST",
                Object,
                "select&select-type=2",
                "NotImplemented",
                "SelectObjectContent",
            ),
            ("POST", Bucket, "", "NotImplemented", "PostObject"),
            ("POST", Object, "", "MethodNotAllowed", "not allowed"),
            ("DELETE", Bucket, "location", "MethodNotAllowed", "not allowed"),
            ("DELETE", Bucket, "uploads", "MethodNotAllowed", "not allowed"),
            ("PATCH", Object, "", "MethodNotAllowed", "not allowed"),
            ("PUT", Service, "", "MethodNotAllowed", "not allowed"),
            ("GET", Bucket, "acl&policy", "InvalidArgument", "acl, policy"),
            (
                "PUT",
                Object,
                "uploadId=1&tagging",
                "InvalidArgument",
                "uploadId, tagging",
            ),
        ];
        for (method, level, query, code, says) in cases {
            let (got, message) = find(method, level, query).unwrap_err();
            assert_eq!(got, code, "{method} {level:?} {query}");
            assert!(message.contains(says), "{method} {query}: {message}");
        }
    }

    #[test]
    fn a_copy_is_never_a_put() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-copy-source", "/b/k".parse().unwrap());
        for (query, name) in [("", "CopyObject"), ("uploadId=1&partNumber=1", "UploadPartCopy")] {
            let found = route(&Method::PUT, Object, &Query::parse(query).unwrap(), &headers);
            assert_eq!(found.map(Operation::name), Ok(name));
        }
    }

    #[test]
    fn every_operation_is_in_the_table() {
        for operation in Operation::ALL {
            let by_header = [Op::CopyObject, Op::UploadPartCopy].contains(operation);
            let rows = ROUTES.iter().filter(|(_, _, _, o)| o == operation).count();
            assert_eq!(rows > 0, !by_header, "{operation:?}");
        }
        for (i, (m, l, s, _)) in ROUTES.iter().enumerate() {
            let twice = ROUTES[..i]
                .iter()
                .any(|(m2, l2, s2, _)| m == m2 && l == l2 && s == s2);
            assert!(!twice, "{m} {l:?} {s}");
        }
    }
}
