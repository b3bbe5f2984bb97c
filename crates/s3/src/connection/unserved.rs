//! Requests that come to nobody: no HTTP, too large a head, no place.
//!
//! hyper answers the first two itself, with a bare head that no S3 client can read a code from, and ends the connection. It
//! has no hook for that answer, but its bytes pass through the stream that it was handed, and nothing follows them. So the
//! stream holds back the end of a write that *is* one of those heads, until hyper has been polled to rest:
//!
//! ```text
//!   a bare head is written ─▶ held ─┬─ the connection ends with a parse error ─▶ dropped, a document in its place
//!                                   └─ anything else (an object may end so) ───▶ sent as it is
//! ```
//! A hyper that words these answers in another way gets them through unchanged, and a test says so.

use crate::reply::Reply;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// hyper's own answers; a client of HTTP/1.0 is not told that the connection closes.
const BARE: &[(Unserved, &[u8])] = &[
    (
        Unserved::Malformed,
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        Unserved::TooLarge,
        b"HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        Unserved::TooLarge,
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        Unserved::Malformed,
        b"HTTP/1.0 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        Unserved::TooLarge,
        b"HTTP/1.0 414 URI Too Long\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        Unserved::TooLarge,
        b"HTTP/1.0 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n",
    ),
];

/// Why nobody looks at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// Every place is taken by a request under way.
    Full,
    /// No HTTP.
    Malformed,
    /// More headers, or more bytes of them or of an address, than anybody reads.
    TooLarge,
}

/// A bare head at the end of `written`: where it begins, and what it means.
fn bare_tail(written: &[u8]) -> Option<(usize, Unserved)> {
    // All of them end so.
    if !written.ends_with(b"content-length: 0\r\n\r\n") {
        return None;
    }
    BARE.iter()
        .find_map(|(meant, bare)| Some((written.strip_suffix(*bare)?.len(), *meant)))
}

/// Bytes that are held back.
#[derive(Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    meant: Option<Unserved>,
    turn: Arc<Turn>,
}

/// Whether something is held, and whether it is to go: said across hyper, which has the stream.
#[derive(Default)]
pub(super) struct Turn {
    is_held: AtomicBool,
    is_released: AtomicBool,
}

impl Turn {
    /// Whether something is held.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Relaxed)
    }

    /// After a poll of the connection: what it left held is no answer of hyper's own if the connection goes on.
    pub(super) fn after<T>(&self, polled: Poll<T>, cx: &mut Context<'_>) -> Poll<T> {
        if polled.is_pending()
            && self.is_held.load(Ordering::Relaxed)
            && !self.is_released.swap(true, Ordering::Relaxed)
        {
            cx.waker().wake_by_ref();
        }
        polled
    }
}

impl Held {
    pub(super) fn turn(&self) -> Arc<Turn> {
        Arc::clone(&self.turn)
    }

    /// Whether the end of `written` is to be held.
    pub(super) fn is_for(written: &[u8]) -> bool {
        bare_tail(written).is_some()
    }

    /// How much of `written` may go at once; the rest is held when it is all that is left.
    pub(super) fn sift(&mut self, written: &[u8]) -> usize {
        match bare_tail(written) {
            None => written.len(),
            Some((0, meant)) => {
                self.bytes.extend_from_slice(written);
                self.meant = Some(meant);
                self.turn.is_held.store(true, Ordering::Relaxed);
                0
            }
            Some((at, _)) => at,
        }
    }

    /// What is held and is to go now: because more follows it (`at_once`), or it was released.
    pub(super) fn due(&self, at_once: bool) -> &[u8] {
        if at_once || self.turn.is_released.load(Ordering::Relaxed) {
            &self.bytes
        } else {
            &[]
        }
    }

    /// So many of those have gone.
    pub(super) fn sent(&mut self, count: usize) {
        self.bytes.drain(..count);
        if self.bytes.is_empty() {
            self.take();
        }
    }

    /// What is held, given up: what it meant.
    pub(super) fn take(&mut self) -> Option<Unserved> {
        self.bytes = Vec::new();
        self.turn.is_held.store(false, Ordering::Relaxed);
        self.turn.is_released.store(false, Ordering::Relaxed);
        self.meant.take()
    }
}

/// An answer as it goes over the connection that it ends.
pub(super) async fn to_bytes(reply: Reply) -> Vec<u8> {
    let (head, body) = reply.into_parts();
    let Ok(body) = body.collect().await else {
        return Vec::new();
    };
    let body = body.to_bytes();
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut out = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_u16()).into_bytes();
    for (name, value) in &head.headers {
        let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"];
        out.extend(line.concat());
    }
    let last = format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    out.extend_from_slice(last.as_bytes());
    out.extend_from_slice(&body);
    out
}
