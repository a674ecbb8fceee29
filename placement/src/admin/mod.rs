//! The admin API over HTTP: one file a resource. Any member answers: one that does not lead hands the request on.

mod check;
mod cluster;
mod console;
mod decisions;
pub mod decoding;
mod forward;
mod guard;
mod health;
mod heatmap;
mod hop;
mod json;
mod live;
mod openapi;
mod operators;
mod page;
mod plan;
mod presplit;
mod problem;
mod query;
mod ranges;
mod recover;
mod retire;
mod session;
mod settings;
mod stores;
mod tokens;
mod upstream;

use std::io;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use holdfast_common::access::Denied;
use holdfast_common::clock;
use holdfast_common::net::tcp::TcpListener;
use holdfast_common::tls::listener::Listener;
use holdfast_common::tls::{Remote, Tls};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::guard::Guard;
use self::hop::Verbatim;
pub(crate) use self::hop::fetch_text;
use self::problem::Problem;
use self::session::Register;
pub use self::upstream::Upstreams;
use crate::lead::Lead;
use crate::member::Member;
use crate::run::Render;

/// Largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Longest request id that is taken from a client, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 128;

const REQUEST_ID: &str = "x-request-id";

/// What the handlers look at.
#[derive(Clone)]
pub struct Admin {
    member: Arc<OnceLock<Arc<Member>>>,
    upstreams: Arc<Upstreams>,
    render: Render,
    guard: Arc<Guard>,
    sessions: Arc<Register>,
    insecure: bool,
    shutdown: CancellationToken,
}

/// How a member was told to deal with strangers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Posture {
    /// It asks for credentials even before the rules do.
    pub demands_credentials: bool,
    /// It was started with `--insecure`, which the console says.
    pub insecure: bool,
}

impl Admin {
    /// The window on the member that `member` will hold once it is admitted.
    pub fn new(
        member: Arc<OnceLock<Arc<Member>>>,
        upstreams: Arc<Upstreams>,
        render: Render,
        posture: Posture,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            member,
            upstreams,
            render,
            guard: Arc::new(Guard::new(posture.demands_credentials)),
            sessions: Arc::default(),
            insecure: posture.insecure,
            shutdown,
        }
    }
}

/// The leading member, which every handler under `/v1` is given.
#[derive(Clone)]
struct Leading {
    member: Arc<Member>,
    lead: Arc<Lead>,
}

/// Serves on `address` until `ended`.
///
/// # Errors
/// The address can't be bound.
pub async fn serve(
    address: &str,
    tls: Option<Tls>,
    admin: Admin,
    ended: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    let listener = Listener::new(TcpListener::bind(address).await?, tls);
    let routes = routes(admin).into_make_service_with_connect_info::<Remote>();
    Ok(tokio::spawn(async move {
        let serving = axum::serve(listener, routes).with_graceful_shutdown(ended.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(%error, "the admin API is served no more");
        }
    }))
}

fn routes(admin: Admin) -> Router {
    let led = Router::new()
        .route("/v1/cluster", get(cluster::show))
        .route("/v1/placement/transfer-leader", post(cluster::transfer_leader))
        .route("/v1/placement/remove", post(cluster::remove_member))
        .route("/v1/stores", get(stores::list))
        .route("/v1/stores/{id}", get(stores::show))
        .route("/v1/stores/{id}/drain", post(retire::drain))
        .route("/v1/stores/{id}/decommission", post(retire::decommission))
        .route("/v1/stores/{id}/resume", post(retire::resume))
        .route("/v1/ranges", get(ranges::list))
        .route("/v1/ranges/split", post(ranges::split))
        .route("/v1/ranges/{id}", get(ranges::show))
        .route("/v1/ranges/{id}/move", post(ranges::move_replica))
        .route("/v1/ranges/{id}/transfer-leader", post(ranges::transfer_leader))
        .route("/v1/ranges/{id}/merge", post(ranges::merge))
        .route("/v1/ranges/{id}/check", post(check::range))
        .route("/v1/ranges/{id}/scatter", post(presplit::scatter_one))
        .route("/v1/presplits/{id}", get(presplit::show))
        .route("/v1/ranges/{id}/recover", post(recover::range))
        .route("/v1/recover", post(recover::all))
        .route("/v1/plan", post(plan::ask))
        .route("/v1/operators", get(operators::list))
        .route(
            "/v1/operators/{id}",
            get(operators::show).delete(operators::cancel),
        )
        .route("/v1/decisions", get(decisions::list))
        .route("/v1/live", get(live::follow))
        .route("/v1/config", get(settings::show).patch(settings::patch))
        .route("/v1/heatmap", get(heatmap::show))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", axum::routing::delete(tokens::revoke))
        .route("/v1/auth", get(tokens::show).put(tokens::demand))
        .route_layer(middleware::from_fn_with_state(admin.clone(), led_here));
    let own = Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(health::openapi))
        .route(
            "/v1/session",
            get(session::show).post(session::open).delete(session::close),
        )
        .route("/router/{*path}", any(upstream::router))
        .route("/api/control/{*path}", any(upstream::control));
    led.merge(own)
        .fallback(console::serve)
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(admin.clone(), guard::check))
        .layer(middleware::from_fn_with_state(admin.clone(), session::recognise))
        .layer(middleware::from_fn(upstream::own_pages))
        .layer(middleware::from_fn(identified))
        .with_state(admin)
}

/// Hands the request to the leading member, or to the handler if that is this one.
async fn led_here(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    let Some(member) = admin.member.get().cloned() else {
        return Problem::not_bootstrapped().into_response();
    };
    match member.lead() {
        // It began to lead after the request was looked at.
        Ok(_) if request.extensions().get::<guard::Unvouched>().is_some() => {
            Problem::denied(Denied::Unknown).into_response()
        }
        Ok(lead) => {
            request.extensions_mut().insert(Leading { member, lead });
            request.extensions_mut().insert(admin);
            next.run(request).await
        }
        Err(error) => forward::to_leader(
            &member,
            request,
            &error,
            (admin.upstreams.tls.as_ref(), &admin.shutdown),
        )
        .await
        .unwrap_or_else(IntoResponse::into_response),
    }
}

/// Gives every request an id, and every problem document the id of its request.
async fn identified(mut request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(REQUEST_ID)
        .filter(|id| is_plain(id))
        .cloned();
    let minted = || HeaderValue::from_str(&format!("{:016x}", clock::random_id()));
    let id = given
        .or_else(|| minted().ok())
        .unwrap_or_else(|| HeaderValue::from_static("none"));
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    let is_ours = response.extensions().get::<Verbatim>().is_none();
    if let Some(problem) = response
        .extensions()
        .get::<Problem>()
        .cloned()
        .or_else(|| Problem::unsaid(&response))
        .filter(|_| is_ours)
    {
        response = problem.document(id.to_str().unwrap_or_default());
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn is_plain(id: &HeaderValue) -> bool {
    (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
        && id
            .to_str()
            .is_ok_and(|id| id.chars().all(|c| c.is_ascii_graphic()))
}
