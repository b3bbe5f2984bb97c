//! Answers: a head, and a body that is whole or streamed from an object.
//!
//! A streamed body that fails after its first bytes is an error to hyper, which then closes the connection without a
//! clean end: a client that counts bytes sees that it did not get them all (I5).

use crate::error::Error;
use crate::page::Paged;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use objects::{GetReader, ObjectsError};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use world::held;

/// An answer.
pub(crate) type Reply = Response<ReplyBody>;

/// Where a streamed body comes from.
#[async_trait::async_trait]
pub(crate) trait Source: Send + 'static {
    /// The next bytes, never empty; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, ObjectsError>;
}

#[async_trait::async_trait]
impl Source for GetReader {
    async fn next(&mut self) -> Result<Option<Bytes>, ObjectsError> {
        self.next().await
    }
}

type Turn = Pin<Box<dyn Future<Output = (Result<Option<Bytes>, ObjectsError>, Box<dyn Source>)> + Send>>;

/// An answer's body.
pub(crate) struct ReplyBody {
    /// What is at hand.
    ready: Option<Bytes>,
    /// What follows it.
    rest: Option<Turn>,
    /// How many bytes are still to come, at most.
    remaining: u64,
    /// Whether exactly so many.
    is_exact: bool,
    /// The request's, so that a failure in the middle is logged with its id.
    span: tracing::Span,
}

fn turn(mut source: Box<dyn Source>) -> Turn {
    Box::pin(async move { (source.next().await, source) })
}

impl ReplyBody {
    /// A body that is all there.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            remaining: bytes.len() as u64,
            is_exact: true,
            ready: Some(bytes).filter(|b| !b.is_empty()),
            rest: None,
            span: tracing::Span::none(),
        }
    }

    /// The same body, in memory that goes with it.
    pub(crate) fn held_in(mut self, paged: &Paged) -> Self {
        // One that is still to come leaves the memory to the operation that goes on.
        if let Some(bytes) = self.ready.take() {
            let length = bytes.len() as u64;
            self.ready = Some(match paged.take() {
                Some(mut share) => {
                    share.settle(length);
                    held(bytes, share)
                }
                None => bytes,
            });
        }
        self
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    /// `length` bytes from `source`. The first of them are read before this answers, so that what fails at once still
    /// gets an error of its own.
    pub(crate) async fn stream(mut source: Box<dyn Source>, length: u64) -> Result<Self, Error> {
        let ready = source.next().await?;
        let more = ready.as_ref().map_or(0, |b| b.len() as u64) < length;
        Ok(Self {
            ready,
            rest: more.then(|| turn(source)),
            remaining: length,
            is_exact: true,
            span: tracing::Span::current(),
        })
    }

    /// Whatever `source` gives until it ends: nobody knows yet how much.
    pub(crate) fn until_end(source: Box<dyn Source>) -> Self {
        Self {
            ready: None,
            rest: Some(turn(source)),
            remaining: u64::MAX,
            is_exact: false,
            span: tracing::Span::current(),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = ObjectsError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ObjectsError>>> {
        let this = &mut *self;
        let bytes = match this.ready.take() {
            Some(bytes) => Some(bytes),
            None => match &mut this.rest {
                None => None,
                Some(rest) => {
                    let (answer, source) = std::task::ready!(this.span.in_scope(|| rest.as_mut().poll(cx)));
                    this.rest = None;
                    match answer {
                        Ok(Some(bytes)) => {
                            if (bytes.len() as u64) < this.remaining {
                                this.rest = Some(turn(source));
                            }
                            Some(bytes)
                        }
                        Ok(None) => None,
                        Err(e) => {
                            this.span
                                .in_scope(|| tracing::error!(error = %e, "a read failed midway"));
                            return Poll::Ready(Some(Err(e)));
                        }
                    }
                }
            },
        };
        Poll::Ready(bytes.map(|b| {
            assert!(
                b.len() as u64 <= this.remaining,
                "a reader gives no more than its range"
            );
            this.remaining -= b.len() as u64;
            Ok(Frame::data(b))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_exact {
            SizeHint::with_exact(self.remaining)
        } else {
            SizeHint::default()
        }
    }
}

/// Headers of most answers. A map that grows to as many moves all it has, twice; hyper then takes it for the next request's.
const HEADERS_MANY: usize = 24;

/// 200 and a body, with room for headers.
pub(crate) fn of(body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.headers_mut() = HeaderMap::with_capacity(HEADERS_MANY);
    reply
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = of(ReplyBody::empty());
    *reply.status_mut() = status;
    reply
}

/// 200 and a document.
pub(crate) fn xml(document: String) -> Reply {
    let mut reply = of(ReplyBody::whole(document));
    let kind = HeaderValue::from_static("application/xml");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}

/// Sets a header to what prints as ASCII.
///
/// # Panics
/// When it does not: for values of ours, not of clients.
pub(crate) fn set(headers: &mut HeaderMap, name: impl header::IntoHeaderName, value: impl std::fmt::Display) {
    let value = HeaderValue::try_from(value.to_string()).expect("our own values are header values");
    headers.insert(name, value);
}

/// An ETag in its quotes.
pub(crate) fn quoted(md5: &[u8], parts: u32) -> String {
    let mut digits = [0; 32];
    if hex::encode_to_slice(md5, &mut digits).is_err() {
        // An object whose record has no MD5 has no ETag that a client could compute.
        return "\"\"".to_owned();
    }
    let digits = std::str::from_utf8(&digits).unwrap_or_default();
    match parts {
        0 => format!("\"{digits}\""),
        parts => format!("\"{digits}-{parts}\""),
    }
}

/// `2009-10-12T17:50:30.000Z`: whole seconds, as the header has them. Clients hold the one against the other.
pub(crate) fn iso_time(ms: u64) -> String {
    String::from_utf8_lossy(&iso_digits(ms)).into_owned()
}

/// Its bytes. A listing has a thousand of them: digit by digit, not through the formatting machinery.
pub(crate) fn iso_digits(ms: u64) -> [u8; 24] {
    let at = time::OffsetDateTime::from_unix_timestamp((ms / 1000).min(253_402_300_799) as i64);
    let at = at.expect("bounded to the year 9999");
    let mut out = *b"0000-00-00T00:00:00.000Z";
    let mut put = |digits: std::ops::Range<usize>, mut n: u32| {
        for place in out[digits].iter_mut().rev() {
            *place = b'0' + (n % 10) as u8;
            n /= 10;
        }
    };
    put(0..4, at.year().unsigned_abs());
    put(5..7, u8::from(at.month()).into());
    put(8..10, at.day().into());
    put(11..13, at.hour().into());
    put(14..16, at.minute().into());
    put(17..19, at.second().into());
    out
}

/// `Mon, 12 Oct 2009 17:50:30 GMT`.
pub(crate) fn http_time(ms: u64) -> String {
    // HTTP dates end with the year 9999.
    let since = std::time::Duration::from_secs((ms / 1000).min(253_402_300_799));
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(iso_time(1_255_369_830_007), "2009-10-12T17:50:30.000Z");
        assert_eq!(iso_time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso_time(253_402_300_799_999), "9999-12-31T23:59:59.000Z");
        assert_eq!(http_time(1_255_369_830_999), "Mon, 12 Oct 2009 17:50:30 GMT");
        for far in [0, u64::MAX] {
            assert!(iso_time(far).ends_with('Z') && http_time(far).ends_with("GMT"));
        }
    }

    #[test]
    fn etags() {
        let md5 = [0xab; 16];
        assert_eq!(quoted(&md5, 0), format!("\"{}\"", "ab".repeat(16)));
        assert_eq!(quoted(&md5, 7), format!("\"{}-7\"", "ab".repeat(16)));
        assert_eq!(quoted(&[], 0), "\"\"");
    }
}
