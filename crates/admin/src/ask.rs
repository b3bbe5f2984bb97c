//! Asking a running server through the socket in its directory.

use crate::operator::SOCKET;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;
use types::limits::{OPERATOR_ANSWER_BYTES_MAX, OPERATOR_STALL_MS_MAX};
use world::{Clock, connect_local};

/// Why a server's answer is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The socket cannot be used.
    #[error("the server's socket {SOCKET}: {0}")]
    Socket(#[from] io::Error),
    /// The server broke off, or does not speak as it should.
    #[error("the server broke off: {0}")]
    Broken(String),
    /// It says no.
    #[error("{0}")]
    Refused(String),
}

/// An answer whose body is to be read.
pub struct Answer {
    body: Incoming,
    connection: JoinHandle<()>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Asks; `None` where no server has the directory open. `body` is JSON, or nothing.
///
/// # Errors
/// What came instead of an answer.
pub async fn ask(
    clock: &dyn Clock,
    dir: &Path,
    (method, path): (Method, &str),
    body: Bytes,
) -> Result<Option<Answer>, AskError> {
    let Some(stream) = connect_local(dir, SOCKET).await? else {
        return Ok(None);
    };
    let broken = |e: hyper::Error| AskError::Broken(e.to_string());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "cairn")
        .body(Full::new(body))
        .map_err(|e| AskError::Broken(e.to_string()))?;
    let asked = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the server ended early");
            }
        });
        let sent = sender.send_request(request).await;
        sent.map(|response| (response, connection)).map_err(broken)
    };
    let (response, connection) = tokio::select! {
        asked = asked => asked?,
        () = clock.sleep(Duration::from_millis(OPERATOR_STALL_MS_MAX)) => {
            return Err(AskError::Broken("it does not answer".to_owned()));
        }
    };
    let status = response.status();
    let mut answer = Answer {
        body: response.into_body(),
        connection,
    };
    if status != StatusCode::OK {
        let said = answer.whole().await?;
        return Err(AskError::Refused(
            String::from_utf8_lossy(&said).trim().to_owned(),
        ));
    }
    Ok(Some(answer))
}

impl Answer {
    /// The next bytes; `None` at the answer's end.
    ///
    /// # Errors
    /// It was broken off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, AskError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|e| AskError::Broken(e.to_string()))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// All of a short answer.
    ///
    /// # Errors
    /// It was broken off, or is too long.
    pub async fn whole(&mut self) -> Result<Bytes, AskError> {
        let whole = Limited::new(&mut self.body, OPERATOR_ANSWER_BYTES_MAX)
            .collect()
            .await;
        whole
            .map(http_body_util::Collected::to_bytes)
            .map_err(|e| AskError::Broken(e.to_string()))
    }
}
