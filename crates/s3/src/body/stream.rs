//! A body in motion: the connection's pieces in, the object's out.

use super::aws_chunked::Frames;
use super::pace::Pace;
use super::plain::Plain;
use super::{BodyPlan, BodyRefusal, RefusalSlot};
use bytes::{Bytes, BytesMut};
use http_body::Body as HttpBody;
use objects::{Body, BodyError};
use std::pin::Pin;
use std::sync::Arc;
use types::Checksum;
use world::Clock;

/// Makes an object's body of a request's. What it is refused for stands in the slot.
pub fn open<B>(plan: BodyPlan, body: B, clock: Arc<dyn Clock>) -> (Box<dyn Body>, RefusalSlot)
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    let slot = RefusalSlot::default();
    let state = match plan.length() {
        Ok(length) => State::Arriving(Coding::new(&plan, Some(length))),
        Err(refusal) => State::refused(refusal, &slot),
    };
    let arriving = Arriving {
        body: Box::pin(body),
        pace: Pace::new(clock),
        piece: Bytes::new(),
        state,
        slot: slot.clone(),
    };
    (Box::new(arriving), slot)
}

/// Gathers a document of at most `max` bytes, with the same checks, and its trailer's checksums. A document needs no
/// length: without one it is read to its end, or is empty where HTTP says that there is no body.
///
/// # Errors
/// What it is refused for.
pub async fn collect<B>(
    plan: BodyPlan,
    body: B,
    clock: Arc<dyn Clock>,
    max: usize,
) -> Result<(Bytes, Vec<Checksum>), BodyRefusal>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    let too_big = || BodyRefusal::MaxMessageLengthExceeded { max: max as u64 };
    let length = if plan.mode.framed() {
        plan.decoded_length
    } else {
        plan.content_length
    };
    if length.is_some_and(|length| length > max as u64) {
        return Err(too_big());
    }
    let mut arriving = Arriving {
        body: Box::pin(body),
        pace: Pace::new(clock),
        piece: Bytes::new(),
        // Without either header HTTP says that there is no body.
        state: State::Arriving(Coding::new(
            &plan,
            if plan.chunked { length } else { length.or(Some(0)) },
        )),
        slot: RefusalSlot::default(),
    };
    let mut whole = BytesMut::new();
    while let Some(piece) = arriving.step().await? {
        if whole.len() + piece.len() > max {
            return Err(too_big());
        }
        whole.extend_from_slice(&piece);
    }
    Ok((whole.freeze(), arriving.take_checksums()))
}

struct Arriving<B> {
    body: Pin<Box<B>>,
    pace: Pace,
    /// What is left of the piece that came last.
    piece: Bytes,
    state: State,
    slot: RefusalSlot,
}

/// A refusal is for good, and so is the end.
enum State {
    Arriving(Coding),
    Ended(Vec<Checksum>),
    Refused(BodyRefusal),
}

impl State {
    fn refused(refusal: BodyRefusal, slot: &RefusalSlot) -> Self {
        slot.set(refusal.clone());
        Self::Refused(refusal)
    }
}

enum Coding {
    Plain(Box<Plain>),
    Frames(Box<Frames>),
}

impl Coding {
    fn new(plan: &BodyPlan, length: Option<u64>) -> Self {
        if plan.mode.framed() {
            Self::Frames(Box::new(Frames::new(plan, length.unwrap_or(0))))
        } else {
            Self::Plain(Box::new(Plain::new(plan.mode, length)))
        }
    }

    /// The object's next bytes out of `input`, never empty; `None` once it is used up.
    fn pull(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, BodyRefusal> {
        match self {
            Self::Frames(frames) => frames.pull(input),
            Self::Plain(_) if input.is_empty() => Ok(None),
            Self::Plain(plain) => {
                let piece = std::mem::take(input);
                plain.piece(&piece)?;
                Ok(Some(piece))
            }
        }
    }

    fn finish(&mut self) -> Result<Vec<Checksum>, BodyRefusal> {
        match self {
            Self::Plain(plain) => plain.finish().map(|()| Vec::new()),
            Self::Frames(frames) => frames.finish().map(|()| frames.checksums()),
        }
    }

    /// The connection broke.
    fn broken(&self) -> BodyRefusal {
        match self {
            Self::Plain(plain) => plain.incomplete(plain.provided()),
            Self::Frames(frames) => frames.incomplete(frames.provided()),
        }
    }
}

impl<B: HttpBody<Data = Bytes>> Arriving<B> {
    fn take_checksums(&mut self) -> Vec<Checksum> {
        match &mut self.state {
            State::Ended(checksums) => std::mem::take(checksums),
            _ => Vec::new(),
        }
    }

    /// The next bytes; a refusal is remembered.
    async fn step(&mut self) -> Result<Option<Bytes>, BodyRefusal> {
        let step = match &mut self.state {
            State::Ended(_) => return Ok(None),
            State::Refused(refusal) => return Err(refusal.clone()),
            State::Arriving(coding) => advance(coding, &mut self.piece, &mut self.pace, &mut self.body).await,
        };
        match step {
            Ok(Step::Bytes(bytes)) => Ok(Some(bytes)),
            Ok(Step::End(checksums)) => {
                self.state = State::Ended(checksums);
                Ok(None)
            }
            Err(refusal) => {
                self.state = State::refused(refusal.clone(), &self.slot);
                Err(refusal)
            }
        }
    }
}

enum Step {
    Bytes(Bytes),
    End(Vec<Checksum>),
}

async fn advance<B: HttpBody<Data = Bytes>>(
    coding: &mut Coding,
    piece: &mut Bytes,
    pace: &mut Pace,
    body: &mut Pin<Box<B>>,
) -> Result<Step, BodyRefusal> {
    loop {
        if let Some(bytes) = coding.pull(piece)? {
            return Ok(Step::Bytes(bytes));
        }
        match pace.frame(body).await? {
            // Trailers of the connection's own chunked coding say nothing in S3.
            Some(Ok(frame)) => *piece = frame.into_data().unwrap_or_default(),
            Some(Err(_)) => return Err(coding.broken()),
            None => return coding.finish().map(Step::End),
        }
    }
}

#[async_trait::async_trait]
impl<B: HttpBody<Data = Bytes> + Send> Body for Arriving<B> {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.step().await.map_err(|refusal| refusal.to_body_error())
    }

    fn trailer(&mut self) -> Vec<Checksum> {
        self.take_checksums()
    }
}
