//! A store gives itself up, because what it has on disk is damaged.
//!
//! From then on it counts as down without being waited for, so that the repair scheduler gives its replicas to others. It is asked for
//! before the damaged data is set aside, and refused while a range needs this very replica for its majority: then there is
//! something to be decided by a person.

use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::proto::placement::Error;
use holdfast_common::proto::recovery::Lose;
use holdfast_common::range::Descriptor;

use crate::command::{Changes, Command, Outcome};
use crate::member::Member;
use crate::service::unexpected;
use crate::state::{State, StoreIntent};
use crate::view::{Health, View};

/// Gives up the store that asks for it.
///
/// # Errors
/// It is not a store of this cluster, or ranges need it.
pub(crate) async fn lost(member: &Member, lose: &Lose) -> Result<(), Error> {
    let lead = member.lead()?;
    if lose.cluster != member.cluster {
        return Err(Error::WrongCluster {
            ours: member.cluster,
            theirs: lose.cluster,
        });
    }
    member.group.catch_up().await?;
    member.look(&lead, |view| check(lose, view))?;
    let command = Command::Lose {
        store: lose.store,
        directory: lose.directory,
    };
    match member.group.propose(&command).await? {
        Outcome::Found(true) => {
            let reason = lose.reason.as_str();
            tracing::warn!(store = %lose.store, reason, "the data of a store is damaged: it is given up, and others get its replicas");
            lead.wake();
            Ok(())
        }
        Outcome::Found(false) => Err(Error::UnknownStore(lose.store)),
        other => Err(unexpected(&other)),
    }
}

/// Whether the others can do without a store: pure.
fn check(lose: &Lose, view: &View<'_>) -> Result<(), Error> {
    let known = view.state.stores.get(&lose.store);
    if !known.is_some_and(|known| known.is_alive() && known.directory == lose.directory) {
        return Err(Error::UnknownStore(lose.store));
    }
    if !view.is_settled() {
        let why = "not every store has been heard of since this member leads";
        return Err(Error::Unavailable(why.to_owned()));
    }
    let needed: Vec<RangeId> = view
        .state
        .map
        .iter()
        .filter(|range| needs(range, lose.store, view))
        .map(|range| range.id)
        .collect();
    match needed.first() {
        None => Ok(()),
        Some(example) => Err(Error::StillNeeded {
            store: lose.store,
            ranges: needed.len() as u64,
            example: *example,
        }),
    }
}

/// Whether a range has a voter on the store, and no majority of all of its voters on others that are there.
fn needs(range: &Descriptor, store: StoreId, view: &View<'_>) -> bool {
    let others = range
        .voters()
        .filter(|voter| voter.store != store && view.health(voter.store) == Health::Up);
    let is_on = range.voters().any(|voter| voter.store == store);
    is_on && 2 * others.count() <= range.voters().count()
}

impl State {
    /// It keeps its replicas until others have them, and gives its name and its directory up at once: whoever starts there is another
    /// store.
    pub(crate) fn lose(&mut self, id: StoreId, directory: u64, changes: &mut Changes) -> bool {
        let store = self.stores.get_mut(&id);
        let Some(store) = store.filter(|store| store.is_alive() && store.directory == directory) else {
            return false;
        };
        store.intent = StoreIntent::Lost;
        changes.stores.push(id);
        true
    }
}

#[cfg(test)]
#[path = "losing_test.rs"]
mod tests;
