//! `/v1/kv`: many keys, in order. As one JSON object, bounded in rows and bytes; or as a stream of lines (NDJSON), made no
//! faster than the client reads it, whose last line tells that it is whole or why it is not.

use std::sync::Arc;
use std::time::Duration;
use std::vec;

use bytes::Bytes;
use futures::stream;
use holdfast_common::access::Action;
use holdfast_common::clock;
use holdfast_common::key::Span;
use holdfast_common::limits::{DEFAULT_SCAN_LIMIT, MAX_KEY_BYTES, MAX_SCAN_LIMIT};
use holdfast_common::proto::kv::Row;
use http::header::{ACCEPT, CONTENT_ENCODING, HeaderValue, VARY};
use http::{HeaderMap, Method, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::body::Body;
use super::gzip::{self, Gzip};
use super::kv;
use super::listing::{Listing, NDJSON, Shape};
use super::permit::Leave;
use super::problem::{Code, Problem};
use super::query::{Query, invalid};
use super::request_id::RequestId;
use super::tally::{Tally, Task};
use super::{Exchange, Front};
use crate::cursor::Cursor;
use crate::metrics::{Op, Rejection};
use crate::scan::{Plan, Walk};

/// Bytes of rows after which a JSON answer is cut, with a cursor to go on from.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of rows that a stream asks a store for at once. A page is packed and unpacked in one go, and others wait meanwhile.
const STREAM_PAGE_BYTES: usize = 256 * 1024;
/// Rows that are written before other requests have their turn.
const PORTION: usize = 512;

/// The methods of `/v1/kv`.
pub(super) const ALLOW: &str = "GET, HEAD, DELETE";

const PARAMETERS: [&str; 11] = [
    "prefix",
    "start",
    "end",
    "limit",
    "reverse",
    "keys_only",
    "count",
    "cursor",
    "consistency",
    "max_staleness",
    "timeout_ms",
];

/// Answers a scan.
pub(super) async fn answer(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    let head = &exchange.head;
    match head.method {
        Method::GET | Method::HEAD => {}
        Method::DELETE => return delete(exchange).await,
        _ => return Err(Problem::method_not_allowed(ALLOW)),
    }
    let lines = wants_lines(&head.headers);
    let query = Query::parse(head.uri.query(), &PARAMETERS)?;
    let default_limit = if lines { MAX_SCAN_LIMIT } else { DEFAULT_SCAN_LIMIT };
    let count = query.flag("count")?;
    let default_limit = if count { usize::MAX } else { default_limit };
    let (plan, timeout) = (plan(&query, default_limit)?, query.timeout()?);
    exchange.permit_span(Action::Read, plan.span.as_ref())?;
    if head.method == Method::HEAD {
        // Without a body there is nothing to read for.
        return Ok(Listing::new(shape(lines), false).response(Body::Empty));
    }
    if count {
        return tally(exchange, Task::Count, plan, timeout, lines).await;
    }
    if lines {
        Scan::begin(exchange, plan, Shape::Lines, timeout)?
            .streamed()
            .await
    } else {
        Scan::begin(exchange, plan, Shape::Object, timeout)?
            .bounded()
            .await
    }
}

/// Removes the keys of a span. It takes an explicit one: a mistyped request must not remove everything.
async fn delete(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    const PARAMETERS: [&str; 6] = ["prefix", "start", "end", "limit", "cursor", "timeout_ms"];
    kv::refuse_idempotency_key(&exchange.head.headers)?;
    let query = Query::parse(exchange.head.uri.query(), &PARAMETERS)?;
    if !["prefix", "start", "end", "cursor"]
        .iter()
        .any(|name| query.bytes(name).is_some())
    {
        return Err(invalid(
            "say which keys: prefix, or start and end (an empty prefix is all of them)",
        ));
    }
    let (plan, timeout) = (plan(&query, usize::MAX)?, query.timeout()?);
    let lines = wants_lines(&exchange.head.headers);
    tally(exchange, Task::Delete, plan, timeout, lines).await
}

async fn tally(
    exchange: &Exchange<'_>,
    task: Task,
    plan: Plan,
    timeout: Duration,
    lines: bool,
) -> Result<Response<Body>, Problem> {
    let tally = Tally::begin(exchange, task, plan, timeout)?;
    if lines {
        tally.streamed().await
    } else {
        tally.bounded().await
    }
}

fn shape(lines: bool) -> Shape {
    if lines { Shape::Lines } else { Shape::Object }
}

/// Whether the client asks for NDJSON.
fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get_all(ACCEPT)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let kind = range.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case(NDJSON)
    })
}

/// The keys that a query asks for.
pub(super) fn read(raw: &str) -> Result<Option<Span>, Problem> {
    let query = Query::parse(Some(raw), &PARAMETERS)?;
    query.flag("count")?;
    query.timeout()?;
    Ok(plan(&query, DEFAULT_SCAN_LIMIT)?.span)
}

/// What the query asks for.
fn plan(query: &Query<'_>, default_limit: usize) -> Result<Plan, Problem> {
    let span = span(query)?;
    let (reverse, keys_only) = (query.flag("reverse")?, query.flag("keys_only")?);
    let limit = query
        .number("limit", 1..=MAX_SCAN_LIMIT)?
        .unwrap_or(default_limit);
    let freshness = query.freshness()?;
    let asked = Plan {
        span,
        reverse,
        keys_only,
        freshness,
        limit,
    };
    let Some(cursor) = query.bytes("cursor") else {
        return Ok(asked);
    };
    let cursor = Cursor::decode(&cursor).map_err(|error| invalid(format!("cursor: {error}")))?;
    let same_way = query.bytes("reverse").is_none() || cursor.reverse == reverse;
    if !same_way || !asked.span.is_some_and(|span| span.covers(&cursor.rest)) {
        return Err(invalid(
            "the cursor comes from a scan of other keys, or in the other direction",
        ));
    }
    Ok(Plan {
        span: Some(cursor.rest),
        reverse: cursor.reverse,
        keys_only,
        freshness,
        limit,
    })
}

/// The keys that the query names: everything, if it names none.
fn span(query: &Query<'_>) -> Result<Option<Span>, Problem> {
    let bound = |name: &'static str| match query.bytes(name) {
        Some(bytes) if bytes.len() > MAX_KEY_BYTES => Err(invalid(format!(
            "{name} has {} bytes, more than any key",
            bytes.len()
        ))),
        bytes => Ok(bytes),
    };
    match (bound("prefix")?, bound("start")?, bound("end")?) {
        (Some(prefix), None, None) => Ok(Some(Span::prefix(prefix))),
        (Some(_), _, _) => Err(invalid("prefix can't be combined with start or end")),
        (None, start, end) => {
            let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
            if !end.is_empty() && start > end {
                return Err(invalid("start lies behind end"));
            }
            Ok(Span::new(start, end).ok())
        }
    }
}

/// A scan being answered.
pub(super) struct Scan {
    leave: Leave,
    front: Arc<Front>,
    walk: Walk,
    listing: Listing,
    /// Rows of a stream that came and are not written yet.
    on_hand: vec::IntoIter<Row>,
    /// For each page.
    timeout: Duration,
    id: RequestId,
    gzip: Option<Gzip>,
    _permit: OwnedSemaphorePermit,
}

impl Scan {
    /// Begins a scan, if there is a place for it.
    pub(super) fn begin(
        exchange: &Exchange<'_>,
        plan: Plan,
        shape: Shape,
        timeout: Duration,
    ) -> Result<Self, Problem> {
        exchange.permit_span(Action::Read, plan.span.as_ref())?;
        let front = exchange.front;
        let permit = front.scans.clone().try_acquire_owned().map_err(|_| {
            front.metrics.rejected(Rejection::Scans);
            Problem::new(Code::Overloaded, "too many scans are running")
        })?;
        let listing = Listing::new(shape, plan.keys_only);
        let id = exchange.id.clone();
        Ok(Self {
            leave: Leave::of(exchange),
            front: front.clone(),
            walk: Walk::new(plan),
            listing,
            on_hand: Vec::new().into_iter(),
            timeout,
            id,
            gzip: gzip::is_wanted(&exchange.head.headers).then(Gzip::new),
            _permit: permit,
        })
    }

    /// Answers with what fits one answer of bounded size.
    async fn bounded(mut self) -> Result<Response<Body>, Problem> {
        let mut out = Vec::new();
        let mut room = self.front.budget.reserve(0).ok_or_else(Problem::no_room)?;
        while !self.walk.is_over() && out.len() < MAX_ANSWER_BYTES {
            let rows = self.next_page(MAX_ANSWER_BYTES - out.len()).await?;
            if rows.is_empty() {
                break; // It is over, or a range behind empty ones fails: then the client goes on by the cursor.
            }
            for portion in rows.chunks(PORTION) {
                self.listing.rows(&mut out, portion);
                tokio::task::yield_now().await;
            }
            if !room.grow(out.len() - room.bytes()) {
                let problem = Problem::no_room();
                self.front.note_rejection(&problem);
                return Err(problem);
            }
        }
        self.listing.end(
            &mut out,
            self.walk.cursor().map(|cursor| cursor.encode()).as_deref(),
        );
        let is_packed = self.gzip.is_some();
        let (_, out) = gzip::pack(self.gzip.take(), out.into(), true).await;
        Ok(self.response(Body::held(out, room), is_packed))
    }

    /// Answers with a stream. The first page is read before the answer begins, so that a scan that fails at once fails with
    /// a status.
    pub(super) async fn streamed(mut self) -> Result<Response<Body>, Problem> {
        self.on_hand = self.next_page(STREAM_PAGE_BYTES).await?.into_iter();
        let ready = self.portion();
        let response = self.response(Body::Empty, self.gzip.is_some());
        let pieces = stream::unfold((Some(self), Some(ready)), |(scan, ready)| async move {
            let mut scan = scan?;
            let Piece { bytes, is_last } = match ready {
                Some(piece) => piece,
                None => scan.next_piece().await,
            };
            let (gzip, bytes) = gzip::pack(scan.gzip.take(), bytes, is_last).await;
            scan.gzip = gzip;
            scan.front.metrics.response_bytes(Op::Scan, bytes.len());
            Some((bytes, ((!is_last).then_some(scan), None)))
        });
        Ok(response.map(|_| Body::stream(pieces)))
    }

    async fn next_page(&mut self, max_bytes: usize) -> Result<Vec<Row>, Problem> {
        self.leave.holds()?;
        let deadline = clock::now() + self.timeout;
        Ok(self
            .walk
            .next_page(&self.front.sender, max_bytes, deadline)
            .await?)
    }

    /// What is next in the stream: of the page that came last, or of another one.
    async fn next_piece(&mut self) -> Piece {
        if self.on_hand.len() > 0 {
            tokio::task::yield_now().await;
            return self.portion();
        }
        match self.next_page(STREAM_PAGE_BYTES).await {
            Ok(rows) => {
                self.on_hand = rows.into_iter();
                self.portion()
            }
            Err(problem) => {
                let mut out = Vec::new();
                self.listing.fail(&mut out, &problem.to_json(&self.id));
                Piece {
                    bytes: out.into(),
                    is_last: true,
                }
            }
        }
    }

    /// What a portion of the rows on hand adds to the stream.
    fn portion(&mut self) -> Piece {
        let mut out = Vec::new();
        let rows: Vec<Row> = self.on_hand.by_ref().take(PORTION).collect();
        self.listing.rows(&mut out, &rows);
        let is_last = self.on_hand.len() == 0 && self.walk.is_over();
        if is_last {
            let cursor = self.walk.cursor().map(|cursor| cursor.encode());
            self.listing.end(&mut out, cursor.as_deref());
        }
        Piece {
            bytes: out.into(),
            is_last,
        }
    }

    fn response(&self, body: Body, is_packed: bool) -> Response<Body> {
        let mut response = self.listing.response(body);
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        if is_packed {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(staleness_ms) = self.walk.staleness_ms() {
            kv::tell_staleness(&mut response, staleness_ms);
        }
        response
    }
}

/// A part of a stream.
struct Piece {
    bytes: Bytes,
    is_last: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(raw: &str) -> Result<Plan, Code> {
        let query = Query::parse(Some(raw), &PARAMETERS).expect("a query");
        plan(&query, DEFAULT_SCAN_LIMIT).map_err(|problem| problem.code)
    }

    fn span(start: &str, end: &str) -> Option<Span> {
        Span::new(start.to_owned(), end.to_owned()).ok()
    }

    #[test]
    fn keys_are_named_by_prefix_or_bounds() {
        let spans = [
            ("", span("", "")),
            ("prefix=", span("", "")),
            ("prefix=a", span("a", "b")),
            ("start=a", span("a", "")),
            ("end=b", span("", "b")),
            ("start=a&end=b", span("a", "b")),
            ("start=a&end=", span("a", "")),
            ("start=a&end=a", None),
        ];
        for (raw, span) in spans {
            assert_eq!(planned(raw).map(|plan| plan.span), Ok(span), "{raw}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let long = format!("prefix={}", "a".repeat(MAX_KEY_BYTES + 1));
        for raw in [
            "prefix=a&start=b",
            "prefix=a&end=b",
            "start=b&end=a",
            "limit=0",
            "limit=1000001",
            "cursor=x",
            "cursor=",
            &long,
        ] {
            assert_eq!(planned(raw), Err(Code::InvalidParameter), "{raw}");
        }
    }

    #[test]
    fn a_cursor_goes_on_with_its_own_scan_only() {
        let cursor = Cursor {
            rest: span("c", "x").expect("a span"),
            reverse: true,
        }
        .encode();
        let with = |rest: &str| planned(&format!("cursor={cursor}{rest}"));
        let plan = with("").expect("a plan");
        assert_eq!((plan.span, plan.reverse), (span("c", "x"), true));
        assert!(with("&start=a&end=x&reverse=true").is_ok());
        assert_eq!(with("&reverse=false"), Err(Code::InvalidParameter));
        assert_eq!(with("&start=d"), Err(Code::InvalidParameter));
        assert_eq!(with("&prefix=c"), Err(Code::InvalidParameter));
        assert_eq!(with("&start=c&end=c"), Err(Code::InvalidParameter));
    }

    #[test]
    fn lines_are_for_those_who_ask() {
        let wants = |accept: &'static str| {
            wants_lines(&HeaderMap::from_iter([(
                ACCEPT,
                HeaderValue::from_static(accept),
            )]))
        };
        assert!(wants("application/x-ndjson"));
        assert!(wants("text/html, Application/X-NDJSON;q=0.9"));
        assert!(!wants("application/json"));
        assert!(!wants("*/*"));
    }
}
