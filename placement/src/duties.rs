//! What a leading member does: learns from reports, moves operators along, has the schedulers look, tells stores their
//! steps. All decisions are made by pure functions of a [`View`]; here they become commands and calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::clock::{self, Instant};
use holdfast_common::failpoint;
use holdfast_common::ids::{OperatorId, StoreId};
use holdfast_common::load::Load;
use holdfast_common::net::Lane;
use holdfast_common::proto::placement::{Error, Leading, Step, StepError};
use holdfast_common::proto::{self, method};
use holdfast_common::range::Descriptor;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio_util::sync::CancellationToken;

use crate::command::{Command, Outcome};
use crate::lead::Lead;
use crate::member::Member;
use crate::operator::judge::{Verdict, judge};
use crate::operator::{Operator, Status};
use crate::roster::Roster;
use crate::schedule::burden;
use crate::schedule::decision;
use crate::schedule::driver::Weighed;
use crate::state::StoreIntent;
use crate::view::{Health, View};
use crate::{metrics, roster};

/// How often everything is looked at when nothing calls for it.
const TICK: Duration = Duration::from_millis(250);

/// Least time between two looks of the schedulers.
const SCHEDULE_EVERY: Duration = Duration::from_millis(200);

/// One part in how many of the time the schedulers may look: the more ranges there are, the rarer they do.
const LOOK_SHARE: u32 = 20;

/// How often the metrics are brought up to date.
const SURVEY_EVERY: Duration = Duration::from_secs(1);

/// Pause before another try to take over.
const TAKE_OVER_PAUSE: Duration = Duration::from_millis(50);

/// How long a store may take to answer a step.
const STEP_WITHIN: Duration = Duration::from_secs(10);

/// Most descriptions in one command.
const MAX_OBSERVED: usize = 512;

/// Most steps of operators taken between two looks at reports.
const MAX_ROUNDS: usize = 16;

/// Leads whenever this member is elected, until `shutdown`.
pub async fn run(member: Arc<Member>, shutdown: CancellationToken) {
    let mut metrics = member.group.raft().server_metrics();
    loop {
        let term = metrics.borrow_watched().vote.leader_id.term;
        let leads = metrics.borrow_watched().state == ServerState::Leader;
        if leads {
            tokio::select! {
                () = reign(&member) => {}
                () = deposed(&member, term) => {}
                () = shutdown.cancelled() => {}
            }
            member.set_lead(None);
            metrics::leads(false);
            metrics::forget();
            tracing::info!(term, "leads the placement driver no more");
        }
        tokio::select! {
            changed = metrics.changed(), if !leads => if changed.is_err() { return },
            () = std::future::ready(()), if leads => {}
            () = shutdown.cancelled() => return,
        }
        if shutdown.is_cancelled() {
            return;
        }
    }
}

/// Returns when this member leads no more in this term.
async fn deposed(member: &Member, term: u64) {
    let mut metrics = member.group.raft().server_metrics();
    loop {
        let now = metrics.borrow_watched().clone();
        if now.state != ServerState::Leader || now.vote.leader_id.term != term {
            return;
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Leads until dropped. First the state has to hold all that was ever acknowledged.
async fn reign(member: &Arc<Member>) {
    while let Err(error) = member.group.catch_up().await {
        tracing::debug!(%error, "can't take over yet");
        clock::sleep(clock::jittered(TAKE_OVER_PAUSE)).await;
    }
    let lead = Arc::new(Lead::new(member.now()));
    member.group.shared().hub().restart();
    member.set_lead(Some(lead.clone()));
    metrics::leads(true);
    tracing::info!(member = %member.name, "leads the placement driver");
    let roster = Roster::default();
    let (mut ticks, mut scheduled, mut surveyed) = (clock::every(TICK), None, None);
    let mut took = Duration::ZERO;
    loop {
        tokio::select! {
            () = lead.woken() => {}
            _ = ticks.tick() => {}
        }
        let round = async {
            learn(member, &lead).await?;
            move_along(member, &lead).await?;
            if is_due(&mut scheduled, SCHEDULE_EVERY.max(took * LOOK_SHARE)) {
                took = schedule(member, &lead).await?;
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = round.await {
            // Nothing is lost: what was not brought about is found again at the next look.
            tracing::debug!(%error, "a command was not taken");
        }
        dispatch(member, &lead);
        let before = surveyed;
        if is_due(&mut surveyed, SURVEY_EVERY) {
            let since = before.map_or(SURVEY_EVERY, |before| before.elapsed());
            survey(member, &lead, since);
        }
        roster::keep(member, &roster);
    }
}

/// Takes stock of what moves all the time.
fn survey(member: &Member, lead: &Lead, since: Duration) {
    let asked: Vec<(Bytes, Load)> = member.look(lead, |view| {
        metrics::observe(view);
        lead.sample_above(burden::sample_above(view));
        let load = |range| view.reports.leading(range).map(Leading::load).unwrap_or_default();
        let ranges = view.state.map.iter();
        ranges
            .map(|range| (range.span.start().clone(), load(range.id)))
            .collect()
    });
    lead.heatmap()
        .observe(clock::wall_ms() / 1_000, since.as_secs_f64(), asked.into_iter());
    let state = member.group.shared().state();
    lead.reports()
        .forget_loads(|range| state.map.get(range).is_some());
}

fn is_due(last: &mut Option<Instant>, every: Duration) -> bool {
    let now = clock::now();
    let due = last.is_none_or(|last| now.duration_since(last) >= every);
    if due {
        *last = Some(now);
    }
    due
}

/// Brings what reports say into the map.
async fn learn(member: &Member, lead: &Lead) -> Result<(), Error> {
    let news = lead.take_news();
    let seen: Vec<Descriptor> = member.look(lead, |view| {
        let reports = news
            .iter()
            .filter_map(|(store, replica)| view.reports.replica(*store, *replica));
        let worth = reports.filter(|report| view.state.map.would_learn(&report.descriptor));
        worth.map(|report| report.descriptor.clone()).collect()
    });
    for chunk in seen.chunks(MAX_OBSERVED) {
        if let Err(error) = member.group.propose(&Command::Observe(chunk.to_vec())).await {
            lead.keep_news(news);
            return Err(error);
        }
    }
    Ok(())
}

/// Moves operators along as far as the reports allow.
async fn move_along(member: &Member, lead: &Lead) -> Result<(), Error> {
    for _ in 0..MAX_ROUNDS {
        let verdicts = member.look(lead, |view| verdicts(lead, view));
        if verdicts.is_empty() {
            return Ok(());
        }
        for (operator, verdict) in verdicts {
            carry_out(member, lead, &operator, verdict).await?;
        }
    }
    Ok(())
}

/// What is to become of the operators whose step is done or can't be.
fn verdicts(lead: &Lead, view: &View<'_>) -> Vec<(Operator, Verdict)> {
    let mut plans = lead.plans();
    plans.since.retain(|id, _| {
        view.state
            .operators
            .get(*id)
            .is_some_and(|operator| operator.action().is_some())
    });
    let mut verdicts = Vec::new();
    for operator in view.state.operators.running() {
        let since = plans
            .since
            .entry(operator.id)
            .or_insert((operator.current, view.now));
        if since.0 != operator.current {
            *since = (operator.current, view.now);
        }
        match judge(operator, since.1, view) {
            Verdict::Wait => {}
            verdict => verdicts.push((operator.clone(), verdict)),
        }
    }
    verdicts
}

async fn carry_out(member: &Member, lead: &Lead, operator: &Operator, verdict: Verdict) -> Result<(), Error> {
    let (id, now_ms) = (operator.id, clock::wall_ms());
    match verdict {
        Verdict::Wait => Ok(()),
        Verdict::Advance => {
            member
                .group
                .propose(&Command::Advance {
                    id,
                    step: operator.current,
                    now_ms,
                })
                .await?;
            failpoint::reached(failpoint::Step::OperatorAdvanced);
            if operator.current + 1 == operator.steps.len() {
                ended(member, lead, operator, &Status::Done);
            }
            Ok(())
        }
        Verdict::End(status) => end(member, lead, operator, status).await,
    }
}

/// Ends an operator.
///
/// # Errors
/// The command was not taken.
pub async fn end(member: &Member, lead: &Lead, operator: &Operator, status: Status) -> Result<(), Error> {
    let command = Command::End {
        id: operator.id,
        status: status.clone(),
        now_ms: clock::wall_ms(),
    };
    if member.group.propose(&command).await? == Outcome::Found(true) {
        ended(member, lead, operator, &status);
    }
    Ok(())
}

fn ended(member: &Member, lead: &Lead, operator: &Operator, status: &Status) {
    let took = Duration::from_millis(clock::wall_ms().saturating_sub(operator.created_ms));
    metrics::operator_ended(operator, status, took);
    lead.plans().driver.ended(operator, status, member.now());
    let (id, range, kind) = (operator.id, operator.range(), operator.intent.kind.name());
    match status.reason() {
        None => tracing::info!(operator = %id, %range, kind, "operator done"),
        Some(reason) => {
            tracing::warn!(operator = %id, %range, kind, end = status.name(), reason, "operator ended")
        }
    }
    lead.wake();
}

/// Has the schedulers and the corrections look, and starts what they want. Returns how long the look took, during which
/// nothing could be applied.
async fn schedule(member: &Member, lead: &Lead) -> Result<Duration, Error> {
    let began = clock::now();
    let weighed = member.look(lead, |view| {
        let mut plans = lead.plans();
        plans.corrections.review(view);
        plans.paces.observe(view);
        plans.driver.weigh(view)
    });
    let took = clock::now().duration_since(began);
    for store in member.look(lead, emptied) {
        let command = Command::Retire {
            store,
            intent: StoreIntent::Removed,
        };
        if member.group.propose(&command).await? == Outcome::Found(true) {
            tracing::info!(%store, "the store is empty and has left the cluster");
        }
    }
    for Weighed {
        scheduler,
        idea,
        verdict,
    } in weighed
    {
        let verdict = match verdict {
            Ok(intent) => match member
                .group
                .propose(&Command::Start {
                    intent,
                    now_ms: clock::wall_ms(),
                })
                .await?
            {
                Outcome::Started(Ok(id)) => {
                    failpoint::reached(failpoint::Step::OperatorBegun);
                    decision::Verdict::Taken(id)
                }
                Outcome::Started(Err(refusal)) => decision::Verdict::Rejected(refusal.to_string()),
                other => decision::Verdict::Rejected(format!("an unexpected answer: {other:?}")),
            },
            Err(why) => decision::Verdict::Rejected(why),
        };
        lead.plans()
            .decisions
            .note(scheduler, idea, verdict, clock::wall_ms());
    }
    Ok(took)
}

/// The stores that were to be emptied and are: the map knows no replica on them, and neither do they, unless they are down.
fn emptied(view: &View<'_>) -> Vec<StoreId> {
    let leaving = view.state.stores.values().filter(|store| store.is_leaving());
    let is_empty = |store: &StoreId| {
        !view.state.map.is_on(*store)
            && (view.health(*store) == Health::Down
                || view
                    .reports
                    .store(*store)
                    .is_some_and(|report| report.complete && report.replicas.is_empty()))
    };
    leaving.map(|store| store.id).filter(is_empty).collect()
}

/// Tells stores the steps that they have not been told; heartbeats repeat them.
fn dispatch(member: &Arc<Member>, lead: &Arc<Lead>) {
    let due: Vec<(OperatorId, usize, String, StoreId, Step)> = member.look(lead, |view| {
        let mut plans = lead.plans();
        plans.sent.retain(|id, _| {
            view.state
                .operators
                .get(*id)
                .is_some_and(|operator| operator.action().is_some())
        });
        let mut due = Vec::new();
        for operator in view.state.operators.running() {
            let Some((store, step)) = operator
                .action()
                .and_then(|action| action.due(operator.range(), view))
            else {
                continue;
            };
            let Some(address) = view
                .state
                .stores
                .get(&store)
                .map(|store| store.rpc_address.clone())
            else {
                continue;
            };
            if plans.sent.get(&operator.id) != Some(&(store, step.clone())) {
                plans.sent.insert(operator.id, (store, step.clone()));
                due.push((operator.id, operator.current, address, store, step));
            }
        }
        due
    });
    for (id, current, address, store, step) in due {
        let (member, lead) = (member.clone(), lead.clone());
        tokio::spawn(async move {
            if let Err(StepError::Refused(why)) = tell(&member, &address, &step).await {
                refused(&member, &lead, (id, current), store, why).await;
            }
        });
    }
}

/// Tells a store a step. That it is done is seen in the heartbeats; only a refusal counts at once.
async fn tell(member: &Member, address: &str, step: &Step) -> Result<(), StepError> {
    let call = member.client.call(
        address,
        Lane::Fast,
        method::STORE_STEP,
        proto::encode(step),
        clock::now() + STEP_WITHIN,
    );
    match call.await {
        Ok(body) => {
            failpoint::reached(failpoint::Step::StepTold);
            proto::decode::<Result<(), StepError>>(&body).unwrap_or(Ok(()))
        }
        Err(error) => {
            tracing::debug!(%error, ?step, "a step was not delivered");
            Ok(())
        }
    }
}

async fn refused(
    member: &Member,
    lead: &Lead,
    (id, current): (OperatorId, usize),
    store: StoreId,
    why: String,
) {
    let operator = member.group.shared().state().operators.get(id).cloned();
    let Some(operator) =
        operator.filter(|operator| operator.action().is_some() && operator.current == current)
    else {
        return;
    };
    let step = operator.action().map_or("", |action| action.name());
    let status = Status::Failed(format!("{step}: store {store} refuses: {why}"));
    if let Err(error) = end(member, lead, &operator, status).await {
        tracing::debug!(%error, "a refusal could not be recorded; it will come again");
        lead.plans().sent.remove(&id);
    }
}
