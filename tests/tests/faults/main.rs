//! Clusters that are broken on purpose, by a schedule that a seed decides, while clients record what they are told and checkers hold
//! that to the promises: `just faults`. Prints what it did and what it found; ends with 1 when it found something, and keeps the
//! histories, the logs and the data.

mod planted;
mod round;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use holdfast_tests::load::Clocks;
use holdfast_tests::nemesis::{Cut, Fault, Planned, Victim, schedule};
use holdfast_tests::site::{Plan, Site, network};

use round::{Report, Round};

/// The `holdfast` under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_holdfast-under-test");

/// How long faults follow each other before everything has to heal.
const ROUND: Duration = Duration::from_secs(75);

/// Breaks a cluster on purpose and checks what its clients were told.
#[derive(Parser)]
struct Args {
    /// How long
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// What decides everything that is chosen [default: a random one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
    /// So many faults at a time
    #[arg(long, default_value_t = 1)]
    harshness: u8,
    /// So many of a hundred answers of stores to routers are lost, all along
    #[arg(long, default_value_t = 0.0)]
    lost_answers: f32,
    /// Another version's program: members change between the two whenever they are started again
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<PathBuf>,
    /// The short run of every change instead: a fixed list of faults, and bugs planted on purpose that have to be found
    #[arg(long)]
    brief: bool,
    /// Plant this bug, and succeed when it is found
    #[arg(long, value_enum)]
    planted: Option<planted::Bug>,
    /// Keep the data even when nothing was found
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = network::enclose().and_then(|()| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(run(&args))
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
async fn run(args: &Args) -> anyhow::Result<bool> {
    let seed = args.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    println!("seed {seed}");
    if let Some(bug) = args.planted {
        return planted::is_found(bug, seed).await;
    }
    if args.brief {
        return Ok(brief(args, seed).await? && planted::all_are_found(seed).await?);
    }
    let dir = directory(&format!("{seed}"))?;
    let plan = Plan {
        faults: format!("answer-lost={}%return", args.lost_answers),
        beside: args.beside.clone(),
        ..Plan::default()
    };
    let mut site = Site::start(Path::new(PROGRAM), &dir, plan).await?;
    let (begun, mut total, mut number) = (Instant::now(), Report::default(), 0);
    while begun.elapsed() < Duration::from_secs(60 * args.minutes) {
        number += 1;
        let faults = schedule(seed + number, ROUND.as_millis() as u64, args.harshness);
        let round = Round {
            number,
            seed: seed + number,
            faults: &faults,
            changes: true,
            clocks: Clocks::AreSet,
            must_make: false,
        };
        total.add(round.play(&mut site).await);
        if !total.findings.is_empty() {
            break;
        }
    }
    conclude(site, &total, args.keep, begun.elapsed())
}

/// The faults of the short run, one after the other.
async fn brief(args: &Args, seed: u64) -> anyhow::Result<bool> {
    let kinds = [
        (Fault::Cut(Cut::LeaderAlone(0)), 4_000),
        (Fault::Cut(Cut::FromLeader(1)), 4_000),
        (Fault::Cut(Cut::ToLeader(2)), 4_000),
        (Fault::Kill(Victim::Leader(3)), 2_000),
        (Fault::Stop(Victim::Leader(0)), 3_000),
        (Fault::Stop(Victim::Router(1)), 1_000),
        (Fault::Pause(Victim::Leader(4)), 2_000),
        (Fault::Cut(Cut::PlacementAway), 4_000),
        (Fault::Cut(Cut::LeaderWithRouter(0)), 4_000),
    ];
    let mut at_ms = 2_000;
    let faults = kinds.map(|(fault, lasts_ms)| {
        let planned = Planned {
            at_ms,
            lasts_ms,
            fault,
        };
        at_ms += lasts_ms + 2_000;
        planned
    });
    let dir = directory(&format!("{seed}-brief"))?;
    let mut site = Site::start(Path::new(PROGRAM), &dir, Plan::default()).await?;
    let begun = Instant::now();
    let round = Round {
        number: 1,
        seed,
        faults: &faults,
        changes: true,
        clocks: Clocks::Agree,
        must_make: true,
    };
    let report = round.play(&mut site).await;
    conclude(site, &report, args.keep, begun.elapsed())
}

/// An empty directory for a run.
fn directory(name: &str) -> anyhow::Result<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{name}"));
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Prints what was done and found, and keeps what is needed to look into it.
fn conclude(site: Site, report: &Report, keep: bool, took: Duration) -> anyhow::Result<bool> {
    let dir = site.dir().to_owned();
    println!("{:.1} minutes: {report}", took.as_secs_f64() / 60.0);
    let is_well = report.findings.is_empty();
    if is_well && !keep {
        drop(site);
        std::fs::remove_dir_all(&dir)?;
    } else {
        site.keep_data(&dir.join("kept"))?;
        println!("kept in {}", dir.display());
    }
    Ok(is_well)
}
