//! Handing a request to the leading member.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use holdfast_common::clock;
use holdfast_common::proto::placement::Error;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::MAX_BODY_BYTES;
use super::problem::Problem;
use crate::member::Member;

/// Marks a request that was handed on once: it is not handed on again, so that members that disagree about who leads do not
/// send it in circles.
const FORWARDED: &str = "x-holdfast-forwarded";

const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// The leading member's answer. `error` is why this member does not answer itself.
pub(super) async fn to_leader(member: &Member, request: Request, error: &Error) -> Result<Response, Problem> {
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
    let unreachable = |error: &dyn std::fmt::Display| {
        Problem::unavailable(format!(
            "the leading member at {address} can't be reached: {error}"
        ))
    };

    let (mut head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES)
        .await
        .map_err(|error| Problem::invalid(error.to_string()))?;
    head.headers.insert(FORWARDED, HeaderValue::from_static("1"));
    head.headers.insert(
        header::HOST,
        HeaderValue::from_str(&address).map_err(|error| unreachable(&error))?,
    );
    // Of this hop alone; the length is the body's.
    [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
    ]
    .iter()
    .for_each(|name| {
        head.headers.remove(name);
    });
    head.version = axum::http::Version::HTTP_11;

    let connecting = clock::timeout(CONNECT_WITHIN, TcpStream::connect(&address)).await;
    let stream = connecting
        .map_err(|error| unreachable(&error))?
        .map_err(|error| unreachable(&error))?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the leading member broke");
        }
    });
    let answer = sender
        .send_request(Request::from_parts(head, Full::new(body)))
        .await;
    let broke = |error| Problem::outcome_unknown(format!("the leading member did not answer: {error}"));
    Ok(answer.map_err(broke)?.map(Body::new).into_response())
}
