//! Stores.

use axum::extract::{Path, RawQuery};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use holdfast_common::ids::StoreId;

use super::page::Page;
use super::problem::Problem;
use super::query::{self, Query};
use super::{Leading, json};
use crate::schedule::pace::Estimate;

/// `GET /v1/stores`
pub(super) async fn list(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    let page = Page::of(&Query::parse(raw.as_deref(), &["limit", "cursor"])?)?;
    let from = StoreId(page.number()?.unwrap_or(0));
    Ok(leading.member.look(&leading.lead, |view| {
        let leaders = view.reports.leaders_by_store();
        let stores = view.state.stores.range(from..).map(|(_, store)| store);
        page.cut(stores.map(|store| {
            let led = leaders.get(&store.id).copied().unwrap_or(0);
            (
                store.id.0.to_be_bytes().to_vec(),
                json::store(store, led, pace(&leading, store.id), view),
            )
        }))
    }))
}

/// `GET /v1/stores/{id}`
pub(super) async fn show(
    Extension(leading): Extension<Leading>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let id = StoreId(query::number("id", &id)?);
    let found = leading.member.look(&leading.lead, |view| {
        let store = view.state.stores.get(&id)?;
        let led = view.reports.leaders_by_store().get(&id).copied().unwrap_or(0);
        Some(json::store(store, led, pace(&leading, store.id), view))
    });
    let found = found.ok_or_else(|| Problem::not_found(format!("there is no store {id}")))?;
    Ok(Json(found).into_response())
}

/// How fast a store is emptied. Takes the last of the locks.
pub(super) fn pace(leading: &Leading, store: StoreId) -> Option<Estimate> {
    leading.lead.plans().paces.estimate(store)
}
