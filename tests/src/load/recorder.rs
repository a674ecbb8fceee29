//! One client: operations over HTTP, and what it was told, as a history has it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use reqwest::{Method, RequestBuilder, header};
use serde_json::Value;

use super::{Clocks, Recorded, Shared, keys};
use crate::history::{Act, Condition, Event, Lifetime, Micros, Outcome, Page, Version};
use crate::transport::Unsent;
use crate::{Answer, Client};

/// How long a router may try.
const DEADLINE_MS: u64 = 3_000;

/// How long a client waits for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a write of unknown outcome is repeated under its name.
const REPETITIONS: usize = 4;

/// Rows of a page.
const PAGE_ROWS: usize = 100;

/// Seconds that values live which are to go while it is looked,
const BRIEF: u64 = 2;

/// and that are longer than it is ever looked, even by a clock that is 10 minutes ahead.
const LONG: u64 = 3_600;

/// How exactly a value goes, microseconds: its end is counted in milliseconds, and so are the clocks.
const EXACT: Micros = 100_000;

/// After an answer that was not what was asked for.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Recorder {
    shared: Arc<Shared>,
    client: usize,
    routers: Vec<Client>,
    /// The router that it talks to now.
    router: usize,
    named: u64,
    recorded: Recorded,
}

/// What is to become of a key.
#[derive(Debug)]
pub(super) enum Change {
    /// This value, for so many seconds, or for ever.
    Put(String, Option<u64>),
    /// Nothing.
    Delete,
}

/// What an HTTP request came to.
enum Heard {
    Answer(Answer),
    /// It never left.
    Unsent,
    /// No answer, or half of one.
    Lost,
}

impl Recorder {
    pub(super) fn new(shared: Arc<Shared>, client: usize) -> Self {
        Self {
            routers: shared.routers.iter().cloned().map(Client::new).collect(),
            router: client % shared.routers.len(),
            shared,
            client,
            named: 0,
            recorded: Recorded::default(),
        }
    }

    pub(super) fn done(self) -> Recorded {
        self.recorded
    }

    /// A value, or a name, that nobody else uses.
    pub(super) fn unique(&mut self) -> String {
        self.named += 1;
        format!("{}.{}", self.client, self.named)
    }

    fn now(&self) -> Micros {
        self.shared.begun.elapsed().as_micros() as Micros
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.routers[self.router].request(method, path).timeout(PATIENCE)
    }

    async fn send(&mut self, request: RequestBuilder) -> Heard {
        let heard = match self.routers[self.router].send(request).await {
            Ok(answer) => Heard::Answer(answer),
            Err(error) if is_unsent(&error) => Heard::Unsent,
            Err(_) => Heard::Lost,
        };
        let (status, ok) = match &heard {
            Heard::Answer(answer) => (answer.status, answer.status < 429),
            Heard::Unsent | Heard::Lost => (0, false),
        };
        *self.recorded.statuses.entry(status).or_default() += 1;
        if ok {
            self.shared.answered.fetch_add(1, Ordering::Relaxed);
        } else {
            tokio::time::sleep(PAUSE).await;
        }
        if matches!(heard, Heard::Unsent) {
            self.router = (self.router + 1) % self.routers.len();
        }
        heard
    }

    /// Nothing that a fault may do leads to such an answer.
    fn unexpected(&mut self, what: &str, answer: &Answer) {
        let body = String::from_utf8_lossy(&answer.body);
        self.recorded
            .unexpected
            .push(format!("{what}: {}: {body}", answer.status));
    }

    fn event(&mut self, key: &str, start: Micros, act: Act) {
        self.recorded.history.events.push(Event {
            client: self.client as u32,
            key: key.to_owned(),
            start,
            end: self.now(),
            act,
        });
    }

    /// A linearizable read; `None` when it was not answered.
    pub(super) async fn get(&mut self, key: &str) -> Option<Option<Version>> {
        let request = self.request(Method::GET, &format!("{}?timeout_ms={DEADLINE_MS}", path(key)));
        let start = self.now();
        let Heard::Answer(answer) = self.send(request).await else {
            return None;
        };
        let found = match (answer.status, answer.revision) {
            (404, _) => None,
            (200, Some(revision)) => Some(Version {
                revision,
                value: String::from_utf8_lossy(&answer.body).into_owned(),
            }),
            (429 | 503 | 504, _) => return None,
            _ => {
                self.unexpected(&format!("GET {key}"), &answer);
                return None;
            }
        };
        self.event(key, start, Act::Read(found.clone()));
        Some(found)
    }

    /// Seconds after which a value is to go: soon, if that is wanted and can be judged.
    pub(super) fn time_to_live(&self, is_brief: bool) -> u64 {
        match self.shared.clocks {
            Clocks::Agree if is_brief => BRIEF,
            Clocks::Agree | Clocks::AreSet => LONG,
        }
    }

    /// A write.
    pub(super) async fn write(&mut self, key: &str, value: String, condition: Condition, is_named: bool) {
        self.change(key, Change::Put(value, None), condition, is_named)
            .await;
    }

    /// A write or a deletion. A named one is repeated under its name while its outcome is unknown, through one router after the
    /// other.
    pub(super) async fn change(&mut self, key: &str, change: Change, condition: Condition, is_named: bool) {
        let run = self.shared.name;
        let name = is_named.then(|| format!("{run:x}-{}", self.unique()));
        let start = self.now();
        let mut outcome = self.attempt(key, &change, condition, name.as_deref()).await;
        for _ in 0..REPETITIONS {
            if name.is_none() || outcome != Outcome::Maybe {
                break;
            }
            self.router = (self.router + 1) % self.routers.len();
            let again = self.attempt(key, &change, condition, name.as_deref()).await;
            // That a repetition was refused says nothing about the one before.
            if again != Outcome::Refused {
                outcome = again;
            }
        }
        let act = match change {
            Change::Put(value, ttl) => Act::Write {
                value,
                lifetime: ttl.and_then(lifetime),
                condition,
                outcome,
            },
            Change::Delete => Act::Delete { condition, outcome },
        };
        self.event(key, start, act);
    }

    async fn attempt(
        &mut self,
        key: &str,
        change: &Change,
        condition: Condition,
        name: Option<&str>,
    ) -> Outcome {
        let url = format!("{}?timeout_ms={DEADLINE_MS}", path(key));
        let mut request = match change {
            Change::Put(value, None) => self.request(Method::PUT, &url).body(value.clone()),
            Change::Put(value, Some(ttl)) => self
                .request(Method::PUT, &format!("{url}&ttl={ttl}"))
                .body(value.clone()),
            Change::Delete => self.request(Method::DELETE, &url),
        };
        request = match condition {
            Condition::None => request,
            Condition::Absent => request.header(header::IF_NONE_MATCH, "*"),
            Condition::Revision(revision) => request.header(header::IF_MATCH, format!("\"{revision}\"")),
        };
        if let Some(name) = name {
            request = request.header("idempotency-key", name);
        }
        let answer = match self.send(request).await {
            Heard::Answer(answer) => answer,
            Heard::Unsent => return Outcome::Refused,
            Heard::Lost => return Outcome::Maybe,
        };
        match (answer.status, answer.revision) {
            (204, _) if matches!(change, Change::Delete) => Outcome::Done(0),
            (201 | 204, Some(revision)) => Outcome::Done(revision),
            (412, present) => Outcome::Failed(present),
            (429 | 503 | 507, _) => Outcome::Refused,
            (504, _) => Outcome::Maybe,
            _ => {
                self.unexpected(&format!("{change:?} {key}"), &answer);
                Outcome::Maybe
            }
        }
    }

    /// Scans a span page by page; whether it got to the end.
    pub(super) async fn scan(&mut self, from: &str, to: &str, reverse: bool) -> bool {
        let (mut from, mut to) = (from.to_owned(), to.to_owned());
        loop {
            let query = format!(
                "/v1/kv?start={}&end={}&limit={PAGE_ROWS}&reverse={reverse}&timeout_ms={DEADLINE_MS}",
                escape(&from),
                escape(&to)
            );
            let request = self.request(Method::GET, &query);
            let start = self.now();
            let Heard::Answer(answer) = self.send(request).await else {
                return false;
            };
            if matches!(answer.status, 429 | 503 | 504) {
                return false;
            }
            let Some((rows, more)) = (answer.status == 200).then(|| page_of(&answer.body)).flatten() else {
                self.unexpected(&query, &answer);
                return false;
            };
            if rows.is_empty() && more {
                // Ranges without rows, and then one that failed: how far it came, only the cursor knows.
                return false;
            }
            let last = rows.last().map(|(key, _)| key.clone());
            let mut page = Page {
                client: self.client as u32,
                start,
                end: self.now(),
                from: from.clone(),
                to: to.clone(),
                reverse,
                rows,
            };
            let round = self.shared.round;
            page.rows
                .retain(|(key, _)| !keys::is_of_another_round(key, round));
            // A page that is not the last one covers what it has come to.
            match last {
                Some(last) if more && reverse => {
                    page.from = last.clone();
                    to = last;
                }
                Some(last) if more => {
                    from = format!("{last}\0");
                    page.to = from.clone();
                }
                _ => {
                    self.recorded.history.pages.push(page);
                    return true;
                }
            }
            self.recorded.history.pages.push(page);
        }
    }
}

fn is_unsent(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<reqwest::Error>();
    refused.is_some_and(reqwest::Error::is_connect) || error.is::<Unsent>()
}

/// Between which moments a value has to go; none if later than it is looked.
fn lifetime(ttl: u64) -> Option<Lifetime> {
    let micros = ttl * 1_000_000;
    (ttl < LONG).then(|| Lifetime {
        least: micros - EXACT,
        most: micros + EXACT,
    })
}

fn page_of(body: &[u8]) -> Option<(Vec<(String, Version)>, bool)> {
    let page: Value = serde_json::from_slice(body).ok()?;
    let row = |item: &Value| {
        let version = Version {
            revision: item["revision"].as_str()?.parse().ok()?,
            value: item["value"].as_str()?.to_owned(),
        };
        Some((item["key"].as_str()?.to_owned(), version))
    };
    let rows = page["items"].as_array()?.iter().map(row).collect::<Option<_>>()?;
    Some((rows, page["next_cursor"].is_string()))
}

fn escape(text: &str) -> impl std::fmt::Display + '_ {
    percent_encode(text.as_bytes(), NON_ALPHANUMERIC)
}

fn path(key: &str) -> String {
    format!("/v1/kv/{}", escape(key))
}
