//! A request whose address, operation and caller are known; what operations are given.

use crate::body::{self, BodyPlan, RefusalSlot};
use crate::checksum;
use crate::error::{Code, Error};
use crate::operation::Operation;
use crate::page::{self, Paged};
use crate::query::Query;
use crate::version;
use crate::xml::Element;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use objects::{Caller, Expect, ObjectsError};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use types::{BucketName, ObjectKey, UploadId, limits};
use wire::index::VersionRef;
use world::Clock;

/// A request.
pub(crate) struct Request {
    /// As the answer's `x-amz-request-id`.
    pub(crate) id: String,
    pub(crate) operation: Operation,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Query,
    pub(crate) bucket: Option<BucketName>,
    pub(crate) key: Option<ObjectKey>,
    pub(crate) caller: Caller,
    pub(crate) body: Arriving,
    pub(crate) plan: BodyPlan,
    /// What it has memory for, where it is for a page or brings a document.
    pub(crate) paged: Paged,
    /// Its raw path, for `<Resource>` and `<Location>`.
    pub(crate) path: String,
    /// Its Host.
    pub(crate) host: Option<String>,
    /// How it came: `http` or `https`.
    pub(crate) scheme: &'static str,
}

impl Request {
    /// The bucket. Operations without one do not ask.
    pub(crate) fn bucket(&self) -> &BucketName {
        self.bucket
            .as_ref()
            .expect("the route table gives this operation a bucket")
    }

    /// The key. Operations without one do not ask.
    pub(crate) fn key(&self) -> &ObjectKey {
        self.key
            .as_ref()
            .expect("the route table gives this operation a key")
    }

    /// `uploadId`. One that is not ours was never begun.
    pub(crate) fn upload(&self) -> Result<UploadId, Error> {
        let text = self.query.get("uploadId").unwrap_or_default();
        UploadId::parse(text).ok_or_else(|| Error::new(Code::NoSuchUpload).field("UploadId", text))
    }

    /// `versionId`; the current version when it is not given.
    pub(crate) fn version(&self) -> Result<VersionRef, Error> {
        let text = self.query.get("versionId");
        text.map_or(Ok(VersionRef::Current), |text| version::parse("versionId", text))
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Opens the body for `objects`; what it is refused for will stand in the slot.
    pub(crate) fn open_body(&mut self, clock: Arc<dyn Clock>) -> (Box<dyn objects::Body>, RefusalSlot) {
        body::open(self.plan.clone(), self.body.take(), clock)
    }

    /// Reads the body whole, as a document, and whether a digest or checksum vouched for it.
    pub(crate) async fn document(&mut self, clock: Arc<dyn Clock>) -> Result<(Bytes, bool), Error> {
        let expect = checksum::expect(&self.headers, &self.plan)?;
        self.read_document(clock, &expect).await
    }

    /// The same where the checksum headers are about something else than the body: only its digest is checked.
    pub(crate) async fn document_of_object(&mut self, clock: Arc<dyn Clock>) -> Result<Bytes, Error> {
        let expect = Expect {
            md5: checksum::content_md5(&self.headers)?,
            checksums: Vec::new(),
            trailing: self.plan.trailing(),
        };
        Ok(self.read_document(clock, &expect).await?.0)
    }

    async fn read_document(
        &mut self,
        clock: Arc<dyn Clock>,
        expect: &Expect,
    ) -> Result<(Bytes, bool), Error> {
        assert!(
            page::bytes(self).is_some(),
            "{} reads its document in memory that was taken",
            self.operation.name()
        );
        let body = self.body.take();
        let (whole, trailer) = body::collect(self.plan.clone(), body, clock, limits::XML_BYTES_MAX).await?;
        self.paged.document(&whole);
        let vouched = checksum::verify(expect, &trailer, &whole)?;
        Ok((whole, vouched))
    }
}

/// The error of an operation that read a body: the body's own refusal where it has one.
pub(crate) fn refusal(e: ObjectsError, slot: &RefusalSlot) -> Error {
    match (&e, slot.get()) {
        (ObjectsError::Body(_), Some(refusal)) => refusal.into(),
        _ => e.into(),
    }
}

/// Reads a document that must be there.
pub(crate) fn parse_document(bytes: &[u8], root: &str) -> Result<Element, Error> {
    if bytes.is_empty() {
        return Err(Code::MissingRequestBodyError.into());
    }
    Element::parse(bytes, root)
}

/// A body on its way in, that remembers whether it was read to its end: a connection with unread bytes on it cannot
/// take another request.
pub(crate) struct Arriving {
    incoming: Option<Incoming>,
    ended: Arc<AtomicBool>,
}

impl Arriving {
    pub(crate) fn new(incoming: Incoming) -> Self {
        let ended = incoming.is_end_stream();
        Self {
            incoming: Some(incoming),
            ended: Arc::new(AtomicBool::new(ended)),
        }
    }

    /// Set once the body has been read to its end.
    pub(crate) fn ended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ended)
    }

    /// The body, once.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            incoming: self.incoming.take(),
            ended: Arc::clone(&self.ended),
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(incoming).poll_frame(cx));
        if self.is_end_stream() || frame.is_none() {
            self.ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}
