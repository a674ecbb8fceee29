//! Handing a request to the leading member.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures::StreamExt;
use holdfast_common::proto::placement::Error;
use holdfast_common::tls::Tls;
use tokio_util::sync::CancellationToken;

use super::MAX_BODY_BYTES;
use super::hop::{Broken, Hop};
use super::problem::Problem;
use crate::member::Member;

/// Marks a request that was handed on once: it is not handed on again, so that members that disagree about who leads do not
/// send it in circles.
const FORWARDED: &str = "x-holdfast-forwarded";

/// The leading member's answer, as far as it comes before `shutdown`. `error` is why this member does not answer itself.
pub(super) async fn to_leader(
    member: &Member,
    request: Request,
    error: &Error,
    (tls, shutdown): (Option<&Tls>, &CancellationToken),
) -> Result<Response, Problem> {
    if request.headers().contains_key(FORWARDED) {
        return Err(Problem::unavailable(
            "the placement members do not agree on who leads; try again",
        ));
    }
    let leader = member.group.leader().filter(|leader| *leader != member.number);
    let leader = leader.ok_or_else(|| Problem::unavailable(error.to_string()))?;
    let address = member
        .group
        .shared()
        .state()
        .members
        .get(&leader)
        .map(|leader| leader.http_address.clone());
    let address = address.ok_or_else(|| Problem::unavailable(error.to_string()))?;
    let (mut head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES)
        .await
        .map_err(|error| Problem::invalid(error.to_string()))?;
    head.headers.insert(FORWARDED, HeaderValue::from_static("1"));
    // The body's, which is whole.
    head.headers.remove(header::CONTENT_LENGTH);
    let hop = Hop::connect(&address, tls).await.map_err(broken)?;
    let answer = hop.send(Request::from_parts(head, Body::from(body))).await;
    Ok(until(answer.map_err(broken)?, shutdown.clone()))
}

fn broken(error: Broken) -> Problem {
    let detail = format!("the leading member at {error}");
    match error {
        Broken::Unreachable { .. } => Problem::unavailable(detail),
        Broken::Unanswered { .. } => Problem::outcome_unknown(detail),
    }
}

/// A stream that has no end of its own ends when this member stops.
fn until(answer: Response, shutdown: CancellationToken) -> Response {
    let says = answer.headers().get(header::CONTENT_TYPE);
    if says.is_none_or(|says| says != "text/event-stream") {
        return answer;
    }
    answer.map(|body| Body::from_stream(body.into_data_stream().take_until(shutdown.cancelled_owned())))
}
