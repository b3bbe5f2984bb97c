//! What the operator's socket answers: JSON, for the commands of `cairn` and for scripts (`curl --unix-socket`).
//!
//! | request | answer |
//! |---|---|
//! | `GET /reclaim` | [`ReclaimStatus`] |
//! | `POST /reclaim/hold` with [`HoldRequest`] | [`ReclaimStatus`], once it is durable |
//! | `POST /reclaim/release` | [`ReclaimStatus`], once it is durable |
//! | `/backups`, `/extents` | [`crate::backup`] |
//!
//! An error is a status from 400 on and a sentence.

use crate::backup::{self, BackupSource, Backups};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tower::ServiceExt as _;
use types::ErrorKind;
use wire::Fault;
use wire::control::Reclaim;
use world::World;

/// The socket's name in a data directory.
pub const SOCKET: &str = "admin.sock";

/// Whose hold an operator's is.
const BY: &str = "operator";

/// Whether reclaim is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReclaimStatus {
    /// By whom and why; none: it is not.
    pub holds: Vec<Held>,
}

/// A hold of reclaim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Who.
    pub by: String,
    /// For the operator.
    pub why: String,
    /// Milliseconds since 1970.
    pub since_ms: u64,
}

/// Asks for reclaim to be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Why.
    pub reason: String,
}

/// The number of the process that asks, where it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) Option<i32>);

/// Answers the requests of operators.
pub struct Operator {
    router: Router,
}

#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) world: World,
    pub(crate) reclaim: Arc<dyn Reclaim>,
    pub(crate) source: Arc<dyn BackupSource>,
    pub(crate) backups: Backups,
}

/// What an operator is told when something cannot be done.
pub(crate) struct Refusal(pub(crate) Fault);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let status = match self.0.kind {
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, format!("{}\n", self.0)).into_response()
    }
}

impl Operator {
    /// Over the role that decides what is reclaimed, and what a backup is made from.
    pub fn new(world: World, reclaim: Arc<dyn Reclaim>, source: Arc<dyn BackupSource>) -> Self {
        let router = Router::new()
            .route("/reclaim", get(status))
            .route("/reclaim/hold", post(hold))
            .route("/reclaim/release", post(release))
            .route("/backups", post(backup::begin))
            .route("/backups/{token}", get(backup::held))
            .route("/backups/{token}/snapshot", get(backup::snapshot))
            .route("/extents", get(backup::extents))
            .fallback(|| async { (StatusCode::NOT_FOUND, "no such operator request\n") })
            .with_state(Shared {
                world,
                reclaim,
                source,
                backups: Backups::default(),
            });
        Self { router }
    }

    /// Answers one request of a process.
    pub async fn answer(&self, request: Request<Bytes>, process: Option<i32>) -> Response<Body> {
        let mut request = request.map(Body::from);
        request.extensions_mut().insert(Process(process));
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Whether reclaim is held now.
///
/// # Errors
/// The control plane cannot be asked.
pub async fn reclaim_status(reclaim: &dyn Reclaim) -> Result<ReclaimStatus, Fault> {
    let held = reclaim.held().await?.into_iter().map(|hold| Held {
        by: hold.by,
        why: hold.why,
        since_ms: hold.since_ms,
    });
    Ok(ReclaimStatus {
        holds: held.collect(),
    })
}

/// Holds reclaim for `reason`, in the operator's name.
///
/// # Errors
/// The reason is none or too long; the control plane cannot commit.
pub async fn hold_reclaim(reclaim: &dyn Reclaim, reason: &str) -> Result<ReclaimStatus, Fault> {
    reclaim.hold(BY, reason.trim()).await?;
    reclaim_status(reclaim).await
}

/// Lets go every hold that only an operator ends: its own and a restore's. One of a process that is at work ends with that.
///
/// # Errors
/// The control plane cannot commit.
pub async fn release_reclaim(reclaim: &dyn Reclaim) -> Result<ReclaimStatus, Fault> {
    for hold in reclaim.held().await? {
        reclaim.release(&hold.by).await?;
    }
    reclaim_status(reclaim).await
}

async fn status(State(shared): State<Shared>) -> Result<Json<ReclaimStatus>, Refusal> {
    reclaim_status(&*shared.reclaim).await.map(Json).map_err(Refusal)
}

async fn hold(
    State(shared): State<Shared>,
    Extension(Process(process)): Extension<Process>,
    body: Bytes,
) -> Result<Json<ReclaimStatus>, Refusal> {
    let asked: HoldRequest = serde_json::from_slice(&body)
        .map_err(|e| Refusal(Fault::new(ErrorKind::Invalid, format!("the request: {e}"))))?;
    let held = hold_reclaim(&*shared.reclaim, &asked.reason)
        .await
        .map_err(Refusal)?;
    tracing::warn!(why = asked.reason, process, "an operator holds reclaim");
    Ok(Json(held))
}

async fn release(State(shared): State<Shared>) -> Result<Json<ReclaimStatus>, Refusal> {
    let status = release_reclaim(&*shared.reclaim).await.map_err(Refusal)?;
    tracing::info!("an operator let reclaim go");
    Ok(Json(status))
}
