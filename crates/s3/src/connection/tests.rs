//! The wire, byte by byte: a client in one hand, an answer in the other.
#![allow(
    clippy::disallowed_methods,
    reason = "the test's clock is the runtime's paused one"
)]

mod memory;
mod unserved;

use super::*;
use crate::reply::{self, ReplyBody, Source};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use objects::ObjectsError;
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use types::ErrorKind;
use wire::Fault;

/// The runtime's clock, which tests pause.
struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn wall_ms(&self) -> u64 {
        0
    }
    fn mono(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep(&self, d: Duration) -> Waiting {
        Box::pin(tokio::time::sleep(d))
    }
}

/// Answers by path.
struct Script;

/// Gives its pieces, then fails where it is told to.
struct Pieces(Vec<Result<Bytes, ObjectsError>>);

#[async_trait::async_trait]
impl Source for Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, ObjectsError> {
        if self.0.is_empty() {
            Ok(None)
        } else {
            self.0.remove(0).map(Some)
        }
    }
}

async fn streamed(pieces: Vec<Result<Bytes, ObjectsError>>, length: u64) -> Reply {
    match ReplyBody::stream(Box::new(Pieces(pieces)), length).await {
        Ok(body) => {
            let mut reply = Response::new(body);
            reply::set(reply.headers_mut(), "content-length", length);
            reply
        }
        Err(e) => reply::empty(e.code().status()),
    }
}

#[async_trait::async_trait]
impl Answer for Script {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let broken = || ObjectsError::Fault(Fault::new(ErrorKind::Corrupt, "a block"));
        let piece = || Ok(Bytes::from_static(b"0123456789"));
        match request.uri().path() {
            "/refuse" => {
                let mut reply = reply::empty(StatusCode::FORBIDDEN);
                reply
                    .headers_mut()
                    .insert("connection", HeaderValue::from_static("close"));
                reply
            }
            "/read" => {
                let read = request.into_body().collect().await.map(|b| b.to_bytes().len());
                Response::new(ReplyBody::whole(format!("{read:?}")))
            }
            "/head" => {
                let mut reply = reply::empty(StatusCode::OK);
                reply::set(reply.headers_mut(), "content-length", 1_000_000);
                reply
            }
            "/same" => reply::empty(StatusCode::NOT_MODIFIED),
            "/pieces" => streamed(vec![piece(), piece()], 20).await,
            "/broken-midway" => streamed(vec![piece(), Err(broken())], 20).await,
            "/broken-first" => streamed(vec![Err(broken())], 20).await,
            "/short" => streamed(vec![piece()], 20).await,
            "/endless" => streamed(vec![Ok(Bytes::from(vec![0; 8 << 20]))], 8 << 20).await,
            "/slow" => {
                tokio::time::sleep(Duration::from_secs(5)).await;
                Response::new(ReplyBody::whole("done"))
            }
            "/bare" => Response::new(ReplyBody::whole(unserved::BARE)),
            "/bare-in-pieces" => {
                let (begin, end) = unserved::BARE.split_at(30);
                let pieces = [
                    "x".to_owned() + unserved::BARE,
                    begin.to_owned(),
                    end.to_owned() + unserved::BARE,
                ];
                let pieces = pieces.map(|piece| Ok(Bytes::from(piece)));
                streamed(pieces.into(), 1 + 3 * unserved::BARE.len() as u64).await
            }
            _ => Response::new(ReplyBody::whole("hello")),
        }
    }

    fn unserved(&self, why: Unserved) -> Reply {
        let mut reply = Response::new(ReplyBody::whole(format!("{why:?}")));
        *reply.status_mut() = match why {
            Unserved::Full => StatusCode::SERVICE_UNAVAILABLE,
            Unserved::Malformed | Unserved::TooLarge => StatusCode::BAD_REQUEST,
        };
        reply
    }
}

struct Client {
    stream: DuplexStream,
    drain: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

fn connect() -> Client {
    connect_with(4096, plenty())
}

/// Memory that is never used up.
fn plenty() -> Arc<Budget> {
    Budget::boundless(Arc::new(TestClock(tokio::time::Instant::now())))
}

/// A connection over a pipe of so many bytes, its memory from `budget`.
fn connect_with(pipe_bytes: usize, budget: Arc<Budget>) -> Client {
    connect_as(pipe_bytes, budget, None)
}

fn connect_as(pipe_bytes: usize, budget: Arc<Budget>, secure: Option<Arc<dyn Secure>>) -> Client {
    let (stream, ours) = duplex(pipe_bytes);
    let (drain, draining) = watch::channel(false);
    let door = Door {
        answer: Arc::new(Script),
        clock: Arc::new(TestClock(tokio::time::Instant::now())),
        secure,
        budget,
        drain: draining,
    };
    let served = tokio::spawn(async move {
        let place = Places::new(1).next().await;
        door.serve_connection(Box::new(ours), place).await;
    });
    Client {
        stream,
        drain,
        served,
    }
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything until `end` has come, or the connection is closed.
    async fn until(&mut self, end: &str) -> String {
        let mut all = String::new();
        let mut piece = [0; 1024];
        while !all.ends_with(end) {
            match self.stream.read(&mut piece).await.unwrap_or(0) {
                0 => break,
                n => all.push_str(&String::from_utf8_lossy(&piece[..n])),
            }
        }
        all
    }

    async fn rest(&mut self) -> String {
        self.until("\u{0}never").await
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_kept() {
    let mut client = connect();
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        let answer = client.until("hello").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("content-length: 5\r\n"),
            "{answer}"
        );
    }
    client.send("HEAD /head HTTP/1.1\r\nhost: h\r\n\r\nGET /same HTTP/1.1\r\nhost: h\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let answers = client.until("hello").await;
    assert!(
        answers.contains("content-length: 1000000\r\n\r\nHTTP/1.1 304 "),
        "{answers}"
    );
    assert!(answers.contains("\r\n\r\nHTTP/1.1 200 "), "{answers}");
}

#[tokio::test(start_paused = true)]
async fn a_body_is_asked_for_only_when_it_is_read() {
    let head = "HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let mut client = connect();
    client.send(&format!("PUT /read {head}")).await;
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("12345").await;
    assert!(client.until("Ok(5)").await.contains("200 OK"));
    client.send(&format!("PUT /refuse {head}")).await;
    let answer = client.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && !answer.contains("100 Continue"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_upload_reads_its_refusal() {
    // The client writes a megabyte through a 4 KiB pipe before it reads: it gets there only if we take it.
    let mut client = connect();
    client
        .send("PUT /refuse HTTP/1.1\r\nhost: h\r\ncontent-length: 1048576\r\n\r\n")
        .await;
    client.send(&"x".repeat(1 << 20)).await;
    assert!(client.rest().await.starts_with("HTTP/1.1 403 "));
    client.served.await.unwrap();
    // But not for ever: this one never stops.
    let mut client = connect();
    client
        .send("PUT /refuse HTTP/1.1\r\nhost: h\r\ncontent-length: 1073741824\r\n\r\n")
        .await;
    let piece = vec![b'x'; 1 << 16];
    let mut taken = 0;
    while client.stream.write_all(&piece).await.is_ok() {
        taken += piece.len();
        assert!(taken <= 2 * limits::LINGER_BYTES_MAX);
    }
    client.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn half_an_object_has_no_clean_end() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut client = connect();
    client.send(&get("/pieces")).await;
    assert!(
        client
            .until("01234567890123456789")
            .await
            .contains("content-length: 20\r\n")
    );
    // I5: what fails at once is an error; what fails later is cut short of its length.
    client.send(&get("/broken-first")).await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 500 "));
    for path in ["/broken-midway", "/short"] {
        let mut client = connect();
        client.send(&get(path)).await;
        let answer = client.rest().await;
        // hyper may not even have sent what it had when the source failed.
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(
            answer.is_empty() || answer.contains("content-length: 20\r\n"),
            "{answer}"
        );
        assert!(
            body.len() < 20 && "0123456789".starts_with(body),
            "{path}: {body}"
        );
        client.served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn slow_clients_are_let_go() {
    let limit = Duration::from_millis(limits::HEAD_MS_MAX);
    for begun in ["", "GET / HTTP/1.1\r\nhost: h\r\n"] {
        let mut client = connect();
        client.send(begun).await;
        let started = tokio::time::Instant::now();
        client.rest().await;
        assert!(
            started.elapsed() >= limit && started.elapsed() < 2 * limit,
            "{begun}"
        );
        client.served.await.unwrap();
    }
    let mut client = connect();
    client.send("GET /endless HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let started = tokio::time::Instant::now();
    let let_go = tokio::time::timeout(Duration::from_secs(3600), client.served).await;
    let_go.expect("a client that reads nothing is let go").unwrap();
    assert!(started.elapsed() >= Duration::from_millis(limits::WRITE_STALL_MS_MAX));
}

#[tokio::test(start_paused = true)]
async fn draining_lets_the_last_request_end() {
    let mut idle = connect();
    idle.drain.send(true).unwrap();
    assert_eq!(idle.rest().await, "");
    idle.served.await.unwrap();

    let mut busy = connect();
    busy.send("GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    busy.drain.send(true).unwrap();
    let answer = busy.rest().await;
    assert!(
        answer.contains("connection: close\r\n") && answer.ends_with("done"),
        "{answer}"
    );
    busy.served.await.unwrap();
}

/// Clients keep connections for later, and do not close them because we close our side: a stop does not wait for them.
#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_connections_that_are_kept() {
    let stopped_in = async |client: Client| {
        client.drain.send(true).unwrap();
        let began = tokio::time::Instant::now();
        client.served.await.unwrap();
        began.elapsed().as_millis() as u64
    };
    let fresh = connect();
    assert!(stopped_in(fresh).await <= limits::LINGER_STOPPING_MS_MAX);
    let mut used = connect();
    used.send("PUT /read HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc")
        .await;
    used.until("Ok(3)").await;
    assert!(stopped_in(used).await <= limits::LINGER_STOPPING_MS_MAX);
    let mut reading = connect();
    reading.send("GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let took = stopped_in(reading).await;
    assert!(
        (1000..=1000 + limits::LINGER_STOPPING_MS_MAX).contains(&took),
        "{took} ms"
    );
    // One that still sends a body may be told of its refusal only after it.
    let mut sending = connect();
    sending
        .send("PUT /slow HTTP/1.1\r\nhost: h\r\ncontent-length: 9999\r\n\r\nabc")
        .await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let took = stopped_in(sending).await;
    assert!(took >= 1000 + limits::LINGER_MS_MAX, "{took} ms");
}

/// Connections as they are pushed.
struct Line(tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<DuplexStream>>);

#[async_trait::async_trait]
impl Listener for Line {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, std::net::SocketAddr)> {
        match self.0.lock().await.recv().await {
            Some(stream) => Ok((Box::new(stream), self.address())),
            None => std::future::pending().await,
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

/// A house of `places`; each call of the answer knocks once more.
fn house(places: usize) -> impl FnMut() -> Client {
    house_with(places, plenty())
}

/// The same, with memory from `budget`.
fn house_with(places: usize, budget: Arc<Budget>) -> impl FnMut() -> Client {
    let (knock, line) = tokio::sync::mpsc::unbounded_channel();
    let (drain, draining) = watch::channel(false);
    let door = Door {
        answer: Arc::new(Script),
        clock: Arc::new(TestClock(tokio::time::Instant::now())),
        budget,
        secure: None,
        drain: draining,
    };
    let line = Box::new(Line(tokio::sync::Mutex::new(line)));
    tokio::spawn(door.serve(line, places, Duration::ZERO));
    move || {
        let (stream, ours) = duplex(4096);
        knock.send(ours).unwrap();
        Client {
            stream,
            drain: drain.clone(),
            served: tokio::spawn(async {}),
        }
    }
}

const SLOW: &str = "GET /slow HTTP/1.1\r\nhost: h\r\n\r\n";
const HELLO: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn who_says_nothing_shuts_nobody_out() {
    let mut knock = house(3);
    let started = tokio::time::Instant::now();
    let mut kept = knock();
    kept.send(HELLO).await;
    assert!(kept.until("hello").await.ends_with("hello"));
    let mut silent = knock();
    let mut half = knock();
    half.send("GET / HT").await;
    let mut others = Vec::new();
    for _ in 0..9 {
        let mut client = knock();
        client.send(HELLO).await;
        assert!(client.until("hello").await.ends_with("hello"));
        others.push(client);
    }
    for gone in [&mut kept, &mut silent, &mut half] {
        assert_eq!(gone.rest().await, "", "the longest idle leave");
    }
    // Half a head is waited for a little.
    assert!(started.elapsed() < Duration::from_millis(2 * limits::LINGER_MS_MAX));
}

#[tokio::test(start_paused = true)]
async fn the_operator_is_answered_when_the_house_is_full() {
    let mut knock = house(2);
    let mut busy = [knock(), knock()];
    for client in &mut busy {
        client.send(SLOW).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut operator = knock();
    operator
        .send("GET /-/health/live HTTP/1.1\r\nhost: h\r\n\r\n")
        .await;
    assert!(operator.until("hello").await.ends_with("hello"));
    let mut other = knock();
    other.send(HELLO).await;
    let refused = other.rest().await;
    assert!(
        refused.starts_with("HTTP/1.1 503 ") && refused.ends_with("\r\n\r\nFull"),
        "{refused}"
    );
    for client in &mut busy {
        assert!(client.until("done").await.ends_with("done"), "who is busy stays");
    }
    let mut other = knock();
    other.send(HELLO).await;
    assert!(other.until("hello").await.ends_with("hello"));
}
