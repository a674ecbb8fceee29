//! Seeded simulation: the code of placement driver, stores and routers, on simulated machines in one thread.
//!
//! Each seed is a play of its own, in a process of its own, whose every source of chance is that seed (`random.c`), so that a seed
//! that finds something finds it again. Some seeds, and one of them twice, are an ordinary test; `just sim --seeds N` plays more.

mod cluster;
mod director;
mod invariants;
mod machine;
mod play;
mod script;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use holdfast_common::failpoint::Step;

use crate::script::Wish;

/// Plays clusters in one thread, and breaks them.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Plays this seed alone, and tells what happened
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Plays so many seeds
    #[arg(long, value_name = "N", default_value_t = 4)]
    seeds: u64,
    /// The first of them
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// A bug that is planted; it is to be found
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    /// Has processes end at this step of theirs, and then at others while they recover
    #[arg(long, value_name = "STEP", value_parser = step)]
    fall: Option<Step>,
    /// Has processes end at every step there is, each at least so often, with at most as many plays a step as --seeds says
    #[arg(long, value_name = "N", conflicts_with_all = ["seed", "planted", "fall"])]
    falls: Option<usize>,
    /// Kills no process, but cuts its power
    #[arg(long)]
    power_alone: bool,
    /// Has stores lose all that they have, which they are to notice and end: for planted bugs
    #[arg(long)]
    wipes: bool,
    /// What the machines log, as RUST_LOG says it
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Set in the process that plays
    #[arg(long, hide = true)]
    on_stage: bool,
    /// Ignored: what cargo gives to every test
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _rest: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match (args.on_stage, args.seed) {
        (true, Some(seed)) => perform(seed, &args),
        (_, Some(seed)) => show(seed, &args),
        (_, None) if args.falls.is_some() => every_step(&args),
        (_, None) => season(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays one seed in this process.
fn perform(seed: u64, args: &Args) -> anyhow::Result<()> {
    // Whether it is shown or not: it draws from the same randomness as the rest.
    tracing_subscriber::fmt()
        .with_env_filter(args.log.as_deref().unwrap_or("off"))
        .with_timer(machine::Shown)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let _planted = fail::FailScenario::setup();
    let below = scratch(seed)?;
    let wish = Wish {
        fall: args.fall,
        power_alone: args.power_alone,
        wipes: args.wipes,
    };
    let outcome = play::play(seed, &below, wish);
    let _ = std::fs::remove_dir_all(&below);
    let outcome = outcome?;
    if args.log.is_some() {
        outcome.faults.iter().for_each(|fault| eprintln!("  {fault}"));
    }
    println!("{:016x} {}", outcome.fingerprint, outcome.figures);
    if args.fall.is_some() {
        println!("falls {}", outcome.falls);
    }
    for finding in outcome.findings.iter().take(20) {
        println!("    {finding}");
    }
    ensure!(
        outcome.findings.is_empty(),
        "seed {seed}: {} findings",
        outcome.findings.len()
    );
    Ok(())
}

/// The same directory for a seed each time: paths are part of what happens.
fn scratch(seed: u64) -> anyhow::Result<PathBuf> {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let below = root.join(format!("holdfast-sim-{seed}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&below);
    std::fs::create_dir_all(&below)?;
    Ok(below)
}

/// Plays one seed, with what its process says.
fn show(seed: u64, args: &Args) -> anyhow::Result<()> {
    let played = stage(seed, args)?.status()?;
    ensure!(played.success(), "seed {seed} found something");
    Ok(())
}

/// Plays the seeds, the first of them twice.
fn season(args: &Args) -> anyhow::Result<()> {
    let begun = Instant::now();
    let (mut found, mut first) = (Vec::new(), None);
    for seed in (args.from..args.from + args.seeds).chain([args.from]) {
        let output = stage(seed, args)?.stderr(Stdio::piped()).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("seed {seed}: {said}");
        let fingerprint = said.split(' ').next().unwrap_or_default().to_owned();
        let differs = seed == args.from && first.as_ref().is_some_and(|first| *first != fingerprint);
        ensure!(
            !differs,
            "seed {seed} played twice is not the same twice: {first:?}, then {fingerprint}"
        );
        first.get_or_insert(fingerprint);
        if !output.status.success() {
            print!("{}", String::from_utf8_lossy(&output.stderr));
            found.push(seed);
            if args.planted.is_some() {
                break;
            }
        }
    }
    println!(
        "{} seeds in {:.0} s; findings in {found:?}",
        args.seeds,
        begun.elapsed().as_secs_f64()
    );
    match &args.planted {
        Some(bug) => ensure!(!found.is_empty(), "{bug} was not found"),
        None => ensure!(found.is_empty(), "replay with: just sim --seed {}", found[0]),
    }
    Ok(())
}

/// Plays seeds until processes have fallen at each step often enough.
fn every_step(args: &Args) -> anyhow::Result<()> {
    let (begun, least) = (Instant::now(), args.falls.unwrap_or(1));
    for step in Step::ALL {
        let with = Args {
            fall: Some(*step),
            ..args.clone()
        };
        let (mut falls, mut plays) = (0, 0);
        for seed in args.from..args.from + args.seeds {
            let output = stage(seed, &with)?.stderr(Stdio::piped()).output()?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(
                output.status.success(),
                "{said}{}\nreplay with: just sim --seed {seed} --fall {}",
                String::from_utf8_lossy(&output.stderr),
                step.name()
            );
            let fell = said.lines().find_map(|line| line.strip_prefix("falls "));
            falls += fell.context("a count of falls")?.parse::<usize>()?;
            plays += 1;
            if falls >= least {
                break;
            }
        }
        println!("{}: {falls} falls in {plays} plays", step.name());
        ensure!(
            falls >= least,
            "no more than {falls} processes fell at {}",
            step.name()
        );
    }
    println!(
        "{} steps in {:.0} s",
        Step::ALL.len(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn step(name: &str) -> Result<Step, String> {
    let names = || Step::ALL.iter().map(|step| step.name()).collect::<Vec<_>>();
    let known = Step::ALL.iter().find(|step| step.name() == name);
    known
        .copied()
        .ok_or_else(|| format!("one of {}", names().join(", ")))
}

/// The command that plays a seed: this program, with its randomness in hand.
fn stage(seed: u64, args: &Args) -> anyhow::Result<Command> {
    let mut command = Command::new("setarch");
    command
        .arg("-R") // The addresses of things are chance, too.
        .arg(std::env::current_exe()?)
        .args(["--on-stage", "--seed", &seed.to_string()])
        .env("LD_PRELOAD", randomness()?)
        .env("HOLDFAST_SIM_SEED", seed.to_string());
    if let Some(filter) = &args.log {
        command.args(["--log", filter]);
    }
    if let Some(step) = args.fall {
        command.args(["--fall", step.name()]);
    }
    command.args(args.power_alone.then_some("--power-alone"));
    command.args(args.wipes.then_some("--wipes"));
    if let Some(bug) = &args.planted {
        command.env("FAILPOINTS", format!("{bug}=return"));
    }
    Ok(command)
}

/// Builds the library that answers for the operating system's randomness, with the compiler that cargo links with.
fn randomness() -> anyhow::Result<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/sim/random.c");
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("holdfast-sim-random.so");
    if library.exists() {
        return Ok(library);
    }
    let building = library.with_extension(std::process::id().to_string());
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&building)
        .arg(source)
        .status()
        .context("cc, which cargo links with, is needed for the simulation's randomness")?;
    ensure!(built.success(), "cc did not build {source}");
    std::fs::rename(&building, &library)?;
    Ok(library)
}
