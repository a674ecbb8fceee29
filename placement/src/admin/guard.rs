//! Who may use the admin API: each request is checked here once, before its handler.
//!
//! | request | needs |
//! |---|---|
//! | `/health`, `/ready`, `/metrics`, `/openapi.json`, the console's own files | nothing: there are no keys in them |
//! | `/v1/session` | nothing: it says who asks, and lets people in |
//! | `/router/…` | nothing here: it goes to a router with its token, and the router decides |
//! | other GET, `POST /v1/plan` | reading all keys, since bounds of ranges are keys |
//! | everything else, and `/v1/tokens` in any way | an admin |
//!
//! A member that does not lead checks, and hands the request on; the leading one checks again. A certificate can't be handed
//! on, so the member says in a header whom it has seen, and is believed if it shows a placement member's certificate itself.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use holdfast_common::access::{Action, Denied, Principal, Table, Target};
use holdfast_common::clock;
use holdfast_common::key::Span;
use holdfast_common::net::Role;
use holdfast_common::proto::access::Rules;
use holdfast_common::tls::{Identity, Kind, Remote};
use metrics::counter;
use parking_lot::Mutex;

use super::Admin;
use super::problem::Problem;
use super::session::Held;

/// Whom a member has seen that hands a request on.
const SEEN: HeaderName = HeaderName::from_static("x-holdfast-identity");

/// A request with a token that this member has not heard of: it may have been made a moment ago. The leading member decides,
/// and nobody else may act on it.
#[derive(Clone, Copy)]
pub(super) struct Unvouched;

/// How often a stream asks whether its reader may still read it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The rules as of their last change, ready to be asked.
#[derive(Default)]
pub(super) struct Guard {
    demanded: bool,
    table: Mutex<Option<(u64, Arc<Table>)>>,
}

impl Guard {
    /// One that asks for credentials even before the rules do, if `demanded`.
    pub(super) fn new(demanded: bool) -> Self {
        Self {
            demanded,
            table: Mutex::default(),
        }
    }
}

impl Admin {
    /// Whether this member leads.
    pub(super) fn leads(&self) -> bool {
        self.member.get().is_some_and(|member| member.lead().is_ok())
    }

    /// What this member knows of who may do what.
    pub(super) fn table(&self) -> Arc<Table> {
        let state = self.member.get().map(|member| member.group.shared().state());
        let none = Rules::default();
        let rules = state.as_ref().map_or(&none, |state| &state.access.rules);
        let mut table = self.guard.table.lock();
        match &*table {
            Some((version, table)) if *version == rules.version => table.clone(),
            _ => {
                let fresh = Arc::new(Table::new(rules, self.guard.demanded));
                *table = Some((rules.version, fresh.clone()));
                fresh
            }
        }
    }
}

/// What a request needs; none when anyone may make it.
fn needed(method: &Method, path: &str) -> Option<Action> {
    let is_api = path.starts_with("/v1/") || path.starts_with("/api/");
    match path {
        _ if !is_api => None,
        "/v1/session" => None,
        path if path.starts_with("/v1/tokens") || path.starts_with("/api/") => Some(Action::Administer),
        "/v1/plan" => Some(Action::Read),
        _ if method.is_safe() => Some(Action::Read),
        _ => Some(Action::Administer),
    }
}

/// Lets a request through to its handler, or not.
pub(super) async fn check(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    let remote = remote(&request);
    let identity = seen(request.headers(), remote.identity.as_ref());
    request.headers_mut().remove(SEEN);
    let Some(action) = needed(request.method(), request.uri().path()) else {
        return next.run(request).await;
    };
    let table = admin.table();
    let header = request.headers().get(header::AUTHORIZATION);
    let header = header.map(|value| value.to_str().unwrap_or_default());
    let admitted = table.admit(header, identity.as_ref(), clock::wall_ms());
    let verdict = admitted.and_then(|principal| {
        let everything = Span::everything();
        let target = match action {
            Action::Administer => Target::Cluster,
            _ => Target::Span(&everything),
        };
        let permitted = principal.permits(action, target);
        if let Err(denied) = permitted {
            audit(&request, &remote, &principal.to_string(), Err(denied));
        }
        permitted.map(|()| principal)
    });
    match verdict {
        Ok(principal) => {
            if action == Action::Administer || !request.method().is_safe() {
                audit(&request, &remote, &principal.to_string(), Ok(()));
            }
            if let Some(value) =
                identity.and_then(|identity| HeaderValue::from_str(&identity.to_string()).ok())
            {
                request.headers_mut().insert(SEEN, value);
            }
            let held = request.extensions().get::<Held>().copied();
            while_permitted(next.run(request).await, admin, (principal, held))
        }
        Err(Denied::Unknown) if request.uri().path().starts_with("/v1/") && !admin.leads() => {
            request.extensions_mut().insert(Unvouched);
            next.run(request).await
        }
        Err(denied) => {
            if denied.is_unauthenticated() {
                audit(&request, &remote, "unknown", Err(denied));
            }
            Problem::denied(denied).into_response()
        }
    }
}

/// Who is at the other end of a request's connection.
pub(super) fn remote(request: &Request) -> Remote {
    let remote = request.extensions().get::<ConnectInfo<Remote>>();
    let nobody = || Remote {
        addr: None,
        identity: None,
    };
    remote.map_or_else(nobody, |ConnectInfo(remote)| remote.clone())
}

/// Whose certificate counts: that of the connection, or the one that a placement member says it has seen.
fn seen(headers: &HeaderMap, of_connection: Option<&Identity>) -> Option<Identity> {
    let identity = of_connection?;
    let told = headers
        .get(SEEN)
        .and_then(|value| value.to_str().ok()?.parse::<Identity>().ok());
    match (identity.kind, told) {
        (Kind::Node(Role::Placement), Some(told)) if told.cluster == identity.cluster => Some(told),
        _ => Some(identity.clone()),
    }
}

/// Ends a stream whose reader may not read it any more.
fn while_permitted(
    response: Response,
    admin: Admin,
    (principal, held): (Principal, Option<Held>),
) -> Response {
    let says = response.headers().get(header::CONTENT_TYPE);
    if says.is_none_or(|says| says != "text/event-stream") {
        return response;
    }
    let ended = async move {
        let mut looks = clock::every(LOOK_AGAIN);
        let logged_in = || held.is_none_or(|held| admin.sessions.is_open(held, clock::now()));
        while logged_in() && admin.table().reconsider(&principal, clock::wall_ms()).is_ok() {
            looks.tick().await;
        }
    };
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(ended))))
}

/// One line for each change and each refusal: never a token, and of the path no query, where keys may stand.
pub(super) fn audit(request: &Request, remote: &Remote, principal: &str, verdict: Result<(), Denied>) {
    let decision = verdict.err().map_or("allowed", Denied::as_str);
    counter!("holdfast_access_decisions_total", "decision" => decision).increment(1);
    let from = remote.addr.map(|addr| addr.to_string()).unwrap_or_default();
    let request_id = request.headers().get(super::REQUEST_ID);
    let request_id = request_id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    tracing::info!(
        target: "audit",
        principal,
        method = request.method().as_str(),
        path = request.uri().path(),
        decision,
        from,
        request_id,
        "admin request"
    );
}

#[cfg(test)]
mod tests {
    use holdfast_common::ids::ClusterId;

    use super::*;

    #[test]
    fn what_is_not_known_to_be_harmless_needs_an_admin() {
        let get = |path| needed(&Method::GET, path);
        let post = |path| needed(&Method::POST, path);
        for path in [
            "/health",
            "/ready",
            "/metrics",
            "/openapi.json",
            "/",
            "/assets/x.js",
            "/router/v1/kv",
            "/v1/session",
        ] {
            assert_eq!(get(path), None, "{path}");
        }
        for path in [
            "/v1/cluster",
            "/v1/ranges",
            "/v1/heatmap",
            "/v1/live",
            "/v1/config",
            "/v1/made-later",
        ] {
            assert_eq!(get(path), Some(Action::Read), "{path}");
            assert_eq!(post(path), Some(Action::Administer), "{path}");
        }
        assert_eq!(post("/v1/plan"), Some(Action::Read));
        for path in ["/v1/tokens", "/v1/tokens/7", "/api/control/nodes"] {
            assert_eq!(get(path), Some(Action::Administer), "{path}");
        }
    }

    #[test]
    fn only_a_placement_member_is_believed_about_whom_it_has_seen() {
        let identity = |kind, name| Identity::new(ClusterId(7), kind, name).expect("a name");
        let admin = identity(Kind::Node(Role::Admin), "ops");
        let mut headers = HeaderMap::new();
        headers.insert(SEEN, HeaderValue::from_str(&admin.to_string()).expect("a header"));
        let whose = |kind| seen(&headers, Some(&identity(kind, "x")));
        assert_eq!(whose(Kind::Node(Role::Placement)), Some(admin.clone()));
        for kind in [Kind::Client, Kind::Node(Role::Router), Kind::Node(Role::Store)] {
            assert_eq!(whose(kind), Some(identity(kind, "x")));
        }
        assert_eq!(seen(&headers, None), None);
    }
}
