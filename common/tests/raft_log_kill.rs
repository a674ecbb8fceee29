//! A process that appends to the Raft log of several groups is killed with SIGKILL: nothing that it told of is lost.
//!
//! A binary without the test harness, because it is its own child: started with a directory in the environment it appends
//! until it is killed, and prints each index once it is durable.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command as Process, Stdio};

use bytes::Bytes;
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::raft::log::{GroupLog, LogEngine, Options};
use holdfast_common::raft::types::{Command, CommittedLeaderId, Entry, LogId, Payload, TypeConfig};
use openraft::RaftLogReader;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use tokio::task::JoinSet;

const DIRECTORY: &str = "HOLDFAST_TEST_LOG_DIRECTORY";
const GROUPS: u64 = 4;
const ROUNDS: usize = 4;

/// Indices that are heard of before the child is killed.
const HEARD: usize = 400;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    match std::env::var_os(DIRECTORY) {
        Some(dir) => runtime.block_on(append_until_killed(Path::new(&dir))),
        None => {
            runtime.block_on(kill_nine_loses_nothing_acknowledged());
            println!("test kill_nine_loses_nothing_acknowledged ... ok");
        }
    }
}

async fn append_until_killed(dir: &Path) {
    let engine = LogEngine::open(dir, Options::default()).expect("the log opens");
    let mut groups = JoinSet::new();
    for n in 0..GROUPS {
        groups.spawn(append(n, group(&engine, n)));
    }
    groups.join_all().await;
}

async fn append(n: u64, mut log: GroupLog) {
    let last = log.get_log_state().await.expect("a state").last_log_id;
    for index in last.map_or(0, |last| last.index + 1).. {
        let (sender, durable) = TypeConfig::oneshot();
        let appended = log.append([entry(index)], IOFlushed::signal(sender)).await;
        appended.expect("queued");
        durable.await.expect("told").expect("appended");
        println!("durable {n} {index}");
        if index % 50 == 49 {
            log.purge(id(index - 20)).await.expect("purged");
        }
    }
}

async fn kill_nine_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    for round in 1..=ROUNDS {
        let told = told_until_killed(dir.path());
        assert_eq!(
            told.len() as u64,
            GROUPS,
            "every group got somewhere in round {round}"
        );
        let engine = LogEngine::open(dir.path(), Options::default()).expect("the log opens");
        for (&n, &index) in &told {
            check(&mut group(&engine, n), index).await;
        }
    }
}

/// Runs the child, kills it, and returns the last index of each group that it told of.
fn told_until_killed(dir: &Path) -> BTreeMap<u64, u64> {
    let mut child = Process::new(std::env::current_exe().expect("this binary"))
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut told = BTreeMap::new();
    let mut lines = BufReader::new(child.stdout.take().expect("piped"))
        .lines()
        .map_while(Result::ok);
    let mut note = |line: String| {
        // A line that the kill has cut tells nothing.
        let words: Vec<&str> = line.split(' ').collect();
        if let ["durable", n, index] = words[..]
            && let (Ok(n), Ok(index)) = (n.parse(), index.parse())
        {
            told.insert(n, index);
        }
    };
    lines.by_ref().take(HEARD).for_each(&mut note);
    child.kill().expect("killed");
    lines.for_each(&mut note);
    child.wait().expect("dead");
    told
}

/// The log goes up to `told` at least, without a hole, and each entry is what it was.
async fn check(log: &mut GroupLog, told: u64) {
    let state = log.get_log_state().await.expect("a state");
    let last = state.last_log_id.expect("a log").index;
    assert!(last >= told, "{told} was told of, and the log ends at {last}");
    let first = state.last_purged_log_id.map_or(0, |purged| purged.index + 1);
    let entries = log.try_get_log_entries(first..last + 1).await.expect("readable");
    assert_eq!(entries, (first..=last).map(entry).collect::<Vec<_>>());
}

fn group(engine: &LogEngine, n: u64) -> GroupLog {
    engine.group(RangeId(n), ReplicaId(n + 1000), None)
}

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1), index)
}

/// The entry at an index, of some length that follows from it.
fn entry(index: u64) -> Entry {
    let mut command = format!("{index} ").into_bytes();
    command.resize(command.len().max((index % 7 * 1500) as usize), b'.');
    Entry {
        log_id: id(index),
        payload: Payload::Normal(Command(Bytes::from(command))),
    }
}
