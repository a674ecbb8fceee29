//! Pages of lists: `{"items": […], "next_cursor": …}`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::problem::Problem;
use super::query::{self, Query};

/// Items on a page when the client names no limit.
const DEFAULT_LIMIT: usize = 100;

/// Most items on a page.
const MAX_LIMIT: u64 = 1_000;

/// Which page is asked for.
pub(super) struct Page {
    /// Most items on it.
    pub(super) limit: usize,
    /// Where it begins, if not at the beginning.
    pub(super) from: Option<Vec<u8>>,
}

impl Page {
    /// Reads `limit` and `cursor`.
    pub(super) fn of(query: &Query) -> Result<Self, Problem> {
        let limit = match query.number("limit")? {
            None => DEFAULT_LIMIT,
            Some(limit @ 1..=MAX_LIMIT) => usize::try_from(limit).unwrap_or(DEFAULT_LIMIT),
            Some(_) => return Err(Problem::invalid(format!("limit must be 1 to {MAX_LIMIT}"))),
        };
        let from = query.bytes("cursor").map(query::position).transpose()?;
        Ok(Self { limit, from })
    }

    /// Where the page begins, in a list ordered by number.
    pub(super) fn number(&self) -> Result<Option<u64>, Problem> {
        let number = |bytes: &Vec<u8>| <[u8; 8]>::try_from(&bytes[..]).map(u64::from_be_bytes);
        let from = self.from.as_ref().map(number).transpose();
        from.map_err(|_| Problem::invalid("cursor: not one that this list gave out"))
    }

    /// The page of `items`, each with its position, that begins where this page does.
    pub(super) fn cut(&self, items: impl Iterator<Item = (Vec<u8>, Value)>) -> Response {
        let mut items = items.peekable();
        let page: Vec<Value> = items.by_ref().take(self.limit).map(|(_, item)| item).collect();
        let next = items.peek().map(|(position, _)| query::cursor(position));
        Json(json!({"items": page, "next_cursor": next})).into_response()
    }
}
