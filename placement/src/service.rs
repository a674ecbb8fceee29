//! The RPC side: registration, heartbeats, ids, the map as a stream, and the group's own messages.
//!
//! Requests come on the task that reads a connection. A heartbeat is answered there; what waits for the group is a task, of
//! which there are at most [`MAX_TASKS`].

use std::sync::{Arc, OnceLock};

use holdfast_common::clock;
use holdfast_common::failpoint;
use holdfast_common::net::{ConnId, ErrorCode, Reply, Request, Service, StreamReply};
use holdfast_common::proto::access::{Told, WatchAccess};
use holdfast_common::proto::check::Findings;
use holdfast_common::proto::placement::{
    AllocateIds, Error, Heartbeat, HeartbeatAnswer, IdBlock, Join, Joined, MapEvent, MapVersion, Register,
    Registered, WatchMap,
};
use holdfast_common::proto::recovery::Lose;
use holdfast_common::proto::{self, method};
use holdfast_common::raft::network::{Inbound, is_raft};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access_watch;
use crate::admission::Status;
use crate::command::{Command, Outcome};
use crate::lead::Lead;
use crate::losing;
use crate::machine::Machine;
use crate::member::Member;
use crate::view::Health;

/// Most requests that wait for the group at a time.
const MAX_TASKS: usize = 1_024;

/// Most watchers at a time.
const MAX_WATCHERS: usize = 4_096;

/// Longest name or address, in bytes.
const MAX_TEXT_BYTES: usize = 255;

/// Most labels of a store.
const MAX_LABELS: usize = 32;

/// What a member serves. Before it is admitted, only who it is.
pub struct Rpc {
    status: Status,
    inbound: Inbound<Machine>,
    member: Arc<OnceLock<Arc<Member>>>,
    tasks: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
}

impl Rpc {
    /// A service of the member that `member` will hold once it is admitted.
    pub fn new(status: Status, inbound: Inbound<Machine>, member: Arc<OnceLock<Arc<Member>>>) -> Self {
        let (tasks, watchers) = (
            Arc::new(Semaphore::new(MAX_TASKS)),
            Arc::new(Semaphore::new(MAX_WATCHERS)),
        );
        Self {
            status,
            inbound,
            member,
            tasks,
            watchers,
        }
    }

    fn heartbeat(&self, member: Arc<Member>, request: &Request, reply: Reply) {
        let Some((heartbeat, reply)) = read::<Heartbeat>(request, reply) else {
            return;
        };
        let lead = match member.lead() {
            Ok(lead) => lead,
            Err(error) => return respond::<HeartbeatAnswer>(reply, &Err(error)),
        };
        if member
            .group
            .shared()
            .state()
            .living_stores()
            .any(|store| store.id == heartbeat.store)
        {
            return respond(reply, &Ok(lead.heartbeat(&member, &heartbeat)));
        }
        self.task(reply, |reply| async move {
            respond::<HeartbeatAnswer>(reply, &Err(unknown(&member, &heartbeat).await));
        });
    }

    fn watch(&self, member: Arc<Member>, request: &Request, reply: Reply) {
        let Some((watch, reply)) = read::<WatchMap>(request, reply) else {
            return;
        };
        let Ok(permit) = self.watchers.clone().try_acquire_owned() else {
            return reply.fail(ErrorCode::Overloaded, "too many watch the map");
        };
        tokio::spawn(async move {
            let _permit = permit;
            let mut stream = reply.into_stream();
            let ended = match member.lead() {
                Ok(lead) => tell_changes(&member, &lead, watch.from, &mut stream).await,
                Err(error) => Some(error),
            };
            if let Some(error) = ended {
                // The reader may be gone, and then needs no word of the end.
                let _ = stream.send(proto::encode(&Err::<MapEvent, Error>(error))).await;
            }
            stream.finish();
        });
    }

    fn watch_access(&self, member: Arc<Member>, request: &Request, reply: Reply) {
        let Some((WatchAccess, reply)) = read(request, reply) else {
            return;
        };
        let Ok(permit) = self.watchers.clone().try_acquire_owned() else {
            return reply.fail(ErrorCode::Overloaded, "too many watch");
        };
        tokio::spawn(async move {
            let _permit = permit;
            let mut stream = reply.into_stream();
            let ended = match member.lead() {
                Ok(lead) => access_watch::tell(&member, &lead, &mut stream).await,
                Err(error) => Some(error),
            };
            if let Some(error) = ended {
                // The reader may be gone, and then needs no word of the end.
                let _ = stream.send(proto::encode(&Err::<Told, Error>(error))).await;
            }
            stream.finish();
        });
    }

    /// Answers by a task, unless there are too many.
    fn task<F: Future<Output = ()> + Send + 'static>(&self, reply: Reply, body: impl FnOnce(Reply) -> F) {
        let Ok(permit) = self.tasks.clone().try_acquire_owned() else {
            return reply.fail(ErrorCode::Overloaded, "too much waits for the placement group");
        };
        tokio::spawn(with_permit(permit, body(reply)));
    }

    fn serve(&self, member: Arc<Member>, request: &Request, reply: Reply) {
        match request.method {
            method::PLACEMENT_HEARTBEAT => self.heartbeat(member, request, reply),
            method::PLACEMENT_WATCH_MAP => self.watch(member, request, reply),
            method::PLACEMENT_WATCH_ACCESS => self.watch_access(member, request, reply),
            method::PLACEMENT_FINDINGS => {
                if let Some((findings, reply)) = read::<Findings>(request, reply) {
                    respond(reply, &member.lead().map(|lead| lead.find(&member, findings)));
                }
            }
            method::PLACEMENT_REGISTER => {
                let Some((register, reply)) = read::<Register>(request, reply) else {
                    return;
                };
                self.task(reply, |reply| async move {
                    respond(reply, &registered(&member, register).await)
                });
            }
            method::PLACEMENT_ALLOCATE_IDS => {
                let Some((allocate, reply)) = read::<AllocateIds>(request, reply) else {
                    return;
                };
                self.task(reply, |reply| async move {
                    respond(reply, &allocated(&member, allocate).await)
                });
            }
            method::PLACEMENT_LOSE => {
                let Some((lose, reply)) = read::<Lose>(request, reply) else {
                    return;
                };
                self.task(reply, |reply| async move {
                    respond(reply, &losing::lost(&member, &lose).await)
                });
            }
            method::PLACEMENT_JOIN => {
                let Some((join, reply)) = read::<Join>(request, reply) else {
                    return;
                };
                self.task(reply, |reply| async move {
                    respond(reply, &joined(&member, join).await)
                });
            }
            _ => reply.fail(ErrorCode::UnknownMethod, "not a method of the placement driver"),
        }
    }
}

impl Service for Rpc {
    fn call(&self, request: Request, reply: Reply) {
        match (request.method, self.member.get()) {
            (method, _) if is_raft(method) => self.inbound.handle(request, reply),
            (method::PLACEMENT_PROBE, _) => reply.send(proto::encode(&*self.status.read())),
            (_, Some(member)) => self.serve(member.clone(), &request, reply),
            // Whatever was asked for reads an error the same.
            (method::PLACEMENT_WATCH_MAP | method::PLACEMENT_WATCH_ACCESS, None) => {
                reply.fail(ErrorCode::Unavailable, &Error::NotBootstrapped.to_string())
            }
            (_, None) => respond::<()>(reply, &Err(Error::NotBootstrapped)),
        }
    }

    fn closed(&self, conn: ConnId) {
        self.inbound.closed(conn);
    }
}

async fn with_permit(permit: OwnedSemaphorePermit, body: impl Future<Output = ()>) {
    let _permit = permit;
    body.await;
}

fn read<T: DeserializeOwned>(request: &Request, reply: Reply) -> Option<(T, Reply)> {
    match proto::decode(&request.body) {
        Ok(message) => Some((message, reply)),
        Err(error) => {
            reply.fail(ErrorCode::BadRequest, &error.to_string());
            None
        }
    }
}

fn respond<T: Serialize>(reply: Reply, answer: &Result<T, Error>) {
    reply.send(proto::encode(answer));
}

/// What to answer to a store that this member does not know: it may have registered with a later leader, so that has to be
/// ruled out before the store is told to give up.
async fn unknown(member: &Member, heartbeat: &Heartbeat) -> Error {
    if let Err(error) = member.group.catch_up().await {
        return error;
    }
    if member
        .group
        .shared()
        .state()
        .living_stores()
        .any(|store| store.id == heartbeat.store)
    {
        return Error::Unavailable("the store has only just registered".to_owned());
    }
    Error::UnknownStore(heartbeat.store)
}

async fn registered(member: &Member, mut store: Register) -> Result<Registered, Error> {
    let lead = member.lead()?;
    check_text("name", &store.name)?;
    check_text("rpc_address", &store.rpc_address)?;
    check_text("http_address", &store.http_address)?;
    if store.labels.len() > MAX_LABELS {
        return Err(Error::Invalid(format!("a store has at most {MAX_LABELS} labels")));
    }
    for (name, value) in &store.labels {
        check_text("label", name)?;
        check_text("label", value)?;
    }
    if failpoint::fires("wiped-id-reused") {
        take_for_the_old_one(member, &mut store);
    }
    check_not_running(member, &lead, &store)?;
    match member
        .group
        .propose(&Command::Register {
            store,
            now_ms: clock::wall_ms(),
        })
        .await?
    {
        Outcome::Registered(answer) => {
            failpoint::reached(failpoint::Step::StoreRegistered);
            lead.wake();
            answer
        }
        other => Err(unexpected(&other)),
    }
}

/// Takes a store with an empty directory for the one that had its name: a bug planted to see that it is found.
fn take_for_the_old_one(member: &Member, store: &mut Register) {
    let state = member.group.shared().state();
    let old = state.stores.values().find(|known| known.name == store.name);
    if let (None, Some(cluster), Some(old)) = (store.known, state.cluster, old) {
        store.known = Some((cluster, old.id));
        store.directory = old.directory;
    }
}

/// A store that registers from elsewhere while it is still heard of where it was is perhaps a copy of its directory. It
/// has to wait until the other has fallen silent.
fn check_not_running(member: &Member, lead: &Lead, store: &Register) -> Result<(), Error> {
    member.look(lead, |view| {
        let known = store.known.and_then(|(_, id)| view.state.stores.get(&id));
        let elsewhere = known.filter(|known| known.rpc_address != store.rpc_address);
        match elsewhere.filter(|known| view.health(known.id) == Health::Up) {
            Some(known) => Err(Error::Unavailable(format!(
                "store {} is still heard of at {}: is this data directory a copy?",
                known.id, known.rpc_address
            ))),
            None => Ok(()),
        }
    })
}

fn check_text(what: &str, text: &str) -> Result<(), Error> {
    match text.len() {
        1..=MAX_TEXT_BYTES => Ok(()),
        n => Err(Error::Invalid(format!(
            "{what} has {n} bytes; 1 to {MAX_TEXT_BYTES} are allowed"
        ))),
    }
}

async fn allocated(member: &Member, request: AllocateIds) -> Result<IdBlock, Error> {
    member.lead()?;
    match member
        .group
        .propose(&Command::AllocateIds { count: request.count })
        .await?
    {
        Outcome::Ids(answer) => answer,
        other => Err(unexpected(&other)),
    }
}

async fn joined(member: &Member, join: Join) -> Result<Joined, Error> {
    let lead = member.lead()?;
    check_text("name", &join.name)?;
    check_text("rpc_address", &join.rpc_address)?;
    check_text("http_address", &join.http_address)?;
    let ours = member.group.members();
    if join.members != ours {
        return Err(Error::Invalid(format!(
            "--members must name the same members in the same order everywhere: here they are {ours:?}"
        )));
    }
    match member.group.propose(&Command::AdmitMember(join)).await? {
        Outcome::Joined(answer) => {
            lead.wake();
            answer
        }
        other => Err(unexpected(&other)),
    }
}

pub(crate) fn unexpected(outcome: &Outcome) -> Error {
    Error::Unavailable(format!("an unexpected answer: {outcome:?}"))
}

/// Tells a watcher everything, or what changed since `from`, and then every change. Returns why it ended, unless the watcher
/// left.
async fn tell_changes(
    member: &Member,
    lead: &Lead,
    from: Option<MapVersion>,
    stream: &mut StreamReply,
) -> Option<Error> {
    let shared = member.group.shared();
    let mut position = shared.hub().position();
    let mut at = from;
    loop {
        position.mark_unchanged();
        let events = {
            let (state, reports) = (shared.state(), lead.reports());
            let since = at.map(|at| shared.hub().events(at, &state, &reports));
            match (since, from == at) {
                (Some(Ok(events)), _) => events,
                // What it had before it came here may be too old; what it has lost here it has to begin with anew.
                (None | Some(Err(_)), true) => shared.hub().everything(&state, &reports),
                (_, false) => return Some(Error::Unavailable("the watcher has fallen behind".to_owned())),
            }
        };
        for event in events {
            let version = event.version;
            tokio::select! {
                sent = stream.send(proto::encode(&Ok::<MapEvent, Error>(event))) => if sent.is_err() { return None },
                () = lead.ended() => return Some(member.group.not_leader()),
            }
            at = Some(version);
        }
        tokio::select! {
            changed = position.changed() => if changed.is_err() { return None },
            () = stream.closed() => return None,
            () = lead.ended() => return Some(member.group.not_leader()),
        }
    }
}
