//! Client connections: HTTP/1.1 by hyper over any stream.
//!
//! Bounded on every side: how many at once, how long a head may take and how large it may be, how slowly a client may take
//! an answer; the body's pace is `body`'s. At rest they cost little (rest.rs), awake they take memory from a budget of their own. Where all places are taken who is idle leaves (places.rs). A connection whose request was refused before its body was read is
//! closed with a little patience, so that the client reads the refusal and not a reset.

mod again;
mod guarded;
mod places;
mod rest;
mod unserved;

pub(crate) use places::{Place, Places};
pub(crate) use unserved::Unserved;

use again::Again;
use guarded::Guarded;
use rest::{Due, Motion};
use unserved::{Held, Turn};

use crate::reply::{Reply, ReplyBody};
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use types::limits;
use world::{Budget, Claim, Clock, Listener, OverBudget, Share, Stream};

/// Makes a raw connection a secure one. Runs in the connection's own task, under the head's time limit.
#[async_trait::async_trait]
pub trait Secure: Send + Sync {
    /// The handshake.
    async fn secure(&self, stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>>;
}

/// Headers of one request.
const HEADERS_MAX: usize = 256;
/// Pause after a failed accept: the usual cause, no free descriptors, passes by itself.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whoever answers the requests that come in.
#[async_trait::async_trait]
pub(crate) trait Answer: Send + Sync + 'static {
    /// The answer to one request.
    async fn answer(&self, request: Request<Incoming>) -> Reply;

    /// The answer to a request that is not looked at.
    fn unserved(&self, why: Unserved) -> Reply;
}

/// What an awake connection has its memory of, until it is dropped.
#[allow(dead_code, reason = "given back by being dropped")]
enum Memory {
    /// The budget.
    Taken(Share),
    /// What is kept for operators.
    Reserved(OwnedSemaphorePermit),
}

/// Where connections come in.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) answer: Arc<dyn Answer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) secure: Option<Arc<dyn Secure>>,
    /// What connections take their memory from: another than requests', which theirs is held beside.
    pub(crate) budget: Arc<Budget>,
    /// Once it turns true, the request under way on each connection is its last.
    pub(crate) drain: watch::Receiver<bool>,
}

impl Door {
    /// Accepts and serves connections until told to drain; then lets requests under way end, for at most `patience`, and
    /// cuts off the rest.
    pub(crate) async fn serve(
        mut self,
        listener: Box<dyn Listener>,
        connections_max: usize,
        patience: Duration,
    ) {
        let places = Places::new(connections_max);
        // Accepted, and without a place yet.
        let mut waiting: Option<Box<dyn Stream>> = None;
        let mut connections = JoinSet::new();
        let gauge = metrics::gauge!("cairn_s3_connections");
        loop {
            gauge.set(connections.len() as f64);
            tokio::select! {
                () = drained(&mut self.drain) => break,
                Some(ended) = connections.join_next() => report(ended),
                accepted = listener.accept(), if waiting.is_none() => match accepted {
                    Ok((stream, _from)) => waiting = Some(stream),
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        self.clock.sleep(ACCEPT_PAUSE).await;
                    }
                },
                place = places.next(), if waiting.is_some() => {
                    if let Some(stream) = waiting.take() {
                        connections.spawn(self.clone().serve_stream(stream, place));
                    }
                }
            }
        }
        drop(listener);
        tokio::select! {
            () = self.clock.sleep(patience) => {
                tracing::warn!(left = connections.len(), "cutting off requests that did not end");
            }
            () = async { while let Some(ended) = connections.join_next().await { report(ended) } } => {}
        }
        connections.shutdown().await;
    }

    async fn serve_stream(self, stream: Box<dyn Stream>, place: Place) {
        let Some(secure) = self.secure.clone() else {
            return self.serve_connection(stream, place).await;
        };
        let secured = tokio::select! {
            () = self.clock.sleep(Duration::from_millis(limits::HEAD_MS_MAX)) => Err(io::ErrorKind::TimedOut.into()),
            () = place.asked_to_leave() => return,
            secured = secure.secure(stream) => secured,
        };
        match secured {
            Ok(stream) => self.serve_connection(stream, place).await,
            Err(error) => tracing::debug!(%error, "handshake failed"),
        }
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve_connection(self, stream: Box<dyn Stream>, place: Place) {
        Again::new(self.serve_accepted(stream, place)).await;
    }

    async fn serve_accepted(mut self, stream: Box<dyn Stream>, place: Place) {
        let place = Arc::new(place);
        let held = Held::default();
        let turn = held.turn();
        let mut io = Guarded::new(stream, Arc::clone(&self.clock), Arc::clone(&self.budget), held);
        loop {
            if let Err(patience_ms) = self.something(&mut io, &place).await {
                return linger(io, self.clock.sleep(Duration::from_millis(patience_ms))).await;
            }
            let Ok(memory) = self.memory(&place, io.is_operators()).await else {
                return self.give_up(io, Unserved::Full).await;
            };
            // Boxed: at rest a connection is no more than the rest of this.
            match Box::pin(self.serve_awake(io, (&place, &memory), &turn)).await {
                Some(at_rest) => io = at_rest,
                None => return,
            }
        }
    }

    /// Waits for the memory of an awake connection; it holds nothing else yet that another could wait for.
    async fn memory(&self, place: &Place, is_operators: bool) -> Result<Memory, OverBudget> {
        let out = self
            .secure
            .as_ref()
            .map_or(0, |_| limits::CONNECTION_SECURE_OUT_BYTES);
        let bytes = (limits::CONNECTION_AWAKE_BYTES + out) as u64;
        let mut taken = pin!(self.budget.take(Claim::Connection, bytes));
        if is_operators {
            let at_once = poll_fn(|cx| Poll::Ready(taken.as_mut().poll(cx))).await;
            match (at_once, place.reserved()) {
                (Poll::Ready(Ok(share)), _) => return Ok(Memory::Taken(share)),
                (_, Some(reserved)) => return Ok(Memory::Reserved(reserved)),
                (Poll::Ready(Err(refused)), None) => return Err(refused),
                (Poll::Pending, None) => {}
            }
        }
        tokio::select! {
            biased;
            taken = taken => taken.map(Memory::Taken),
            () = place.ask_others(&*self.clock) => Err(OverBudget),
        }
    }

    /// Waits until something comes; else tells how much patience is due to who may still send.
    async fn something(&mut self, io: &mut Guarded, place: &Place) -> Result<(), u64> {
        tokio::select! {
            came = io.something() => if came { Ok(()) } else { Err(limits::LINGER_MS_MAX) },
            () = drained(&mut self.drain) => Err(limits::LINGER_STOPPING_MS_MAX),
            () = place.asked_to_leave() => Err(limits::LINGER_STOPPING_MS_MAX),
            () = self.clock.sleep(Duration::from_millis(limits::HEAD_MS_MAX)) => Err(limits::LINGER_MS_MAX),
        }
    }

    /// Serves what comes until the connection ends, or is at rest: then it is answered.
    async fn serve_awake(
        &mut self,
        io: Guarded,
        (place, memory): (&Arc<Place>, &Memory),
        turn: &Turn,
    ) -> Option<Guarded> {
        let (motion, awake) = (io.motion(), place.awake());
        let mut http = http1::Builder::new();
        http.timer(WorldTimer::new(Arc::clone(&self.clock)))
            .header_read_timeout(Duration::from_millis(limits::HEAD_MS_MAX))
            .max_headers(HEADERS_MAX)
            .max_buf_size(limits::CONNECTION_READ_BYTES_MAX)
            // The date comes from our clock (service.rs).
            .auto_date_header(false);
        let handler = Handler {
            answer: Arc::clone(&self.answer),
            place: Arc::clone(place),
            is_operators: place.is_operators || matches!(memory, Memory::Reserved(_)),
            sends_body: Arc::default(),
            motion: Arc::clone(&motion),
        };
        let sends_body = Arc::clone(&handler.sends_body);
        let mut connection = http.serve_connection(TokioIo::new(io), handler);
        let mut patience_ms = limits::LINGER_MS_MAX;
        let ended = loop {
            tokio::select! {
                // hyper first: what it still has to do may be the end of the connection.
                biased;
                ended = ended(&mut connection, turn) => break ended,
                () = drained(&mut self.drain) => {
                    // A client that keeps idle connections for later does not close them for us.
                    if !(place.is_busy() && sends_body.load(Ordering::Relaxed)) {
                        patience_ms = limits::LINGER_STOPPING_MS_MAX;
                    }
                    Pin::new(&mut connection).graceful_shutdown();
                    break ended(&mut connection, turn).await;
                }
                () = place.asked_to_leave() => {
                    // Its place is wanted: only an answer is waited for.
                    if !place.is_busy() {
                        patience_ms = limits::LINGER_STOPPING_MS_MAX;
                    }
                    Pin::new(&mut connection).graceful_shutdown();
                    break self.last_answer(&mut connection, place, turn).await?;
                }
                due = rest::due(&*self.clock, (place, &awake), &motion) => match due {
                    Due::Rest if motion.is_at_rest() && !turn.is_held() => {
                        let parts = connection.into_parts();
                        let mut io = parts.io.into_inner();
                        io.unread(parts.read_buf);
                        return Some(io);
                    }
                    Due::Rest => {}
                    // An answer that is not taken has its own patience.
                    Due::Leave if motion.is_unflushed() => {}
                    Due::Leave => return None,
                }
            }
        };
        let io = connection.into_parts().io.into_inner();
        self.end(io, ended, (place, patience_ms)).await;
        None
    }

    /// Waits for the answer under way; `None` where there is half a head, or an answer that is not taken.
    async fn last_answer(
        &self,
        connection: &mut http1::Connection<TokioIo<Guarded>, Handler>,
        place: &Place,
        turn: &Turn,
    ) -> Option<hyper::Result<()>> {
        loop {
            tokio::select! {
                ended = ended(connection, turn) => return Some(ended),
                () = self.clock.sleep(Duration::from_millis(limits::LINGER_MS_MAX)) => {
                    if !place.is_busy() {
                        return None;
                    }
                }
            }
        }
    }

    /// The last of a connection that hyper is done with.
    async fn end(&self, mut io: Guarded, ended: hyper::Result<()>, (place, patience_ms): (&Place, u64)) {
        let patience = self.clock.sleep(Duration::from_millis(patience_ms));
        let Err(error) = ended else {
            return linger(io, patience).await;
        };
        tracing::debug!(%error, "a connection ended early");
        if io.is_over() {
            return match io.motion().is_unflushed() {
                // I5: a word now would stand in the middle of the answer before.
                true => linger(io, patience).await,
                false => self.give_up(io, Unserved::Full).await,
            };
        }
        // Of a request in HTTP/2 hyper says nothing: what is held then is an answer's.
        let is_told = error.is_parse() && !error.is_parse_version_h2() && !place.is_busy();
        match is_told.then(|| io.give_up_held()).flatten() {
            Some(what) => self.give_up(io, what).await,
            // An answer's last bytes may be held.
            None => linger(io, patience).await,
        }
    }

    /// Says why nobody looks at the request.
    async fn give_up(&self, io: Guarded, why: Unserved) {
        let answer = unserved::to_bytes(self.answer.unserved(why)).await;
        let patience = self.clock.sleep(Duration::from_millis(limits::LINGER_MS_MAX));
        refuse(io, &answer, patience).await;
    }
}

/// Polls a connection until it ends.
async fn ended(
    connection: &mut http1::Connection<TokioIo<Guarded>, Handler>,
    turn: &Turn,
) -> hyper::Result<()> {
    poll_fn(|cx| turn.after(connection.poll_without_shutdown(cx), cx)).await
}

/// Ends when draining begins, or whoever could begin it is gone.
async fn drained(drain: &mut watch::Receiver<bool>) {
    let _gone = drain.wait_for(|d| *d).await;
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task panicked");
    }
}

/// Says a last word.
async fn refuse(mut io: Guarded, answer: &[u8], mut patience: Waiting) {
    let said = tokio::select! {
        () = &mut patience => return,
        said = io.write_all(answer) => said,
    };
    if said.is_ok() {
        linger(io, patience).await;
    }
}

/// Closes our side, then takes what the client still sends, within bounds: closing a socket with unread bytes on it
/// resets the connection, and the reset can overtake the answer.
async fn linger(mut io: Guarded, patience: Waiting) {
    let read_off = async {
        io.shutdown().await?;
        let mut left = limits::LINGER_BYTES_MAX;
        while left > 0 {
            match poll_fn(|cx| io.poll_away(cx)).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    };
    tokio::select! {
        () = patience => {}
        _whichever = read_off => {}
    }
}

struct Handler {
    answer: Arc<dyn Answer>,
    place: Arc<Place>,
    /// Only the operator's paths are answered.
    is_operators: bool,
    /// Whether the last request has a body: answered before that was read, it may still be coming.
    sends_body: Arc<AtomicBool>,
    motion: Arc<Motion>,
}

impl hyper::service::Service<Request<Incoming>> for Handler {
    type Response = Response<UnderWay>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answer = Arc::clone(&self.answer);
        let busy = (self.place.busy(), OnItsWay::new(&self.motion));
        self.sends_body
            .store(!request.body().is_end_stream(), Ordering::Relaxed);
        let is_full = self.is_operators && !request.uri().path().starts_with("/-/");
        Box::pin(async move {
            let reply = if is_full {
                let mut reply = answer.unserved(Unserved::Full);
                let close = HeaderValue::from_static("close");
                reply.headers_mut().insert(header::CONNECTION, close);
                reply
            } else {
                answer.answer(request).await
            };
            Ok(reply.map(|body| UnderWay { body, _busy: busy }))
        })
    }
}

/// An answer's body; its request is under way as long as it is there.
struct UnderWay {
    body: ReplyBody,
    _busy: (places::Busy, OnItsWay),
}

/// Tells a connection's motion of a request, until it is dropped.
struct OnItsWay(Arc<Motion>);

impl OnItsWay {
    fn new(motion: &Arc<Motion>) -> Self {
        motion.begin();
        Self(Arc::clone(motion))
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Body for UnderWay {
    type Data = <ReplyBody as Body>::Data;
    type Error = <ReplyBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// hyper's timer on the world's clock. hyper counts in `Instant`s; ours are a fixed one and the clock's time since then.
struct WorldTimer {
    clock: Arc<dyn Clock>,
    base: Instant,
    base_mono: Duration,
}

impl WorldTimer {
    fn new(clock: Arc<dyn Clock>) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "only differences to it are ever looked at"
        )]
        let base = Instant::now();
        let base_mono = clock.mono();
        Self {
            clock,
            base,
            base_mono,
        }
    }
}

impl Timer for WorldTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Asleep(Mutex::new(self.clock.sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }

    fn now(&self) -> Instant {
        self.base + self.clock.mono().saturating_sub(self.base_mono)
    }
}

/// The mutex only makes it `Sync`, as hyper asks; it is never locked.
struct Asleep(Mutex<Waiting>);

impl Future for Asleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = self
            .0
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        waiting.as_mut().poll(cx)
    }
}

impl Sleep for Asleep {}

#[cfg(test)]
mod tests;
