//! `/-/health/live`, `/-/health/ready`, `/-/health/scrub`, `/-/metrics`. No bucket can begin with `-`, so these paths collide with none.

use crate::scrubbed;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tower::ServiceExt;
use wire::index::Index;
use wire::node::Node;
use wire::scrub::Scrubbing;

/// A page of metrics is far below.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Says whether the store can serve a write now, and if not, why.
pub struct Readiness {
    nodes: Vec<Arc<dyn Node>>,
    index: Arc<dyn Index>,
    draining: AtomicBool,
}

impl Readiness {
    /// Readiness of a store whose bytes go to `nodes` and whose names to `index`.
    pub fn new(nodes: Vec<Arc<dyn Node>>, index: Arc<dyn Index>) -> Self {
        Self {
            nodes,
            index,
            draining: AtomicBool::new(false),
        }
    }

    /// From here on not ready: the process is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// `Ok` when at least one disk takes writes and the index decides commands; else every reason, a line each.
    ///
    /// # Errors
    /// The reasons.
    pub async fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("stopping".to_owned());
        }
        if let Err(fault) = self.index.serving().await {
            return Err(format!("index: {fault}"));
        }
        let mut reasons = Vec::new();
        for node in &self.nodes {
            match node.disks().await {
                Err(fault) => reasons.push(fault.to_string()),
                Ok(disks) => {
                    for disk in disks {
                        match disk.refusing {
                            None => return Ok(()),
                            Some(why) => reasons.push(format!("disk {}: {why}", disk.disk)),
                        }
                    }
                }
            }
        }
        Err(if reasons.is_empty() {
            "no disk".to_owned()
        } else {
            reasons.join("\n")
        })
    }
}

/// The operator's HTTP face.
#[derive(Clone)]
pub struct Admin {
    router: Router,
}

#[derive(Clone)]
struct Shared {
    readiness: Arc<Readiness>,
    scrubbing: Option<Arc<dyn Scrubbing>>,
    metrics: PrometheusHandle,
}

impl Admin {
    /// The face over what the roles say of themselves.
    /// `scrubbing` is `None` where nothing is scrubbed.
    pub fn new(
        readiness: Arc<Readiness>,
        scrubbing: Option<Arc<dyn Scrubbing>>,
        metrics: PrometheusHandle,
    ) -> Self {
        let router = Router::new()
            .route("/-/health/live", get(|| async { "live\n" }))
            .route("/-/health/ready", get(ready))
            .route("/-/health/scrub", get(scrub))
            .route("/-/metrics", get(render))
            .fallback(|| async { (StatusCode::NOT_FOUND, "no such operator path\n") })
            .with_state(Shared {
                readiness,
                scrubbing,
                metrics,
            });
        Self { router }
    }

    /// Answers one request whose path begins with `/-/`. Bodies of requests are not read.
    pub async fn answer(&self, method: http::Method, uri: http::Uri) -> Response<Bytes> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        match axum::body::to_bytes(body, ANSWER_BYTES_MAX).await {
            Ok(bytes) => Response::from_parts(parts, bytes),
            Err(_) => {
                let mut response = Response::new(Bytes::from_static(b"the answer is too long\n"));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        }
    }
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.readiness.ready().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn scrub(State(shared): State<Shared>) -> impl IntoResponse {
    let Some(scrubbing) = &shared.scrubbing else {
        return (StatusCode::OK, "not scrubbed: scrub_period is 0\n".to_owned());
    };
    match scrubbing.scrub_state().await {
        Ok(state) => {
            let found = scrubbed::findings(&state);
            let status = if found == 0 {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            (status, scrubbed::page(&state))
        }
        Err(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("not known: {fault}\n")),
    }
}

async fn render(State(shared): State<Shared>) -> impl IntoResponse {
    // Of the runtime that serves this page: it grows where something is left behind.
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    metrics::gauge!("cairn_tasks").set(tasks as f64);
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        shared.metrics.render(),
    )
}
