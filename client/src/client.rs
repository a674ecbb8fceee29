//! The client: one key at a time, and how requests are sent.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use tokio::time::Instant;

use crate::error::{Error, Problem};
use crate::names::{Named, Names};
use crate::operations::Condition;
use crate::retry::{self, Decision, Ended};
use crate::security::{Tls, Token, secured};
use crate::text::escaped;

/// How often a connection that requests share is asked whether it lives, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one answer, and of all on a shared connection, that a router may send ahead of their being read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// The most that may be asked for, which is a day.
const MAX_STALENESS: Duration = Duration::from_secs(24 * 60 * 60);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_DONE: HeaderName = HeaderName::from_static("idempotency-done");

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a request is tried, all attempts together. At most a minute of it is given to each.
    pub timeout: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long an address is tried at which nothing can be connected at all.
    pub unreachable_timeout: Duration,
    /// Speak HTTP/2 to an `http` address from the first byte on, so that all requests of this client and its clones share a
    /// connection, which takes both sides less than half the processor time. Every router understands it; a proxy in between may not. To an
    /// `https` address it is spoken whatever this says, if the other end agrees.
    pub http2: bool,
    /// Whom to believe and what to show; without it there is no `https`.
    pub tls: Option<Tls>,
    /// What proves who asks, with every request.
    pub token: Option<Token>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(2),
            unreachable_timeout: Duration::from_secs(30),
            http2: false,
            tls: None,
            token: None,
        }
    }
}

/// A client of one router, or of an address behind which there are several. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    options: Options,
    names: Names,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its value.
    pub value: Bytes,
    /// The write that made it.
    pub revision: u64,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Whether there was no record before.
    pub created: bool,
    /// The record's revision.
    pub revision: u64,
}

impl Client {
    /// A client of the router at `address`, for example `http://127.0.0.1:7400`.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn new(address: &str) -> Result<Self, Error> {
        Self::with(address, Options::default())
    }

    /// A client that behaves as `options` say.
    ///
    /// # Errors
    /// [`Error::Address`] and [`Error::Credentials`].
    pub fn with(address: &str, options: Options) -> Result<Self, Error> {
        let not_one = || Error::Address(address.to_owned());
        let base = address.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(not_one());
        }
        if base.starts_with("https://") && options.tls.is_none() {
            let missing = "https needs the authority that signed the router's certificate";
            return Err(Error::Credentials(missing.to_owned()));
        }
        let mut http = reqwest::Client::builder()
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect_timeout(options.connect_timeout)
            // A scan takes as long as it takes; one of which nothing comes any more is broken.
            .read_timeout(options.timeout)
            .no_proxy();
        if options.http2 {
            http = http.http2_prior_knowledge();
        }
        let http = secured(http, options.tls.as_ref(), options.token.as_ref())?
            .build()
            .map_err(|error| Error::Credentials(error.to_string()))?;
        Ok(Self {
            base,
            http,
            options,
            names: Names::fresh(),
        })
    }

    /// Reads a record: everything that was acknowledged before is seen.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Record>, Error> {
        self.read(&format!("/v1/kv/{}", escaped(key.as_ref()))).await
    }

    /// Reads what any replica has, which may lag behind by up to `max_staleness`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_stale(
        &self,
        key: impl AsRef<[u8]>,
        max_staleness: Duration,
    ) -> Result<Option<Record>, Error> {
        let most = max_staleness.min(MAX_STALENESS).as_millis();
        let key = escaped(key.as_ref());
        self.read(&format!("/v1/kv/{key}?consistency=stale&max_staleness={most}"))
            .await
    }

    async fn read(&self, path: &str) -> Result<Option<Record>, Error> {
        match self.send(Method::GET, path, HeaderMap::new(), Bytes::new()).await {
            Ok(response) => {
                let revision = revision(&response)?;
                let value = body(response).await?;
                Ok(Some(Record { value, revision }))
            }
            Err(Error::Refused(problem)) if problem.code == "not_found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<Written, Error> {
        self.write(key, value).send().await
    }

    /// A write with conditions or a time to live; [`Write::send`] sends it.
    pub fn write(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Write<'_> {
        Write {
            client: self,
            path: format!("/v1/kv/{}", escaped(key.as_ref())),
            value: value.into(),
            condition: None,
            name: Name::Fresh,
        }
    }

    /// Removes a record; one that is not there is removed already.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<(), Error> {
        let path = format!("/v1/kv/{}", escaped(key.as_ref()));
        let (headers, _name) = self.named(&Name::Fresh);
        self.send(Method::DELETE, &path, headers, Bytes::new())
            .await
            .map(drop)
    }

    /// Removes a record if it has this revision.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::is_precondition`] if it has another one, or is not there.
    pub async fn delete_revision(&self, key: impl AsRef<[u8]>, revision: u64) -> Result<(), Error> {
        let path = format!("/v1/kv/{}", escaped(key.as_ref()));
        let (mut headers, _name) = self.named(&Name::Fresh);
        insert(&mut headers, IF_MATCH, &format!("\"{revision}\""));
        self.send(Method::DELETE, &path, headers, Bytes::new())
            .await
            .map(drop)
    }

    /// Headers with a name for a write, if it has one; and what keeps the name in use.
    pub(crate) fn named(&self, name: &Name) -> (HeaderMap, Option<Named>) {
        let mut headers = HeaderMap::new();
        let named = match name {
            Name::Fresh => self.names.name(),
            Name::Given(name) => {
                insert(&mut headers, IDEMPOTENCY_KEY, name);
                return (headers, None);
            }
            Name::None => return (headers, None),
        };
        insert(&mut headers, IDEMPOTENCY_KEY, &named.key);
        insert(&mut headers, IDEMPOTENCY_DONE, &named.done.to_string());
        (headers, Some(named))
    }

    /// Sends a request until it has an answer that is final, and returns that if it is a good one.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, Error> {
        let writes = !matches!(method, Method::GET | Method::HEAD);
        let begun = Instant::now();
        let deadline = begun + self.options.timeout;
        let (mut attempts, mut unsure) = (0, false);
        loop {
            attempts += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let request = self
                .http
                .request(method.clone(), format!("{}{path}", self.base))
                .headers(headers.clone())
                .body(body.clone())
                .timeout(left.min(Duration::from_secs(60)));
            let answer = request.send().await;
            let ended = match &answer {
                Ok(response) => Ended::Answered(response.status().as_u16()),
                Err(error) if error.is_connect() => Ended::Unconnected,
                Err(_) => Ended::Lost,
            };
            unsure |= writes && retry::may_have_applied(ended);
            let after = answer.as_ref().ok().and_then(retry_after);
            let end = match ended {
                Ended::Unconnected => deadline.min(begun + self.options.unreachable_timeout),
                _ => deadline,
            };
            let left = end.saturating_duration_since(Instant::now());
            let why = match (retry::decide(ended, attempts, after, left, unsure), answer) {
                (Decision::Take, Ok(response)) => return taken(response).await,
                (Decision::Again(pause), _) => {
                    tokio::time::sleep(pause.mul_f64(rand::random_range(1.0..2.0)).min(left)).await;
                    continue;
                }
                (_, Ok(response)) => problem(response).await.to_string(),
                (_, Err(error)) => reason(&self.base, &error),
            };
            return Err(if unsure {
                Error::OutcomeUnknown(why)
            } else {
                Error::Unavailable(why)
            });
        }
    }

    /// A request that is sent once and answered by a stream.
    pub(crate) async fn open(&self, method: Method, path: &str) -> Result<Response, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(
            reqwest::header::ACCEPT,
            HeaderValue::from_static("application/x-ndjson"),
        );
        let request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .headers(headers);
        let answer = request.send().await;
        taken(answer.map_err(|error| Error::Unavailable(reason(&self.base, &error)))?).await
    }
}

/// A write that is about to be sent.
#[derive(Clone, Debug)]
#[must_use = "it is sent by `send`"]
pub struct Write<'a> {
    client: &'a Client,
    path: String,
    value: Bytes,
    condition: Option<Condition>,
    name: Name,
}

/// By what a range knows a write that it has applied already.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    /// One that nobody else has.
    Fresh,
    /// The caller's.
    Given(String),
    /// Nothing: it may be applied again.
    None,
}

impl Write<'_> {
    /// Lets the record cease to exist after so many seconds, 1 or more.
    pub fn ttl(mut self, seconds: u64) -> Self {
        self.path = format!("{}?ttl={seconds}", self.path);
        self
    }

    /// Writes only if this holds. [`Condition::Value`] takes a transaction: see [`Client::txn`].
    pub fn only_if(mut self, condition: Condition) -> Self {
        self.condition = Some(condition);
        self
    }

    /// Gives the write a name of the caller's, 1 to 200 visible ASCII characters, under which it is applied once even if
    /// another process repeats it. Without it the client makes one up.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Name::Given(name.into());
        self
    }

    /// Lets the write be applied again when its answer was lost, which spares the range to remember it: for a value that nobody
    /// else writes meanwhile, or that is the same whoever writes it.
    pub fn repeatable(mut self) -> Self {
        self.name = Name::None;
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::is_precondition`] if the condition did not hold.
    pub async fn send(self) -> Result<Written, Error> {
        let (mut headers, _name) = self.client.named(&self.name);
        match &self.condition {
            None => {}
            Some(Condition::Absent) => insert(&mut headers, IF_NONE_MATCH, "*"),
            Some(Condition::Exists) => insert(&mut headers, IF_MATCH, "*"),
            Some(Condition::Revision(revision)) => insert(&mut headers, IF_MATCH, &format!("\"{revision}\"")),
            Some(Condition::Value(_)) => {
                return Err(Error::Nonsense(
                    "a write has no condition on a value: use a transaction".to_owned(),
                ));
            }
        }
        let response = self
            .client
            .send(Method::PUT, &self.path, headers, self.value)
            .await?;
        Ok(Written {
            created: response.status() == StatusCode::CREATED,
            revision: revision(&response)?,
        })
    }
}

/// A header that can't stand is left to the router to refuse: it arrives empty.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""));
    headers.insert(name, value);
}

/// Why there is no answer. What reqwest says stands in the sources of its error.
fn reason(base: &str, error: &reqwest::Error) -> String {
    let sources = std::iter::successors(std::error::Error::source(error), |source| source.source());
    let innermost = sources
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string);
    if error.is_connect() {
        format!("nothing answers at {base}: {innermost}")
    } else {
        format!("{base} did not answer: {innermost}")
    }
}

async fn taken(response: Response) -> Result<Response, Error> {
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(Error::Refused(problem(response).await))
    }
}

async fn problem(response: Response) -> Problem {
    let status = response.status().as_u16();
    let text = response.bytes().await.unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_else(|_| Problem {
        status,
        code: "unknown".to_owned(),
        detail: format!("status {status}"),
        request_id: String::new(),
    })
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn revision(response: &Response) -> Result<u64, Error> {
    let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
    etag.and_then(|etag| etag.trim_matches('"').parse().ok())
        .ok_or_else(|| Error::Nonsense("the answer has no revision".to_owned()))
}

pub(crate) async fn body(response: Response) -> Result<Bytes, Error> {
    let body = response.bytes().await;
    body.map_err(|error| Error::Unavailable(format!("the answer broke off: {error}")))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// What a client with these options says first.
    async fn first_words(options: Options) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let client = Client::with(&address, options).expect("an address");
        let asking = tokio::spawn(async move { client.get("k").await });
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut said = [0; 14];
        socket.read_exact(&mut said).await.expect("a request");
        asking.abort();
        String::from_utf8_lossy(&said).into_owned()
    }

    #[tokio::test]
    async fn http2_is_spoken_to_those_who_ask_for_it() {
        assert_eq!(first_words(Options::default()).await, "GET /v1/kv/k H");
        let http2 = Options {
            http2: true,
            ..Options::default()
        };
        assert_eq!(first_words(http2).await, "PRI * HTTP/2.0");
    }
}
