//! The stream of changes to the map, for routers and stores.
//!
//! Every member keeps the last changes, by id, in a ring. A watcher holds a position; what it is sent is made from the
//! state and the reports as they are when it is sent, so many changes to one range become one event, and a slow watcher
//! costs no memory: when the ring has moved past its position it is cut off and begins anew. Positions count within one
//! stream; a stream ends with the leadership of the member that serves it.

use std::collections::{BTreeSet, VecDeque};

use holdfast_common::clock;
use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::proto::placement::{MapEvent, MapVersion, RangeRoute, StoreRoute};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::command::Changes;
use crate::reports::Reports;
use crate::state::State;

/// Most changes that are remembered.
const MAX_CHANGES: usize = 16_384;

/// Most ranges in one event: far less than a frame takes.
const MAX_RANGES: usize = 1_024;

/// Something that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Range(RangeId),
    Store(StoreId),
}

/// The last changes.
pub struct Hub {
    ring: Mutex<Ring>,
    position: watch::Sender<MapVersion>,
    plans: watch::Sender<u64>,
    access: watch::Sender<u64>,
}

struct Ring {
    changes: VecDeque<Change>,
    version: MapVersion,
}

impl Default for Hub {
    fn default() -> Self {
        let version = first();
        let ring = Mutex::new(Ring {
            changes: VecDeque::new(),
            version,
        });
        Self {
            ring,
            position: watch::Sender::new(version),
            plans: watch::Sender::new(0),
            access: watch::Sender::new(0),
        }
    }
}

/// Where a stream begins. Number 0 is in no stream: it stands for a map that was told in part.
fn first() -> MapVersion {
    MapVersion {
        stream: clock::random_id(),
        number: 1,
    }
}

/// The watcher has to begin anew: the stream is another, or has moved on too far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Hub {
    /// Tells what a command changed.
    pub fn publish(&self, changes: Changes) {
        if changes.plans {
            self.plans.send_modify(|count| *count += 1);
        }
        if changes.access {
            self.access.send_modify(|count| *count += 1);
        }
        let ranges = changes.ranges.into_iter().chain(changes.gone).map(Change::Range);
        self.push(ranges.chain(changes.stores.into_iter().map(Change::Store)));
    }

    /// Tells that ranges have other leaders.
    pub fn publish_leaders(&self, ranges: Vec<RangeId>) {
        self.push(ranges.into_iter().map(Change::Range));
    }

    fn push(&self, changes: impl Iterator<Item = Change>) {
        let mut changes = changes.peekable();
        if changes.peek().is_none() {
            return;
        }
        let mut ring = self.ring.lock();
        for change in changes {
            ring.changes.push_back(change);
            ring.version.number += 1;
            if ring.changes.len() > MAX_CHANGES {
                ring.changes.pop_front();
            }
        }
        self.position.send_replace(ring.version);
    }

    /// Begins another stream: what was told before says nothing about what comes.
    pub fn restart(&self) {
        let mut ring = self.ring.lock();
        *ring = Ring {
            changes: VecDeque::new(),
            version: first(),
        };
        self.position.send_replace(ring.version);
        self.access.send_modify(|count| *count += 1);
    }

    /// The present position, and word of every later one.
    pub fn position(&self) -> watch::Receiver<MapVersion> {
        self.position.subscribe()
    }

    /// Word of every change of operators or settings.
    pub fn plans(&self) -> watch::Receiver<u64> {
        self.plans.subscribe()
    }

    /// Word of every change of who may do what.
    pub fn access(&self) -> watch::Receiver<u64> {
        self.access.subscribe()
    }

    /// What changed after `from`, and the position that this leads to.
    fn since(&self, from: MapVersion) -> Result<(BTreeSet<Change>, MapVersion), Lost> {
        let ring = self.ring.lock();
        if from.stream != ring.version.stream || from.number == 0 {
            return Err(Lost);
        }
        let behind = ring.version.number.checked_sub(from.number).ok_or(Lost)?;
        let kept = ring.changes.len();
        let behind = usize::try_from(behind)
            .ok()
            .filter(|behind| *behind <= kept)
            .ok_or(Lost)?;
        Ok((
            ring.changes.iter().skip(kept - behind).copied().collect(),
            ring.version,
        ))
    }

    /// The events that lead from `from` to the present, as state and reports are now.
    ///
    /// # Errors
    /// There is no way from there: begin with [`Hub::everything`].
    pub fn events(&self, from: MapVersion, state: &State, reports: &Reports) -> Result<Vec<MapEvent>, Lost> {
        let (changes, version) = self.since(from)?;
        let (mut ranges, mut stores) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Range(id) => ranges.push(id),
                Change::Store(id) => stores.push(id),
            }
        }
        Ok(pages(false, from, version, &ranges, &stores, state, reports))
    }

    /// The whole map, as it is now. `state` must be locked before: what changes meanwhile is told again.
    pub fn everything(&self, state: &State, reports: &Reports) -> Vec<MapEvent> {
        let version = self.ring.lock().version;
        let ranges: Vec<RangeId> = state.map.iter().map(|range| range.id).collect();
        let stores: Vec<StoreId> = state.present_stores().map(|store| store.id).collect();
        let told_in_part = MapVersion { number: 0, ..version };
        pages(true, told_in_part, version, &ranges, &stores, state, reports)
    }
}

/// One event, or several where they are many. A watcher that has not had the last of them stands where it stood before.
fn pages(
    full: bool,
    before: MapVersion,
    after: MapVersion,
    ranges: &[RangeId],
    stores: &[StoreId],
    state: &State,
    reports: &Reports,
) -> Vec<MapEvent> {
    let stores = stores.iter().filter_map(|id| state.stores.get(id));
    let stores = stores
        .map(|store| StoreRoute {
            id: store.id,
            rpc_address: store.rpc_address.clone(),
        })
        .collect();
    let event = |full, stores| MapEvent {
        version: before,
        full,
        ranges: Vec::new(),
        gone: Vec::new(),
        stores,
    };
    let mut events = vec![event(full, stores)];
    for (i, page) in ranges.chunks(MAX_RANGES).enumerate() {
        if i > 0 {
            events.push(event(false, Vec::new()));
        }
        let Some(event) = events.last_mut() else { continue };
        for id in page {
            match state.map.get(*id) {
                Some(descriptor) => {
                    let leader = reports.leader(*id).map(|leader| leader.store);
                    event.ranges.push(RangeRoute {
                        descriptor: descriptor.clone(),
                        leader,
                    });
                }
                None => event.gone.push(*id),
            }
        }
    }
    if let Some(last) = events.last_mut() {
        last.version = after;
    }
    events
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use holdfast_common::key::Span;
    use holdfast_common::range::{Descriptor, Epoch};

    use super::*;
    use crate::world::World;

    fn changed(ranges: &[u64]) -> Changes {
        Changes {
            ranges: ranges.iter().map(|id| RangeId(*id)).collect(),
            ..Changes::default()
        }
    }

    #[test]
    fn a_watcher_is_told_what_changed_since_it_was_told_last() {
        let (world, hub) = (World::new(&["a"]), Hub::default());
        let events = hub.everything(&world.state, &world.reports);
        assert_eq!(
            (
                events.len(),
                events[0].full,
                events[0].ranges.len(),
                events[0].stores.len()
            ),
            (1, true, 1, 1)
        );
        assert_eq!(events[0].ranges[0].leader, Some(StoreId(1)));
        let from = events[0].version;
        hub.publish(changed(&[1, 9]));
        hub.publish(Changes {
            stores: vec![StoreId(1)],
            ..changed(&[1])
        });
        let events = hub.events(from, &world.state, &world.reports).unwrap();
        assert_eq!(
            (events.len(), events[0].full, events[0].ranges.len()),
            (1, false, 1)
        );
        assert_eq!(
            (&events[0].gone[..], events[0].stores.len()),
            (&[RangeId(9)][..], 1)
        );
        assert_eq!(events[0].version.number, from.number + 4);
        let nothing = hub
            .events(events[0].version, &world.state, &world.reports)
            .unwrap();
        assert!(nothing[0].ranges.is_empty() && nothing[0].stores.is_empty());
    }

    #[test]
    fn a_watcher_of_another_stream_or_too_far_behind_is_lost() {
        let (world, hub) = (World::new(&["a"]), Hub::default());
        let from = hub.everything(&world.state, &world.reports)[0].version;
        for _ in 0..=MAX_CHANGES {
            hub.publish(changed(&[1]));
        }
        assert_eq!(hub.events(from, &world.state, &world.reports), Err(Lost));
        let near = MapVersion {
            number: from.number + 1,
            ..from
        };
        assert!(hub.events(near, &world.state, &world.reports).is_ok());
        assert_eq!(
            hub.events(MapVersion { number: 0, ..from }, &world.state, &world.reports),
            Err(Lost)
        );
        hub.restart();
        assert_eq!(hub.events(near, &world.state, &world.reports), Err(Lost));
    }

    #[test]
    fn a_large_map_comes_in_pages_and_only_the_last_has_a_position() {
        let (mut world, hub) = (World::new(&["a"]), Hub::default());
        let whole = world.state.map.get(RangeId(1)).unwrap().clone();
        let bound = |i: u64| {
            if i == 0 || i > MAX_RANGES as u64 {
                Bytes::new()
            } else {
                i.to_be_bytes().to_vec().into()
            }
        };
        for i in 0..=MAX_RANGES as u64 {
            let (id, span) = (RangeId(i + 1), Span::new(bound(i), bound(i + 1)).unwrap());
            let epoch = Epoch {
                bounds: 2,
                ..whole.epoch
            };
            world.state.map.observe(&Descriptor {
                id,
                span,
                epoch,
                ..whole.clone()
            });
        }
        let events = hub.everything(&world.state, &world.reports);
        let shape: Vec<_> = events
            .iter()
            .map(|event| (event.full, event.ranges.len(), event.version.number))
            .collect();
        assert_eq!(shape, [(true, MAX_RANGES, 0), (false, 1, 1)]);
    }
}
