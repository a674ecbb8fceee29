//! `/v1/session`: a browser logs in with a token and is given a cookie for it, so that no script ever holds the token.
//!
//! The cookie names a session of this member ([`register`]). At the door ([`recognise`]) it is exchanged for the token, and from
//! there on the request is like any other with a token: this member checks it, hands it to the leading one or to a router, and
//! they check it again. So nobody but this member knows of sessions.
//!
//! A browser sends cookies by itself, also when another page has it do so. Hence a request that changes something counts by its
//! cookie only with the header [`CONSOLE`], which no form can set and no script of another origin without this member's leave;
//! and what a page of another origin asks for is asked without the cookie.

pub(super) mod cookie;
mod register;

use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use holdfast_common::access::{Action, Denied, Principal, Target};
use holdfast_common::clock;
use holdfast_common::key::Span;
use holdfast_common::proto::access::Right;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) use self::cookie::host;
pub(super) use self::register::{Held, Register};
use super::guard::{audit, remote};
use super::problem::Problem;
use super::query::{self, Query};
use super::{Admin, MAX_BODY_BYTES};
use crate::member::Member;

/// What the console sends with every request.
const CONSOLE: HeaderName = HeaderName::from_static("x-holdfast-console");

/// How long a member that does not lead waits to hear of a token that it does not know: it may have been made a moment ago.
const HEARSAY: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Login {
    token: String,
}

/// Puts the token in the place of the cookie.
pub(super) async fn recognise(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    let name = cookie::name(host(&request), is_secure(&admin, request.headers()));
    let session = cookie::read(request.headers(), &name)
        .filter(|_| !request.headers().contains_key(header::AUTHORIZATION))
        .filter(|_| is_own(request.headers()))
        .and_then(|id| admin.sessions.find(id, clock::now()));
    // Nobody else is to see it.
    request.headers_mut().remove(header::COOKIE);
    if let Some((held, token)) = session {
        if !request.method().is_safe() && !request.headers().contains_key(CONSOLE) {
            return Problem::forbidden(format!(
                "a request by a session that changes something needs the header {CONSOLE}"
            ))
            .into_response();
        }
        if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}")) {
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
            request.extensions_mut().insert(held);
        }
    }
    next.run(request).await
}

/// Whether a page of this member asks, or somebody who typed an address, as far as the browser says.
fn is_own(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_none_or(|site| site == "same-origin" || site == "none")
}

/// Whether the browser's connection is encrypted, be it by somebody in front of this member.
fn is_secure(admin: &Admin, headers: &HeaderMap) -> bool {
    let proto = headers.get("x-forwarded-proto");
    admin.upstreams.tls.is_some() || proto.is_some_and(|proto| proto == "https")
}

/// `GET /v1/session`: who asks, and what that one may do. Answered to everybody.
pub(super) async fn show(State(admin): State<Admin>, request: Request) -> Result<Response, Problem> {
    admin.member.get().ok_or_else(Problem::not_bootstrapped)?;
    Query::parse(request.uri().query(), &[])?;
    let header = request.headers().get(header::AUTHORIZATION);
    let header = header.map(|value| value.to_str().unwrap_or_default());
    let remote = remote(&request);
    let table = admin.table();
    let who = table.admit(header, remote.identity.as_ref(), clock::wall_ms());
    Ok(told(describe(&admin, who.as_ref().ok())))
}

/// `POST /v1/session`: a session for a token.
pub(super) async fn open(State(admin): State<Admin>, request: Request) -> Result<Response, Problem> {
    let member = admin.member.get().ok_or_else(Problem::not_bootstrapped)?;
    Query::parse(request.uri().query(), &[])?;
    if !request.headers().contains_key(CONSOLE) {
        return Err(Problem::forbidden(format!(
            "logging in needs the header {CONSOLE}"
        )));
    }
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await;
    let body = body.map_err(|error| Problem::invalid(error.to_string()))?;
    let Login { token } = query::body(&body)?;
    let request = Request::from_parts(head, Body::empty());
    let remote = remote(&request);
    let token = token.trim();
    let principal = match admit(&admin, member, &format!("Bearer {token}")).await {
        Ok(principal) => principal,
        Err(denied) => {
            audit(&request, &remote, "unknown", Err(denied));
            return Err(Problem::denied(denied));
        }
    };
    audit(&request, &remote, &principal.to_string(), Ok(()));
    let id = admin.sessions.open(token, clock::now());
    let answer = told(describe(&admin, Some(&principal)));
    Ok(with_cookie(&admin, &request, answer, Some(&id)))
}

/// `DELETE /v1/session`: the session ends, if there is one.
pub(super) async fn close(State(admin): State<Admin>, request: Request) -> Result<Response, Problem> {
    admin.member.get().ok_or_else(Problem::not_bootstrapped)?;
    Query::parse(request.uri().query(), &[])?;
    if let Some(held) = request.extensions().get::<Held>() {
        admin.sessions.close(*held);
    }
    Ok(with_cookie(
        &admin,
        &request,
        StatusCode::NO_CONTENT.into_response(),
        None,
    ))
}

/// Who a token belongs to.
async fn admit(admin: &Admin, member: &Member, header: &str) -> Result<Principal, Denied> {
    let end = clock::now() + HEARSAY;
    let mut changed = member.group.shared().hub().access();
    loop {
        changed.mark_unchanged();
        match admin.table().admit(Some(header), None, clock::wall_ms()) {
            Err(Denied::Unknown) if !admin.leads() => {
                if !matches!(clock::timeout_at(end, changed.changed()).await, Ok(Ok(()))) {
                    return Err(Denied::Unknown);
                }
            }
            verdict => return verdict,
        }
    }
}

fn told(what: Value) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(what)).into_response()
}

fn with_cookie(admin: &Admin, request: &Request, mut answer: Response, session: Option<&str>) -> Response {
    let secure = is_secure(admin, request.headers());
    let cookie = cookie::write(&cookie::name(host(request), secure), session, secure);
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

/// Who somebody is, and whether they may read all keys, write any, and administer.
fn describe(admin: &Admin, who: Option<&Principal>) -> Value {
    let everything = Span::everything();
    let may = |action, target: Target<'_>| who.is_some_and(|who| who.permits(action, target).is_ok());
    let credential = who.and_then(Principal::credential);
    let name = match who {
        Some(Principal::Operator(name)) => Some(name.to_string()),
        _ => credential.map(|credential| credential.name.clone()),
    };
    let role = match who {
        Some(Principal::Operator(_)) => Some(Right::Admin),
        _ => credential.map(|credential| credential.right),
    };
    let prefixes = credential.map(|credential| credential.prefixes.iter());
    let prefixes = prefixes.map(|all| {
        all.map(|prefix| String::from_utf8_lossy(prefix))
            .collect::<Vec<_>>()
    });
    json!({
        "required": admin.table().is_required(),
        "insecure": admin.insecure,
        "name": name,
        "role": role,
        "prefixes": prefixes.unwrap_or_default(),
        "expires_ms": credential.and_then(|credential| credential.expires_ms),
        "may": {
            "read": may(Action::Read, Target::Span(&everything)),
            "write": credential.map_or(who.is_some(), |credential| credential.right >= Right::ReadWrite),
            "administer": may(Action::Administer, Target::Cluster),
        },
    })
}
