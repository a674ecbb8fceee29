//! How fast stores that are to leave are being emptied, measured, and how long that will take. Pure.

use std::collections::BTreeMap;

use holdfast_common::ids::StoreId;

use crate::state::{Store, StoreIntent};
use crate::view::{Millis, View};

/// The pace at which each leaving store is emptied, since this member first saw it leave.
#[derive(Debug, Default)]
pub struct Paces(BTreeMap<StoreId, Pace>);

#[derive(Clone, Copy, Debug)]
struct Pace {
    intent: StoreIntent,
    began: Millis,
    at_first: Left,
    now: Millis,
    left: Left,
}

/// What is left on a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Left {
    /// Leaderships of a store that is drained, replicas of one that is decommissioned.
    pieces: u64,
    /// Bytes of them, about.
    bytes: u64,
}

/// What the pace promises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Bytes a second that have left so far.
    pub bytes_per_second: f64,
    /// Seconds until all is done at this pace; none while nothing has left yet.
    pub seconds_left: Option<f64>,
}

impl Paces {
    /// Looks how far each leaving store is.
    pub fn observe(&mut self, view: &View<'_>) {
        let leaving =
            |store: &&Store| matches!(store.intent, StoreIntent::Draining | StoreIntent::Decommissioning);
        let stores: Vec<&Store> = view.state.stores.values().filter(leaving).collect();
        self.0.retain(|id, _| stores.iter().any(|store| store.id == *id));
        for store in stores {
            let left = left(store, view);
            let pace = self
                .0
                .entry(store.id)
                .or_insert_with(|| Pace::begin(store.intent, left, view.now));
            // More than before, or something else: what was measured says nothing any more.
            if pace.intent != store.intent || left.pieces > pace.left.pieces {
                *pace = Pace::begin(store.intent, left, view.now);
            }
            (pace.now, pace.left) = (view.now, left);
        }
    }

    /// What the pace of a store promises, if it is to leave.
    pub fn estimate(&self, store: StoreId) -> Option<Estimate> {
        self.0.get(&store).map(Pace::estimate)
    }
}

impl Pace {
    fn begin(intent: StoreIntent, left: Left, now: Millis) -> Self {
        Self {
            intent,
            began: now,
            at_first: left,
            now,
            left,
        }
    }

    fn estimate(&self) -> Estimate {
        let seconds = (self.now.saturating_sub(self.began)) as f64 / 1_000.0;
        let gone = |first: u64, left: u64| first.saturating_sub(left) as f64;
        let bytes = gone(self.at_first.bytes, self.left.bytes);
        let pieces = gone(self.at_first.pieces, self.left.pieces);
        // Bytes take the time, unless there are none to speak of.
        let to_go = if bytes > 0.0 {
            self.left.bytes as f64 / bytes
        } else {
            self.left.pieces as f64 / pieces
        };
        Estimate {
            bytes_per_second: if seconds > 0.0 { bytes / seconds } else { 0.0 },
            seconds_left: (pieces > 0.0 && to_go.is_finite()).then_some(to_go * seconds),
        }
    }
}

fn left(store: &Store, view: &View<'_>) -> Left {
    let mut left = Left::default();
    for range in view.state.map.iter() {
        let leads = || {
            view.leader(range.id)
                .is_some_and(|leader| leader.store == store.id)
        };
        let counts = match store.intent {
            StoreIntent::Draining => leads(),
            _ => range.replica_on(store.id).is_some(),
        };
        if counts {
            left.pieces += 1;
            // A leadership has no bytes to move.
            if store.intent == StoreIntent::Decommissioning {
                left.bytes += view
                    .reports
                    .leading(range.id)
                    .map_or(0, |leading| leading.size_bytes);
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(began: Left, left: Left, seconds: u64) -> Estimate {
        let mut pace = Pace::begin(StoreIntent::Decommissioning, began, 5_000);
        (pace.now, pace.left) = (5_000 + seconds * 1_000, left);
        pace.estimate()
    }

    #[test]
    fn what_has_left_tells_how_long_the_rest_takes() {
        let (all, some) = (
            Left {
                pieces: 10,
                bytes: 1_000,
            },
            Left {
                pieces: 9,
                bytes: 750,
            },
        );
        let estimate = pace(all, some, 10);
        assert_eq!(estimate.bytes_per_second, 25.0);
        assert_eq!(estimate.seconds_left, Some(30.0));
        // Empty ranges have no bytes, and take their time all the same.
        let estimate = pace(Left { pieces: 10, bytes: 0 }, Left { pieces: 6, bytes: 0 }, 8);
        assert_eq!(estimate.seconds_left, Some(12.0));
        assert_eq!(pace(all, all, 10).seconds_left, None, "nothing has left");
        let done = pace(all, Left::default(), 10);
        assert_eq!(done.seconds_left, Some(0.0));
    }
}
