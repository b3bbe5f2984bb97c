//! What a running server does for `cairn backup`: holds reclaim for as long as that process listens, tells the index as of a moment, and
//! which extents there are. The bytes of extents are read from the directory by the process itself.
//!
//! | request | answer |
//! |---|---|
//! | `POST /backups` with [`BackupRequest`] | [`Begun`] on a line, then an empty line each second; reclaim is held until this answer is broken off |
//! | `GET /backups/{token}` | 200 while it is held for that one; 404: it is not, whatever went since |
//! | `GET /backups/{token}/snapshot` | an index snapshot (docs/formats/index-snapshot.md) |
//! | `GET /extents` | [`ExtentLine`]s: the extents that there are now |

use crate::operator::{Process, Refusal, Shared};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use types::ErrorKind;
use wire::Fault;
use wire::control::Holding;
use wire::node::ExtentStatus;

/// How often a client hears that it is still there, and a server that a client is not.
const PULSE: Duration = Duration::from_secs(1);

/// Whose hold a backup's is.
const BY: &str = "backup";

/// An index snapshot being read.
#[async_trait::async_trait]
pub trait SnapshotBytes: Send {
    /// The next bytes of the file; `None` at its end.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault>;
}

/// What a backup is made from.
#[async_trait::async_trait]
pub trait BackupSource: Send + Sync {
    /// The index as of now.
    async fn snapshot(&self) -> Result<Box<dyn SnapshotBytes>, Fault>;
    /// The extents that there are.
    async fn extents(&self) -> Result<Vec<ExtentStatus>, Fault>;
}

/// Asks for reclaim to be held while a backup is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// Where to, for whoever asks who holds reclaim.
    pub to: String,
}

/// A backup has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// What it is called from here on. No other life of a server gives the same.
    pub token: String,
}

/// An extent as a node has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentLine {
    /// Which.
    pub extent: u64,
    /// Which compaction.
    pub generation: u64,
    /// Its writer's epoch.
    pub epoch: u64,
    /// Where the next needle would begin.
    pub end: u64,
    /// Of its needles' headers.
    pub salt: u64,
}

impl ExtentLine {
    /// Those of an answer.
    ///
    /// # Errors
    /// It is another build's: what that does not say cannot be done without.
    pub fn read(answer: &[u8]) -> Result<Vec<Self>, Fault> {
        serde_json::from_slice(answer).map_err(|e| {
            let what = format!(
                "the server is of another build than this command, and does not say what it needs ({e}): restart the server, or use its own command"
            );
            Fault::new(ErrorKind::Invalid, what)
        })
    }
}

impl From<&ExtentStatus> for ExtentLine {
    fn from(status: &ExtentStatus) -> Self {
        Self {
            extent: status.extent.0,
            generation: status.generation.0,
            epoch: status.epoch.0,
            end: status.end,
            salt: status.salt,
        }
    }
}

/// Backups that this process holds reclaim for.
#[derive(Clone, Default)]
pub(crate) struct Backups {
    held: Arc<Mutex<BTreeMap<String, Holding>>>,
}

impl Backups {
    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Holding>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets reclaim go when the client's answer is dropped, however it ended.
struct UntilDropped {
    backups: Backups,
    token: String,
}

impl Drop for UntilDropped {
    fn drop(&mut self) {
        self.backups.held().remove(&self.token);
        tracing::info!(token = self.token, "a backup ended: it holds reclaim no more");
    }
}

pub(crate) async fn begin(
    State(shared): State<Shared>,
    Extension(Process(process)): Extension<Process>,
    body: Bytes,
) -> Result<Body, Refusal> {
    let asked: BackupRequest = serde_json::from_slice(&body)
        .map_err(|e| Refusal(Fault::new(ErrorKind::Invalid, format!("the request: {e}"))))?;
    let who = process.map_or_else(|| "a process".to_owned(), |n| format!("process {n}"));
    let why = format!("{who} copies the store to {}", asked.to);
    let holding = shared.reclaim.hold_while(BY, &why).await.map_err(Refusal)?;
    let token = format!("{:032x}", shared.world.rng.next_u128());
    shared.backups.held().insert(token.clone(), holding);
    tracing::info!(token, process, to = asked.to, "a backup began: it holds reclaim");
    let begun = serde_json::to_string(&Begun { token: token.clone() })
        .map_err(|e| Refusal(Fault::new(ErrorKind::Fault, e.to_string())))?;
    let until_dropped = UntilDropped {
        backups: shared.backups.clone(),
        token,
    };
    let clock = shared.world.clock.clone();
    let lines = stream::unfold((Some(begun), until_dropped), move |(first, held)| {
        let clock = clock.clone();
        async move {
            let line = match first {
                Some(begun) => format!("{begun}\n"),
                None => {
                    clock.sleep(PULSE).await;
                    "\n".to_owned()
                }
            };
            Some((Ok::<_, io::Error>(Bytes::from(line)), (None, held)))
        }
    });
    Ok(Body::from_stream(lines))
}

fn check_held(shared: &Shared, token: &str) -> Result<(), Refusal> {
    match shared.backups.held().contains_key(token) {
        true => Ok(()),
        false => Err(Refusal(Fault::new(
            ErrorKind::NotFound,
            "reclaim is not held for this backup any more",
        ))),
    }
}

pub(crate) async fn held(
    State(shared): State<Shared>,
    Path(token): Path<String>,
) -> Result<StatusCode, Refusal> {
    check_held(&shared, &token).map(|()| StatusCode::OK)
}

pub(crate) async fn snapshot(
    State(shared): State<Shared>,
    Path(token): Path<String>,
) -> Result<Body, Refusal> {
    check_held(&shared, &token)?;
    let snapshot = shared.source.snapshot().await.map_err(Refusal)?;
    let blocks = stream::unfold(snapshot, |mut snapshot| async move {
        match snapshot.next().await {
            Ok(None) => None,
            Ok(Some(block)) => Some((Ok(block), snapshot)),
            // The answer is broken off: no part of a snapshot is one.
            Err(fault) => {
                tracing::error!(%fault, "an index snapshot was not taken");
                Some((Err(io::Error::other(fault.to_string())), snapshot))
            }
        }
    });
    Ok(Body::from_stream(blocks))
}

pub(crate) async fn extents(State(shared): State<Shared>) -> Result<Json<Vec<ExtentLine>>, Refusal> {
    let extents = shared.source.extents().await.map_err(Refusal)?;
    Ok(Json(extents.iter().map(ExtentLine::from).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_an_earlier_build_is_told_to_be_restarted() {
        let line = ExtentLine {
            extent: 1,
            generation: 0,
            epoch: 2,
            end: 4096,
            salt: 7,
        };
        let now = serde_json::to_string(&[&line]).unwrap();
        assert_eq!(ExtentLine::read(now.as_bytes()), Ok(vec![line]));
        let before = now.replace(",\"salt\":7", "");
        assert!(before.len() < now.len());
        let told = ExtentLine::read(before.as_bytes()).unwrap_err();
        assert_eq!(told.kind, ErrorKind::Invalid);
        assert!(told.what.contains("restart the server"), "{told}");
    }
}
