//! `/v1/tokens` and `/v1/auth`: who may do what.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast_common::access;
use holdfast_common::clock;
use holdfast_common::proto::access::{Credential, Limits, Proof, Right, Rules};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Leading;
use super::problem::Problem;
use super::query::{self, Query};
use crate::access::Refusal;
use crate::command::{Command, Outcome};

/// Longest life of a credential that has an end, in seconds: a hundred years.
const MAX_TTL_SECONDS: u64 = 100 * 365 * 24 * 60 * 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    name: String,
    role: Right,
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default)]
    prefixes_base64: Vec<String>,
    ttl_seconds: Option<u64>,
    /// The name in a client certificate that proves it, in place of a token.
    certificate: Option<String>,
    #[serde(default)]
    limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Demand {
    required: bool,
}

/// `GET /v1/tokens`
pub(super) async fn list(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let rules = rules(&leading);
    let items: Vec<Value> = rules.credentials.iter().map(describe).collect();
    Ok(Json(json!({"items": items, "next_cursor": null, "required": rules.required})).into_response())
}

/// `POST /v1/tokens`: the answer is the only place where the token ever stands.
pub(super) async fn create(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let wish: Wish = query::body(&bytes)?;
    let token = wish.certificate.is_none().then(access::new_token);
    let mut credential = credential(wish, token.as_deref(), clock::wall_ms())?;
    credential.id = propose(&leading, Command::Grant(Box::new(credential.clone()))).await?;
    let mut told = describe(&credential);
    if let Some(token) = token {
        told["token"] = token.into();
    }
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, headers, Json(told)).into_response())
}

/// `DELETE /v1/tokens/{id}`
pub(super) async fn revoke(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let id = id
        .parse()
        .map_err(|_| Problem::invalid("the id of a token is a number"))?;
    propose(&leading, Command::Revoke { id }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET /v1/auth`
pub(super) async fn show(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let rules = rules(&leading);
    Ok(Json(json!({"required": rules.required, "credentials": rules.credentials.len()})).into_response())
}

/// `PUT /v1/auth`
pub(super) async fn demand(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let Demand { required } = query::body(&bytes)?;
    propose(&leading, Command::Demand { required }).await?;
    Ok(Json(json!({"required": required})).into_response())
}

fn rules(leading: &Leading) -> Rules {
    leading.member.group.shared().state().access.rules.clone()
}

async fn propose(leading: &Leading, command: Command) -> Result<u64, Problem> {
    match leading.member.group.propose(&command).await? {
        Outcome::Access(Ok(id)) => Ok(id),
        Outcome::Access(Err(refusal)) => Err(match refusal {
            Refusal::Unknown(_) => Problem::not_found(refusal.to_string()),
            Refusal::Invalid(_) => Problem::invalid(refusal.to_string()),
            _ => Problem::conflict(refusal.to_string()),
        }),
        other => Err(Problem::unavailable(format!("an unexpected answer: {other:?}"))),
    }
}

pub(super) fn credential(wish: Wish, token: Option<&str>, now_ms: u64) -> Result<Credential, Problem> {
    let mut prefixes: Vec<Vec<u8>> = wish.prefixes.into_iter().map(String::into_bytes).collect();
    for prefix in &wish.prefixes_base64 {
        let prefix = STANDARD.decode(prefix);
        prefixes.push(prefix.map_err(|error| Problem::invalid(format!("prefixes_base64: {error}")))?);
    }
    let expires_ms = match wish.ttl_seconds {
        None => None,
        Some(ttl @ 1..=MAX_TTL_SECONDS) => Some(now_ms + ttl * 1_000),
        Some(_) => {
            let detail = format!("ttl_seconds must be 1 to {MAX_TTL_SECONDS}");
            return Err(Problem::invalid(detail));
        }
    };
    Ok(Credential {
        id: 0,
        name: wish.name,
        proof: match (token, wish.certificate) {
            (Some(token), _) => Proof::Token(access::hash_token(token)),
            (None, name) => Proof::Certificate(name.unwrap_or_default()),
        },
        right: wish.role,
        prefixes,
        expires_ms,
        created_ms: now_ms,
        limits: wish.limits,
    })
}

fn describe(credential: &Credential) -> Value {
    let texts: Option<Vec<&str>> = credential
        .prefixes
        .iter()
        .map(|prefix| str::from_utf8(prefix).ok())
        .collect();
    let mut told = json!({
        "id": credential.id,
        "name": credential.name,
        "role": credential.right,
        "created_ms": credential.created_ms,
        "expires_ms": credential.expires_ms,
        "limits": credential.limits,
    });
    match texts {
        Some(texts) => told["prefixes"] = texts.into(),
        None => {
            let encoded = credential.prefixes.iter().map(|prefix| STANDARD.encode(prefix));
            told["prefixes_base64"] = encoded.collect::<Vec<_>>().into();
        }
    }
    match &credential.proof {
        Proof::Token(_) => told["kind"] = "token".into(),
        Proof::Certificate(name) => {
            told["kind"] = "certificate".into();
            told["certificate"] = name.as_str().into();
        }
    }
    told
}
