//! Signed requests, framed bodies, a connection in pieces and a clock that only moves when somebody waits.

use crate::body::{BodyPlan, BodyRefusal, RefusalSlot, open, plan};
use auth::{AccessKey, AccessKeyId, ChunkSigning, Keys, SecretKey, signer, verify};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body::Frame;
use objects::BodyError;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use types::{AccountId, Checksum};
use world::Clock;

pub(super) const NOW_MS: u64 = 1_369_353_600_000;
pub(super) const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
pub(super) const SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
pub(super) const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

pub(super) fn key() -> AccessKey {
    AccessKey {
        id: AccessKeyId("AKIAIOSFODNN7EXAMPLE".into()),
        secret: SecretKey("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
        account: AccountId::ROOT,
    }
}

/// A PUT's head, signed.
pub(super) fn head(payload: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::put("/bucket/key").header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut parts = request.body(()).unwrap().into_parts().0;
    signer::sign(&mut parts, &key(), "us-east-1", NOW_MS, payload).unwrap();
    parts
}

/// What `plan` makes of a head.
pub(super) fn planned(parts: &Parts) -> Result<BodyPlan, BodyRefusal> {
    let mut keys = Keys::default();
    assert!(keys.add(key()));
    plan(parts, &verify(parts, &keys, "us-east-1", NOW_MS).unwrap())
}

/// The plan of a framed body of `length` bytes; with `trailer`, it brings that checksum.
pub(super) fn framed(payload: &str, length: usize, trailer: Option<&str>) -> BodyPlan {
    let length = length.to_string();
    let mut headers = vec![
        ("x-amz-decoded-content-length", length.as_str()),
        ("transfer-encoding", "chunked"),
    ];
    headers.extend(trailer.map(|name| ("x-amz-trailer", name)));
    planned(&head(payload, &headers)).unwrap()
}

/// What a client writes for `data` in frames of `frame_bytes`.
pub(super) fn encode(
    plan: &BodyPlan,
    data: &[u8],
    frame_bytes: usize,
    trailer: Option<(&str, &str)>,
) -> Vec<u8> {
    let mut signing = plan.signing.clone();
    let mut out = Vec::new();
    for frame in data.chunks(frame_bytes).chain([&[][..]]) {
        out.extend_from_slice(frame_line(signing.as_mut(), frame).as_bytes());
        out.extend_from_slice(frame);
        if !frame.is_empty() {
            out.extend_from_slice(b"\r\n");
        }
    }
    if let Some((name, value)) = trailer {
        out.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
        if let Some(signing) = &mut signing {
            let signature = signing.trailer(format!("{name}:{value}\n").as_bytes());
            out.extend_from_slice(format!("x-amz-trailer-signature:{}\r\n", signature.as_str()).as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

pub(super) fn frame_line(signing: Option<&mut ChunkSigning>, frame: &[u8]) -> String {
    match signing {
        None => format!("{:x}\r\n", frame.len()),
        Some(signing) => {
            let signature = signing.frame(digest(&SHA256, frame).as_ref());
            format!("{:x};chunk-signature={}\r\n", frame.len(), signature.as_str())
        }
    }
}

/// What a connection does.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Bytes(Bytes),
    /// Nothing for so long.
    Wait(Duration),
    Break,
}

/// A body in pieces.
pub(super) struct Connection {
    events: VecDeque<Event>,
    clock: Arc<StillClock>,
}

impl http_body::Body for Connection {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            match self.events.front().cloned() {
                Some(Event::Wait(d)) => {
                    if !self.clock.arrived(d) {
                        return Poll::Pending;
                    }
                    self.events.pop_front();
                }
                Some(Event::Bytes(bytes)) => {
                    self.events.pop_front();
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Event::Break) => return Poll::Ready(Some(Err(std::io::Error::other("reset")))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Stands still until somebody sleeps; then it jumps to whatever comes first.
#[derive(Default)]
pub(super) struct StillClock(Mutex<(Duration, Option<Duration>)>);

impl StillClock {
    /// Whether the wait of `d` that begins at its first call is over.
    fn arrived(&self, d: Duration) -> bool {
        let mut state = self.0.lock().unwrap();
        let now = state.0;
        let until = *state.1.get_or_insert(now + d);
        if now >= until {
            state.1 = None;
        }
        now >= until
    }
}

impl Clock for StillClock {
    fn wall_ms(&self) -> u64 {
        NOW_MS
    }
    fn mono(&self) -> Duration {
        self.0.lock().unwrap().0
    }
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        unreachable!("tests sleep by SharedClock")
    }
}

/// The clock that bodies are given.
pub(super) struct SharedClock(pub(super) Arc<StillClock>);

impl Clock for SharedClock {
    fn wall_ms(&self) -> u64 {
        NOW_MS
    }
    fn mono(&self) -> Duration {
        self.0.mono()
    }
    fn sleep(&self, d: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = self.0.clone();
        let deadline = clock.mono() + d;
        Box::pin(poll_fn(move |cx| {
            let mut state = clock.0.lock().unwrap();
            match state.1 {
                Some(arrival) if arrival < deadline => {
                    state.0 = state.0.max(arrival);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                _ => {
                    state.0 = state.0.max(deadline);
                    Poll::Ready(())
                }
            }
        }))
    }
}

/// `events` as a connection, and its clock.
pub(super) fn connection(events: impl IntoIterator<Item = Event>) -> (Connection, Arc<dyn Clock>) {
    let clock = Arc::new(StillClock::default());
    let connection = Connection {
        events: events.into_iter().collect(),
        clock: clock.clone(),
    };
    (connection, Arc::new(SharedClock(clock)))
}

/// `wire` cut at `cuts` (each modulo what is left).
pub(super) fn pieces(wire: &[u8], cuts: &[usize]) -> Vec<Event> {
    let mut rest = Bytes::copy_from_slice(wire);
    let mut events = Vec::new();
    for cut in cuts {
        events.push(Event::Bytes(rest.split_to(cut % (rest.len() + 1))));
    }
    events.push(Event::Bytes(rest));
    events
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// What a body gave: its bytes, and the trailer's checksums or why it was refused.
pub(super) type Outcome = (Vec<u8>, Result<Vec<Checksum>, BodyRefusal>);

/// Reads a body to its end, and once more.
pub(super) fn read(plan: BodyPlan, events: impl IntoIterator<Item = Event>) -> Outcome {
    let (connection, clock) = connection(events);
    let (mut body, slot) = open(plan, connection, clock);
    block_on(async {
        let mut bytes = Vec::new();
        loop {
            match body.next().await {
                Ok(Some(piece)) => {
                    assert!(!piece.is_empty(), "pieces are never empty");
                    bytes.extend_from_slice(&piece);
                }
                Ok(None) => {
                    assert_eq!(
                        (body.next().await, slot.get()),
                        (Ok(None), None),
                        "an end is for good"
                    );
                    return (bytes, Ok(body.trailer()));
                }
                Err(error) => {
                    assert_eq!(body.next().await, Err(error.clone()), "a refusal is for good");
                    assert!(body.trailer().is_empty());
                    return (bytes, Err(told(&slot, &error)));
                }
            }
        }
    })
}

/// The refusal in the slot, which must be what `objects` heard of.
fn told(slot: &RefusalSlot, error: &BodyError) -> BodyRefusal {
    let refusal = slot.get().expect("a refused body says why");
    match (&refusal, error) {
        (BodyRefusal::IncompleteBody { .. }, BodyError::Incomplete)
        | (BodyRefusal::RequestTimeout, BodyError::TimedOut) => {}
        (other, BodyError::Refused(said)) => assert_eq!(other.to_string(), *said),
        other => panic!("{other:?}"),
    }
    refusal
}
