//! A client that speaks HTTP to the S3 face over one connection, as long as that lasts.

use auth::{AccessKey, AccessKeyId, Keys, SecretKey, signer};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use objects::Objects;
use s3::{Config, Operator, Service};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;
use types::AccountId;
use world::{Clock, World};

/// Nothing is asked of an operator here.
struct Nobody;

#[async_trait::async_trait]
impl Operator for Nobody {
    async fn answer(&self, _: Method, _: Uri) -> Response<Bytes> {
        Response::new(Bytes::new())
    }
}

/// A served store.
pub(crate) struct Face {
    service: Arc<Service>,
    clock: Arc<dyn Clock>,
    drain: watch::Sender<bool>,
    stream: Option<DuplexStream>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

fn key() -> AccessKey {
    AccessKey {
        id: AccessKeyId("KEY".into()),
        secret: SecretKey("secret".into()),
        account: AccountId::ROOT,
    }
}

/// Escapes all but what never needs it.
pub(crate) fn escaped(text: &str, also: &[u8]) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) || also.contains(&b) {
            out.push(char::from(b));
        } else {
            out += &format!("%{b:02X}");
        }
    }
    out
}

/// Undoes url-encoding.
pub(crate) fn unescaped(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|d| char::from(d.expect("two digits")));
                let digits: String = digits.iter().collect();
                out.push(u8::from_str_radix(&digits, 16).expect("an escape"));
            }
            b'+' => out.push(b' '),
            b => out.push(b),
        }
    }
    String::from_utf8(out).expect("names are text")
}

/// What stands in each `<name>` of a document, in order.
pub(crate) fn elements<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inside = |s: &'t str| s.split_once(&close).map(|(value, _)| value);
    text.split(&open).skip(1).filter_map(inside).collect()
}

/// The first of them.
pub(crate) fn element<'t>(text: &'t str, name: &str) -> &'t str {
    elements(text, name).first().copied().unwrap_or_default()
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a document is text")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// S3's code of a refusal.
    pub(crate) fn code(&self) -> &str {
        element(self.text(), "Code")
    }
}

impl Face {
    pub(crate) fn new(world: &World, objects: Arc<Objects>) -> Self {
        let mut keys = Keys::default();
        assert!(keys.add(key()));
        let config = Config::default();
        Self {
            service: Service::new(world.clone(), objects, Arc::new(keys), Arc::new(Nobody), config),
            clock: world.clock.clone(),
            drain: watch::channel(false).0,
            stream: None,
        }
    }

    /// Asks without a body, signed.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        target: &str,
        headers: &[(&'static str, String)],
    ) -> Answer {
        let mut request = Request::new(());
        *request.method_mut() = method.clone();
        *request.uri_mut() = target.parse().unwrap_or_else(|e| panic!("{target:?}: {e}"));
        let all = request.headers_mut();
        all.insert("host", HeaderValue::from_static("localhost:9000"));
        all.insert("content-length", HeaderValue::from_static("0"));
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a header's value");
            all.insert(HeaderName::from_static(name), value);
        }
        let mut parts = request.into_parts().0;
        let signed = signer::sign(
            &mut parts,
            &key(),
            "us-east-1",
            self.clock.wall_ms(),
            "UNSIGNED-PAYLOAD",
        );
        assert!(signed.is_some(), "the request can be signed");
        let mut head = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
        for (name, value) in &parts.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let mut stream = self.stream.take().unwrap_or_else(|| {
            let (ours, theirs) = duplex(1 << 18);
            tokio::spawn(
                self.service
                    .clone()
                    .serve_connection(Box::new(theirs), self.drain.subscribe()),
            );
            ours
        });
        stream
            .write_all(&head)
            .await
            .expect("the connection takes a request");
        let answer = read(&mut stream, &method).await;
        if answer.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        answer
    }
}

async fn read(stream: &mut DuplexStream, method: &Method) -> Answer {
    let mut all = Vec::with_capacity(2048);
    let end = loop {
        let had = all.len();
        let n = stream.read_buf(&mut all).await.expect("an answer");
        assert!(n > 0, "the connection ended before its answer");
        let from = had.saturating_sub(3);
        if let Some(at) = all[from..].windows(4).position(|w| w == b"\r\n\r\n") {
            break from + at;
        }
    };
    let head = std::str::from_utf8(&all[..end]).expect("a head is text");
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|l| l.split(' ').nth(1))
        .and_then(|s| s.parse().ok());
    let status = status.expect("a status");
    let headers: BTreeMap<String, String> = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
        .collect();
    let has_body = *method != Method::HEAD && status != 304 && status != 204;
    let length = headers.get("content-length").filter(|_| has_body);
    assert!(length.is_some() || !has_body, "an answer of known length: {head}");
    let length: usize = length.map_or(0, |l| l.parse().expect("a length"));
    let mut body = all.split_off(end + 4);
    while body.len() < length {
        let n = stream.read_buf(&mut body).await.expect("a body");
        assert!(n > 0, "the body ended early");
    }
    assert_eq!(body.len(), length, "as long as was said");
    Answer {
        status,
        headers,
        body,
    }
}
