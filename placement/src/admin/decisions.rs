//! What the schedulers decided.

use axum::Extension;
use axum::extract::RawQuery;
use axum::response::Response;

use super::page::Page;
use super::problem::Problem;
use super::query::Query;
use super::{Leading, json};

/// `GET /v1/decisions`: latest first, since this member began to lead.
pub(super) async fn list(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    let page = Page::of(&Query::parse(raw.as_deref(), &["limit", "cursor"])?)?;
    let from = page.number()?.unwrap_or(u64::MAX);
    let plans = leading.lead.plans();
    let decisions = plans.decisions.iter().filter(|decision| decision.id <= from);
    Ok(page.cut(decisions.map(|decision| (decision.id.to_be_bytes().to_vec(), json::decision(decision)))))
}
