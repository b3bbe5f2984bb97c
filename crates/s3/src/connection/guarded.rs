//! What hyper is handed for a connection: the stream, with patience for clients that take nothing or next to nothing, memory for heads
//! that are larger than usual, and an eye on hyper's own answers (`unserved`).

use super::rest::Motion;
use super::unserved::{Held, Unserved};
use bytes::Bytes;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use types::limits;
use world::{Budget, Claim, Clock, Stream};

/// What is read of a connection at rest.
const FIRST_BYTES: usize = 32;
/// What is taken off at once of what nobody looks at.
const AWAY_BYTES: usize = 8 << 10;

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream whose writes fail once the client has taken too little for too long.
pub(super) struct Guarded {
    stream: Box<dyn Stream>,
    clock: Arc<dyn Clock>,
    budget: Arc<Budget>,
    /// Runs from a write that had to wait until all is taken, or enough.
    stalled: Option<Waiting>,
    /// What was taken since it runs.
    taken: u64,
    held: Held,
    /// What was read of the stream before hyper was there to read it.
    first: Bytes,
    motion: Arc<Motion>,
    /// There was none.
    is_over: bool,
}

impl Guarded {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        clock: Arc<dyn Clock>,
        budget: Arc<Budget>,
        held: Held,
    ) -> Self {
        Self {
            stream,
            clock,
            budget,
            stalled: None,
            taken: 0,
            held,
            first: Bytes::new(),
            motion: Arc::default(),
            is_over: false,
        }
    }

    /// Reads these before what comes. Copied: they are a piece, often an empty one, of a buffer that would be kept for them.
    pub(super) fn unread(&mut self, first: Bytes) {
        self.motion.read(first.len());
        self.first = Bytes::from([&first[..], &self.first].concat());
    }

    /// What is on its way.
    pub(super) fn motion(&self) -> Arc<Motion> {
        Arc::clone(&self.motion)
    }

    /// Waits until something comes, which hyper will read again; `false` where nothing more does.
    pub(super) async fn something(&mut self) -> bool {
        if self.first.is_empty() {
            let mut first = [0; FIRST_BYTES];
            let count = self.stream.read(&mut first).await.unwrap_or(0);
            self.first = Bytes::copy_from_slice(&first[..count]);
            self.motion.read(count);
        }
        !self.first.is_empty()
    }

    /// Whether what has come asks for one of the operator's paths.
    pub(super) fn is_operators(&self) -> bool {
        [&b"GET /-/"[..], b"HEAD /-/"]
            .iter()
            .any(|begin| self.first.starts_with(begin))
    }

    /// Whether a head had no memory.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Past a head of the usual size it takes memory for the largest, without waiting: it has some.
    fn take_if_large(&mut self) -> io::Result<()> {
        if self.motion.is_large() {
            let bytes = limits::CONNECTION_READ_BYTES_MAX as u64;
            let Some(share) = self.budget.try_take(Claim::Connection, bytes) else {
                self.is_over = true;
                return Err(io::ErrorKind::OutOfMemory.into());
            };
            self.motion.hold(share);
        }
        Ok(())
    }

    /// Reads no more at once than is due.
    fn poll_read_due(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = self.motion.room();
        let before = buf.filled().len();
        let stream = Pin::new(&mut self.stream);
        if most < buf.remaining() {
            let mut some = ReadBuf::new(buf.initialize_unfilled_to(most));
            ready!(stream.poll_read(cx, &mut some))?;
            let count = some.filled().len();
            buf.advance(count);
        } else {
            ready!(stream.poll_read(cx, buf))?;
        }
        self.motion.read(buf.filled().len() - before);
        Poll::Ready(self.take_if_large())
    }

    /// Takes off some of what nobody looks at any more: into the stack, as who is told to go may have been refused because there was no
    /// memory; nor is it a head that would take some.
    pub(super) fn poll_away(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.first = Bytes::new();
        let mut scrap = [MaybeUninit::uninit(); AWAY_BYTES];
        let mut scrap = ReadBuf::uninit(&mut scrap);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut scrap))?;
        Poll::Ready(Ok(scrap.filled().len()))
    }

    /// Forgets what is held; says what it meant.
    pub(super) fn give_up_held(&mut self) -> Option<Unserved> {
        self.held.take()
    }

    /// What a write that came to `written` comes to, time considered.
    fn guard(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.motion.wrote(true);
        if let Poll::Ready(Ok(count)) = &written {
            self.taken += *count as u64;
            if self.taken >= limits::WRITE_STALL_BYTES_MIN {
                (self.taken, self.stalled) = (0, None);
            }
        }
        self.in_time(cx, written)
    }

    /// Everything written so far was taken, or is not yet.
    fn guard_end(&mut self, cx: &mut Context<'_>, ended: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if ended.is_ready() {
            self.motion.wrote(!matches!(ended, Poll::Ready(Ok(()))));
            (self.taken, self.stalled) = (0, None);
        }
        self.in_time(cx, ended)
    }

    fn in_time<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            return done;
        }
        let limit = Duration::from_millis(limits::WRITE_STALL_MS_MAX);
        let waiting = self.stalled.get_or_insert_with(|| self.clock.sleep(limit));
        ready!(waiting.as_mut().poll(cx));
        (self.taken, self.stalled) = (0, None);
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
        let has_first = !self.first.is_empty();
        if has_first {
            let count = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(count));
        }
        match self.poll_read_due(cx, buf) {
            // With what came behind it, so that a usual head is one read of the usual size.
            Poll::Pending if has_first => Poll::Ready(Ok(())),
            done => done,
        }
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
        self.guard_end(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx, true))?;
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.guard_end(cx, shut)
    }
}
