//! The S3 face over every role, on a simulated disk, and a client that signs what it says.

use auth::{AccessKey, AccessKeyId, Keys, SecretKey, signer};
use blob::Blob;
use bytes::Bytes;
use control::ControlPlane;
use extent::{DataDir, DataDirConfig};
use http::{HeaderMap, Method, Request, Response, Uri};
use index::IndexRole;
use node::LocalNode;
use objects::Objects;
use s3::{Config, Operator, Service};
use sim::SimDisk;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Memory, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;
use types::{AccountId, NodeId, StampId};
use wire::control::Control;
use wire::node::Node;
use world::real::{RealClock, RealRng};
use world::{Clock, Disk, Exec, World};

const NODE: NodeId = NodeId(1);
const REGION: &str = "us-east-1";

/// Health and metrics, for a test.
struct Healthy;

#[async_trait::async_trait]
impl Operator for Healthy {
    async fn answer(&self, _: Method, uri: Uri) -> Response<Bytes> {
        Response::new(Bytes::from(format!("operator {}", uri.path())))
    }
}

/// A served store.
pub(crate) struct Face {
    service: Arc<Service>,
    clock: Arc<dyn Clock>,
    drain: watch::Sender<bool>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Whether the body came whole.
    pub whole: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first `<name>` of a document.
    pub(crate) fn element(&self, name: &str) -> String {
        let text = self.text();
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let found = text
            .split_once(&open)
            .and_then(|(_, rest)| rest.split_once(&close));
        found.map(|(value, _)| value.to_owned()).unwrap_or_default()
    }

    /// Every `<name>`.
    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let text = self.text();
        text.split(&open)
            .skip(1)
            .filter_map(|s| Some(s.split_once(&close)?.0.to_owned()))
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn key(number: u64) -> AccessKey {
    AccessKey {
        id: AccessKeyId(format!("KEY{number}")),
        secret: SecretKey(format!("secret{number}")),
        account: AccountId(number),
    }
}

pub(crate) async fn face() -> Face {
    let world = World {
        clock: Arc::new(RealClock::new()),
        rng: Arc::new(RealRng),
        exec: Exec::Inline,
    };
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(7, 4 << 30));
    let opened = DataDir::open(&world, disk, DataDirConfig::default()).unwrap();
    let node: Arc<dyn Node> = Arc::new(LocalNode::new(world.clone(), NODE, vec![opened.dir]));
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let nodes = vec![(NODE, node.clone())];
    let control = ControlPlane::open(world.clone(), store.clone(), nodes)
        .await
        .unwrap();
    let session = control.begin_session("test").await.unwrap();
    let index = IndexRole::open(world.clone(), store, StampId::FIRST)
        .await
        .unwrap();
    let nodes = BTreeMap::from([(NODE, node)]);
    let blob = Arc::new(Blob::new(world.clone(), Arc::new(control), nodes, session));
    let objects = Arc::new(Objects::new(world.clone(), blob, Arc::new(index), session));
    let mut keys = Keys::default();
    assert!(keys.add(key(1)) && keys.add(key(2)));
    let clock = world.clock.clone();
    let config = Config {
        domains: vec!["s3.test".into()],
        ..Config::default()
    };
    let service = Service::new(world, objects, Arc::new(keys), Arc::new(Healthy), config);
    Face {
        service,
        clock,
        drain: watch::channel(false).0,
    }
}

/// A request to be.
pub(crate) struct Ask<'a> {
    face: &'a Face,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
    account: u64,
    region: &'a str,
}

impl Face {
    /// A request of the first account, in path style.
    pub(crate) fn ask(&self, method: &str, target: &str) -> Ask<'_> {
        let mut headers = HeaderMap::new();
        headers.insert("host", "localhost:9000".parse().unwrap());
        Ask {
            face: self,
            method: method.parse().unwrap(),
            target: target.to_owned(),
            headers,
            body: Vec::new(),
            account: 1,
            region: REGION,
        }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target).send().await
    }

    pub(crate) async fn put(&self, target: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.ask("PUT", target).body(body).send().await
    }

    /// A connection of one's own.
    pub(crate) fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(1 << 16);
        let service = Arc::clone(&self.service);
        tokio::spawn(service.serve_connection(Box::new(theirs), self.drain.subscribe()));
        ours
    }
}

impl Ask<'_> {
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn account(mut self, account: u64) -> Self {
        self.account = account;
        self
    }

    pub(crate) fn region(mut self, region: &'static str) -> Self {
        self.region = region;
        self
    }

    /// Signs and sends.
    pub(crate) async fn send(mut self) -> Answer {
        let has_body = !self.body.is_empty() || self.method == Method::PUT || self.method == Method::POST;
        if has_body && !self.headers.contains_key("transfer-encoding") {
            self.headers.insert("content-length", self.body.len().into());
        }
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.parse().unwrap();
        *request.headers_mut() = self.headers.clone();
        let mut parts = request.into_parts().0;
        let now_ms = self.face.clock.wall_ms();
        signer::sign(
            &mut parts,
            &key(self.account),
            self.region,
            now_ms,
            "UNSIGNED-PAYLOAD",
        )
        .unwrap();
        self.headers = parts.headers;
        self.send_as_it_is().await
    }

    /// Sends without a signature.
    pub(crate) async fn send_as_it_is(self) -> Answer {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            head.extend_from_slice(format!("{name}: ").as_bytes());
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"connection: close\r\n\r\n");
        let (mut reading, mut writing) = tokio::io::split(self.face.connect());
        let body = self.body;
        let sending = async {
            // A refusal may close the connection before all is sent.
            let _cut = writing.write_all(&head).await;
            let _cut = writing.write_all(&body).await;
        };
        let mut all = Vec::new();
        let (_, read) = tokio::join!(sending, reading.read_to_end(&mut all));
        read.unwrap();
        parse(&all, self.method == Method::HEAD)
    }
}

fn parse(all: &[u8], head_only: bool) -> Answer {
    let end = all
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("an answer has a head");
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .map(|l| l.split_once(": ").unwrap())
        .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
        .collect();
    let body = all[end + 4..].to_vec();
    let length = headers.get("content-length").map(|l| l.parse::<usize>().unwrap());
    let whole = head_only || status == 304 || status == 204 || length == Some(body.len());
    Answer {
        status,
        headers,
        body,
        whole,
    }
}
