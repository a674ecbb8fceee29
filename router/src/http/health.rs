//! `/health`, `/ready` and `/metrics`: for whoever operates the process.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};

use super::Exchange;
use super::body::Body;
use super::problem::{Code, Problem};

/// The text format of Prometheus.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The process runs.
pub(super) fn health(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    read_only(exchange)?;
    Ok(typed(
        Bytes::from_static(b"{\"status\":\"ok\"}"),
        "application/json",
    ))
}

/// Requests can be served: there is a map, and the process is not about to stop.
pub(super) fn ready(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    read_only(exchange)?;
    if exchange.front.shutdown.is_cancelled() {
        return Err(Problem::new(Code::Unavailable, "the router is shutting down"));
    }
    if !exchange.front.directory.is_ready() {
        return Err(Problem::new(
            Code::Unavailable,
            "the router has no map yet: is the placement driver running?",
        ));
    }
    if !exchange.front.gate.is_ready() {
        return Err(Problem::new(
            Code::Unavailable,
            "the placement driver has not told yet who may do what",
        ));
    }
    Ok(typed(
        Bytes::from_static(b"{\"status\":\"ready\"}"),
        "application/json",
    ))
}

/// Every metric of the process.
pub(super) fn metrics(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    read_only(exchange)?;
    Ok(typed((exchange.front.render_metrics)().into(), METRICS_TYPE))
}

fn read_only(exchange: &Exchange<'_>) -> Result<(), Problem> {
    if matches!(exchange.head.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    Err(Problem::method_not_allowed("GET, HEAD"))
}

fn typed(bytes: Bytes, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(bytes));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
