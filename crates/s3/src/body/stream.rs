//! A body in motion.

use super::{BodyPlan, BodyRefusal, RefusalSlot};
use bytes::Bytes;
use http_body::Body as HttpBody;
use objects::{Body, BodyError};
use std::sync::Arc;
use types::Checksum;
use world::Clock;

/// Makes an object's body of a request's. What it is refused for stands in the slot.
pub fn open<B>(plan: BodyPlan, body: B, clock: Arc<dyn Clock>) -> (Box<dyn Body>, RefusalSlot)
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    let _ = (plan, body, clock);
    (Box::new(Stub), RefusalSlot::default())
}

/// Gathers a document of at most `max` bytes, with the same checks.
///
/// # Errors
/// What it is refused for.
pub async fn collect<B>(
    plan: BodyPlan,
    body: B,
    clock: Arc<dyn Clock>,
    max: usize,
) -> Result<Bytes, BodyRefusal>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    let _ = (plan, body, clock, max);
    Err(BodyRefusal::BadRequest("bodies are not read yet"))
}

struct Stub;

#[async_trait::async_trait]
impl Body for Stub {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        Err(BodyError::Incomplete)
    }
    fn trailer(&mut self) -> Vec<Checksum> {
        Vec::new()
    }
}
