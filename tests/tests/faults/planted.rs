//! The checkers checked: bugs planted on purpose, by fail points that releases do not have. Each has to be found.

use std::path::Path;

use clap::ValueEnum;
use holdfast_tests::load::Clocks;
use holdfast_tests::nemesis::{Cut, Fault, Planned, Victim};
use holdfast_tests::site::{Plan, Site};

use crate::round::Round;
use crate::{PROGRAM, directory};

/// Rounds after which a bug counts as not found.
const ROUNDS: u64 = 8;

/// A bug that stores have when told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bug {
    /// A leader that was deposed goes on answering reads: neither lease nor ReadIndex is asked.
    ReadWithoutLease,
    /// A repeated write is applied again.
    ForgottenOutcomes,
    /// A range serves keys that a split has taken from it.
    UncheckedBounds,
}

impl Bug {
    fn faults(self) -> &'static str {
        match self {
            Self::ReadWithoutLease => "read-without-lease=return",
            Self::ForgottenOutcomes => "outcomes-forgotten=return;answer-lost=5%return",
            Self::UncheckedBounds => "bounds-unchecked=return",
        }
    }

    /// What brings it out.
    fn brought_out_by(self) -> Fault {
        match self {
            Self::ReadWithoutLease => Fault::Cut(Cut::LeaderWithRouter(0)),
            Self::ForgottenOutcomes => Fault::Pause(Victim::Leader(0)),
            Self::UncheckedBounds => Fault::Cut(Cut::PlacementFromRouters),
        }
    }
}

/// Whether every one of them is found.
pub(crate) async fn all_are_found(seed: u64) -> anyhow::Result<bool> {
    let mut all = true;
    for bug in Bug::value_variants() {
        all &= is_found(*bug, seed).await?;
    }
    Ok(all)
}

/// Whether a bug is found, with the fault that brings it out.
pub(crate) async fn is_found(bug: Bug, seed: u64) -> anyhow::Result<bool> {
    println!("planted: {bug:?}");
    let plan = Plan {
        faults: bug.faults().to_owned(),
        ..Plan::default()
    };
    let dir = directory(&format!("{seed}-{bug:?}"))?;
    let mut site = Site::start(Path::new(PROGRAM), &dir, plan).await?;
    let faults = [1_000, 8_000].map(|at_ms| Planned {
        at_ms,
        lasts_ms: 5_000,
        fault: bug.brought_out_by(),
    });
    let mut is_found = false;
    // The faults only give the bug its chances: on a machine that is slow just then, one round may have too few.
    for number in 1..=ROUNDS {
        let round = Round {
            number,
            seed: seed + number,
            faults: &faults,
            changes: bug == Bug::UncheckedBounds,
            clocks: Clocks::Agree,
            must_make: true,
        };
        is_found = round.play(&mut site).await.has_violations();
        if is_found {
            break;
        }
    }
    drop(site);
    std::fs::remove_dir_all(&dir)?;
    println!("{bug:?} was {}", if is_found { "found" } else { "NOT found" });
    Ok(is_found)
}
