//! Brings every range to the replication factor: adds what is missing, replaces what is lost, removes what is too much.

use holdfast_common::ids::StoreId;
use holdfast_common::range::{Descriptor, Replica, Role};

use super::placing::destinations;
use super::{Idea, MAX_IDEAS, Scheduler, Score};
use crate::operator::Kind;
use crate::settings::Settings;
use crate::state::StoreIntent;
use crate::view::{Health, View};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Repair;

impl Scheduler for Repair {
    fn name(&self) -> &'static str {
        "repair"
    }

    fn is_enabled(&self, settings: &Settings) -> bool {
        settings.schedulers.repair
    }

    fn propose(&self, view: &View<'_>) -> Vec<Idea> {
        let idle = view.idle_ranges();
        let mut ideas: Vec<(Urgency, Idea)> = idle
            .filter_map(|range| examine(range, view))
            .take(16 * MAX_IDEAS)
            .collect();
        ideas.sort_by_key(|(urgency, idea)| (*urgency, idea.range));
        ideas.into_iter().map(|(_, idea)| idea).take(MAX_IDEAS).collect()
    }
}

/// What is done first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Voters left, counted from one: the fewer the worse.
    Lost(usize),
    Surplus,
    Stray,
}

fn examine(range: &Descriptor, view: &View<'_>) -> Option<(Urgency, Idea)> {
    let voters: Vec<Replica> = range
        .replicas
        .iter()
        .filter(|replica| replica.role == Role::Voter)
        .copied()
        .collect();
    let wanted = view.state.wanted_voters();
    let live = voters
        .iter()
        .filter(|voter| view.health(voter.store) != Health::Down)
        .count();
    let lost = voters.iter().find(|voter| is_lost(voter, view));
    if let Some(stray) = range
        .replicas
        .iter()
        .find(|replica| replica.role == Role::Learner)
    {
        // Its operator ended before it became a voter; another replica on that store has to wait until it is gone.
        let why = format!("learner {} on store {} was left behind", stray.id, stray.store);
        return Some((
            Urgency::Stray,
            idea(range, Kind::RemoveReplica { replica: stray.id }, why, Vec::new()),
        ));
    }
    if voters.len() < wanted {
        let why = format!("{} of {wanted} voters", voters.len());
        return Some((Urgency::Lost(live), add(range, why, view)));
    }
    if voters.len() > wanted {
        return surplus(range, &voters, wanted, view).map(|idea| (Urgency::Surplus, idea));
    }
    lost.map(|lost| (Urgency::Lost(live), replace(range, *lost, view)))
}

/// Whether a voter's store never comes back, or has been down for so long that it is not expected to.
fn is_lost(voter: &Replica, view: &View<'_>) -> bool {
    view.health(voter.store) == Health::Down
        && (is_given_up(voter.store, view)
            || view.silence(voter.store) >= view.state.settings.store_replace_after_ms)
}

fn is_given_up(store: StoreId, view: &View<'_>) -> bool {
    let known = view.state.stores.get(&store);
    known.is_some_and(|store| store.intent == StoreIntent::Lost)
}

fn add(range: &Descriptor, why: String, view: &View<'_>) -> Idea {
    let scores = destinations(range, None, view);
    match scores.first() {
        Some(best) => idea(range, Kind::AddReplica { to: best.store }, why, scores),
        None => nowhere(range, why),
    }
}

fn replace(range: &Descriptor, lost: Replica, view: &View<'_>) -> Idea {
    let why = match is_given_up(lost.store, view) {
        true => format!("the data of store {} is damaged", lost.store),
        false => format!(
            "store {} has been down for {} s",
            lost.store,
            view.silence(lost.store) / 1_000
        ),
    };
    let scores = destinations(range, Some(lost), view);
    match scores.first() {
        Some(best) => idea(
            range,
            Kind::MoveReplica {
                from: lost.store,
                to: best.store,
            },
            why,
            scores,
        ),
        None => nowhere(range, why),
    }
}

/// Takes a voter away: one that is down before one that lives, else the one on the fullest store. Not the leader, and
/// none that would leave fewer live voters than there should be.
fn surplus(range: &Descriptor, voters: &[Replica], wanted: usize, view: &View<'_>) -> Option<Idea> {
    let leader = view.leader(range.id)?.replica;
    let is_down = |voter: &&Replica| view.health(voter.store) == Health::Down;
    let live = voters.iter().filter(|voter| !is_down(voter)).count();
    let can_go = voters
        .iter()
        .filter(|voter| voter.id != leader && (is_down(voter) || live > wanted));
    let goes = can_go.max_by_key(|voter| (is_down(voter), view.replicas_on(voter.store), voter.id))?;
    let why = format!("{} voters, {wanted} wanted", voters.len());
    Some(idea(
        range,
        Kind::RemoveReplica { replica: goes.id },
        why,
        Vec::new(),
    ))
}

fn idea(range: &Descriptor, kind: Kind, why: String, scores: Vec<Score>) -> Idea {
    Idea {
        range: range.id,
        change: Some(kind),
        why,
        scores,
    }
}

fn nowhere(range: &Descriptor, why: String) -> Idea {
    Idea {
        range: range.id,
        change: None,
        why: format!("{why}; no store can take a replica"),
        scores: Vec::new(),
    }
}

#[cfg(test)]
#[path = "repair_test.rs"]
mod tests;
