//! Which S3 error each failure of ours is.
//!
//! Failures of roles and disks are logged here, with the details that clients do not get; refusals are not logged as
//! errors: nobody must act on them.

use super::{Code, Error};
use crate::body::BodyRefusal;
use crate::reply::{http_time, iso_time};
use crate::version;
use auth::{AuthError, Denial, PolicyError};
use objects::{BodyError, ObjectsError};
use types::{ErrorKind, Kind, limits};
use wire::index::Reason;
use wire::records::ObjectRecord;

fn refused(reason: Reason, detail: &str, (part_number, size): (u32, u64)) -> Error {
    let code = match reason {
        Reason::NoSuchBucket => Code::NoSuchBucket,
        Reason::BucketExists => Code::BucketAlreadyExists,
        Reason::BucketOwned => Code::BucketAlreadyOwnedByYou,
        Reason::BucketNotEmpty => {
            // Old versions and markers are in no plain listing: who looks there finds nothing and must be told where to look.
            return Error::with(
                Code::BucketNotEmpty,
                "The bucket you tried to delete is not empty. It has objects, versions of objects or delete markers.",
            );
        }
        Reason::NoSuchKey | Reason::NoSuchKeyForMatch => Code::NoSuchKey,
        Reason::NoSuchVersion => Code::NoSuchVersion,
        Reason::NoSuchUpload => Code::NoSuchUpload,
        Reason::InvalidPart => {
            return Error::new(Code::InvalidPart).field("PartNumber", part_number.to_string());
        }
        Reason::InvalidPartOrder => Code::InvalidPartOrder,
        Reason::EntityTooSmall => {
            return Error::new(Code::EntityTooSmall)
                .field("PartNumber", part_number.to_string())
                .field("ProposedSize", size.to_string())
                .field("MinSizeAllowed", limits::PART_BYTES_MIN.to_string());
        }
        Reason::PreconditionFailed => Code::PreconditionFailed,
        Reason::BadChecksum => {
            return Error::with(
                Code::BadDigest,
                "The checksum you specified did not match the calculated checksum.",
            );
        }
        Reason::EntityTooLarge => Code::EntityTooLarge,
        Reason::InvalidWriteOffset => Code::InvalidWriteOffset,
        Reason::TooManyParts => Code::TooManyParts,
        Reason::AppendRaced => Code::ConditionalRequestConflict,
        Reason::DeleteMarker => Code::MethodNotAllowed,
        Reason::OtherThanSaid => return Error::with(Code::InvalidRequest, detail.to_owned()),
        Reason::AppendVersioned => {
            return Error::with(
                Code::NotImplemented,
                "x-amz-write-offset-bytes in a bucket that keeps versions is not implemented",
            )
            .field("Header", "x-amz-write-offset-bytes");
        }
        // The change that is in the way will pass.
        Reason::BucketBusy | Reason::UploadBusy => Code::OperationAborted,
        // This process's lease is over, or its bytes were given up before they were named: nothing took effect, and
        // the client's retry starts afresh.
        Reason::SessionEnded | Reason::BlobGone => Code::ServiceUnavailable,
    };
    Error::new(code)
}

/// A read of a delete marker: there is no object, or where the marker itself was named, none that can be read.
fn deleted(marker: &ObjectRecord, is_current: bool) -> Error {
    let error = if is_current {
        Error::new(Code::NoSuchKey)
    } else {
        Error::new(Code::MethodNotAllowed)
            .field("ResourceType", "DeleteMarker")
            .header("allow", "DELETE")
            .header("last-modified", http_time(marker.modified_ms))
    };
    error
        .header("x-amz-delete-marker", "true")
        .header("x-amz-version-id", version::of(marker))
}

impl From<ObjectsError> for Error {
    /// Also where failures are logged with the details that clients do not get.
    fn from(e: ObjectsError) -> Self {
        match &e {
            ObjectsError::Refused {
                reason,
                part_number,
                size,
                detail,
            } => return refused(*reason, detail, (*part_number, *size)),
            ObjectsError::Deleted { marker, is_current } => return deleted(marker, *is_current),
            ObjectsError::Denied => return Self::new(Code::AccessDenied),
            ObjectsError::Body(BodyError::Incomplete) => return Self::new(Code::IncompleteBody),
            ObjectsError::Body(BodyError::TimedOut) => return Self::new(Code::RequestTimeout),
            ObjectsError::Body(BodyError::Refused(why)) => {
                return Self::with(Code::InvalidRequest, why.clone());
            }
            ObjectsError::BadDigest => return Self::new(Code::BadDigest),
            ObjectsError::BadChecksum(algorithm) => {
                let name = algorithm.name();
                return Self::with(
                    Code::BadDigest,
                    format!("The {name} you specified did not match the calculated checksum."),
                );
            }
            ObjectsError::OtherChecksum { expected, actual } => {
                let (expected, actual) = (expected.name().to_lowercase(), actual.name().to_lowercase());
                return Self::with(
                    Code::InvalidRequest,
                    format!(
                        "Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}"
                    ),
                );
            }
            ObjectsError::MetadataOfAppend => {
                return Self::with(
                    Code::InvalidRequest,
                    "Cannot specify both a write offset value and user-defined object metadata for existing objects.",
                );
            }
            ObjectsError::BadRange(size) => {
                return Self::new(Code::InvalidRange).field("ActualObjectSize", size.to_string());
            }
            ObjectsError::Body(BodyError::Unreadable(_)) | ObjectsError::Fault(_) => {}
        }
        Self::from_kind(e.kind(), &e)
    }
}

impl Error {
    /// Over a limit now; when to come again.
    pub(crate) fn slow_down() -> Self {
        Self::new(Code::SlowDown).header("retry-after", limits::RETRY_AFTER_SECONDS.to_string())
    }

    /// The code of a failure of a role, disk or connection.
    fn from_kind(kind: ErrorKind, what: &dyn std::fmt::Display) -> Self {
        match kind {
            ErrorKind::Busy => {
                tracing::debug!(%what, "shed");
                Self::slow_down()
            }
            ErrorKind::Full => {
                tracing::warn!(%what, "no room");
                Self::new(Code::InsufficientStorage)
            }
            ErrorKind::Unavailable => {
                tracing::warn!(%what, "unavailable");
                Self::new(Code::ServiceUnavailable)
            }
            ErrorKind::Denied => Self::new(Code::AccessDenied),
            ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Invalid
            | ErrorKind::Corrupt
            | ErrorKind::Unknown
            | ErrorKind::Fault => {
                tracing::error!(?kind, %what, "request failed");
                Self::new(Code::InternalError)
            }
        }
    }
}

impl From<BodyRefusal> for Error {
    fn from(refusal: BodyRefusal) -> Self {
        let message = refusal.to_string();
        let with = |code| Self::with(code, message.clone());
        match refusal {
            BodyRefusal::IncompleteBody { expected, provided } => with(Code::IncompleteBody)
                .field("NumberBytesExpected", expected.to_string())
                .field("NumberBytesProvided", provided.to_string()),
            BodyRefusal::MissingContentLength => with(Code::MissingContentLength),
            BodyRefusal::EntityTooLarge { size, max } => with(Code::EntityTooLarge)
                .field("ProposedSize", size.to_string())
                .field("MaxSizeAllowed", max.to_string()),
            BodyRefusal::EntityTooSmall { size, min } => with(Code::EntityTooSmall)
                .field("ProposedSize", size.to_string())
                .field("MinSizeAllowed", min.to_string()),
            BodyRefusal::MalformedForm => with(Code::MalformedPOSTRequest),
            BodyRefusal::FormFieldsTooLarge => with(Code::MaxPostPreDataLengthExceededError),
            BodyRefusal::NoFile => with(Code::IncorrectNumberOfFilesInPostRequest),
            BodyRefusal::MaxMessageLengthExceeded { max } => {
                with(Code::MaxMessageLengthExceeded).field("MaxMessageLengthBytes", max.to_string())
            }
            BodyRefusal::InvalidChunkSizeError { chunk, size } => with(Code::InvalidChunkSizeError)
                .field("Chunk", chunk.to_string())
                .field("BadChunkSize", size.to_string()),
            BodyRefusal::BadRequest(_) => with(Code::BadRequest),
            BodyRefusal::MalformedTrailerError => with(Code::MalformedTrailerError),
            BodyRefusal::SignatureDoesNotMatch => with(Code::SignatureDoesNotMatch),
            BodyRefusal::XAmzContentSHA256Mismatch { client, server } => {
                with(Code::XAmzContentSHA256Mismatch)
                    .field("ClientComputedContentSHA256", client)
                    .field("S3ComputedContentSHA256", server)
            }
            BodyRefusal::RequestTimeout => with(Code::RequestTimeout),
            BodyRefusal::InvalidRequest(_) => with(Code::InvalidRequest),
            BodyRefusal::InvalidArgument { name, value, message } => Self::argument(name, &value, message),
        }
    }
}

impl From<AuthError> for Error {
    fn from(e: AuthError) -> Self {
        let message = e.to_string();
        let with = |code| Self::with(code, message.clone());
        match e {
            AuthError::AccessDenied(denial) => denied(with(Code::AccessDenied), denial),
            AuthError::InvalidAccessKeyId { access_key } => {
                with(Code::InvalidAccessKeyId).field("AWSAccessKeyId", access_key.0)
            }
            AuthError::SignatureDoesNotMatch(ours) => with(Code::SignatureDoesNotMatch)
                .field("AWSAccessKeyId", ours.access_key.0)
                .field("StringToSign", ours.string_to_sign)
                .field("SignatureProvided", ours.signature_provided)
                .field("CanonicalRequest", ours.canonical_request),
            AuthError::RequestTimeTooSkewed {
                request_time,
                server_ms,
                skew_ms_max,
            } => with(Code::RequestTimeTooSkewed)
                .field("RequestTime", request_time)
                .field("ServerTime", iso_time(server_ms))
                .field("MaxAllowedSkewMilliseconds", skew_ms_max.to_string()),
            AuthError::AuthorizationHeaderMalformed { region, .. } => {
                in_region(with(Code::AuthorizationHeaderMalformed), region)
            }
            AuthError::AuthorizationQueryParametersError { region, .. } => {
                in_region(with(Code::AuthorizationQueryParametersError), region)
            }
            AuthError::InvalidToken => with(Code::InvalidToken),
            AuthError::InvalidRequest(_) => with(Code::InvalidRequest),
            AuthError::InvalidArgument { name, value, message } => Self::argument(name, &value, message),
            AuthError::MissingField { name } => Self::argument(name, "", message),
            AuthError::InvalidUri => with(Code::InvalidURI),
        }
    }
}

impl From<PolicyError> for Error {
    fn from(e: PolicyError) -> Self {
        let code = match e {
            PolicyError::Invalid(_) => Code::InvalidPolicyDocument,
            PolicyError::Denied(_) => Code::AccessDenied,
        };
        Self::with(code, e.to_string())
    }
}

/// SDKs follow `<Region>` and `x-amz-bucket-region` to sign again for the right one.
fn in_region(e: Error, region: Option<String>) -> Error {
    match region {
        Some(region) => e
            .header("x-amz-bucket-region", region.clone())
            .field("Region", region),
        None => e,
    }
}

fn denied(e: Error, denial: Denial) -> Error {
    match denial {
        Denial::Anonymous | Denial::NoDate => e,
        Denial::HeadersNotSigned(names) => e.field("HeadersNotSigned", names.join(", ")),
        Denial::Expired {
            expires_seconds,
            expires_ms,
            server_ms,
        } => e
            .field("X-Amz-Expires", expires_seconds.to_string())
            .field("Expires", iso_time(expires_ms))
            .field("ServerTime", iso_time(server_ms)),
        Denial::NotValidYet { server_ms } => e.field("ServerTime", iso_time(server_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Fault;

    #[test]
    fn failures_become_the_code_that_says_what_to_do() {
        let cases = [
            (ErrorKind::Busy, "SlowDown", 503),
            (ErrorKind::Full, "InsufficientStorage", 507),
            (ErrorKind::Unavailable, "ServiceUnavailable", 503),
            (ErrorKind::Unknown, "InternalError", 500),
            (ErrorKind::Corrupt, "InternalError", 500),
            (ErrorKind::Fault, "InternalError", 500),
        ];
        for (kind, name, status) in cases {
            let e = Error::from(ObjectsError::Fault(Fault::new(kind, "disk 3, extent 9")));
            assert_eq!((e.code().name(), e.code().status().as_u16()), (name, status));
            assert!(
                !e.to_xml("/", "", "").contains("extent 9"),
                "clients do not see insides"
            );
        }
    }

    #[test]
    fn the_wrong_region_names_the_right_one() {
        let e = Error::from(AuthError::AuthorizationHeaderMalformed {
            message: "the region 'eu-west-1' is wrong; expecting 'us-east-1'".into(),
            region: Some("us-east-1".into()),
        });
        let document = e.to_xml("/", "", "");
        assert!(
            document.contains("<Region>us-east-1</Region>") && document.contains("expecting &apos;")
                || document.contains("expecting 'us-east-1'")
        );
        assert_eq!(e.headers(), [("x-amz-bucket-region", "us-east-1".to_owned())]);
    }
}
