//! What the router knows about ranges: which one holds a key, and who leads it. Pure.
//!
//! Descriptions of ranges come from the placement driver's stream and from stores that refuse a request, in any order and
//! of any age. The rule that makes sense of them is one sentence: **a key's route is the newest description seen that
//! covers it.** Bounds versions grow along the history of every key (a split gives both halves a larger version than the
//! parent, a merge a larger one than either side), so "newest" is well defined wherever two descriptions overlap.
//!
//! A newer description therefore covers an older one only where they overlap; what the older one held beyond that stays
//! as a *remnant*. A remnant may be out of date, and that is harmless: the range it names answers with its epoch, from
//! which the router learns better. Without remnants, hearing of the left half of a split would leave a hole over the
//! right half, and no way to ask for it while the placement driver is down.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::proto::kv::Target;
use holdfast_common::proto::placement::RangeRoute;
use holdfast_common::range::{Descriptor, Epoch};

/// Where requests for the keys of [`Route::span`] go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The keys this route is for: all of the descriptor's span, or what newer descriptions left of it.
    pub span: Span,
    /// The range, as last heard of.
    pub descriptor: Arc<Descriptor>,
    /// The store that leads it, if known. Always one that holds a replica.
    pub leader: Option<StoreId>,
}

impl Route {
    /// What a request names to have its epoch checked.
    pub(crate) fn target(&self) -> Target {
        Target {
            range: self.descriptor.id,
            bounds: self.descriptor.epoch.bounds,
        }
    }
}

/// The routes of the whole key space, as far as known.
///
/// Invariant (`RangeCache::validate`): routes are keyed by the start of their span, do not overlap, lie within their
/// descriptor's span, and name as leader only a store with a replica.
#[derive(Clone, Debug, Default)]
pub(crate) struct RangeCache {
    routes: BTreeMap<Bytes, Arc<Route>>,
}

impl RangeCache {
    /// The route for `key`.
    pub(crate) fn lookup(&self, key: &[u8]) -> Option<&Arc<Route>> {
        let (_, route) = self
            .routes
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        route.span.contains(key).then_some(route)
    }

    /// The route for the keys just before `end`, which is exclusive and empty for the end of the key space: where a
    /// reverse scan begins.
    pub(crate) fn lookup_before(&self, end: &[u8]) -> Option<&Arc<Route>> {
        let upper = if end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(end)
        };
        let (_, route) = self
            .routes
            .range::<[u8], _>((Bound::Unbounded, upper))
            .next_back()?;
        let reaches = route.span.end().is_empty() || (!end.is_empty() && &route.span.end()[..] >= end);
        reaches.then_some(route)
    }

    /// Number of routes.
    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    /// All routes, in the order of their keys.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values().map(|route| &**route)
    }

    /// Whether nothing is known at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Takes in a description of a range, and its leader if the teller knows it. Returns whether anything changed.
    ///
    /// A range whose leader is not told keeps its present one, and a range born of a split is presumed to be led where
    /// the parent was.
    pub(crate) fn insert(&mut self, descriptor: Descriptor, leader: Option<StoreId>) -> bool {
        let descriptor = Arc::new(descriptor);
        let leader = leader.filter(|store| descriptor.replica_on(*store).is_some());
        let mut changed = false;
        // The part of the new span that has no newer route begins here; none when all of it is dealt with.
        let mut uncovered = Some(descriptor.span.start().clone());
        for old in self.overlapping(&descriptor.span) {
            let age = age(&old.descriptor, &descriptor);
            if age == Age::Same && leader.is_some() && leader != old.leader {
                self.put(Route {
                    leader,
                    ..Route::clone(&old)
                });
                changed = true;
            }
            if age == Age::Older {
                self.cut_out(&old, &descriptor.span);
                let leader = leader
                    .or(old.leader)
                    .filter(|store| descriptor.replica_on(*store).is_some());
                let piece = old.span.intersection(&descriptor.span);
                changed |= self.put_piece(piece, &descriptor, leader);
            }
            let gap = uncovered.and_then(|from| Span::new(from, old.span.start().clone()).ok());
            changed |= self.put_piece(gap.filter(|_| !old.span.start().is_empty()), &descriptor, leader);
            uncovered = (!old.span.end().is_empty()).then(|| old.span.end().clone());
        }
        let rest = uncovered.and_then(|from| Span::new(from, descriptor.span.end().clone()).ok());
        changed |= self.put_piece(rest, &descriptor, leader);
        if changed {
            self.join_pieces(&descriptor);
        }
        changed
    }

    /// Notes that `leader` leads `range`, as far as the routes in `span` go. Returns whether that is news.
    pub(crate) fn set_leader(&mut self, range: RangeId, span: &Span, leader: StoreId) -> bool {
        self.update_leader(range, span, |route| {
            if route.descriptor.replica_on(leader).is_some() {
                Some(leader)
            } else {
                route.leader
            }
        })
    }

    /// Notes that `store` does not lead `range` or does not answer. Returns whether that is news.
    pub(crate) fn clear_leader(&mut self, range: RangeId, span: &Span, store: StoreId) -> bool {
        self.update_leader(range, span, |route| {
            route.leader.filter(|leader| *leader != store)
        })
    }

    /// Forgets a range that is no more.
    pub(crate) fn remove(&mut self, range: RangeId) -> bool {
        let before = self.routes.len();
        self.routes.retain(|_, route| route.descriptor.id != range);
        self.routes.len() != before
    }

    /// Takes in the whole map: what it does not have is forgotten, unless it is newer than what the map has there (the
    /// driver may not have heard yet what a store has told us). Leaders already known are kept where the map agrees on
    /// the range, for a store that was asked knows better than a heartbeat.
    pub(crate) fn replace(&mut self, ranges: Vec<RangeRoute>) {
        let before = std::mem::take(&mut self.routes);
        for RangeRoute { descriptor, leader } in ranges {
            self.insert(descriptor, leader);
        }
        let mut known: HashMap<(RangeId, Epoch), Arc<Route>> = HashMap::with_capacity(before.len());
        for route in before.into_values() {
            known
                .entry((route.descriptor.id, route.descriptor.epoch))
                .or_insert(route);
        }
        for route in known.into_values() {
            let newer_or_same = self
                .overlapping(&route.descriptor.span)
                .iter()
                .any(|mapped| age(&mapped.descriptor, &route.descriptor) != Age::Newer);
            if newer_or_same {
                self.insert(Descriptor::clone(&route.descriptor), route.leader);
            }
        }
    }

    /// Checks the invariant, for tests.
    #[cfg(test)]
    pub(crate) fn validate(&self) {
        let mut last: Option<&Route> = None;
        for (start, route) in &self.routes {
            assert_eq!(start, route.span.start());
            assert!(
                route.descriptor.span.covers(&route.span),
                "a route lies within its range"
            );
            assert!(
                route
                    .leader
                    .is_none_or(|leader| route.descriptor.replica_on(leader).is_some())
            );
            if let Some(last) = last {
                assert!(
                    !last.span.end().is_empty() && last.span.end() <= start,
                    "routes do not overlap"
                );
            }
            last = Some(route);
        }
    }

    /// The routes that share a key with `span`, in order.
    fn overlapping(&self, span: &Span) -> Vec<Arc<Route>> {
        let first = self
            .lookup(span.start())
            .map_or(span.start(), |route| route.span.start());
        self.routes
            .range::<[u8], _>((Bound::Included(&first[..]), Bound::Unbounded))
            .map(|(_, route)| route)
            .take_while(|route| span.end().is_empty() || route.span.start() < span.end())
            .cloned()
            .collect()
    }

    fn update_leader(
        &mut self,
        range: RangeId,
        span: &Span,
        leader: impl Fn(&Route) -> Option<StoreId>,
    ) -> bool {
        let mut changed = false;
        for route in self.overlapping(span) {
            let leader = leader(&route);
            if route.descriptor.id == range && leader != route.leader {
                self.put(Route {
                    leader,
                    ..Route::clone(&route)
                });
                changed = true;
            }
        }
        changed
    }

    /// Takes `hole` out of a route, leaving what lies on either side.
    fn cut_out(&mut self, old: &Arc<Route>, hole: &Span) {
        self.routes.remove(old.span.start());
        let left = Span::new(old.span.start().clone(), hole.start().clone());
        let right = Span::new(hole.end().clone(), old.span.end().clone());
        if let Ok(span) = left
            && !hole.start().is_empty()
        {
            self.put(Route {
                span,
                ..Route::clone(old)
            });
        }
        if let Ok(span) = right
            && !hole.end().is_empty()
        {
            self.put(Route {
                span,
                ..Route::clone(old)
            });
        }
    }

    fn put_piece(
        &mut self,
        piece: Option<Span>,
        descriptor: &Arc<Descriptor>,
        leader: Option<StoreId>,
    ) -> bool {
        let Some(span) = piece else { return false };
        self.put(Route {
            span,
            descriptor: descriptor.clone(),
            leader,
        });
        true
    }

    fn put(&mut self, route: Route) {
        self.routes.insert(route.span.start().clone(), Arc::new(route));
    }

    /// Joins the neighbouring pieces of one description into one route, so that a range has one leader.
    fn join_pieces(&mut self, descriptor: &Arc<Descriptor>) {
        let mut joined: Option<Route> = None;
        for piece in self.overlapping(&descriptor.span) {
            if age(&piece.descriptor, descriptor) != Age::Same {
                continue;
            }
            match &mut joined {
                Some(route) if route.span.end() == piece.span.start() => {
                    self.routes.remove(piece.span.start());
                    let Ok(span) = Span::new(route.span.start().clone(), piece.span.end().clone()) else {
                        continue;
                    };
                    *route = Route {
                        span,
                        leader: route.leader.or(piece.leader),
                        ..route.clone()
                    };
                    self.put(route.clone());
                }
                _ => joined = Some(Route::clone(&piece)),
            }
        }
    }
}

/// How one description relates to another that covers some of the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Older,
    Same,
    Newer,
}

/// How old `this` is, compared to `that`. Along a key's history bounds versions grow; within one bounds version it is one
/// range, whose membership version grows.
fn age(this: &Descriptor, that: &Descriptor) -> Age {
    let (this_epoch, that_epoch) = (this.epoch, that.epoch);
    match (this_epoch.bounds, this_epoch.membership).cmp(&(that_epoch.bounds, that_epoch.membership)) {
        std::cmp::Ordering::Less => Age::Older,
        std::cmp::Ordering::Equal if this.id == that.id => Age::Same,
        // Two ranges can't own a key at one version. If a broken peer says so, the last word counts.
        std::cmp::Ordering::Equal => Age::Older,
        std::cmp::Ordering::Greater => Age::Newer,
    }
}

#[cfg(test)]
#[path = "range_cache_test.rs"]
mod tests;
