//! From a request's head to its answer: address, signature, route, header rules, operation; then the answer's usual
//! headers. Every answer and every log line carries the request's id.

use crate::connection::{Answer, Door, Places, Secure, Unserved};
use crate::counts::Counts;
use crate::error::{Code, Error};
use crate::operation::Operation;
use crate::query::Query;
use crate::reply::{self, Reply, ReplyBody};
use crate::request::{Arriving, Request};
use crate::target::Target;
use crate::{body, cors, headers, hoist, ops, page, route};
use auth::{AuthError, Denial, KeyStore, Verified};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use objects::{Caller, Objects};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tracing::Instrument as _;
use types::limits;
use world::{Budget, Claim, Listener, Stream, World};

/// What the face needs to know of its place.
#[derive(Clone, Debug)]
pub struct Config {
    /// The region that requests must be signed for.
    pub region: String,
    /// Domains under which `bucket.domain` is a bucket; empty for path style alone.
    pub domains: Vec<String>,
    /// Connections served at once; more wait to be accepted.
    pub connections_max: usize,
    /// Whether connections are secure: what `Location` says of an object.
    pub secure: bool,
    /// What connections take their memory from; boundless unless set.
    pub connections: Option<Arc<Budget>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            domains: Vec::new(),
            connections_max: limits::CONNECTIONS_DEFAULT,
            secure: false,
            connections: None,
        }
    }
}

/// Answers what is asked below `/-/`, where no bucket can be: health, metrics.
#[async_trait::async_trait]
pub trait Operator: Send + Sync {
    /// The answer.
    async fn answer(&self, method: Method, uri: Uri) -> Response<Bytes>;
}

/// The S3 face of one process.
pub struct Service {
    pub(crate) world: World,
    pub(crate) objects: Arc<Objects>,
    pub(crate) keys: Arc<dyn KeyStore>,
    pub(crate) config: Config,
    operator: Arc<dyn Operator>,
    /// `x-amz-id-2`: which process answered.
    pub(crate) host_id: String,
    last_id: AtomicU64,
    counts: Counts,
}

/// 2^64 over the golden ratio, made odd: as many steps lead back as there are numbers.
const ID_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// What of a request its answer needs once the request is gone.
struct Asked {
    id: String,
    method: Method,
    /// The raw path, as `<Resource>`.
    resource: String,
    target: Target,
}

impl Service {
    /// A face on `objects`.
    pub fn new(
        world: World,
        objects: Arc<Objects>,
        keys: Arc<dyn KeyStore>,
        operator: Arc<dyn Operator>,
        config: Config,
    ) -> Arc<Self> {
        let mut host = [0; 24];
        world.rng.fill(&mut host);
        let mut first_id = [0; 8];
        world.rng.fill(&mut first_id);
        Arc::new(Self {
            world,
            objects,
            keys,
            config,
            operator,
            host_id: hex::encode(host),
            last_id: AtomicU64::new(u64::from_le_bytes(first_id)),
            counts: Counts::default(),
        })
    }

    /// Accepts and serves connections until `drain` turns true; then lets requests under way end, for at most
    /// `patience`, and cuts off the rest.
    pub async fn serve(
        self: Arc<Self>,
        listener: Box<dyn Listener>,
        secure: Option<Arc<dyn Secure>>,
        drain: watch::Receiver<bool>,
        patience: Duration,
    ) {
        let connections_max = self.config.connections_max;
        let door = Door {
            clock: Arc::clone(&self.world.clock),
            budget: self.connection_budget(),
            answer: self,
            secure,
            drain,
        };
        door.serve(listener, connections_max, patience).await;
    }

    /// Serves one connection to its end. Once `drain` turns true the request under way is its last.
    pub async fn serve_connection(self: Arc<Self>, stream: Box<dyn Stream>, drain: watch::Receiver<bool>) {
        let door = Door {
            clock: Arc::clone(&self.world.clock),
            budget: self.connection_budget(),
            answer: self,
            secure: None,
            drain,
        };
        let place = Places::new(1).next().await;
        door.serve_connection(stream, place).await;
    }
}

#[async_trait::async_trait]
impl Answer for Service {
    async fn answer(&self, request: http::Request<Incoming>) -> Reply {
        let id = self.request_id();
        let span = tracing::info_span!(
            "request",
            %id,
            method = %request.method(),
            path = request.uri().path(),
            operation = tracing::field::Empty,
        );
        let mut reply = self.answer_as(&id, request).instrument(span).await;
        self.head_out(&mut reply, &id);
        reply
    }

    fn unserved(&self, why: Unserved) -> Reply {
        let started = self.world.clock.mono();
        let id = self.request_id();
        let error = match why {
            Unserved::Full => Error::slow_down(),
            Unserved::Malformed => Code::BadRequest.into(),
            Unserved::TooLarge => head_too_large(limits::HEAD_BYTES_MAX),
        };
        let asked = Asked {
            id: id.clone(),
            method: Method::GET,
            resource: String::new(),
            target: Target::default(),
        };
        let mut reply = self.refuse(&asked, error);
        self.head_out(&mut reply, &id);
        self.count(None, reply.status(), started);
        reply
    }
}

impl Service {
    fn connection_budget(&self) -> Arc<Budget> {
        let boundless = || Budget::boundless(Arc::clone(&self.world.clock));
        self.config.connections.clone().unwrap_or_else(boundless)
    }

    /// Ids of no other request of this process, and hardly of one before it: steps from a random number, far apart so that they look it.
    /// A random number each would cost more than all else that is said of a request.
    fn request_id(&self) -> String {
        let id = self.last_id.fetch_add(ID_STEP, Ordering::Relaxed);
        format!("{id:016X}")
    }

    /// What every answer says.
    fn head_out(&self, reply: &mut Reply, id: &str) {
        let headers = reply.headers_mut();
        reply::set(headers, "x-amz-request-id", id);
        reply::set(headers, "x-amz-id-2", &self.host_id);
        headers.insert(header::SERVER, HeaderValue::from_static("Cairn"));
        reply::set(
            headers,
            header::DATE,
            reply::http_time(self.world.clock.wall_ms()),
        );
    }

    async fn answer_as(&self, id: &str, request: http::Request<Incoming>) -> Reply {
        let (parts, incoming) = request.into_parts();
        // An empty body is never asked for, so `100 Continue` is never said.
        let unsaid = parts.headers.contains_key(header::EXPECT) && http_body::Body::is_end_stream(&incoming);
        if self.for_operator(&parts) {
            return self
                .operator
                .answer(parts.method, parts.uri)
                .await
                .map(ReplyBody::whole);
        }
        let started = self.world.clock.mono();
        let mut asked = Asked {
            id: id.to_owned(),
            method: parts.method.clone(),
            resource: parts.uri.path().to_owned(),
            target: Target::default(),
        };
        let body = Arriving::new(incoming);
        let ended = body.ended();
        let preflight = parts.method == Method::OPTIONS;
        let page = cors::Asking::of(&parts.method, &parts.headers).filter(|_| !preflight);
        let (operation, outcome) = self.attempt(&mut asked, parts, body).await;
        let mut reply = outcome.unwrap_or_else(|e| self.refuse(&asked, e));
        if let Some(page) = page {
            cors::decorate(self, &asked.target, &page, &mut reply).await;
        }
        if unsaid || !ended.load(Ordering::Relaxed) {
            // What is left of the body would be read as the next request. And a client that was answered without
            // `100 Continue` may take this answer's status for the next one's on the same connection: botocore does.
            reply
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.count(operation, reply.status(), started);
        reply
    }

    /// In path style no bucket is called `-`; in virtual-host style `-/` may begin a key.
    fn for_operator(&self, parts: &Parts) -> bool {
        let bucket_in_host = || {
            let host = host(parts).ok().flatten();
            let at_root = Target::parse("/", host.as_deref(), &self.config.domains);
            at_root.is_ok_and(|target| target.bucket.is_some())
        };
        parts.uri.path().starts_with("/-/") && !bucket_in_host()
    }

    fn count(&self, operation: Option<Operation>, status: StatusCode, started: Duration) {
        let took = self.world.clock.mono().saturating_sub(started);
        self.counts.count(operation, status, took);
        tracing::debug!(status = status.as_u16(), ms = took.as_millis() as u64, "answered");
    }

    async fn attempt(
        &self,
        asked: &mut Asked,
        parts: Parts,
        body: Arriving,
    ) -> (Option<Operation>, Result<Reply, Error>) {
        let running = |operation: Operation| {
            tracing::Span::current().record("operation", operation.name());
            Some(operation)
        };
        let (query, host) = match self.locate(asked, &parts) {
            Ok(located) => located,
            Err(e) => return (None, Err(e)),
        };
        // Two requests come unsigned: what browsers ask before they send one, and forms, which bring their own signature.
        if parts.method == Method::OPTIONS && asked.target.bucket.is_some() {
            let operation = running(Operation::PreflightRequest);
            return (
                operation,
                cors::preflight(self, &asked.target, &parts.headers).await,
            );
        }
        if ops::is_form(&parts.method, &asked.target, &query) {
            let operation = running(Operation::PostObject);
            let place = (&asked.target, host.as_deref());
            return (operation, ops::post_object(self, place, &parts, body).await);
        }
        let verified = match self.verify(asked, &parts) {
            Ok(verified) => verified,
            Err(AuthError::AccessDenied(Denial::Anonymous)) => return (None, Err(self.deny(asked).await)),
            Err(e) => return (None, Err(e.into())),
        };
        let account = verified.account;
        match self.admit(asked, parts, (query, host), verified, body) {
            Ok(request) if headers::expects_another_owner(&request.headers, account) => {
                (running(request.operation), Err(self.deny(asked).await))
            }
            Ok(request) => (running(request.operation), self.run(request).await),
            Err(e) => (None, Err(e)),
        }
    }

    /// Runs an operation in the memory of its page or document, which its answer then has.
    async fn run(&self, mut request: Request) -> Result<Reply, Error> {
        let Some(bytes) = page::bytes(&request) else {
            return ops::run(self, request).await;
        };
        let share = match self.objects.budget().take(Claim::Page, bytes).await {
            Ok(share) => share,
            Err(over) => {
                tracing::debug!(%over, "shed");
                return Err(Error::slow_down());
            }
        };
        let paged = page::Paged::new(share);
        request.paged = paged.clone();
        let reply = ops::run(self, request).await?;
        Ok(reply.map(|body| body.held_in(&paged)))
    }

    /// AccessDenied, but where there is nothing to have access to: that there is no such bucket is no secret.
    async fn deny(&self, asked: &Asked) -> Error {
        let Ok(Some(bucket)) = asked.target.bucket_name() else {
            return Code::AccessDenied.into();
        };
        match self.objects.bucket_exists(&bucket).await {
            Ok(false) => Code::NoSuchBucket.into(),
            Ok(true) | Err(_) => Code::AccessDenied.into(),
        }
    }

    /// What the address names, and how; the Host it came with.
    fn locate(&self, asked: &mut Asked, parts: &Parts) -> Result<(Query, Option<String>), Error> {
        check_head(parts)?;
        let host = host(parts)?;
        asked.target = Target::parse(parts.uri.path(), host.as_deref(), &self.config.domains)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        asked.target.bucket_name()?;
        Ok((query, host))
    }

    /// Who asks.
    fn verify(&self, asked: &Asked, parts: &Parts) -> Result<Verified, AuthError> {
        let now_ms = self.world.clock.wall_ms();
        let keys = self.keys.as_ref();
        if auth::is_presigned_sigv2(parts) {
            auth::verify_presigned_sigv2(parts, keys, asked.target.host_bucket(), now_ms)
        } else {
            auth::verify(parts, keys, &self.config.region, now_ms)
        }
    }

    /// Everything else that is decided before an operation begins.
    fn admit(
        &self,
        asked: &Asked,
        mut parts: Parts,
        (query, host): (Query, Option<String>),
        verified: Verified,
        body: Arriving,
    ) -> Result<Request, Error> {
        let target = &asked.target;
        hoist::hoist(&query, &mut parts.headers)?;
        let operation = route::route(&parts.method, target.level(), &query, &parts.headers)?;
        let bucket = target.bucket_name()?;
        let key = target.object_key()?;
        headers::check(operation, &parts.headers)?;
        let plan = body::plan(&parts, &verified)?;
        Ok(Request {
            id: asked.id.clone(),
            operation,
            query,
            bucket,
            key,
            caller: Caller {
                account: verified.account,
            },
            body,
            plan,
            paged: page::Paged::default(),
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            host,
            scheme: if self.config.secure { "https" } else { "http" },
        })
    }

    /// An error's answer.
    fn refuse(&self, asked: &Asked, e: Error) -> Reply {
        let (bucket, key) = (asked.target.bucket.as_deref(), asked.target.key.as_deref());
        let e = e.about(bucket, key);
        tracing::debug!(code = e.code().name(), message = e.message(), "refused");
        // Answers to HEAD have no body, and neither has "not modified".
        let document = if asked.method == Method::HEAD {
            String::new()
        } else {
            e.to_xml(&asked.resource, &asked.id, &self.host_id)
        };
        let mut reply = reply::xml(document);
        *reply.status_mut() = e.code().status();
        for (name, value) in e.headers() {
            if let Ok(value) = HeaderValue::try_from(value) {
                reply.headers_mut().insert(*name, value);
            }
        }
        reply
    }
}

fn check_head(parts: &Parts) -> Result<(), Error> {
    let sizes = parts.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4);
    let headers = sizes.sum::<usize>();
    if headers > limits::HEADER_SECTION_BYTES_MAX {
        return Err(head_too_large(limits::HEADER_SECTION_BYTES_MAX));
    }
    if headers + uri_bytes(&parts.uri) > limits::HEAD_BYTES_MAX {
        return Err(head_too_large(limits::HEAD_BYTES_MAX));
    }
    Ok(())
}

/// How long it is, written out.
fn uri_bytes(uri: &Uri) -> usize {
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    scheme + authority + path
}

fn head_too_large(bytes_max: usize) -> Error {
    Error::new(Code::RequestHeaderSectionTooLarge).field("MaxSizeAllowed", bytes_max.to_string())
}

/// The host asked for: the request line's where it names one, else the one Host header.
fn host(parts: &Parts) -> Result<Option<String>, Error> {
    if let Some(authority) = parts.uri.authority() {
        return Ok(Some(authority.as_str().to_owned()));
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => match host.to_str() {
            Ok(host) => Ok(Some(host.to_owned())),
            Err(_) => Err(Error::with(Code::InvalidRequest, "The Host header is not text")),
        },
        _ => Err(Error::with(
            Code::InvalidRequest,
            "The Host header is given more than once",
        )),
    }
}

/// Headers that an operation's own test needs to see.
pub(crate) fn flag(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers
        .get(name)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.eq_ignore_ascii_case(value))
}
