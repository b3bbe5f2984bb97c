//! A service on in-memory connections, and a client that sends it whatever bytes it is given.

use crate::roles::{OneBucket, Sink, nodes};
use auth::{AccessKey, AccessKeyId, Keys, SecretKey, signer};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, Uri};
use objects::{Blob, Objects};
use s3::{Config, Operator, Service};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use types::{AccountId, SessionId};
use world::World;

/// Longer than any test should take, shorter than anybody's patience.
const HANG: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) index: Arc<OneBucket>,
    service: Arc<Service>,
    world: World,
    drain: watch::Receiver<bool>,
    _draining: watch::Sender<bool>,
}

struct Nobody;

#[async_trait::async_trait]
impl Operator for Nobody {
    async fn answer(&self, _: Method, _: Uri) -> Response<Bytes> {
        Response::builder().status(404).body(Bytes::new()).unwrap()
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// `None`: the connection was closed without a word.
    pub(crate) status: Option<u16>,
    /// `<Code>` of the document.
    pub(crate) code: Option<String>,
}

impl Answer {
    /// A 4xx or NotImplemented, with its code.
    pub(crate) fn refused(&self) -> bool {
        match (self.status, self.code.as_deref()) {
            (Some(501), Some("NotImplemented")) => true,
            (Some(status), Some(_)) => (400..500).contains(&status),
            _ => false,
        }
    }
}

pub(crate) fn key() -> AccessKey {
    AccessKey {
        id: AccessKeyId("AKID".into()),
        secret: SecretKey("secret".into()),
        account: AccountId::ROOT,
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let world = World::real();
        let index = Arc::new(OneBucket::default());
        let blob = Arc::new(Blob::new(world.clone(), Arc::new(Sink), nodes(), SessionId(1)));
        let objects = Arc::new(Objects::new(world.clone(), blob, index.clone(), SessionId(1)));
        let mut keys = Keys::default();
        assert!(keys.add(key()));
        let config = Config {
            domains: vec!["s3.test".into()],
            ..Config::default()
        };
        let service = Service::new(world.clone(), objects, Arc::new(keys), Arc::new(Nobody), config);
        let (draining, drain) = watch::channel(false);
        Self {
            index,
            service,
            world,
            drain,
            _draining: draining,
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.world.clock.wall_ms()
    }

    /// Sends a whole request over a connection of its own and reads its answer.
    pub(crate) async fn send(&self, wire: &[u8]) -> Answer {
        self.exchange(wire, true).await
    }

    /// Sends `wire` and says at once that no more will come.
    pub(crate) async fn send_and_leave(&self, wire: &[u8]) -> Answer {
        self.exchange(wire, false).await
    }

    async fn exchange(&self, wire: &[u8], wait: bool) -> Answer {
        let (ours, theirs) = tokio::io::duplex(16 << 10);
        let serving = tokio::spawn(
            self.service
                .clone()
                .serve_connection(Box::new(theirs), self.drain.clone()),
        );
        let (mut from, mut to) = tokio::io::split(ours);
        let (told, answered) = tokio::sync::oneshot::channel::<()>();
        let writing = async {
            // A refusal may come, and the connection close, before all is sent.
            let _closed = to.write_all(wire).await;
            if wait {
                let _told = answered.await;
            }
            let _closed = to.shutdown().await;
        };
        let reading = async {
            let (mut text, mut told) = (Vec::new(), Some(told));
            while from.read_buf(&mut text).await.is_ok_and(|n| n > 0) {
                if whole(&text) {
                    told.take();
                }
            }
            drop(told);
            text
        };
        let both = tokio::time::timeout(HANG, async { tokio::join!(writing, reading) });
        let (_, text) = both
            .await
            .unwrap_or_else(|_| panic!("hangs: {}", String::from_utf8_lossy(wire)));
        serving.await.expect("no panic");
        parse(&String::from_utf8_lossy(&text))
    }
}

/// Whether an answer has come whole: its head, and as many bytes as that says.
fn whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let length = lines
        .clone()
        .find(|(name, _)| *name == "content-length")
        .and_then(|(_, n)| n.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn parse(text: &str) -> Answer {
    let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(text);
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok());
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"));
    Answer {
        status,
        code: code.map(|(code, _)| code.to_owned()),
    }
}

/// A request's head, not yet signed.
pub(crate) fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header("host", "localhost:9000");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// The same, signed for `payload`.
pub(crate) fn signed(now_ms: u64, method: &str, uri: &str, headers: &[(&str, &str)], payload: &str) -> Parts {
    let mut parts = head(method, uri, headers);
    signer::sign(&mut parts, &key(), "us-east-1", now_ms, payload).unwrap();
    parts
}

/// A head as it is written.
pub(crate) fn written(parts: &Parts) -> Vec<u8> {
    let mut out = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
    for (name, value) in &parts.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}
