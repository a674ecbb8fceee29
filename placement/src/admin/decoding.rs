//! What a placement member reads of requests, and of the metrics of other processes, before it does anything: the same functions,
//! without a member behind them. For those who make up input to see whether some of it does harm (`fuzz/`).

use axum::body::Bytes;
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Problem;
use super::query::{self, Query};
use super::session::cookie;
use super::{cluster, plan, ranges, recover, session, tokens};
use crate::figures::sample::Counted;
use crate::settings::Settings;

/// Reads a body; whether it is taken.
pub type Body = fn(&Bytes) -> bool;

/// The bodies of the admin API, by the resource that they are for.
pub const BODIES: [(&str, Body); 11] = [
    ("config", |body| {
        let patched = query::body::<Value>(body).map(|patch| Settings::default().patched(&patch).is_ok());
        patched.is_ok_and(|is_valid| is_valid)
    }),
    ("tokens", |body| {
        let wish = query::body(body);
        wish.and_then(|wish| tokens::credential(wish, Some("token"), 1))
            .is_ok()
    }),
    ("auth", is::<tokens::Demand>),
    ("session", is::<session::Login>),
    ("split", |body| {
        let split = query::body::<ranges::Split>(body);
        split.and_then(|split| split.read()).is_ok()
    }),
    ("move", is::<ranges::Move>),
    ("range-leader", is::<ranges::TransferLeader>),
    ("recover", is::<recover::Lost>),
    ("plan", |body| {
        let question = query::body(body);
        question.and_then(plan::scenario).is_ok()
    }),
    ("placement-leader", is::<cluster::Transfer>),
    ("placement-remove", is::<cluster::Remove>),
];

fn is<T: DeserializeOwned>(body: &Bytes) -> bool {
    query::body::<T>(body).is_ok()
}

/// Reads a query, and each parameter as everything that one can be; whether all that is taken.
pub fn query(raw: &str) -> bool {
    let read = || -> Result<(), Problem> {
        let query = Query::parse(Some(raw), &["key", "limit", "wait", "cursor"])?;
        query.number("limit")?;
        query.flag("wait")?;
        query.key("key")?;
        query.bytes("cursor").map(query::position).transpose()?;
        Ok(())
    };
    read().is_ok()
}

/// The session that the headers of a browser's request to `host` name.
pub fn session<'a>(headers: &'a HeaderMap, host: &str) -> Option<&'a str> {
    cookie::read(headers, &cookie::name(host, true))
}

/// Reads what a process says of itself in the text format of metrics.
pub fn metrics(text: &str) {
    drop(Counted::read(text));
}
