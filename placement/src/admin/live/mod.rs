//! `GET /v1/live`: the cluster as it changes, as server-sent events.
//!
//! A connection is first told everything and then what is new; one that broke begins anew, so that there is nothing to
//! resume. `state` events carry what [`differ`] finds, in parts where it is much; `figures` events are samples of the
//! cluster's metrics, the kept ones first; a `beat` says that nothing has changed, so that silence means a broken line.

mod differ;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::extract::RawQuery;
use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use holdfast_common::clock::{self, Instant};
use holdfast_common::proto::placement::MapVersion;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use self::differ::{Differ, News};
use super::problem::Problem;
use super::query::Query;
use super::{Admin, Leading, cluster, json as shown};
use crate::schedule::pace::Paces;
use crate::view::View;

/// Most connections at a time.
const MAX_WATCHERS: usize = 64;

/// Least time between two looks for a watcher: what changes faster is told as one.
const AT_MOST_EVERY: Duration = Duration::from_millis(300);

/// How often it is looked when no change calls for it: silence and figures change by themselves.
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// How long a watcher hears nothing when there is nothing to say.
const BEAT_EVERY: Duration = Duration::from_secs(4);

/// A connection that is counted for as long as it lasts.
struct Seat(Leading);

impl Seat {
    fn take(leading: &Leading) -> Result<Self, Problem> {
        let watchers = &leading.lead.watchers;
        let free = |taken: usize| (taken < MAX_WATCHERS).then_some(taken + 1);
        let taken = watchers.fetch_update(Ordering::AcqRel, Ordering::Acquire, free);
        taken
            .map(|_| Self(leading.clone()))
            .map_err(|_| Problem::unavailable(format!("{MAX_WATCHERS} watch already")))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let watchers: &AtomicUsize = &self.0.lead.watchers;
        watchers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// `GET /v1/live`
pub(super) async fn follow(
    Extension(leading): Extension<Leading>,
    Extension(admin): Extension<Admin>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let watcher = Watcher::new(Seat::take(&leading)?, &admin);
    let lead = leading.lead.clone();
    let until = async move { lead.ended().await };
    let mut response = Sse::new(watcher.events().take_until(Box::pin(until))).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// One connection.
struct Watcher {
    seat: Seat,
    about: Value,
    differ: Differ,
    /// What was told of the things that there is one of.
    single: Map<String, Value>,
    /// The number of the next sample.
    figures: u64,
    map: watch::Receiver<MapVersion>,
    plans: watch::Receiver<u64>,
    samples: watch::Receiver<u64>,
    waiting: VecDeque<Event>,
    looked: Option<Instant>,
    told: Instant,
}

impl Watcher {
    fn new(seat: Seat, admin: &Admin) -> Self {
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "has_launcher": admin.upstreams.control.is_some(),
            "routers": admin.upstreams.routers,
        });
        let hub = seat.0.member.group.shared().hub();
        let (map, plans, samples) = (hub.position(), hub.plans(), seat.0.lead.sampled());
        Self {
            map,
            plans,
            samples,
            seat,
            about,
            differ: Differ::default(),
            single: Map::new(),
            figures: 0,
            waiting: VecDeque::new(),
            looked: None,
            told: clock::now(),
        }
    }

    /// The events, made when they are asked for.
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut watcher| async {
            loop {
                if let Some(event) = watcher.waiting.pop_front() {
                    watcher.told = clock::now();
                    return Some((Ok(event), watcher));
                }
                watcher.news().await;
            }
        })
    }

    /// Waits until it is time for a look, and looks.
    async fn news(&mut self) {
        if let Some(looked) = self.looked {
            tokio::select! {
                _ = self.map.changed() => {}
                _ = self.plans.changed() => {}
                _ = self.samples.changed() => {}
                () = clock::sleep(AT_LEAST_EVERY) => {}
            }
            clock::sleep(AT_MOST_EVERY.saturating_sub(clock::now().duration_since(looked))).await;
        }
        self.looked = Some(clock::now());
        // What changes while it is looked is looked at again.
        self.map.mark_unchanged();
        self.plans.mark_unchanged();
        self.samples.mark_unchanged();
        while self.look() {}
        let (samples, next) = self.seat.0.lead.figures().since(self.figures);
        self.figures = next;
        self.waiting
            .extend(samples.iter().filter_map(|sample| event("figures", sample)));
        if self.waiting.is_empty() && clock::now().duration_since(self.told) >= BEAT_EVERY {
            self.waiting
                .extend(event("beat", &json!({"at_ms": clock::wall_ms()})));
        }
    }

    /// Makes an event of what is new; true if there is more.
    fn look(&mut self) -> bool {
        let leading = self.seat.0.clone();
        let members = cluster::members(&leading);
        let (news, mut told) = leading.member.look(&leading.lead, |view| {
            let plans = leading.lead.plans();
            let news = self.differ.news(view, &plans.decisions);
            let mut told = tell(&news, &plans.paces, view);
            let decisions = plans
                .decisions
                .iter()
                .filter(|decision| news.decisions.contains(&decision.id));
            put(&mut told, "decisions", decisions.map(shown::decision).collect());
            told.insert("cluster".to_owned(), cluster::describe(&leading, members, view));
            told.insert("config".to_owned(), json!(view.state.settings));
            (news, told)
        });
        told.insert("about".to_owned(), self.about.clone());
        for name in ["cluster", "config", "about"] {
            let Some(now) = told.get(name) else { continue };
            if self.single.get(name) == Some(now) {
                told.remove(name);
            } else {
                self.single.insert(name.to_owned(), now.clone());
            }
        }
        if !told.is_empty() || news.is_first {
            told.insert("first".to_owned(), news.is_first.into());
            told.insert("more".to_owned(), news.has_more.into());
            told.insert("at_ms".to_owned(), clock::wall_ms().into());
            self.waiting.extend(event("state", &Value::Object(told)));
        }
        news.has_more
    }
}

/// The news, less what there is none of.
fn tell(news: &News, paces: &Paces, view: &View<'_>) -> Map<String, Value> {
    let mut told = Map::new();
    let leaders = view.reports.leaders_by_store();
    let stores = news.stores.iter().filter_map(|id| view.state.stores.get(id));
    let stores = stores.map(|store| {
        let led = leaders.get(&store.id).copied().unwrap_or(0);
        shown::store(store, led, paces.estimate(store.id), view)
    });
    put(&mut told, "stores", stores.collect());
    let ranges = news.ranges.iter().filter_map(|id| view.state.map.get(*id));
    put(
        &mut told,
        "ranges",
        ranges.map(|range| shown::range(range, view)).collect(),
    );
    let operators = news
        .operators
        .iter()
        .filter_map(|id| view.state.operators.get(*id));
    put(&mut told, "operators", operators.map(shown::operator).collect());
    put(
        &mut told,
        "stores_gone",
        news.stores_gone.iter().map(|id| json!(id)).collect(),
    );
    put(
        &mut told,
        "ranges_gone",
        news.ranges_gone.iter().map(|id| json!(id)).collect(),
    );
    put(
        &mut told,
        "operators_gone",
        news.operators_gone.iter().map(|id| json!(id)).collect(),
    );
    put(
        &mut told,
        "decisions_gone",
        news.decisions_gone.iter().map(|id| json!(id)).collect(),
    );
    told
}

fn put(told: &mut Map<String, Value>, name: &str, items: Vec<Value>) {
    if !items.is_empty() {
        told.insert(name.to_owned(), Value::Array(items));
    }
}

fn event(name: &str, data: &Value) -> Option<Event> {
    // What fails is a value that is not JSON, which a `Value` can't be.
    Event::default().event(name).json_data(data).ok()
}
