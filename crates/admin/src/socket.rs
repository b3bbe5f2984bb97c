//! Serving the operator's socket: HTTP/1.1, one request a connection.
//!
//! Bounded on every side: connections at once, the time until a request is whole, the length of its body, and how long a client may take
//! nothing of an answer. Not here: what is answered ([`crate::Operator`]).

use crate::Operator;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use types::limits::{
    OPERATOR_REQUEST_BYTES_MAX, OPERATOR_REQUEST_MS_MAX, OPERATOR_STALL_MS_MAX, SOCKET_CONNECTIONS_MAX,
};
use world::{Clock, LocalListener, Stream};

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How far a connection is: while a request is being answered only its own client waits.
#[derive(Default)]
struct Progress {
    /// Counts up with all that the client sends or takes.
    moves: AtomicU64,
    /// Requests whose answer is being made.
    made: AtomicU64,
}

/// Accepts and answers until told to stop.
pub async fn serve_operator(
    listener: LocalListener,
    operator: Arc<Operator>,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < SOCKET_CONNECTIONS_MAX;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "an operator's connection ended badly");
            },
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, process)) => {
                    connections.spawn(connection(stream, process, operator.clone(), clock.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "an operator's connection was not accepted");
                    clock.sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(
    stream: Box<dyn Stream>,
    process: Option<i32>,
    operator: Arc<Operator>,
    clock: Arc<dyn Clock>,
) {
    let progress = Arc::new(Progress::default());
    let service = service_fn(|request: Request<Incoming>| {
        let (operator, clock, progress) = (operator.clone(), clock.clone(), progress.clone());
        async move { Ok::<_, Infallible>(answer(&operator, &*clock, (request, process), progress).await) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).auto_date_header(false);
    let served = http.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = served => if let Err(error) = ended {
            tracing::debug!(%error, "an operator's connection ended early");
        },
        () = stalled(&*clock, &progress) => tracing::debug!("an operator's connection stood still: cut off"),
    }
}

/// Ends once nothing has moved for too long, unless an answer is being made.
async fn stalled(clock: &dyn Clock, progress: &Progress) {
    let mut patience_ms = OPERATOR_REQUEST_MS_MAX;
    loop {
        let before = progress.moves.load(Ordering::Relaxed);
        clock.sleep(Duration::from_millis(patience_ms)).await;
        let is_made = progress.made.load(Ordering::Relaxed) > 0;
        if !is_made && progress.moves.load(Ordering::Relaxed) == before {
            return;
        }
        patience_ms = OPERATOR_STALL_MS_MAX;
    }
}

async fn answer(
    operator: &Operator,
    clock: &dyn Clock,
    (request, process): (Request<Incoming>, Option<i32>),
    progress: Arc<Progress>,
) -> Response<Moving> {
    let (parts, body) = request.into_parts();
    let body = tokio::select! {
        whole = Limited::new(body, OPERATOR_REQUEST_BYTES_MAX).collect() => whole.ok(),
        () = clock.sleep(Duration::from_millis(OPERATOR_REQUEST_MS_MAX)) => None,
    };
    progress.made.fetch_add(1, Ordering::Relaxed);
    let response = match body {
        Some(body) => {
            operator
                .answer(Request::from_parts(parts, body.to_bytes()), process)
                .await
        }
        None => {
            let mut response = Response::new(Body::from("a request's body is short and comes at once\n"));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    };
    progress.moves.fetch_add(1, Ordering::Relaxed);
    progress.made.fetch_sub(1, Ordering::Relaxed);
    response.map(|body| Moving { body, progress })
}

/// An answer's body that tells each time something of it was taken.
struct Moving {
    body: Body,
    progress: Arc<Progress>,
}

impl http_body::Body for Moving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_ready() {
            self.progress.moves.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
