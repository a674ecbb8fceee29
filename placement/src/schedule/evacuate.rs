//! Empties stores: a draining store gives its leaderships away, a decommissioning one its replicas too.

use std::collections::BTreeMap;

use holdfast_common::ids::StoreId;
use holdfast_common::range::{Descriptor, Role};

use super::placing::{as_f64, destinations_beside, heirs, leaderships, sort};
use super::{Idea, MAX_IDEAS, Scheduler, Score};
use crate::operator::Kind;
use crate::settings::Settings;
use crate::state::{Store, StoreIntent};
use crate::view::View;

/// See the module. Whoever drains a store wants it done, so no setting switches this off; resuming the store does.
#[derive(Clone, Copy, Debug)]
pub struct Evacuate;

impl Scheduler for Evacuate {
    fn name(&self) -> &'static str {
        "evacuate"
    }

    fn is_enabled(&self, _: &Settings) -> bool {
        true
    }

    fn propose(&self, view: &View<'_>) -> Vec<Idea> {
        let leaving = |intent: StoreIntent| {
            let stores = view.state.stores.values();
            stores
                .filter(move |store| store.intent == intent)
                .collect::<Vec<_>>()
        };
        let (drained, emptied) = (
            leaving(StoreIntent::Draining),
            leaving(StoreIntent::Decommissioning),
        );
        if drained.is_empty() && emptied.is_empty() {
            return Vec::new();
        }
        let idle = view.idle_ranges();
        let mut chosen = Chosen {
            leads: leaderships(view),
            moves: BTreeMap::new(),
        };
        let idea = |range: &Descriptor| {
            let moved = emptied
                .iter()
                .find_map(|store| move_away(range, store, &mut chosen, view));
            moved.or_else(|| {
                let mut drained = drained.iter();
                drained.find_map(|store| hand_over(range, store, &mut chosen, view))
            })
        };
        idle.filter_map(idea).take(MAX_IDEAS).collect()
    }
}

/// What was chosen at this look counts for what is chosen next, or all would go to the same store.
struct Chosen {
    leads: BTreeMap<StoreId, usize>,
    moves: BTreeMap<StoreId, usize>,
}

fn move_away(range: &Descriptor, store: &Store, chosen: &mut Chosen, view: &View<'_>) -> Option<Idea> {
    let replica = *range.replica_on(store.id)?;
    if replica.role != Role::Voter {
        return None; // `repair` removes learners that were left behind.
    }
    let voters = range.voters().count();
    let why = format!("store {} is being decommissioned", store.id);
    // A range with more voters than it needs has one that may simply go.
    if voters > view.state.wanted_voters() && voters > 1 {
        return Some(Idea {
            range: range.id,
            change: Some(Kind::RemoveReplica { replica: replica.id }),
            why,
            scores: Vec::new(),
        });
    }
    let scores = destinations_beside(range, replica, &chosen.moves, view);
    let to = scores.first().map(|best| best.store);
    if let Some(to) = to {
        *chosen.moves.entry(to).or_default() += 1;
    }
    Some(Idea {
        range: range.id,
        change: to.map(|to| Kind::MoveReplica { from: store.id, to }),
        why: match to {
            Some(_) => why,
            None => format!("{why}; no store can take the replica"),
        },
        scores,
    })
}

fn hand_over(range: &Descriptor, store: &Store, chosen: &mut Chosen, view: &View<'_>) -> Option<Idea> {
    view.leader(range.id).filter(|leader| leader.store == store.id)?;
    let mut scores: Vec<Score> = heirs(range, view)
        .into_iter()
        .map(|heir| Score {
            store: heir.store,
            score: as_f64(chosen.leads.get(&heir.store).copied().unwrap_or(0)),
        })
        .collect();
    sort(&mut scores);
    let to = scores.first().map(|best| best.store);
    if let Some(to) = to {
        *chosen.leads.entry(to).or_default() += 1;
    }
    let why = format!("store {} is being drained", store.id);
    Some(Idea {
        range: range.id,
        change: to.map(|to| Kind::TransferLeader { to }),
        why: match to {
            Some(_) => why,
            None => format!("{why}; no other voter can lead"),
        },
        scores,
    })
}
