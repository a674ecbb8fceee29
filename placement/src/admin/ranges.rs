//! Ranges, and the changes to them that people ask for.

use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::key::Key;
use serde::Deserialize;

use super::operators::start;
use super::page::Page;
use super::presplit;
use super::problem::Problem;
use super::query::{self, Query};
use super::{Leading, json};
use crate::operator::Kind;
use crate::range_map::RangeMap;
use crate::view::Health;

/// `GET /v1/ranges`
pub(super) async fn list(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &["key", "start", "limit", "cursor"])?;
    let page = Page::of(&query)?;
    let key = query.key("key")?;
    let start = query.bytes("start").unwrap_or_default();
    if key.is_some() && (query.bytes("start").is_some() || page.from.is_some()) {
        return Err(Problem::invalid(
            "key names one range: start and cursor make no sense beside it",
        ));
    }
    Ok(leading.member.look(&leading.lead, |view| {
        let item = |range| {
            (
                view.state.map.effective_span(range).start().to_vec(),
                json::range(range, view),
            )
        };
        match &key {
            Some(key) => page.cut(view.state.map.at(key.as_bytes()).into_iter().map(item)),
            None => {
                let from = page
                    .from
                    .clone()
                    .unwrap_or_else(|| first_from(&view.state.map, start));
                page.cut(view.state.map.iter_from(&from).map(item))
            }
        }
    }))
}

/// Where the range begins that holds `start`, or `start` itself when nobody does.
fn first_from(map: &RangeMap, start: &[u8]) -> Vec<u8> {
    map.at(start)
        .map_or_else(|| start.to_vec(), |range| range.span.start().to_vec())
}

/// `GET /v1/ranges/{id}`
pub(super) async fn show(
    Extension(leading): Extension<Leading>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let id = RangeId(query::number("id", &id)?);
    let found = leading.member.look(&leading.lead, |view| {
        Some(json::range(view.state.map.get(id)?, view))
    });
    let found = found.ok_or_else(|| Problem::not_found(format!("there is no range {id}")))?;
    Ok(Json(found).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Split {
    key: Option<String>,
    key_base64: Option<String>,
    range_id: Option<u64>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    keys_base64: Vec<String>,
    #[serde(default)]
    scatter: bool,
}

impl Split {
    /// The keys, when there are many.
    fn many(&self) -> Result<BTreeSet<Key>, Problem> {
        let texts = self.keys.iter().map(|key| query::key_of(Some(key), None));
        let base64 = self.keys_base64.iter().map(|key| query::key_of(None, Some(key)));
        let keys: Vec<Option<Key>> = texts.chain(base64).collect::<Result<_, _>>()?;
        Ok(keys.into_iter().flatten().collect())
    }

    /// The keys when there are many, which stand alone; or the one key, if there is one.
    pub(super) fn read(&self) -> Result<(BTreeSet<Key>, Option<Key>), Problem> {
        let many = self.many()?;
        let at = query::key_of(self.key.as_deref(), self.key_base64.as_deref())?;
        if (!many.is_empty() || self.scatter) && (at.is_some() || self.range_id.is_some()) {
            return Err(Problem::invalid(
                "keys stand alone: give no key and no range_id beside them",
            ));
        }
        Ok((many, at))
    }
}

/// `POST /v1/ranges/split`
pub(super) async fn split(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &["wait"])?;
    let body: Split = query::body(&bytes)?;
    let (many, at) = body.read()?;
    if !many.is_empty() || body.scatter {
        return presplit::split_many(&leading, many, body.scatter, query.flag("wait")?).await;
    }
    let range = match (&at, body.range_id) {
        (None, Some(range)) => RangeId(range),
        (Some(key), None) => {
            let holder = leading
                .member
                .group
                .shared()
                .state()
                .map
                .at(key.as_bytes())
                .map(|range| range.id);
            holder.ok_or_else(|| {
                Problem::unavailable(format!("the range that holds {key} is not known at present"))
            })?
        }
        _ => {
            return Err(Problem::invalid(
                "give key, key_base64 or range_id, and only one of them",
            ));
        }
    };
    start(&leading, range, Kind::Split { at }, query.flag("wait")?).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    from_store: u64,
    to_store: u64,
}

/// `POST /v1/ranges/{id}/move`
pub(super) async fn move_replica(
    Extension(leading): Extension<Leading>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &["wait"])?;
    let range = RangeId(query::number("id", &id)?);
    let Move { from_store, to_store } = query::body(&bytes)?;
    let (from, to) = (StoreId(from_store), StoreId(to_store));
    check_alive(&leading, to)?;
    start(
        &leading,
        range,
        Kind::MoveReplica { from, to },
        query.flag("wait")?,
    )
    .await
}

/// `POST /v1/ranges/{id}/merge`: the range takes over its right neighbour, which is the one that the operator is about.
pub(super) async fn merge(
    Extension(leading): Extension<Leading>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &["wait"])?;
    let into = RangeId(query::number("id", &id)?);
    let right = leading.member.look(&leading.lead, |view| {
        let range = view.state.map.get(into);
        let range = range.ok_or_else(|| Problem::not_found(format!("there is no range {into}")))?;
        let end = view.state.map.effective_span(range).end().clone();
        if end.is_empty() {
            return Err(Problem::conflict(format!("range {into} is the last one")));
        }
        let right = view.state.map.at(&end).filter(|right| *right.span.start() == end);
        let right = right.ok_or_else(|| {
            Problem::unavailable(format!(
                "who holds the keys behind range {into} is not known at present"
            ))
        })?;
        Ok(right.id)
    })?;
    start(&leading, right, Kind::Merge { into }, query.flag("wait")?).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferLeader {
    to_store: u64,
}

/// `POST /v1/ranges/{id}/transfer-leader`
pub(super) async fn transfer_leader(
    Extension(leading): Extension<Leading>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &["wait"])?;
    let range = RangeId(query::number("id", &id)?);
    let TransferLeader { to_store } = query::body(&bytes)?;
    check_alive(&leading, StoreId(to_store))?;
    start(
        &leading,
        range,
        Kind::TransferLeader {
            to: StoreId(to_store),
        },
        query.flag("wait")?,
    )
    .await
}

/// A store that is known and not there gets nothing; one that is not known is told so by the plan.
fn check_alive(leading: &Leading, store: StoreId) -> Result<(), Problem> {
    leading.member.look(&leading.lead, |view| {
        let is_down = view.state.stores.contains_key(&store) && view.health(store) == Health::Down;
        if is_down {
            Err(Problem::conflict(format!("store {store} is down")))
        } else {
            Ok(())
        }
    })
}
