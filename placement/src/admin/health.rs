//! How this process is, whoever leads.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Admin, openapi};

/// Alive.
pub(super) async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Whether the driver can be asked through this member: it is in, and knows who leads.
pub(super) async fn ready(State(admin): State<Admin>) -> Response {
    let status = match admin.member.get() {
        _ if admin.shutdown.is_cancelled() => "stopping",
        None => "waiting to be admitted",
        Some(member) if member.lead().is_ok() => "ready",
        Some(member)
            if member
                .group
                .leader()
                .is_some_and(|leader| leader != member.number) =>
        {
            "ready"
        }
        Some(_) => "no leader",
    };
    let code = if status == "ready" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(json!({"status": status}))).into_response()
}

/// Prometheus' text format.
pub(super) async fn metrics(State(admin): State<Admin>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        (admin.render)(),
    )
        .into_response()
}

/// The description of this API.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document()).into_response()
}
