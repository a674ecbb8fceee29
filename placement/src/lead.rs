//! What only the leading member has: the stores' reports, and what it has in mind because of them. Gone with its leadership.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use holdfast_common::ids::{OperatorId, ReplicaId, StoreId};
use holdfast_common::proto::check::Findings;
use holdfast_common::proto::placement::{Heartbeat, HeartbeatAnswer, Step};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::corrections::Corrections;
use crate::figures::history::History;
use crate::heatmap::Heatmap;
use crate::member::Member;
use crate::presplit::Jobs;
use crate::reports::Reports;
use crate::schedule::Driver;
use crate::schedule::decision::Decisions;
use crate::schedule::pace::Paces;
use crate::view::{Millis, View};

/// Most steps in the answer to a heartbeat; the rest comes with the next.
const MAX_STEPS: usize = 256;

/// The leading member's own.
///
/// Locks are taken in this order: the replicated state, `reports`, `plans`; `heatmap` by itself.
pub struct Lead {
    /// Since when, by the member's clock.
    pub since: Millis,
    reports: Mutex<Reports>,
    plans: Mutex<Plans>,
    /// What was asked of the ranges since it leads.
    heatmap: Mutex<Heatmap>,
    /// Replicas whose last report may teach the map something.
    news: Mutex<BTreeSet<(StoreId, ReplicaId)>>,
    /// See [`HeartbeatAnswer::sample_above`].
    sample_above: AtomicU64,
    /// Splits at many keys.
    presplits: Mutex<Jobs>,
    wake: Notify,
    /// How many follow the cluster live.
    pub watchers: AtomicUsize,
    figures: Mutex<History>,
    sampled: watch::Sender<u64>,
    ended: CancellationToken,
}

/// What the leading member has in mind.
#[derive(Default)]
pub struct Plans {
    /// The schedulers and their limits.
    pub driver: Driver,
    /// What is put right without a plan.
    pub corrections: Corrections,
    /// How fast leaving stores are emptied.
    pub paces: Paces,
    /// What was decided.
    pub decisions: Decisions,
    /// Each operator's present step, and since when it is the present one.
    pub since: HashMap<OperatorId, (usize, Millis)>,
    /// What each operator last had a store told.
    pub sent: HashMap<OperatorId, (StoreId, Step)>,
}

impl Lead {
    /// Begins at `now` by the member's clock.
    pub fn new(now: Millis) -> Self {
        Self {
            since: now,
            reports: Mutex::default(),
            plans: Mutex::default(),
            heatmap: Mutex::default(),
            news: Mutex::default(),
            sample_above: AtomicU64::new(u64::MAX),
            presplits: Mutex::default(),
            wake: Notify::new(),
            watchers: AtomicUsize::new(0),
            figures: Mutex::default(),
            sampled: watch::Sender::new(0),
            ended: CancellationToken::new(),
        }
    }

    /// The stores' reports.
    pub fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock()
    }

    /// What the member has in mind.
    pub fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock()
    }

    /// What was asked of the ranges.
    pub fn heatmap(&self) -> MutexGuard<'_, Heatmap> {
        self.heatmap.lock()
    }

    /// Has leaders sample ranges with more load than this from now on, in units a second.
    pub fn sample_above(&self, units: u64) {
        self.sample_above.store(units, Ordering::Relaxed);
    }

    /// Splits at many keys that were asked for.
    pub fn presplits(&self) -> MutexGuard<'_, Jobs> {
        self.presplits.lock()
    }

    /// Samples of the cluster's metrics. Taken with no other lock held.
    pub fn figures(&self) -> MutexGuard<'_, History> {
        self.figures.lock()
    }

    /// Tells that there is another sample.
    pub fn note_sample(&self) {
        self.sampled.send_modify(|count| *count += 1);
    }

    /// Word of every later sample.
    pub fn sampled(&self) -> watch::Receiver<u64> {
        self.sampled.subscribe()
    }

    /// Has the duties looked at now rather than at the next tick.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Returns when it was woken.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The leadership is over.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Returns when the leadership is over.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Takes the heartbeat of a registered store, and answers it.
    pub fn heartbeat(&self, member: &Member, heartbeat: &Heartbeat) -> HeartbeatAnswer {
        let state = member.group.shared().state();
        let (now, mut reports) = (member.now(), self.reports.lock());
        let accepted = reports.accept(heartbeat, now);
        let said = heartbeat
            .replicas
            .iter()
            .filter(|report| state.map.would_learn(&report.descriptor));
        let news: Vec<_> = said.map(|report| (heartbeat.store, report.replica)).collect();
        self.news.lock().extend(news);
        let view = View::new(&state, &reports, now, self.since);
        let steps = self.steps(heartbeat.store, &view);
        let settings = &state.settings;
        let answer = HeartbeatAnswer {
            want_full: accepted.want_full,
            interval_ms: settings.heartbeat_interval_ms,
            split_bytes: settings.split_bytes,
            steps,
            sample_above: self.sample_above.load(Ordering::Relaxed),
            move_bytes_per_second: settings.move_bytes_per_second,
        };
        member.group.shared().hub().publish_leaders(accepted.leaders);
        self.wake();
        answer
    }

    /// Takes a store's word on which ranges have replicas that differ.
    pub fn find(&self, member: &Member, findings: Findings) {
        let state = member.group.shared().state();
        if !state.present_stores().any(|store| store.id == findings.store) {
            return;
        }
        let (store, ranges) = (
            findings.store,
            findings
                .differ
                .iter()
                .map(|report| report.range.0)
                .collect::<Vec<_>>(),
        );
        if !self.reports.lock().find(findings) {
            return;
        }
        if ranges.is_empty() {
            tracing::info!(%store, "the store knows of no range any more whose replicas differ");
        } else {
            tracing::error!(%store, ?ranges, "replicas of these ranges hold different data: see HoldfastReplicasDiffer in docs/runbook.md");
        }
        self.wake();
    }

    /// What is due at a store.
    fn steps(&self, store: StoreId, view: &View<'_>) -> Vec<Step> {
        let running = view.state.operators.running();
        let due = running.filter_map(|operator| operator.action()?.due(operator.range(), view));
        let planned = due.filter(|(to, _)| *to == store).map(|(_, step)| step);
        let plans = self.plans.lock();
        planned
            .chain(plans.corrections.due(store).iter().cloned())
            .take(MAX_STEPS)
            .collect()
    }

    /// Takes the replicas whose reports may teach the map something.
    pub fn take_news(&self) -> BTreeSet<(StoreId, ReplicaId)> {
        std::mem::take(&mut *self.news.lock())
    }

    /// Gives back news that could not be brought into the map.
    pub fn keep_news(&self, news: BTreeSet<(StoreId, ReplicaId)>) {
        self.news.lock().extend(news);
    }
}
