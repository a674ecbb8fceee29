//! Commands: the only way in which the replicated state changes, and how each changes it. Pure.
//!
//! A command is applied on every member, in the same order, and so must depend on nothing but itself and the state. Times
//! in it are for people. Every command may be proposed twice (a lost answer, a new leading member), and the second time
//! either changes nothing or is refused.

use holdfast_common::ids::{ClusterId, MemberId, OperatorId, RangeId, StoreId};
use holdfast_common::proto::access::Credential;
use holdfast_common::proto::placement::{Error, IdBlock, Join, Joined, Register, Registered};
use holdfast_common::range::Descriptor;
use serde::{Deserialize, Serialize};

use crate::access;
use crate::operator::plan::{self, Mint};
use crate::operator::{Intent, Kind, Operator, Refusal, Status};
pub use crate::seat::Seat;
use crate::settings::Settings;
use crate::state::{Counters, Member, State, Store, StoreIntent};

/// Most ids that one block holds.
pub const MAX_ID_BLOCK: u32 = 10_000;

/// A command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The first command of a cluster: what it is called and who founded it.
    Found {
        /// The cluster.
        cluster: ClusterId,
        /// The founder's number.
        number: MemberId,
        /// The founder.
        founder: Member,
    },
    /// A placement member announces itself.
    AdmitMember(Join),
    /// Removes a placement member.
    RemoveMember {
        /// Its name.
        name: String,
    },
    /// A store announces itself.
    Register {
        /// Who.
        store: Register,
        /// Wall time, milliseconds.
        now_ms: u64,
    },
    /// Mints a block of range and replica ids.
    AllocateIds {
        /// How many, 1 to [`MAX_ID_BLOCK`].
        count: u32,
    },
    /// What replicas say of their ranges.
    Observe(Vec<Descriptor>),
    /// Starts an operator.
    Start {
        /// What is wanted.
        intent: Intent,
        /// Wall time, milliseconds.
        now_ms: u64,
    },
    /// A step of an operator is done.
    Advance {
        /// The operator.
        id: OperatorId,
        /// The number of the step.
        step: usize,
        /// Wall time, milliseconds.
        now_ms: u64,
    },
    /// Ends an operator.
    End {
        /// The operator.
        id: OperatorId,
        /// How.
        status: Status,
        /// Wall time, milliseconds.
        now_ms: u64,
    },
    /// Says what is to become of a store. One that is to be removed must be decommissioning, and hold nothing.
    Retire {
        /// The store.
        store: StoreId,
        /// What is to become of it.
        intent: StoreIntent,
    },
    /// Replaces the settings.
    Configure {
        /// The version that the new ones were made from.
        from: u64,
        /// The new ones; valid.
        settings: Settings,
    },
    /// Lets somebody in; the id is minted.
    Grant(Box<Credential>),
    /// Lets somebody in no more.
    Revoke {
        /// Of the credential.
        id: u64,
    },
    /// Sets whether requests need a credential.
    Demand {
        /// Whether.
        required: bool,
    },
    /// A store's data is damaged: it never comes back.
    Lose {
        /// The store.
        store: StoreId,
        /// As it registered with.
        directory: u64,
    },
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done, or done before.
    Done,
    /// To `AdmitMember`.
    Joined(Result<Joined, Error>),
    /// To `Register`.
    Registered(Result<Registered, Error>),
    /// To `AllocateIds`.
    Ids(Result<IdBlock, Error>),
    /// To `Start`.
    Started(Result<OperatorId, Refusal>),
    /// To `Configure`: whether the version was still the present one.
    Configured(bool),
    /// To `End`, `RemoveMember`, `Retire` and `Lose`: whether there was such a thing.
    Found(bool),
    /// To `Grant`, `Revoke` and `Demand`: the credential's id, or 0.
    Access(Result<u64, access::Refusal>),
}

/// What a command changed, for those who watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Ranges that are new or changed.
    pub ranges: Vec<RangeId>,
    /// Ranges that are no more.
    pub gone: Vec<RangeId>,
    /// Stores that are new or changed.
    pub stores: Vec<StoreId>,
    /// Whether operators or settings changed.
    pub plans: bool,
    /// Whether somebody may do something else now.
    pub access: bool,
}

impl Counters {
    /// Whether all ids in a description were minted.
    pub fn minted(&self, descriptor: &Descriptor) -> bool {
        let ids = descriptor
            .replicas
            .iter()
            .map(|replica| replica.id.0)
            .chain([descriptor.id.0]);
        ids.into_iter().all(|id| (1..self.range_or_replica).contains(&id))
    }
}

impl Mint for Counters {
    fn mint(&mut self) -> u64 {
        self.range_or_replica += 1;
        self.range_or_replica - 1
    }
}

impl State {
    /// Applies a command.
    pub fn apply(&mut self, command: &Command, changes: &mut Changes) -> Outcome {
        match command {
            Command::Found {
                cluster,
                number,
                founder,
            } => self.found(*cluster, *number, founder),
            Command::AdmitMember(join) => Outcome::Joined(self.admit(join)),
            Command::RemoveMember { name } => Outcome::Found(self.remove_member(name)),
            Command::Register { store, now_ms } => {
                Outcome::Registered(self.register(store, *now_ms, changes))
            }
            Command::AllocateIds { count } => Outcome::Ids(self.allocate(*count)),
            Command::Observe(seen) => {
                self.observe(seen, changes);
                Outcome::Done
            }
            Command::Start { intent, now_ms } => {
                changes.plans = true;
                Outcome::Started(self.start(intent, *now_ms))
            }
            Command::Advance { id, step, now_ms } => {
                changes.plans = true;
                self.operators.advance(*id, *step, *now_ms);
                Outcome::Done
            }
            Command::End { id, status, now_ms } => {
                changes.plans = true;
                Outcome::Found(self.operators.end(*id, status.clone(), *now_ms))
            }
            Command::Retire { store, intent } => Outcome::Found(self.retire(*store, *intent, changes)),
            Command::Configure { from, settings } => {
                changes.plans = true;
                Outcome::Configured(self.configure(*from, settings))
            }
            Command::Grant(credential) => {
                changes.access = true;
                Outcome::Access(self.access.grant(credential))
            }
            Command::Revoke { id } => {
                changes.access = true;
                Outcome::Access(self.access.revoke(*id).map(|()| 0))
            }
            Command::Demand { required } => {
                changes.access = true;
                Outcome::Access(self.access.demand(*required).map(|()| 0))
            }
            Command::Lose { store, directory } => Outcome::Found(self.lose(*store, *directory, changes)),
        }
    }

    fn found(&mut self, cluster: ClusterId, number: MemberId, founder: &Member) -> Outcome {
        if self.cluster.is_none() {
            self.cluster = Some(cluster);
            self.members.insert(number, founder.clone());
        }
        Outcome::Done
    }

    /// A member keeps its number for as long as it keeps its directory. Without the directory it has forgotten for whom it
    /// voted, so the number must not vote again: the name is refused until somebody removes the member, and gets another
    /// number then.
    fn admit(&mut self, join: &Join) -> Result<Joined, Error> {
        let cluster = self.cluster.ok_or(Error::NotBootstrapped)?;
        if let Some((theirs, _)) = join.known
            && theirs != cluster
        {
            return Err(Error::WrongCluster {
                ours: cluster,
                theirs,
            });
        }
        let member = Member {
            name: join.name.clone(),
            directory: join.directory,
            rpc_address: join.rpc_address.clone(),
            http_address: join.http_address.clone(),
            is_running: join.known.is_some(),
        };
        let known = self.members.iter_mut().find(|(_, known)| known.name == join.name);
        let number = match (known, join.known) {
            (Some((number, known)), _) if known.directory == join.directory => {
                *known = Member {
                    is_running: known.is_running || member.is_running,
                    ..member
                };
                *number
            }
            (Some(_), _) | (None, Some(_)) => {
                return Err(Error::MemberReplaced {
                    name: join.name.clone(),
                });
            }
            (None, None) => {
                let number = self.number_for(&join.name, &join.members)?;
                self.members.insert(number, member);
                number
            }
        };
        Ok(Joined {
            cluster,
            member: number,
        })
    }

    fn number_for(&self, name: &str, members: &[String]) -> Result<MemberId, Error> {
        let position = members.iter().position(|member| member == name);
        let position =
            position.ok_or_else(|| Error::Invalid(format!("{name} is not one of its own --members")))?;
        let seat = u64::try_from(position).unwrap_or(u64::MAX).saturating_add(1);
        Seat(seat)
            .numbers()
            .find(|number| !self.retired.contains(number) && !self.members.contains_key(number))
            .ok_or_else(|| Error::Invalid(format!("{name} can't have position {seat} in --members")))
    }

    fn remove_member(&mut self, name: &str) -> bool {
        let number = self
            .members
            .iter()
            .find(|(_, member)| member.name == name)
            .map(|(number, _)| *number);
        let Some(number) = number else { return false };
        self.members.remove(&number);
        self.retired.insert(number);
        true
    }

    fn register(
        &mut self,
        store: &Register,
        now_ms: u64,
        changes: &mut Changes,
    ) -> Result<Registered, Error> {
        let cluster = self.cluster.ok_or(Error::NotBootstrapped)?;
        let id = match store.known {
            Some((theirs, _)) if theirs != cluster => {
                return Err(Error::WrongCluster {
                    ours: cluster,
                    theirs,
                });
            }
            Some((_, id)) => self.known_store(id, store)?,
            None => self.new_store(store)?,
        };
        let registered = Store {
            id,
            name: store.name.clone(),
            directory: store.directory,
            rpc_address: store.rpc_address.clone(),
            http_address: store.http_address.clone(),
            labels: store.labels.clone(),
            intent: self
                .stores
                .get(&id)
                .map_or(StoreIntent::Active, |known| known.intent),
        };
        if self.stores.get(&id) != Some(&registered) {
            self.stores.insert(id, registered);
            changes.stores.push(id);
        }
        self.create_first_range(id, now_ms, changes);
        Ok(Registered { cluster, store: id })
    }

    fn retire(&mut self, id: StoreId, intent: StoreIntent, changes: &mut Changes) -> bool {
        let is_empty = !self.map.is_on(id)
            && !self
                .operators
                .running()
                .any(|operator| operator.stores().any(|store| store == id));
        let Some(store) = self.stores.get_mut(&id) else {
            return false;
        };
        let allowed = match (store.intent, intent) {
            (StoreIntent::Decommissioning | StoreIntent::Lost, StoreIntent::Removed) => is_empty,
            (StoreIntent::Removed | StoreIntent::Lost, _) | (_, StoreIntent::Removed | StoreIntent::Lost) => {
                false
            }
            _ => true,
        };
        if allowed && store.intent != intent {
            store.intent = intent;
            changes.stores.push(id);
        }
        allowed
    }

    fn known_store(&self, id: StoreId, store: &Register) -> Result<StoreId, Error> {
        let known = self.stores.get(&id).filter(|known| known.is_alive());
        let known = known
            .filter(|known| known.directory == store.directory)
            .ok_or(Error::UnknownStore(id))?;
        self.check_name(&store.name, known.id)?;
        Ok(known.id)
    }

    fn new_store(&mut self, store: &Register) -> Result<StoreId, Error> {
        if let Some(retry) = self
            .living_stores()
            .find(|known| known.directory == store.directory)
        {
            self.check_name(&store.name, retry.id)?;
            return Ok(retry.id);
        }
        self.check_name(&store.name, StoreId::NONE)?;
        let id = StoreId(self.next.store);
        self.next.store += 1;
        Ok(id)
    }

    fn check_name(&self, name: &str, owner: StoreId) -> Result<(), Error> {
        match self
            .living_stores()
            .find(|known| known.name == name && known.id != owner)
        {
            Some(taken) => Err(Error::NameTaken {
                name: name.to_owned(),
                store: taken.id,
            }),
            None => Ok(()),
        }
    }

    /// The first store of a cluster is told to create the first range, once: another try on another store could make a
    /// second one.
    fn create_first_range(&mut self, on: StoreId, now_ms: u64, changes: &mut Changes) {
        if self.next.range_or_replica > 1 {
            return;
        }
        let range = RangeId(self.next.mint());
        let why = "the cluster has its first store".to_owned();
        let intent = Intent {
            range,
            kind: Kind::CreateFirst { on },
            source: "bootstrap".to_owned(),
            why,
        };
        changes.plans = true;
        // It can't be refused: there is no operator yet.
        let _ = self.start(&intent, now_ms);
    }

    fn allocate(&mut self, count: u32) -> Result<IdBlock, Error> {
        if !(1..=MAX_ID_BLOCK).contains(&count) {
            return Err(Error::Invalid(format!("a block has 1 to {MAX_ID_BLOCK} ids")));
        }
        if self.stores.is_empty() {
            return Err(Error::Invalid("there is no store that could use ids".to_owned()));
        }
        let first = self.next.range_or_replica;
        self.next.range_or_replica = first + u64::from(count);
        Ok(IdBlock { first, count })
    }

    fn observe(&mut self, seen: &[Descriptor], changes: &mut Changes) {
        let next = self.next;
        // An id that was never minted belongs to no cluster, or to another one.
        for descriptor in seen.iter().filter(|descriptor| next.minted(descriptor)) {
            let learned = self.map.observe(descriptor);
            changes.ranges.extend(learned.changed.then_some(descriptor.id));
            changes.gone.extend(learned.gone);
        }
    }

    fn start(&mut self, intent: &Intent, now_ms: u64) -> Result<OperatorId, Refusal> {
        let recovers = matches!(intent.kind, Kind::Recover(_));
        if !recovers && self.operators.running_len() >= self.settings.max_operators as usize {
            return Err(Refusal::TooMany(self.operators.running_len()));
        }
        let mut next = self.next;
        let steps = plan::plan(self, intent.range, &intent.kind, &mut next)?;
        let given_up = self.operators.on_range(intent.range).map(|before| before.id);
        if let Some(before) = given_up {
            let why = "the range is brought back from one survivor".to_owned();
            self.operators.end(before, Status::Cancelled(why), now_ms);
        }
        let id = OperatorId(next.operator);
        next.operator += 1;
        self.next = next;
        let (intent, status) = (intent.clone(), Status::Running);
        self.operators.start(Operator {
            id,
            intent,
            steps,
            current: 0,
            status,
            created_ms: now_ms,
            ended_ms: None,
        });
        Ok(id)
    }

    fn configure(&mut self, from: u64, settings: &Settings) -> bool {
        if from != self.settings_version {
            return false;
        }
        self.settings = settings.clone();
        self.settings_version += 1;
        true
    }
}

#[cfg(test)]
#[path = "command_test.rs"]
mod tests;
