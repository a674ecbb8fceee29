//! One round: load, faults and changes; then everything heals, has to recover, and is checked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use holdfast_tests::healing;
use holdfast_tests::history::{self, Act, History, Outcome};
use holdfast_tests::load::{Clocks, Load, Recorded};
use holdfast_tests::nemesis::changes::{self, Made};
use holdfast_tests::nemesis::{Nemesis, Planned, Summary};
use holdfast_tests::site::Site;

use holdfast_tests::replicas;

/// Clients: two groups that share keys.
const CLIENTS: usize = 16;

/// What is to be done.
pub(crate) struct Round<'a> {
    pub(crate) number: u64,
    pub(crate) seed: u64,
    pub(crate) faults: &'a [Planned],
    pub(crate) changes: bool,
    /// Whether clocks are set, in this round or in one before it.
    pub(crate) clocks: Clocks,
    /// Whether a fault that can't be made is a finding.
    pub(crate) must_make: bool,
}

/// What was done and found.
#[derive(Default)]
pub(crate) struct Report {
    rounds: usize,
    faults: usize,
    missed: usize,
    operations: usize,
    unknown: usize,
    pages: usize,
    keys: usize,
    searched: usize,
    statuses: BTreeMap<u16, usize>,
    changes: Made,
    writable_after: Duration,
    replicated_after: Duration,
    /// What the checkers found.
    violations: usize,
    /// All that is wrong.
    pub(crate) findings: Vec<String>,
}

impl Round<'_> {
    /// Plays it on a site. What goes wrong on the way is a finding.
    pub(crate) async fn play(&self, site: &mut Site) -> Report {
        let mut report = Report {
            rounds: 1,
            ..Report::default()
        };
        if let Err(error) = self.play_into(site, &mut report).await {
            report.findings.push(format!("{error:#}"));
        }
        report.findings.extend(site.complaints());
        println!("round {}: {report}", self.number);
        report
    }

    async fn play_into(&self, site: &mut Site, report: &mut Report) -> anyhow::Result<()> {
        let load = Load::start(site.routers(), CLIENTS, self.seed, self.number, self.clocks);
        load.progress(100, Duration::from_secs(30)).await?;
        let stop = Arc::new(AtomicBool::new(!self.changes));
        let changing = tokio::spawn(changes::make(site.admins(), self.seed, stop.clone()));
        let performed = Nemesis::new(site)
            .run(self.faults, |what| println!("{what}"))
            .await;
        stop.store(true, Ordering::Relaxed);
        let recovered = healing::writable(&site.routers()).await;
        report.changes = changing.await?;
        let replicated = healing::replicated(&site.admin()).await;
        let mut stopped = load.stop().await?;
        let compared = replicas::read_each(&site.admin(), &mut stopped).await;
        // What was recorded is checked whatever else went wrong.
        self.check(site, stopped.recorded(), report)?;
        let mut lasted = |healed: anyhow::Result<Duration>| {
            let finding = healed.as_ref().err().map(|error| format!("{error:#}"));
            report.findings.extend(finding);
            healed.unwrap_or_default()
        };
        (report.writable_after, report.replicated_after) = (lasted(recovered), lasted(replicated));
        if let Err(error) = compared {
            report.findings.push(format!("{error:#}"));
        }
        let Summary {
            faults,
            missed,
            survived_failed_syncs,
        } = performed?;
        (report.faults, report.missed) = (faults, missed);
        ensure!(
            missed == 0 || !self.must_make,
            "{missed} faults could not be made"
        );
        ensure!(
            survived_failed_syncs == 0,
            "a store whose fsync failed went on {survived_failed_syncs} times"
        );
        Ok(())
    }

    fn check(&self, site: &Site, recorded: Recorded, report: &mut Report) -> anyhow::Result<()> {
        let Recorded {
            history,
            statuses,
            unexpected,
        } = recorded;
        let verdict = history::check(&history);
        report.operations = history.events.len();
        report.unknown = history
            .events
            .iter()
            .filter(|event| is_unknown(&event.act))
            .count();
        report.pages = history.pages.len();
        (report.keys, report.searched) = (verdict.keys, verdict.searched);
        report.statuses = statuses;
        report.violations = verdict.violations.len();
        let violations = verdict.violations.iter().map(ToString::to_string);
        report.findings.extend(violations.chain(unexpected));
        if !report.findings.is_empty() {
            keep(&history, site, self.number)?;
        }
        Ok(())
    }
}

fn is_unknown(act: &Act) -> bool {
    matches!(
        act,
        Act::Write {
            outcome: Outcome::Maybe,
            ..
        } | Act::Delete {
            outcome: Outcome::Maybe,
            ..
        }
    )
}

fn keep(history: &History, site: &Site, round: u64) -> anyhow::Result<()> {
    let path = site.dir().join(format!("history-{round}.json"));
    Ok(serde_json::to_writer(std::fs::File::create(path)?, history)?)
}

impl Report {
    /// Whether the checkers found something in what clients were told.
    pub(crate) fn has_violations(&self) -> bool {
        self.violations > 0
    }

    /// Takes another round in.
    pub(crate) fn add(&mut self, other: Report) {
        self.rounds += other.rounds;
        self.faults += other.faults;
        self.missed += other.missed;
        self.operations += other.operations;
        self.unknown += other.unknown;
        self.pages += other.pages;
        self.keys += other.keys;
        self.searched += other.searched;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (kind, (asked, done)) in other.changes {
            let sum = self.changes.entry(kind).or_default();
            *sum = (sum.0 + asked, sum.1 + done);
        }
        self.writable_after = self.writable_after.max(other.writable_after);
        self.replicated_after = self.replicated_after.max(other.replicated_after);
        self.violations += other.violations;
        self.findings.extend(other.findings);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} rounds, {} faults ({} could not be made), changes (done of asked): {}",
            self.rounds,
            self.faults,
            self.missed,
            self.changes
                .iter()
                .map(|(kind, (asked, done))| format!("{done} of {asked} {kind}s"))
                .collect::<Vec<_>>()
                .join(", ")
        )?;
        writeln!(
            formatter,
            "  {} operations ({} of unknown outcome) and {} pages of scans, answers by status {:?}",
            self.operations, self.unknown, self.pages, self.statuses
        )?;
        writeln!(
            formatter,
            "  {} keys checked by revision, {} searched; writable {:.1} s and replicated {:.1} s after the last fault, at worst",
            self.keys,
            self.searched,
            self.writable_after.as_secs_f64(),
            self.replicated_after.as_secs_f64()
        )?;
        write!(formatter, "  {} findings", self.findings.len())?;
        for finding in self.findings.iter().take(20) {
            write!(formatter, "\n    {finding}")?;
        }
        Ok(())
    }
}
