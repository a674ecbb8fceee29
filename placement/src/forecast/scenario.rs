//! What might happen: stores leave, come, or fail.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::StoreId;
use holdfast_common::proto::placement::Register;

use super::mirror::Mirror;
use crate::command::{Command, Outcome};
use crate::state::{Store, StoreIntent};

/// Most stores that a scenario adds.
const MAX_ADDED: u64 = 100;

/// What happens, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenario {
    /// How many stores come, as large as the largest there is.
    pub add_stores: u64,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// Which stores are decommissioned.
    pub remove_stores: Vec<StoreId>,
    /// What fails, for good.
    pub fail: Vec<Fail>,
}

/// Stores that fail together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fail {
    /// This one.
    Store(StoreId),
    /// All that have this label.
    Label(String, String),
}

/// Why a scenario makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing happens in it.
    #[error("say what is to happen: stores added, removed or failing")]
    Nothing,
    /// Too many stores.
    #[error("at most {MAX_ADDED} stores can be added")]
    TooMany,
    /// There is no such store.
    #[error("there is no store {0}")]
    NoSuchStore(StoreId),
    /// Nobody has this label.
    #[error("no store has the label {0}={1}")]
    NoSuchLabel(String, String),
    /// The copy did not take a store.
    #[error("the new store was not taken: {0}")]
    NotTaken(String),
}

/// Lets it happen.
pub(super) fn happen(scenario: &Scenario, copy: &mut Mirror) -> Result<(), Error> {
    if scenario.add_stores == 0 && scenario.remove_stores.is_empty() && scenario.fail.is_empty() {
        return Err(Error::Nothing);
    }
    if scenario.add_stores > MAX_ADDED {
        return Err(Error::TooMany);
    }
    for number in 1..=scenario.add_stores {
        add(number, &scenario.labels, copy)?;
    }
    for store in &scenario.remove_stores {
        let retire = Command::Retire {
            store: *store,
            intent: StoreIntent::Decommissioning,
        };
        if copy.apply(&retire) != Outcome::Found(true) {
            return Err(Error::NoSuchStore(*store));
        }
    }
    let mut failing = BTreeSet::new();
    for fail in &scenario.fail {
        failing.extend(named(fail, copy)?);
    }
    if !failing.is_empty() {
        copy.fall_silent(&failing);
    }
    Ok(())
}

fn add(number: u64, labels: &BTreeMap<String, String>, copy: &mut Mirror) -> Result<(), Error> {
    let name = format!("forecast-{number}");
    let taken = copy.view().state.living_stores().any(|store| store.name == name);
    let register = Register {
        name: if taken { format!("{name}-new") } else { name },
        known: None,
        // No directory has a number so small: they are random.
        directory: number,
        rpc_address: "nowhere:0".to_owned(),
        http_address: "nowhere:0".to_owned(),
        labels: labels.clone(),
    };
    let command = Command::Register {
        store: register,
        now_ms: 0,
    };
    match copy.apply(&command) {
        Outcome::Registered(Ok(registered)) => {
            let capacity = copy.largest_disk();
            copy.arrive(registered.store, capacity);
            Ok(())
        }
        Outcome::Registered(Err(error)) => Err(Error::NotTaken(error.to_string())),
        other => Err(Error::NotTaken(format!("{other:?}"))),
    }
}

fn named(fail: &Fail, copy: &Mirror) -> Result<Vec<StoreId>, Error> {
    let view = copy.view();
    let mut stores = view.state.present_stores();
    match fail {
        Fail::Store(id) if stores.any(|store| store.id == *id) => Ok(vec![*id]),
        Fail::Store(id) => Err(Error::NoSuchStore(*id)),
        Fail::Label(name, value) => {
            let has = |store: &&Store| store.labels.get(name) == Some(value);
            let found: Vec<StoreId> = stores.filter(has).map(|store| store.id).collect();
            if found.is_empty() {
                return Err(Error::NoSuchLabel(name.clone(), value.clone()));
            }
            Ok(found)
        }
    }
}
