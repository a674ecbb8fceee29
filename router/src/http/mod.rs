//! The HTTP side: from a parsed request to its answer.
//!
//! [`Front::serve`] names the request, finds the resource by its raw path, and turns whatever the resource says, answer or
//! [`Problem`], into a response. One file a resource: [`kv`], [`scan`], [`health`]; and [`seed`],
//! the routes of the systems that this one grew out of.

mod batch;
mod body;
mod budget;
pub mod decoding;
mod etag;
mod explain;
mod guarded;
mod gzip;
mod health;
mod idempotency;
mod json;
mod kv;
pub(crate) mod listener;
mod listing;
mod openapi;
mod operations;
mod percent;
mod permit;
mod problem;
mod query;
mod request_id;
mod scan;
mod seed;
mod tally;
mod txn;

use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_common::access::Principal;
use holdfast_common::clock::{self, Instant};
use holdfast_common::proto::kv::Once;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, EXPECT, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub(crate) use self::body::ReadLimits;
use self::body::{Body, Received, SMALL_BYTES};
use self::budget::Budget;
use self::guarded::Activity;
pub(crate) use self::guarded::Patience;
use self::permit::Leave;
use self::problem::{Code, Problem};
use self::request_id::{RequestId, RequestIds, X_REQUEST_ID};
use crate::RenderMetrics;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::metrics::{Metrics, Op, Rejection};
use crate::places::Places;
use crate::quota::Spending;
use crate::sender::Sender;

/// Bounds on what clients may make the router do and hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// On reading a request's body.
    pub read: ReadLimits,
    /// Most bytes of bodies in memory, over all requests.
    pub body_bytes: usize,
    /// Most scans at a time.
    pub scans: usize,
    /// Most connections of one principal.
    pub principal_connections: usize,
    /// How long clients' names for writes are remembered, milliseconds.
    pub idempotency_window_ms: u64,
}

/// What all requests share.
pub(crate) struct Front {
    sender: Arc<Sender>,
    directory: Arc<Directory>,
    metrics: Arc<Metrics>,
    render_metrics: RenderMetrics,
    gate: Arc<Gate>,
    places: Arc<Places>,
    request_ids: RequestIds,
    read_limits: ReadLimits,
    budget: Budget,
    scans: Arc<Semaphore>,
    idempotency_window_ms: u64,
    shutdown: CancellationToken,
}

/// A request while it is served.
struct Exchange<'a> {
    front: &'a Arc<Front>,
    head: Parts,
    body: RequestBody,
    id: RequestId,
    started: Instant,
    /// Who makes it, once that is known.
    principal: Principal,
    spending: Option<Spending>,
    from: SocketAddr,
    /// The connection is to end with the answer.
    is_last: bool,
}

/// A request's body, until it is read.
enum RequestBody {
    Unread(Incoming),
    Read,
    /// It was too large, too slow or malformed.
    Failed,
}

/// What a path names.
enum Resource {
    /// One key; the offset in the path at which it begins, still encoded.
    Key(usize),
    /// How a key is read; the offset in the path at which the key begins.
    Explain(usize),
    /// All keys.
    Keys,
    Batch,
    Txn,
    /// What a later version serves.
    Watch,
    Health,
    Ready,
    Metrics,
    OpenApi,
    /// A route of the systems before.
    Seed(seed::Route),
    Nothing,
}

const KEY_PREFIX: &str = "/v1/kv/";
const EXPLAIN_PREFIX: &str = "/v1/explain/";

impl Resource {
    fn at(path: &str) -> Self {
        match path {
            "/v1/kv" => Self::Keys,
            "/v1/batch" => Self::Batch,
            "/v1/txn" => Self::Txn,
            "/v1/watch" => Self::Watch,
            "/health" => Self::Health,
            "/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/openapi.json" => Self::OpenApi,
            path if path.starts_with(KEY_PREFIX) => Self::Key(KEY_PREFIX.len()),
            path if path.starts_with(EXPLAIN_PREFIX) => Self::Explain(EXPLAIN_PREFIX.len()),
            path => seed::Route::at(path).map_or(Self::Nothing, Self::Seed),
        }
    }

    /// The methods that it takes.
    fn allow(&self) -> Option<&'static str> {
        Some(match self {
            Self::Key(_) => kv::ALLOW,
            Self::Explain(_) => explain::ALLOW,
            Self::Keys => scan::ALLOW,
            Self::Batch | Self::Txn => "POST",
            Self::Health | Self::Ready | Self::Metrics | Self::OpenApi => "GET, HEAD",
            Self::Watch => "GET",
            Self::Seed(route) => route.allow(),
            Self::Nothing => return None,
        })
    }

    /// Whether it is for everyone: it tells of no key, and an operator's tools have no token.
    fn is_public(&self) -> bool {
        matches!(
            self,
            Self::Health | Self::Ready | Self::Metrics | Self::OpenApi | Self::Nothing
        )
    }

    fn options(&self) -> Result<Response<Body>, Problem> {
        let allow = self.allow().ok_or_else(unknown_path)?;
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        // Names of methods make a valid header.
        let allow = HeaderValue::from_str(&format!("{allow}, OPTIONS"));
        response
            .headers_mut()
            .extend(allow.ok().map(|allow| (ALLOW, allow)));
        Ok(response)
    }
}

/// Leaves the body out and its length in: for `HEAD`, where connections of HTTP/1 do so by themselves and those of HTTP/2 don't.
fn leave_body_out(response: &mut Response<Body>) {
    let body = std::mem::replace(response.body_mut(), Body::Empty);
    if let Some(length) = body.known_len().filter(|length| *length > 0) {
        let headers = response.headers_mut();
        headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
}

fn unknown_path() -> Problem {
    Problem::new(Code::UnknownPath, "nothing is served at this path")
}

impl Front {
    /// Serves with what `sender` and `directory` know. Not ready any more once `shutdown` has begun.
    pub(crate) fn new(
        sender: Arc<Sender>,
        directory: Arc<Directory>,
        metrics: Arc<Metrics>,
        render_metrics: RenderMetrics,
        gate: Arc<Gate>,
        bounds: Bounds,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            sender,
            directory,
            metrics,
            render_metrics,
            gate,
            places: Places::new(bounds.principal_connections),
            request_ids: RequestIds::new(),
            read_limits: bounds.read,
            budget: Budget::new(bounds.body_bytes),
            scans: Arc::new(Semaphore::new(bounds.scans)),
            idempotency_window_ms: bounds.idempotency_window_ms,
            shutdown,
        }
    }

    /// Counts a request that was turned away because bodies take all the memory that they may.
    fn note_rejection(&self, problem: &Problem) {
        if problem.code == Code::Overloaded {
            self.metrics.rejected(Rejection::Memory);
        }
    }

    /// Answers a request.
    async fn serve(self: &Arc<Self>, request: Request<Incoming>, activity: &Activity) -> Response<Body> {
        activity.begin();
        let _present = self.metrics.begin();
        let (head, body) = request.into_parts();
        let body = if body.is_end_stream() {
            RequestBody::Read
        } else {
            RequestBody::Unread(body)
        };
        let id = self.request_ids.name(&head.headers);
        let mut exchange = Exchange {
            front: self,
            head,
            body,
            id,
            started: clock::now(),
            principal: Principal::Anyone,
            spending: None,
            from: activity.caller().addr,
            is_last: false,
        };
        let version = exchange.head.version;
        let without_body = exchange.head.method == Method::HEAD && version >= Version::HTTP_2;
        let (op, answer) = exchange.dispatch(activity).await;
        exchange.drop_small_body().await;
        let Exchange {
            body,
            id,
            started,
            spending,
            is_last,
            ..
        } = exchange;
        let mut response = answer.unwrap_or_else(|problem| problem.into_response(&id));
        // Of requests side by side one can end early without the others.
        let cut_short = !matches!(body, RequestBody::Read) && version < Version::HTTP_2;
        if cut_short || (is_last && version < Version::HTTP_2) {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.headers_mut().insert(X_REQUEST_ID, id.into_header());
        if without_body {
            leave_body_out(&mut response);
        }
        activity.answer(cut_short);
        let bytes = response.body().known_len().unwrap_or(0);
        if let Some(spending) = &spending {
            spending.bytes(bytes);
        }
        self.metrics.response_bytes(op, bytes);
        self.metrics
            .answered(op, response.status(), clock::now() - started);
        response
    }
}

impl Exchange<'_> {
    async fn dispatch(&mut self, activity: &Activity) -> (Op, Result<Response<Body>, Problem>) {
        let resource = Resource::at(self.head.uri.path());
        if self.head.method == Method::OPTIONS {
            return (Op::Other, resource.options());
        }
        if !resource.is_public()
            && let Err(problem) = self.admit(activity).await
        {
            return (Op::Other, Err(problem));
        }
        // The largest of these have a place of their own, so that the others need not carry it.
        match resource {
            Resource::Key(at) => kv::answer(self, at).await,
            Resource::Explain(at) => (Op::Get, explain::answer(self, at).await),
            Resource::Keys => (Op::Scan, Box::pin(scan::answer(self)).await),
            Resource::Batch => (Op::Batch, batch::answer(self).await),
            Resource::Txn => (Op::Txn, txn::answer(self).await),
            Resource::Watch => (
                Op::Other,
                Err(Problem::new(
                    Code::NotImplemented,
                    "watching keys is not implemented yet",
                )),
            ),
            Resource::Health => (Op::Other, health::health(self)),
            Resource::Ready => (Op::Other, health::ready(self)),
            Resource::Metrics => (Op::Other, health::metrics(self)),
            Resource::OpenApi => (Op::Other, openapi::answer(self)),
            Resource::Seed(route) => Box::pin(seed::answer(self, route)).await,
            Resource::Nothing => (Op::Other, Err(unknown_path())),
        }
    }

    /// The client's name for its write.
    fn once(&self) -> Result<Option<Once>, Problem> {
        idempotency::name(&self.head.headers, self.front.idempotency_window_ms)
    }

    /// Reads and drops a small body that the answer did not depend on, so that the connection can go on. A large one is
    /// not worth it, and one that the client waits to be asked for never comes.
    async fn drop_small_body(&mut self) {
        if let RequestBody::Unread(body) = &mut self.body
            && body
                .size_hint()
                .upper()
                .is_some_and(|bytes| bytes <= SMALL_BYTES as u64)
            && !self.head.headers.contains_key(EXPECT)
            && body::read(body, self.front.read_limits, &self.front.budget)
                .await
                .is_ok()
        {
            self.body = RequestBody::Read;
        }
    }

    /// Reads the request's body, at most as large as a value.
    async fn read_body(&mut self, op: Op) -> Result<Received, Problem> {
        self.read_body_within(op, self.front.read_limits).await
    }

    /// Reads the request's body, within these bounds.
    async fn read_body_within(&mut self, op: Op, limits: ReadLimits) -> Result<Received, Problem> {
        match &mut self.body {
            RequestBody::Read | RequestBody::Failed => Ok(Received::nothing()),
            RequestBody::Unread(body) => {
                let received = body::read(body, limits, &self.front.budget).await;
                self.body = if received.is_ok() {
                    RequestBody::Read
                } else {
                    RequestBody::Failed
                };
                let received = received.inspect_err(|problem| self.front.note_rejection(problem))?;
                self.front.metrics.request_bytes(op, received.bytes.len());
                if let Some(spending) = &self.spending {
                    spending.bytes(received.bytes.len());
                }
                // It may have taken long to arrive.
                Leave::of(self).holds()?;
                Ok(received)
            }
        }
    }
}
