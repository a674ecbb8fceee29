//! Following who may do what, for routers.

use futures::stream::{self, BoxStream, StreamExt};

use super::{ATTEMPT, Next, Pace, PlacementClient};
use crate::clock;
use crate::net::{self, Lane};
use crate::proto::access::{Rules, Told, WatchAccess};
use crate::proto::placement::Error as Refusal;
use crate::proto::{self, method};

/// How long the driver may be silent before another member is asked: it says something every second.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(3);

/// A watcher of the rules.
struct Watch {
    client: PlacementClient,
    items: Option<net::ResponseStream>,
    /// Whether anything was told.
    told: bool,
    /// The member does not know the question.
    unsupported: bool,
    pace: Pace,
}

impl PlacementClient {
    /// What the driver says of who may do what: all of it whenever it changed, and signs of life in between. The stream never
    /// ends: it opens the driver's anew whenever that breaks or falls silent.
    pub fn watch_access(&self) -> BoxStream<'static, Told> {
        let watch = Watch {
            client: self.clone(),
            items: None,
            told: false,
            unsupported: false,
            pace: Pace::default(),
        };
        stream::unfold(
            watch,
            |mut watch| async move { Some((watch.next().await, watch)) },
        )
        .boxed()
    }
}

impl Watch {
    async fn next(&mut self) -> Told {
        loop {
            let trouble = match &mut self.items {
                None => self.open().await,
                Some(items) => match clock::timeout(SILENCE, items.next()).await {
                    Ok(Some(Ok(body))) => match proto::decode::<Result<Told, Refusal>>(&body) {
                        Ok(Ok(told)) => {
                            self.pace = Pace::default();
                            self.told = true;
                            return told;
                        }
                        Ok(Err(refusal)) => Some(self.client.refused(refusal)),
                        Err(malformed) => Some(self.client.failed(malformed.to_string())),
                    },
                    Ok(Some(Err(error))) => Some(self.client.failed(error.to_string())),
                    Ok(None) => Some(self.client.failed("the stream ended".to_owned())),
                    Err(_) => Some(self.client.failed("the driver has fallen silent".to_owned())),
                },
            };
            if std::mem::take(&mut self.unsupported) {
                self.told = true;
                return Told::Rules(Rules::default());
            }
            if let Some(next) = trouble {
                self.items = None;
                self.pause(next).await;
            }
        }
    }

    /// Opens the stream; tells what went wrong if it does not open.
    async fn open(&mut self) -> Option<Next> {
        let target = self.client.target();
        let opened = self.client.0.client.stream(
            &target,
            Lane::Fast,
            method::PLACEMENT_WATCH_ACCESS,
            proto::encode(&WatchAccess),
            clock::now() + ATTEMPT,
        );
        match opened.await {
            Ok(items) => {
                self.client.0.route.lock().preferred = Some(target);
                self.items = Some(items);
                None
            }
            // A member of a release without credentials: there are none, then, since it could not follow what they were
            // written to.
            Err(net::Error::Remote {
                code: net::ErrorCode::UnknownMethod,
                ..
            }) if !self.told => {
                self.unsupported = true;
                None
            }
            Err(error) => Some(self.client.not_answered(&target, error)),
        }
    }

    /// As for the map: there is nobody to give up to.
    async fn pause(&mut self, next: Next) {
        let far = clock::now() + std::time::Duration::from_secs(3600);
        if let Err(error) = self.pace.wait(next, far).await {
            tracing::error!(%error, "the placement driver does not tell who may do what");
            clock::sleep(clock::jittered(super::MAX_PAUSE)).await;
        }
    }
}
