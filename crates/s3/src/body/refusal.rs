//! Why a body was refused, with what S3 says beside the code.

use objects::BodyError;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a body was refused. Each variant is one S3 error code, `Display` its message, the fields those that S3 returns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyRefusal {
    /// IncompleteBody: fewer or more bytes than the head said, or the connection ended.
    #[error("You did not provide the number of bytes specified by the Content-Length HTTP header")]
    IncompleteBody {
        /// `NumberBytesExpected`.
        expected: u64,
        /// `NumberBytesProvided`.
        provided: u64,
    },
    /// MissingContentLength.
    #[error("You must provide the Content-Length HTTP header.")]
    MissingContentLength,
    /// EntityTooLarge.
    #[error("Your proposed upload exceeds the maximum allowed size")]
    EntityTooLarge {
        /// `ProposedSize`.
        size: u64,
        /// `MaxSizeAllowed`.
        max: u64,
    },
    /// MaxMessageLengthExceeded: a document, not an object, is too large.
    #[error("Your request was too big.")]
    MaxMessageLengthExceeded {
        /// `MaxMessageLengthBytes`.
        max: u64,
    },
    /// InvalidChunkSizeError.
    #[error("Only the last chunk is allowed to have a size less than 8192 bytes")]
    InvalidChunkSizeError {
        /// Which frame, from 1 (`Chunk`).
        chunk: u64,
        /// Its size (`BadChunkSize`).
        size: u64,
    },
    /// BadRequest: the framing itself is broken.
    #[error("An error occurred when parsing the HTTP request: {0}")]
    BadRequest(&'static str),
    /// MalformedTrailerError.
    #[error(
        "The request contained trailing data that was not well-formed or did not conform to our published schema."
    )]
    MalformedTrailerError,
    /// SignatureDoesNotMatch, of a frame or trailer.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    )]
    SignatureDoesNotMatch,
    /// XAmzContentSHA256Mismatch.
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    XAmzContentSHA256Mismatch {
        /// Hexadecimal (`ClientComputedContentSHA256`).
        client: String,
        /// Hexadecimal (`S3ComputedContentSHA256`).
        server: String,
    },
    /// EntityTooSmall: a form's file is smaller than its policy asks.
    #[error("Your proposed upload is smaller than the minimum allowed size")]
    EntityTooSmall {
        /// `ProposedSize`.
        size: u64,
        /// `MinSizeAllowed`.
        min: u64,
    },
    /// MalformedPOSTRequest.
    #[error("The body of your POST request is not well-formed multipart/form-data.")]
    MalformedForm,
    /// MaxPostPreDataLengthExceededError.
    #[error("Your POST request fields preceding the upload file were too large.")]
    FormFieldsTooLarge,
    /// IncorrectNumberOfFilesInPostRequest.
    #[error("POST requires exactly one file upload per request.")]
    NoFile,
    /// RequestTimeout.
    #[error(
        "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed."
    )]
    RequestTimeout,
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
}

impl BodyRefusal {
    /// What `objects` is told of it.
    pub(crate) fn to_body_error(&self) -> BodyError {
        match self {
            Self::IncompleteBody { .. } => BodyError::Incomplete,
            Self::RequestTimeout => BodyError::TimedOut,
            other => BodyError::Refused(other.to_string()),
        }
    }
}

/// Where an opened body leaves its refusal for whoever writes the answer.
#[derive(Clone, Default, Debug)]
pub struct RefusalSlot(Arc<Mutex<Option<BodyRefusal>>>);

impl RefusalSlot {
    /// The refusal, if the body was refused.
    pub fn get(&self) -> Option<BodyRefusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, refusal: BodyRefusal) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }
}
