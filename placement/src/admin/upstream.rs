//! The processes beside the placement driver that the console talks to: a router, for data, and the launcher, for processes.
//! They are reached through the member that the page came from, so that the page needs nobody else's leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};

use holdfast_common::tls::Tls;

use super::Admin;
use super::hop::{Broken, Hop};
use super::problem::Problem;

/// Where they are.
#[derive(Debug, Default)]
pub struct Upstreams {
    /// Routers, any of which will do.
    pub routers: Vec<String>,
    /// The launcher's control API, where a launcher runs the cluster.
    pub control: Option<String>,
    /// How this member proves to routers and to the leading member who it is.
    pub tls: Option<Tls>,
    turn: AtomicUsize,
}

impl Upstreams {
    /// Routers and launcher at these addresses, host and port each.
    pub fn new(routers: Vec<String>, control: Option<String>, tls: Option<Tls>) -> Arc<Self> {
        let turn = AtomicUsize::new(0);
        Arc::new(Self {
            routers,
            control,
            tls,
            turn,
        })
    }

    /// A connection to a router: the next one that can be reached.
    async fn router(&self) -> Result<Hop, Problem> {
        let count = self.routers.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut last = None;
        for i in 0..count {
            match Hop::connect(&self.routers[(first.wrapping_add(i)) % count], self.tls.as_ref()).await {
                Ok(hop) => return Ok(hop),
                Err(error) => last = Some(error),
            }
        }
        Err(match last {
            Some(error) => Problem::unavailable(format!("no router can be reached; the last was {error}")),
            None => Problem::not_found(
                "this member was not told of a router: start it with --routers to look at data here",
            ),
        })
    }
}

/// `/router/…`: the same without `/router`, at a router.
pub(super) async fn router(State(admin): State<Admin>, request: Request) -> Result<Response, Problem> {
    let request = moved(request, "/router")?;
    let hop = admin.upstreams.router().await?;
    Ok(inert(hop.send(request).await.map_err(broken)?))
}

/// `/api/control/…`, at the launcher.
pub(super) async fn control(State(admin): State<Admin>, request: Request) -> Result<Response, Problem> {
    let address = admin.upstreams.control.as_deref().ok_or_else(|| {
        Problem::not_found("no launcher runs this cluster: its processes are started and stopped elsewhere")
    })?;
    // It listens on loopback, without TLS.
    let hop = Hop::connect(address, None).await.map_err(broken)?;
    hop.send(request).await.map_err(broken)
}

/// Values are anything, and come from where the console comes from: a browser is to run nothing of them.
fn inert(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    let nothing = HeaderValue::from_static("sandbox; default-src 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

fn broken(error: Broken) -> Problem {
    match error {
        Broken::Unreachable { .. } => Problem::unavailable(error.to_string()),
        Broken::Unanswered { .. } => Problem::outcome_unknown(error.to_string()),
    }
}

/// The request with its path, every byte as it came, less `prefix`.
fn moved(mut request: Request, prefix: &str) -> Result<Request, Problem> {
    let target = request
        .uri()
        .path_and_query()
        .map_or("", |target| target.as_str());
    let rest = target.strip_prefix(prefix).filter(|rest| rest.starts_with('/'));
    let uri = rest.and_then(|rest| rest.parse::<Uri>().ok());
    *request.uri_mut() = uri.ok_or_else(|| Problem::not_found("there is nothing at this path"))?;
    Ok(request)
}

/// Refuses what another site has a browser send: whoever looks at some page must not thereby change a cluster that their
/// machine can reach.
pub(super) async fn own_pages(request: Request, next: axum::middleware::Next) -> Response {
    if request.method().is_safe() || !is_foreign(&request) {
        return next.run(request).await;
    }
    Problem::forbidden("this request comes from a page of another site").into_response()
}

/// Whether a browser says that the request was made by a page of somebody else.
fn is_foreign(request: &Request) -> bool {
    let text = |name: &str| request.headers().get(name)?.to_str().ok();
    let host = super::session::host(request);
    let of_other_origin = text("origin").is_some_and(|origin| {
        origin
            .split_once("://")
            .is_none_or(|(_, authority)| authority != host)
    });
    of_other_origin || text("sec-fetch-site").is_some_and(|site| site == "cross-site")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_key_is_handed_on_byte_for_byte() {
        let moved_to = |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            moved(request, "/router")
                .map(|request| request.uri().to_string())
                .ok()
        };
        assert_eq!(
            moved_to("/router/v1/kv/a%2Fb%FF/../c?ttl=3"),
            Some("/v1/kv/a%2Fb%FF/../c?ttl=3".into())
        );
        assert_eq!(moved_to("/routers"), None);
    }

    #[test]
    fn only_pages_of_this_member_may_change_something() {
        let from = |pairs: &[(&str, &str)]| {
            let mut request = Request::builder();
            for (name, value) in pairs {
                request = request.header(*name, *value);
            }
            is_foreign(&request.body(Body::empty()).unwrap())
        };
        assert!(!from(&[("host", "localhost:7410")]), "a program");
        assert!(!from(&[
            ("host", "localhost:7410"),
            ("origin", "http://localhost:7410")
        ]));
        assert!(from(&[
            ("host", "localhost:7410"),
            ("origin", "http://example.com")
        ]));
        assert!(from(&[("host", "localhost:7410"), ("origin", "null")]));
        assert!(from(&[
            ("host", "localhost:7410"),
            ("sec-fetch-site", "cross-site")
        ]));
    }

    #[test]
    fn over_http_2_the_host_stands_beside_the_path() {
        let from = |origin: &str| {
            let request = Request::builder().uri("https://pd.example.com:7410/v1/config");
            let request = request
                .version(axum::http::Version::HTTP_2)
                .header("origin", origin);
            is_foreign(&request.body(Body::empty()).unwrap())
        };
        assert!(!from("https://pd.example.com:7410"));
        assert!(from("https://pd.example.com"));
    }
}
