//! Calls sent at once, and callers that go away.

use index::IndexRole;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use wire::index::{Answered, Call, Index};

pub type Calling<'a> = Pin<Box<dyn Future<Output = Vec<Answered>> + Send + 'a>>;

/// All calls at once, in their order.
pub fn call_all<'a>(role: &'a Arc<IndexRole>, calls: &[Call]) -> Calling<'a> {
    let calls: Vec<_> = calls.iter().map(|c| role.call(c.clone())).collect();
    let heard: Vec<Option<Answered>> = calls.iter().map(|_| None).collect();
    let state = Mutex::new((calls, heard));
    Box::pin(std::future::poll_fn(move |cx| {
        let (calls, heard) = &mut *state.lock().unwrap();
        for (call, heard) in calls
            .iter_mut()
            .zip(heard.iter_mut())
            .filter(|(_, h)| h.is_none())
        {
            if let Poll::Ready(answer) = call.as_mut().poll(cx) {
                *heard = Some(answer);
            }
        }
        if heard.iter().all(Option::is_some) {
            return Poll::Ready(heard.drain(..).flatten().collect());
        }
        Poll::Pending
    }))
}

/// The callers go away after a while; what they sent is on its way.
pub async fn give_up(mut calling: Calling<'_>, polls: u64) {
    for _ in 0..=polls {
        let done = std::future::poll_fn(|cx| Poll::Ready(calling.as_mut().poll(cx).is_ready())).await;
        if done {
            return;
        }
        tokio::task::yield_now().await;
    }
}
