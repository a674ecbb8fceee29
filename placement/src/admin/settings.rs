//! The live settings.

use axum::body::Bytes;
use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::Value;

use super::Leading;
use super::problem::Problem;
use super::query::{self, Query};
use crate::command::{Command, Outcome};

/// Most attempts to change settings that others change at the same time.
const ATTEMPTS: usize = 10;

/// `GET /v1/config`
pub(super) async fn show(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let settings = leading.member.group.shared().state().settings.clone();
    Ok(Json(settings).into_response())
}

/// `PATCH /v1/config` with a JSON merge patch
pub(super) async fn patch(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let patch: Value = query::body(&bytes)?;
    for _ in 0..ATTEMPTS {
        let (from, before) = {
            let state = leading.member.group.shared().state();
            (state.settings_version, state.settings.clone())
        };
        let settings = before
            .patched(&patch)
            .map_err(|error| Problem::invalid(error.to_string()))?;
        let command = Command::Configure {
            from,
            settings: settings.clone(),
        };
        if leading.member.group.propose(&command).await? == Outcome::Configured(true) {
            tracing::info!(%patch, "settings changed");
            leading.lead.wake();
            return Ok(Json(settings).into_response());
        }
    }
    Err(Problem::unavailable(
        "the settings are being changed by others; try again",
    ))
}
