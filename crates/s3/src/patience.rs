//! Answers that may take long: copies of gigabytes.
//!
//! As in S3: where the work ends soon its answer is like any other. Past a few seconds 200 is said at once, then a space
//! now and then so that nobody on the way takes the connection for dead, then the document: the result or an `<Error>`,
//! which clients of these operations look for behind a 200 too. Spaces stand behind the XML declaration, where they
//! are allowed.

use crate::error::Error;
use crate::reply::{self, Reply, ReplyBody, Source};
use crate::request::Request;
use crate::service::Service;
use crate::xml::DECLARATION;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use objects::ObjectsError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use types::limits::SILENT_MS_MAX;
use world::Clock;

/// What the work comes to.
pub(crate) struct Done {
    /// Headers of the answer, where they can still be sent.
    pub(crate) headers: HeaderMap,
    /// The result.
    pub(crate) document: String,
}

type Work = Pin<Box<dyn Future<Output = Result<Done, Error>> + Send>>;

const SILENCE: Duration = Duration::from_millis(SILENT_MS_MAX);

/// Waits for the work, or says that it goes on.
pub(crate) async fn answer(
    service: &Service,
    request: &Request,
    work: impl Future<Output = Result<Done, Error>> + Send + 'static,
) -> Result<Reply, Error> {
    let clock = Arc::clone(&service.world.clock);
    let mut work: Work = Box::pin(work);
    tokio::select! {
        biased;
        done = &mut work => {
            let Done { headers, document } = done?;
            let mut reply = reply::xml(document);
            reply.headers_mut().extend(headers);
            return Ok(reply);
        }
        () = clock.sleep(SILENCE) => {}
    }
    let waiting = Waiting {
        stage: Stage::Declared(work),
        clock,
        of: (request.path.clone(), request.id.clone(), service.host_id.clone()),
        names: (request.bucket().to_string(), request.key().as_str().to_owned()),
    };
    let mut reply = reply::of(ReplyBody::until_end(Box::new(waiting)));
    let kind = HeaderValue::from_static("application/xml");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(reply)
}

/// Work that its client has been told of.
struct Waiting {
    stage: Stage,
    clock: Arc<dyn Clock>,
    /// Resource, request and host, for an error.
    of: (String, String, String),
    names: (String, String),
}

enum Stage {
    /// Nothing has been sent.
    Declared(Work),
    /// The declaration has, and maybe spaces.
    Under(Work),
    Over,
}

impl Waiting {
    fn document(&self, done: Result<Done, Error>) -> String {
        match done {
            Ok(done) => done.document,
            Err(e) => {
                let e = e.about(Some(&self.names.0), Some(&self.names.1));
                tracing::debug!(code = e.code().name(), message = e.message(), "refused late");
                e.to_xml(&self.of.0, &self.of.1, &self.of.2)
            }
        }
    }
}

#[async_trait::async_trait]
impl Source for Waiting {
    async fn next(&mut self) -> Result<Option<Bytes>, ObjectsError> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => Ok(None),
            Stage::Declared(work) => {
                self.stage = Stage::Under(work);
                Ok(Some(Bytes::from_static(DECLARATION.as_bytes())))
            }
            Stage::Under(mut work) => tokio::select! {
                biased;
                done = &mut work => {
                    let document = self.document(done);
                    let rest = document.strip_prefix(DECLARATION).unwrap_or(&document);
                    Ok(Some(Bytes::copy_from_slice(rest.as_bytes())))
                }
                () = self.clock.sleep(SILENCE) => {
                    self.stage = Stage::Under(work);
                    Ok(Some(Bytes::from_static(b" ")))
                }
            },
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "the test's clock is the runtime's paused one"
)]
mod tests {
    use super::*;
    use crate::error::Code;

    struct TestClock;

    impl Clock for TestClock {
        fn wall_ms(&self) -> u64 {
            0
        }
        fn mono(&self) -> Duration {
            Duration::ZERO
        }
        fn sleep(&self, d: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(tokio::time::sleep(d))
        }
    }

    async fn said(done: Result<Done, Error>) -> String {
        let work: Work = Box::pin(async move {
            tokio::time::sleep(SILENCE * 7 / 2).await;
            done
        });
        let mut waiting = Waiting {
            stage: Stage::Declared(work),
            clock: Arc::new(TestClock),
            of: ("/b/k".into(), "R".into(), "H".into()),
            names: ("b".into(), "k".into()),
        };
        let mut all = Vec::new();
        while let Some(piece) = waiting.next().await.unwrap() {
            all.extend_from_slice(&piece);
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn spaces_then_the_result_or_the_error() {
        let done = Done {
            headers: HeaderMap::new(),
            document: format!("{DECLARATION}<Result/>"),
        };
        assert_eq!(said(Ok(done)).await, format!("{DECLARATION}   <Result/>"));
        let failed = said(Err(Code::NoSuchKey.into())).await;
        let rest = failed.strip_prefix(DECLARATION).unwrap();
        assert!(rest.starts_with("   <Error><Code>NoSuchKey</Code>"), "{failed}");
        assert!(
            rest.contains("<Key>k</Key>") && rest.contains("<RequestId>R</RequestId>"),
            "{failed}"
        );
    }
}
