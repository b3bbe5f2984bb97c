//! Slow clients: how long a body may keep us waiting.

use super::BodyRefusal;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use types::limits::{BODY_STALL_BYTES_MIN, BODY_STALL_MS};
use world::Clock;

const STALL: Duration = Duration::from_millis(BODY_STALL_MS);

/// Counts the time spent waiting for the client, and only that: while we write, no client is slow.
/// Every [`BODY_STALL_BYTES_MIN`] bytes buy another [`BODY_STALL_MS`], so neither silence nor a trickle holds a place for
/// long.
pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// The body's next frame; `None` at its end.
    ///
    /// # Errors
    /// RequestTimeout when the client is too slow.
    pub(super) async fn frame<B>(
        &mut self,
        body: &mut Pin<Box<B>>,
    ) -> Result<Option<Result<Frame<Bytes>, B::Error>>, BodyRefusal>
    where
        B: HttpBody<Data = Bytes>,
    {
        // Only a read that must wait costs a timer.
        let mut timer = None;
        let frame = poll_fn(|cx| {
            if let Poll::Ready(frame) = body.as_mut().poll_frame(cx) {
                return Poll::Ready(Ok(frame));
            }
            let (_, timer) = timer.get_or_insert_with(|| {
                (
                    self.clock.mono(),
                    self.clock.sleep(STALL.saturating_sub(self.waited)),
                )
            });
            timer.as_mut().poll(cx).map(|()| Err(BodyRefusal::RequestTimeout))
        })
        .await?;
        if let Some((since, _)) = timer {
            self.waited += self.clock.mono().saturating_sub(since);
        }
        if let Some(data) = frame
            .as_ref()
            .and_then(|f| f.as_ref().ok())
            .and_then(Frame::data_ref)
        {
            self.bytes += data.len() as u64;
        }
        if self.bytes >= BODY_STALL_BYTES_MIN {
            (self.bytes, self.waited) = (0, Duration::ZERO);
        }
        Ok(frame)
    }
}
