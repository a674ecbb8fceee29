//! The store's HTTP side: health, readiness, metrics, and a look inside.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use holdfast_common::net::tcp::TcpListener;
use holdfast_common::tls::listener::Listener;
use holdfast_common::tls::{Kind, Remote, Tls};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::replica::Replica;

/// Renders the metrics of the process in Prometheus' text format.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// What the handlers look at.
#[derive(Clone)]
pub(crate) struct Window {
    render: Render,
    /// Set when the store runs.
    host: Arc<OnceLock<Arc<Host>>>,
    shutdown: CancellationToken,
}

impl Window {
    /// Nothing to see but metrics yet.
    pub(crate) fn new(render: Render, shutdown: CancellationToken) -> Self {
        Self {
            render,
            host: Arc::default(),
            shutdown,
        }
    }

    fn is_removed(&self) -> bool {
        self.host
            .get()
            .is_some_and(|host| host.site.removed.is_cancelled())
    }

    /// The store runs.
    pub(crate) fn open(&self, host: Arc<Host>) {
        // Opened once: there is one store in a process.
        let _ = self.host.set(host);
    }
}

/// Serves until `ended`.
///
/// # Errors
/// The address can't be bound.
pub(crate) async fn serve(
    address: &str,
    tls: Option<Tls>,
    window: Window,
    ended: CancellationToken,
) -> std::io::Result<()> {
    let listener = Listener::new(TcpListener::bind(address).await?, tls.clone());
    let routes = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route(
            "/debug/ranges",
            get(ranges).route_layer(middleware::from_fn_with_state(tls.is_some(), insiders)),
        )
        .with_state(window);
    tokio::spawn(async move {
        let routes = routes.into_make_service_with_connect_info::<Remote>();
        let serving = axum::serve(listener, routes).with_graceful_shutdown(ended.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(%error, "HTTP is served no more");
        }
    });
    Ok(())
}

/// With TLS, where ranges begin and end (which are keys) is told to processes and operators of the cluster alone.
async fn insiders(
    State(secured): State<bool>,
    ConnectInfo(remote): ConnectInfo<Remote>,
    request: Request,
    next: Next,
) -> Response {
    let inside = remote
        .identity
        .is_some_and(|identity| identity.kind != Kind::Client);
    if !secured || inside {
        return next.run(request).await;
    }
    let detail = json!({"detail": "show the certificate of a node or an admin: see `holdfast cert`"});
    (StatusCode::FORBIDDEN, Json(detail)).into_response()
}

/// Why a store that was removed is told apart: its process is alive, and good for nothing.
const REMOVED: &str = "this store was removed from the cluster: its process can be stopped";

async fn health(State(window): State<Window>) -> Response {
    if window.is_removed() {
        let removed = Json(json!({"status": "removed", "detail": REMOVED}));
        return (StatusCode::SERVICE_UNAVAILABLE, removed).into_response();
    }
    Json(json!({"status": "ok"})).into_response()
}

async fn ready(State(window): State<Window>) -> Response {
    let state = match window.host.get() {
        _ if window.shutdown.is_cancelled() => "stopping",
        _ if window.is_removed() => "removed",
        None => "starting",
        Some(_) => return Json(json!({"status": "ready"})).into_response(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": state}))).into_response()
}

async fn metrics(State(window): State<Window>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        (window.render)(),
    )
        .into_response()
}

async fn ranges(State(window): State<Window>) -> Json<Value> {
    let mut replicas = window.host.get().map_or_else(Vec::new, |host| host.replicas());
    replicas.sort_unstable_by_key(|replica| replica.range);
    Json(json!({"items": replicas.iter().map(|replica| describe(replica)).collect::<Vec<_>>()}))
}

fn describe(replica: &Replica) -> Value {
    let (view, standing) = (replica.shared.get(), replica.standing());
    let descriptor = view.descriptor.as_deref();
    json!({
        "range": replica.range,
        "replica": replica.id,
        "span": descriptor.map(|descriptor| descriptor.span.to_string()),
        "epoch": descriptor.map(|descriptor| descriptor.epoch),
        "replicas": descriptor.map(|descriptor| &descriptor.replicas),
        "term": standing.term,
        "leads": standing.leads,
        "leader": replica.leader(),
        "applied": view.applied.map(|applied| json!({"term": applied.leader_id.term, "index": applied.index})),
        "last_revision": view.last_revision.to_string(),
        "size_bytes": view.size_bytes,
        "keys": view.keys,
        "waiting_writes": replica.waiting_writes(),
        "peers": replica.peers().iter().map(|peer| json!({
            "replica": peer.id, "lag_entries": peer.lag, "live": peer.live,
        })).collect::<Vec<_>>(),
    })
}
