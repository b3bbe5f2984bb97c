//! Why a request is not who it says it is.
//!
//! Each variant is one S3 error code; the S3 face writes the code. `Display` is the message for people, in the words S3
//! clients already know how to search for. The fields are those that S3 returns beside it.

use crate::keys::AccessKeyId;
use types::{ErrorKind, Kind};

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// AccessDenied.
    #[error(transparent)]
    AccessDenied(#[from] Denial),
    /// InvalidAccessKeyId.
    #[error("The AWS Access Key Id you provided does not exist in our records.")]
    InvalidAccessKeyId {
        /// What the request named (`AWSAccessKeyId`).
        access_key: AccessKeyId,
    },
    /// SignatureDoesNotMatch.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    )]
    SignatureDoesNotMatch(Box<Mismatch>),
    /// RequestTimeTooSkewed.
    #[error("The difference between the request time and the current time is too large.")]
    RequestTimeTooSkewed {
        /// As the request gave it (`RequestTime`).
        request_time: String,
        /// `ServerTime`, milliseconds since 1970.
        server_ms: u64,
        /// `MaxAllowedSkewMilliseconds`.
        skew_ms_max: u64,
    },
    /// AuthorizationHeaderMalformed.
    #[error("The authorization header is malformed; {message}")]
    AuthorizationHeaderMalformed {
        /// What is wrong.
        message: String,
        /// `Region`, where the request named another.
        region: Option<String>,
    },
    /// AuthorizationQueryParametersError.
    #[error("{message}")]
    AuthorizationQueryParametersError {
        /// What is wrong.
        message: String,
        /// `Region`, where the request named another.
        region: Option<String>,
    },
    /// InvalidToken: session tokens are not given out here.
    #[error("The provided token is malformed or otherwise invalid.")]
    InvalidToken,
    /// InvalidRequest.
    #[error("{0}")]
    InvalidRequest(String),
    /// InvalidArgument.
    #[error("{message}")]
    InvalidArgument {
        /// `ArgumentName`.
        name: &'static str,
        /// `ArgumentValue`.
        value: String,
        /// What is wrong.
        message: &'static str,
    },
    /// InvalidArgument: a form is signed, but not in full.
    #[error(
        "Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields."
    )]
    MissingField {
        /// `ArgumentName`.
        name: &'static str,
    },
    /// InvalidURI.
    #[error("Couldn't parse the specified URI.")]
    InvalidUri,
}

/// The ways to be denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Nothing in the request says who asks.
    #[error("Access Denied")]
    Anonymous,
    /// Headers that must be signed are not.
    #[error("There were headers present in the request which were not signed")]
    HeadersNotSigned(
        /// Their names in lower case (`HeadersNotSigned`, joined by commas).
        Vec<String>,
    ),
    /// Signed, but not when.
    #[error("AWS authentication requires a valid Date or x-amz-date header")]
    NoDate,
    /// A presigned request after its end.
    #[error("Request has expired")]
    Expired {
        /// `X-Amz-Expires`, seconds.
        expires_seconds: u64,
        /// `Expires`, milliseconds since 1970.
        expires_ms: u64,
        /// `ServerTime`, milliseconds since 1970.
        server_ms: u64,
    },
    /// A presigned request before its beginning.
    #[error("Request is not valid yet")]
    NotValidYet {
        /// `ServerTime`, milliseconds since 1970.
        server_ms: u64,
    },
}

/// What was signed here, so that a client's author can compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// `AWSAccessKeyId`.
    pub access_key: AccessKeyId,
    /// `StringToSign`.
    pub string_to_sign: String,
    /// `SignatureProvided`.
    pub signature_provided: String,
    /// `CanonicalRequest`. Bytes that are not UTF-8 are replaced.
    pub canonical_request: String,
}

impl Kind for AuthError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::AccessDenied(_)
            | Self::InvalidAccessKeyId { .. }
            | Self::SignatureDoesNotMatch(_)
            | Self::RequestTimeTooSkewed { .. } => ErrorKind::Denied,
            _ => ErrorKind::Invalid,
        }
    }
}
