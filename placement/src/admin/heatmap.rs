//! What was asked of which part of the key space, and when.

use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use holdfast_common::clock;
use serde_json::{Map, Value, json};

use super::Leading;
use super::json::put_key;
use super::problem::Problem;
use super::query::Query;
use crate::heatmap::{Metric, Picture};

/// How far back a picture goes when the client does not say, seconds.
const AN_HOUR: u64 = 3_600;

/// `GET /v1/heatmap`
pub(super) async fn show(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &["metric", "from", "to"])?;
    let metric = metric(&query)?;
    let to = query.number("to")?.unwrap_or(clock::wall_ms() / 1_000);
    let from = query.number("from")?.unwrap_or(to.saturating_sub(AN_HOUR));
    if from > to {
        return Err(Problem::invalid("from must not be after to"));
    }
    // The minute under way is part of now.
    let picture = leading.lead.heatmap().picture(metric, from, to.saturating_add(1));
    Ok(Json(shown(metric, &picture)).into_response())
}

fn metric(query: &Query) -> Result<Metric, Problem> {
    let Some(name) = query.bytes("metric") else {
        return Ok(Metric::Reads);
    };
    let known = Metric::ALL
        .into_iter()
        .find(|metric| metric.name().as_bytes() == name);
    known.ok_or_else(|| {
        let names = Metric::ALL.map(Metric::name);
        Problem::invalid(format!("metric must be one of {}", names.join(", ")))
    })
}

fn shown(metric: Metric, picture: &Picture) -> Value {
    let ends = picture.buckets.iter().skip(1).cloned().chain([Bytes::new()]);
    let buckets = picture.buckets.iter().zip(ends).map(|(start, end)| {
        let mut bucket = Map::new();
        put_key(&mut bucket, "start", start);
        put_key(&mut bucket, "end", &end);
        Value::Object(bucket)
    });
    json!({
        "metric": metric.name(),
        "unit": metric.unit(),
        "buckets": buckets.collect::<Vec<_>>(),
        "times": picture.times.iter().map(|(start, _)| start).collect::<Vec<_>>(),
        "seconds": picture.times.iter().map(|(_, length)| length).collect::<Vec<_>>(),
        "values": picture.values.iter().map(|column| column.iter().copied().map(rounded).collect::<Vec<_>>()).collect::<Vec<_>>(),
    })
}

/// More digits would say no more, and a picture has many numbers.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
