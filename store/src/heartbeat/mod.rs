//! The store's voice to the placement driver: heartbeats, and what their answers ask for.
//!
//! A heartbeat goes out at every interval, and at once after a change that the driver should know of, but never more often
//! than [`SPACING`]. One is under way at a time. When the driver is silent the store goes on without it; after long, its
//! leaders may even split what has grown far too large ([`valve`]).

mod differ;
mod rates;
mod report;
mod valve;

use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use holdfast_common::placement_client::{Error as CallError, PlacementClient};
use holdfast_common::proto::check::{Findings, Report};
use holdfast_common::proto::method;
use holdfast_common::proto::placement::{
    AllocateIds, Error as Refusal, HeartbeatAnswer, IdBlock, Step, StepError,
};

use self::differ::Differ;
use self::report::Reporter;
use self::valve::SpareIds;
use crate::host::Host;
use crate::steps::SplitOrder;

/// Least time between two heartbeats.
const SPACING: Duration = Duration::from_millis(20);

/// Time between heartbeats until the driver names one.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);

/// Time between heartbeats of a store that was removed.
const AFTER_REMOVAL: Duration = Duration::from_secs(30);

/// Longest time that one heartbeat waits for the driver.
const PATIENCE: Duration = Duration::from_secs(3);

/// Time until what is found is told once more.
const REMIND: Duration = Duration::from_secs(10);

/// What the driver may set the interval to.
const INTERVALS: std::ops::RangeInclusive<u64> = 50..=60_000;

/// Speaks for one store.
pub(crate) struct Heart {
    host: Arc<Host>,
    placement: PlacementClient,
    differ: Differ,
    reporter: Reporter,
    interval: Duration,
    split_bytes: u64,
    /// Load above which the keys that are asked for are sampled, units a second.
    sample_above: u64,
    spare: SpareIds,
    /// When the driver last answered.
    answered: Instant,
    split_alone_after: Duration,
    /// What the driver was last told of ranges whose replicas differ, and when.
    findings: (Vec<Report>, Instant),
}

impl Heart {
    /// A heart that has not beaten yet. `split_alone_after` of zero is never.
    pub(crate) fn new(host: Arc<Host>, placement: PlacementClient, split_alone_after: Duration) -> Self {
        Self {
            differ: Differ::new(host.site.store, host.site.dormitory.incarnation),
            host,
            placement,
            reporter: Reporter::new(),
            interval: FIRST_INTERVAL,
            split_bytes: 0,
            sample_above: u64::MAX,
            spare: SpareIds::default(),
            answered: clock::now(),
            split_alone_after,
            findings: (Vec::new(), clock::now()),
        }
    }

    /// Beats for as long as it is polled.
    pub(crate) async fn beat(mut self) {
        let host = self.host.clone();
        loop {
            self.exchange().await;
            let earliest = clock::now() + SPACING;
            tokio::select! {
                () = host.site.changed.notified() => {}
                () = clock::sleep(self.interval) => {}
            }
            clock::sleep_until(earliest).await;
        }
    }

    /// Sends one heartbeat and does what the answer asks for.
    async fn exchange(&mut self) {
        let reports = self.reporter.reports(&self.host.replicas(), self.sample_above);
        let heartbeat = self.differ.next(self.host.site.disk.capacity(), reports);
        let deadline = clock::now() + PATIENCE;
        match self
            .placement
            .call(method::PLACEMENT_HEARTBEAT, &heartbeat, deadline)
            .await
        {
            Ok(answer) => {
                self.heed(answer);
                self.tell_findings().await;
            }
            Err(error) => self.unheard(&error),
        }
        self.mind_the_valve().await;
    }

    fn heed(&mut self, answer: HeartbeatAnswer) {
        self.answered = clock::now();
        self.interval = Duration::from_millis(answer.interval_ms.clamp(*INTERVALS.start(), *INTERVALS.end()));
        self.split_bytes = answer.split_bytes;
        self.sample_above = answer.sample_above;
        self.host
            .site
            .staging
            .set_bytes_per_second(answer.move_bytes_per_second);
        if answer.want_full {
            self.differ.start_over();
            self.host.site.changed.notify_one();
        }
        for step in answer.steps {
            tokio::spawn(take(self.host.clone(), step));
        }
    }

    /// Tells of ranges whose replicas differ: when that changes, and again and again, for another member may lead by now.
    async fn tell_findings(&mut self) {
        let differ = self.host.differing();
        let (told, when) = &self.findings;
        if differ == *told && (differ.is_empty() || when.elapsed() < REMIND) {
            return;
        }
        let findings = Findings {
            store: self.host.site.store,
            differ,
        };
        let deadline = clock::now() + PATIENCE;
        let heard = self
            .placement
            .call::<_, ()>(method::PLACEMENT_FINDINGS, &findings, deadline);
        match heard.await {
            Ok(()) => self.findings = (findings.differ, clock::now()),
            Err(error) => tracing::warn!(%error, "the placement driver did not hear which replicas differ"),
        }
    }

    fn unheard(&mut self, error: &CallError) {
        self.differ.start_over();
        match error {
            CallError::GaveUp { .. } => tracing::debug!(%error, "the placement driver did not hear"),
            CallError::Refused(Refusal::UnknownStore(_)) => self.removed(),
            CallError::Refused(_) | CallError::WrongCluster(_) => {
                tracing::error!(%error, "a heartbeat was refused")
            }
        }
    }

    /// The driver has ruled out that it only has not heard yet. Whatever is here is nobody's any more: another replica has taken
    /// the place of each, and none of these may vote or answer again.
    fn removed(&mut self) {
        self.interval = AFTER_REMOVAL;
        if self.host.site.removed.is_cancelled() {
            return;
        }
        self.host.site.removed.cancel();
        let replicas = self.host.replicas().len();
        tracing::warn!(
            replicas,
            "this store was removed from the cluster: it serves nothing any more, and its process can be stopped"
        );
        let host = self.host.clone();
        tokio::spawn(async move { host.stop_all().await });
    }

    /// Keeps ids at hand while a range here is near its split, and splits without the driver when it must be.
    async fn mind_the_valve(&mut self) {
        let silent = self.answered.elapsed();
        let mut near = false;
        for replica in self.host.replicas() {
            let size = replica.shared.read().size_bytes;
            if !replica.leads() || !valve::is_near(size, self.split_bytes) {
                continue;
            }
            near = true;
            if !valve::is_due(size, self.split_bytes, silent, self.split_alone_after) {
                continue;
            }
            let Some(descriptor) = replica.descriptor() else {
                continue;
            };
            let Some((right, replicas)) = self.spare.for_split(&descriptor) else {
                continue;
            };
            let order = SplitOrder {
                bounds: descriptor.epoch.bounds,
                at: None,
                right,
                replicas,
                alone: true,
            };
            tracing::warn!(range = %replica.range, size, "splitting without the placement driver");
            tokio::spawn(async move {
                if let Err(error) = replica.split_alone(order).await {
                    tracing::warn!(range = %replica.range, %error, "the range was not split");
                }
            });
        }
        if near && self.spare.are_low() && silent < self.interval {
            let wanted = AllocateIds { count: valve::BLOCK };
            let deadline = clock::now() + PATIENCE;
            let block = self
                .placement
                .call::<_, IdBlock>(method::PLACEMENT_ALLOCATE_IDS, &wanted, deadline)
                .await;
            match block {
                Ok(block) => self.spare.refill(block),
                Err(error) => tracing::debug!(%error, "no ids for splits were given"),
            }
        }
    }
}

/// Carries out a step that came with an answer. Nobody waits for its outcome: the next heartbeats show it.
async fn take(host: Arc<Host>, step: Step) {
    let range = step.range();
    match host.take_step(step.clone()).await {
        Ok(()) => host.site.changed.notify_one(),
        Err(StepError::Refused(why)) => tracing::warn!(%range, ?step, why, "a step was refused"),
        Err(error) => tracing::debug!(%range, ?step, %error, "a step was not taken"),
    }
}
