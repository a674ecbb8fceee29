//! Asking the placement driver, whichever member leads it.
//!
//! A client knows the members' addresses and remembers who answered last. It follows a member that names the leader, goes on to
//! the next where one is silent, and pauses, longer each time, when nobody could help. Every request to the driver is
//! idempotent, so one whose answer was lost is simply asked again.

mod access;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::{self, Instant};
use crate::net::{self, Client, Lane};
use crate::proto::placement::{Error as Refusal, MapEvent, MapVersion, WatchMap};
use crate::proto::{self, method};

/// How long one member is given to answer before the next is asked.
const ATTEMPT: Duration = Duration::from_secs(3);

/// The pause after a first round in vain; it doubles up to [`MAX_PAUSE`], and is jittered.
const MIN_PAUSE: Duration = Duration::from_millis(25);

/// The longest pause, before jitter.
const MAX_PAUSE: Duration = Duration::from_millis(800);

/// Members followed by name without a pause: longer chains are members that do not agree yet.
const MAX_HOPS: u32 = 3;

/// Why the driver did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It said no, and will again.
    #[error("{0}")]
    Refused(Refusal),
    /// The process that answers belongs to another cluster.
    #[error("{0}")]
    WrongCluster(net::Error),
    /// Nobody could help before the deadline.
    #[error("no placement member could help in time, the last reason was: {last}")]
    GaveUp {
        /// What went wrong last.
        last: String,
    },
}

/// A client of the placement driver. Cheap to clone; clones share what they learn about who leads.
#[derive(Clone)]
pub struct PlacementClient(Arc<Inner>);

struct Inner {
    client: Client,
    members: Vec<String>,
    route: Mutex<Route>,
}

/// Whom to ask: pure.
#[derive(Debug, Default)]
struct Route {
    /// Named by another member as the leader, or the last that answered.
    preferred: Option<String>,
    /// The next of the members to try.
    turn: usize,
}

impl Route {
    fn target(&self, members: &[String]) -> String {
        let listed = || members.get(self.turn % members.len().max(1)).cloned();
        self.preferred.clone().or_else(listed).unwrap_or_default()
    }

    fn failed(&mut self) {
        if self.preferred.take().is_none() {
            self.turn = self.turn.wrapping_add(1);
        }
    }
}

/// What follows an attempt that brought no result.
enum Next {
    /// Ask the member that was named, at once.
    Follow,
    /// Ask the next one after a pause.
    Pause(String),
    /// Give up.
    Fatal(Error),
}

impl PlacementClient {
    /// A client of the members at these RPC addresses.
    pub fn new(members: Vec<String>, client: Client) -> Self {
        Self(Arc::new(Inner {
            client,
            members,
            route: Mutex::default(),
        }))
    }

    /// Asks until a leader answers or `deadline` has come.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::WrongCluster`] at once, [`Error::GaveUp`] at the deadline.
    pub async fn call<Request, Answer>(
        &self,
        method: u16,
        request: &Request,
        deadline: Instant,
    ) -> Result<Answer, Error>
    where
        Request: Serialize,
        Answer: DeserializeOwned,
    {
        let body = proto::encode(request);
        let mut pace = Pace::default();
        loop {
            let target = self.target();
            let until = deadline.min(clock::now() + ATTEMPT);
            let answer = self
                .0
                .client
                .call(&target, Lane::Fast, method, body.clone(), until)
                .await;
            let decoded = answer.map(|body| proto::decode::<Result<Answer, Refusal>>(&body));
            let next = match decoded {
                Ok(Ok(Ok(answer))) => {
                    self.0.route.lock().preferred = Some(target);
                    return Ok(answer);
                }
                Ok(Ok(Err(refusal))) => self.refused(refusal),
                Ok(Err(malformed)) => self.failed(format!("{target}: {malformed}")),
                Err(error) => self.not_answered(&target, error),
            };
            pace.wait(next, deadline).await?;
        }
    }

    /// The changes of the map, beginning with all of it. The stream never ends: it opens the driver's anew whenever that breaks,
    /// from where it was.
    pub fn watch_map(&self) -> BoxStream<'static, MapEvent> {
        let watch = Watch {
            client: self.clone(),
            from: None,
            events: None,
            pace: Pace::default(),
        };
        stream::unfold(
            watch,
            |mut watch| async move { Some((watch.next().await, watch)) },
        )
        .boxed()
    }

    fn target(&self) -> String {
        self.0.route.lock().target(&self.0.members)
    }

    fn failed(&self, why: String) -> Next {
        self.0.route.lock().failed();
        Next::Pause(why)
    }

    fn refused(&self, refusal: Refusal) -> Next {
        match refusal {
            Refusal::NotLeader { leader: Some(leader) } => {
                self.0.route.lock().preferred = Some(leader);
                Next::Follow
            }
            Refusal::NotLeader { leader: None } | Refusal::NotBootstrapped | Refusal::Unavailable(_) => {
                self.failed(refusal.to_string())
            }
            Refusal::WrongCluster { .. }
            | Refusal::NameTaken { .. }
            | Refusal::UnknownStore(_)
            | Refusal::MemberReplaced { .. }
            | Refusal::StillNeeded { .. }
            | Refusal::Invalid(_) => Next::Fatal(Error::Refused(refusal)),
        }
    }

    fn not_answered(&self, target: &str, error: net::Error) -> Next {
        match error {
            net::Error::WrongCluster { .. } => Next::Fatal(Error::WrongCluster(error)),
            error => self.failed(format!("{target}: {error}")),
        }
    }
}

/// Spaces attempts.
#[derive(Default)]
struct Pace {
    hops: u32,
    pauses: u32,
}

impl Pace {
    async fn wait(&mut self, next: Next, deadline: Instant) -> Result<(), Error> {
        let last = match next {
            Next::Fatal(error) => return Err(error),
            Next::Follow if self.hops < MAX_HOPS => {
                self.hops += 1;
                return Ok(());
            }
            Next::Follow => "the members do not agree on who leads".to_owned(),
            Next::Pause(why) => why,
        };
        self.hops = 0;
        let pause = MIN_PAUSE.saturating_mul(1 << self.pauses.min(5)).min(MAX_PAUSE);
        self.pauses += 1;
        let until = clock::now() + clock::jittered(pause);
        if until >= deadline {
            return Err(Error::GaveUp { last });
        }
        clock::sleep_until(until).await;
        Ok(())
    }
}

/// A watcher of the map.
struct Watch {
    client: PlacementClient,
    from: Option<MapVersion>,
    events: Option<net::ResponseStream>,
    pace: Pace,
}

impl Watch {
    async fn next(&mut self) -> MapEvent {
        loop {
            let trouble = match &mut self.events {
                None => self.open().await,
                Some(events) => match events
                    .next()
                    .await
                    .map(|item| item.map(|body| proto::decode(&body)))
                {
                    Some(Ok(Ok(Ok(event)))) => return self.advance(event),
                    Some(Ok(Ok(Err(refusal)))) => Some(self.client.refused(refusal)),
                    Some(Ok(Err(malformed))) => Some(self.client.failed(malformed.to_string())),
                    Some(Err(error)) => Some(self.client.failed(error.to_string())),
                    None => Some(self.client.failed("the stream ended".to_owned())),
                },
            };
            if let Some(next) = trouble {
                self.events = None;
                self.pause(next).await;
            }
        }
    }

    fn advance(&mut self, event: MapEvent) -> MapEvent {
        self.pace = Pace::default();
        self.from = Some(event.version);
        event
    }

    /// Opens the stream; tells what went wrong if it does not open.
    async fn open(&mut self) -> Option<Next> {
        let target = self.client.target();
        let body = proto::encode(&WatchMap { from: self.from });
        let opened = self.client.0.client.stream(
            &target,
            Lane::Fast,
            method::PLACEMENT_WATCH_MAP,
            body,
            clock::now() + ATTEMPT,
        );
        match opened.await {
            Ok(events) => {
                self.client.0.route.lock().preferred = Some(target);
                self.events = Some(events);
                None
            }
            Err(error) => Some(self.client.not_answered(&target, error)),
        }
    }

    /// As for calls, but there is no deadline to give up at, and nobody to give up to: a driver that refuses is told of in the
    /// log and asked again, since it may be put right.
    async fn pause(&mut self, next: Next) {
        let far = clock::now() + Duration::from_secs(3600);
        if let Err(error) = self.pace.wait(next, far).await {
            tracing::error!(%error, "the placement driver does not tell the map");
            clock::sleep(clock::jittered(MAX_PAUSE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<String> {
        vec!["a".into(), "b".into(), "c".into()]
    }

    #[test]
    fn members_are_asked_in_turn_until_one_is_preferred() {
        let mut route = Route::default();
        assert_eq!(route.target(&members()), "a");
        route.failed();
        assert_eq!(route.target(&members()), "b");
        route.preferred = Some("leader".into());
        assert_eq!(route.target(&members()), "leader");
        route.failed();
        assert_eq!(
            route.target(&members()),
            "b",
            "a leader that is gone is forgotten first"
        );
        route.failed();
        route.failed();
        assert_eq!(route.target(&members()), "a");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_spaced_and_end_at_the_deadline() {
        let mut pace = Pace::default();
        let deadline = clock::now() + Duration::from_secs(5);
        let mut attempts = 0;
        let last = loop {
            attempts += 1;
            match pace.wait(Next::Pause("silence".into()), deadline).await {
                Ok(()) => assert!(attempts < 100, "it never gives up"),
                Err(Error::GaveUp { last }) => break last,
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(last, "silence");
        assert!(attempts > 5, "{attempts}");
        assert!(clock::now() <= deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn a_named_leader_is_followed_at_once_but_not_in_circles() {
        let mut pace = Pace::default();
        let started = clock::now();
        let far = started + Duration::from_secs(60);
        for _ in 0..MAX_HOPS {
            pace.wait(Next::Follow, far).await.unwrap();
        }
        assert_eq!(clock::now(), started);
        pace.wait(Next::Follow, far).await.unwrap();
        assert!(clock::now() > started);
    }
}
