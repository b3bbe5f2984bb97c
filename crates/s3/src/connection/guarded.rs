//! What hyper is handed for a connection: the stream, with patience for clients that take nothing, and an eye on hyper's
//! own answers (`unserved`).

use super::unserved::{Held, Unserved};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use types::limits;
use world::{Clock, Stream};

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream whose writes fail once the client has taken nothing for too long.
pub(super) struct Guarded {
    stream: Box<dyn Stream>,
    clock: Arc<dyn Clock>,
    /// Runs while a write waits.
    stalled: Option<Waiting>,
    held: Held,
}

impl Guarded {
    pub(super) fn new(stream: Box<dyn Stream>, clock: Arc<dyn Clock>, held: Held) -> Self {
        Self {
            stream,
            clock,
            stalled: None,
            held,
        }
    }

    /// Forgets what is held; says what it meant.
    pub(super) fn give_up_held(&mut self) -> Option<Unserved> {
        self.held.take()
    }

    /// What a write that came to `written` comes to, time considered.
    fn guard<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = Duration::from_millis(limits::WRITE_STALL_MS_MAX);
        let waiting = self.stalled.get_or_insert_with(|| self.clock.sleep(limit));
        ready!(waiting.as_mut().poll(cx));
        self.stalled = None;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends what is held, as far as it is due.
    fn poll_held(&mut self, cx: &mut Context<'_>, at_once: bool) -> Poll<io::Result<()>> {
        loop {
            let due = self.held.due(at_once);
            if due.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let written = Pin::new(&mut self.stream).poll_write(cx, due);
            match ready!(self.guard(cx, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.held.sent(count),
            }
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_held(cx, true))?;
        let at_once = self.held.sift(buf);
        if at_once == 0 {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, &buf[..at_once]);
        self.guard(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let last = bufs.iter().rposition(|b| !b.is_empty()).unwrap_or(0);
        let Some((last, before)) = bufs.get(..=last).and_then(<[_]>::split_last) else {
            return Poll::Ready(Ok(0));
        };
        let bufs = match (Held::is_for(last), before.iter().all(|b| b.is_empty())) {
            (false, _) => bufs,
            (true, true) => return self.poll_write(cx, last),
            // It comes again by itself.
            (true, false) => before,
        };
        ready!(self.poll_held(cx, true))?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.guard(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx, false))?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.guard(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx, true))?;
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.guard(cx, shut)
    }
}
