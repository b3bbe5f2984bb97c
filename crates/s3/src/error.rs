//! S3's error codes, and which of them each failure of ours is. No other file knows a code's name or status.
//!
//! An [`Error`] is what an operation fails with; [`Error::to_xml`] is the document that clients read. Details that
//! only operators may see (where bytes are corrupt, which role failed) go to the log in `causes`, never to the client.

mod causes;

use crate::xml::XmlWriter;
use http::StatusCode;
use std::borrow::Cow;

macro_rules! codes {
    ($($name:ident $status:literal $message:literal,)*) => {
        /// An S3 error code.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[allow(missing_docs, reason = "the messages document them")]
        pub enum Code { $($name,)* }

        impl Code {
            /// Every code that Cairn can answer.
            pub const ALL: &[Code] = &[$(Code::$name,)*];
            /// As it stands in `<Code>`.
            pub fn name(self) -> &'static str {
                match self { $(Code::$name => stringify!($name),)* }
            }
            /// The HTTP status it comes with.
            pub fn status(self) -> StatusCode {
                let number: u16 = match self { $(Code::$name => $status,)* };
                StatusCode::from_u16(number).expect("the table holds statuses")
            }
            /// S3's own sentence for it.
            pub fn message(self) -> &'static str {
                match self { $(Code::$name => $message,)* }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported 400 "The bucket does not allow ACLs",
    AccessDenied 403 "Access Denied",
    AccessForbidden 403 "CORSResponse: This CORS request is not allowed.",
    AuthorizationHeaderMalformed 400 "The authorization header you provided is invalid.",
    AuthorizationQueryParametersError 400 "The authorization query parameters that you provided are not valid.",
    BadDigest 400 "The Content-MD5 you specified did not match what we received.",
    BadRequest 400 "An error occurred when parsing the HTTP request.",
    BucketAlreadyExists 409 "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.",
    BucketAlreadyOwnedByYou 409 "Your previous request to create the named bucket succeeded and you already own it.",
    BucketNotEmpty 409 "The bucket you tried to delete is not empty",
    ConditionalRequestConflict 409 "The conditional request cannot succeed due to a conflicting operation against this resource.",
    EntityTooLarge 400 "Your proposed upload exceeds the maximum allowed size",
    EntityTooSmall 400 "Your proposed upload is smaller than the minimum allowed size",
    IllegalVersioningConfigurationException 400 "The Versioning element must be specified",
    IncompleteBody 400 "You did not provide the number of bytes specified by the Content-Length HTTP header",
    IncorrectNumberOfFilesInPostRequest 400 "POST requires exactly one file upload per request.",
    InsufficientStorage 507 "The store has no room for this. Deletes and reads go on; free space or add a disk.",
    InternalError 500 "We encountered an internal error. Please try again.",
    InvalidAccessKeyId 403 "The AWS Access Key Id you provided does not exist in our records.",
    InvalidArgument 400 "Invalid Argument",
    InvalidBucketAclWithBlockPublicAccessError 400 "Bucket cannot have public ACLs set with BlockPublicAccess enabled",
    InvalidBucketAclWithObjectOwnership 400 "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
    InvalidBucketName 400 "The specified bucket is not valid.",
    InvalidBucketOwnerAWSAccountID 400 "The value of the expected bucket owner parameter must be an AWS Account ID",
    InvalidChunkSizeError 403 "Only the last chunk is allowed to have a size less than 8192 bytes",
    InvalidDigest 400 "The Content-MD5 you specified was invalid.",
    InvalidLocationConstraint 400 "The specified location-constraint is not valid",
    InvalidPart 400 "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.",
    InvalidPartOrder 400 "The list of parts was not in ascending order. Parts must be ordered by part number.",
    InvalidPolicyDocument 400 "The content of the form does not meet the conditions specified in the policy document.",
    InvalidRange 416 "The requested range is not satisfiable",
    InvalidRequest 400 "Invalid Request",
    InvalidStorageClass 400 "The storage class you specified is not valid",
    InvalidTag 400 "The tag provided was not a valid tag. This error can occur if the tag did not pass input validation.",
    InvalidToken 400 "The provided token is malformed or otherwise invalid.",
    InvalidURI 400 "Couldn't parse the specified URI.",
    InvalidWriteOffset 400 "The write offset value that you specified does not match the current object size.",
    KeyTooLongError 400 "Your key is too long",
    MalformedACLError 400 "The XML you provided was not well-formed or did not validate against our published schema",
    MalformedPOSTRequest 400 "The body of your POST request is not well-formed multipart/form-data.",
    MalformedTrailerError 400 "The request contained trailing data that was not well-formed or did not conform to our published schema.",
    MalformedXML 400 "The XML you provided was not well-formed or did not validate against our published schema",
    MaxMessageLengthExceeded 400 "Your request was too big.",
    MaxPostPreDataLengthExceededError 400 "Your POST request fields preceding the upload file were too large.",
    MetadataTooLarge 400 "Your metadata headers exceed the maximum allowed metadata size",
    MethodNotAllowed 405 "The specified method is not allowed against this resource.",
    MissingContentLength 411 "You must provide the Content-Length HTTP header.",
    MissingRequestBodyError 400 "Request Body is empty",
    MissingSecurityHeader 400 "Your request was missing a required header",
    NoSuchBucket 404 "The specified bucket does not exist",
    NoSuchBucketPolicy 404 "The bucket policy does not exist",
    NoSuchCORSConfiguration 404 "The CORS configuration does not exist",
    NoSuchConfiguration 404 "The specified configuration does not exist.",
    NoSuchKey 404 "The specified key does not exist.",
    NoSuchLifecycleConfiguration 404 "The lifecycle configuration does not exist",
    NoSuchPublicAccessBlockConfiguration 404 "The public access block configuration was not found",
    NoSuchTagSet 404 "The TagSet does not exist",
    NoSuchUpload 404 "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
    NoSuchVersion 404 "The specified version does not exist.",
    NoSuchWebsiteConfiguration 404 "The specified bucket does not have a website configuration",
    NotImplemented 501 "A header you provided implies functionality that is not implemented",
    ObjectLockConfigurationNotFoundError 404 "Object Lock configuration does not exist for this bucket",
    OperationAborted 409 "A conflicting conditional operation is currently in progress against this resource. Please try again.",
    OwnershipControlsNotFoundError 404 "The bucket ownership controls were not found",
    PreconditionFailed 412 "At least one of the pre-conditions you specified did not hold",
    ReplicationConfigurationNotFoundError 404 "The replication configuration was not found",
    RequestHeaderSectionTooLarge 400 "Your request header section exceeds the maximum allowed size.",
    RequestTimeTooSkewed 403 "The difference between the request time and the current time is too large.",
    RequestTimeout 400 "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.",
    ServerSideEncryptionConfigurationNotFoundError 404 "The server side encryption configuration was not found",
    ServiceUnavailable 503 "Service is unable to handle request.",
    SignatureDoesNotMatch 403 "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    SlowDown 503 "Please reduce your request rate.",
    TooManyParts 400 "You have attempted to add more parts than the maximum of 10000 that are allowed for this object. You can use the CopyObject operation to copy this object to another and then add more data to the newly copied object.",
    UnexpectedContent 400 "This request does not support content",
    UnresolvableGrantByEmailAddress 400 "The e-mail address you provided does not match any account on record.",
    XAmzContentSHA256Mismatch 400 "The provided 'x-amz-content-sha256' header does not match what was computed.",
}

/// Why a request is not answered with success.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    code: Code,
    message: Cow<'static, str>,
    fields: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
}

impl Error {
    /// `code` with S3's own sentence.
    pub fn new(code: Code) -> Self {
        Self {
            code,
            message: code.message().into(),
            fields: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// `code` with another sentence.
    pub fn with(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            ..Self::new(code)
        }
    }

    /// With one of the code's own fields: an element of the document.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The same, unless it has that field.
    #[must_use]
    pub fn field_once(self, name: &'static str, value: impl Into<String>) -> Self {
        if self.fields.iter().any(|(n, _)| *n == name) {
            self
        } else {
            self.field(name, value)
        }
    }

    /// With a header on the answer.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// InvalidArgument about one argument.
    pub fn argument(name: &str, value: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::with(Code::InvalidArgument, message)
            .field("ArgumentName", name)
            .field("ArgumentValue", value)
    }

    /// A header that asks for what Cairn does not do: refused, never ignored.
    pub fn header_not_implemented(name: &str) -> Self {
        Self::new(Code::NotImplemented).field("Header", name)
    }

    /// An operation that Cairn does not do, by its name.
    pub fn operation_not_implemented(name: &str) -> Self {
        Self::with(Code::NotImplemented, format!("{name} is not implemented")).field("Operation", name)
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Its sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Headers its answer carries besides the usual ones.
    pub fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }

    /// Adds what the code's document names of the request: the key or bucket that was not there.
    #[must_use]
    pub fn about(self, bucket: Option<&str>, key: Option<&str>) -> Self {
        use Code::*;
        let (name, value) = match self.code {
            NoSuchKey | NoSuchVersion => ("Key", key),
            NoSuchBucket
            | BucketAlreadyExists
            | BucketAlreadyOwnedByYou
            | BucketNotEmpty
            | InvalidBucketName
            | NoSuchBucketPolicy
            | NoSuchCORSConfiguration
            | NoSuchLifecycleConfiguration
            | NoSuchPublicAccessBlockConfiguration
            | NoSuchTagSet
            | NoSuchWebsiteConfiguration
            | ObjectLockConfigurationNotFoundError
            | OwnershipControlsNotFoundError
            | ReplicationConfigurationNotFoundError
            | ServerSideEncryptionConfigurationNotFoundError => ("BucketName", bucket),
            _ => return self,
        };
        match value {
            Some(value) => self.field_once(name, value),
            None => self,
        }
    }

    /// The document: `<Error>` in no namespace, as S3 sends it.
    pub fn to_xml(&self, resource: &str, request_id: &str, host_id: &str) -> String {
        let mut x = XmlWriter::document();
        x.open("Error");
        x.text("Code", self.code.name());
        x.text("Message", &self.message);
        for (name, value) in &self.fields {
            x.text(name, value);
        }
        x.text("Resource", resource);
        x.text("RequestId", request_id);
        x.text("HostId", host_id);
        x.close("Error");
        x.finish()
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_s3s() {
        let e = Error::new(Code::NoSuchKey).about(Some("b"), Some("a<\u{1}&\"b"));
        assert_eq!(
            e.to_xml("/b/a", "R1", "H1"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key does \
             not exist.</Message><Key>a&lt;&#x1;&amp;&quot;b</Key><Resource>/b/a</Resource><RequestId>R1</RequestId>\
             <HostId>H1</HostId></Error>"
        );
    }

    #[test]
    fn every_code_is_named_once() {
        let mut names: Vec<_> = Code::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error());
            assert!(!code.message().is_empty());
        }
    }
}
