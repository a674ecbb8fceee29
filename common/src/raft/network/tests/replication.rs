use std::sync::atomic::Ordering;

use openraft::error::RPCError;
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::AppendEntriesRequest;

use super::cluster::{Cluster, PATIENCE, metrics, replica, same, until, write};
use crate::clock;
use crate::ids::{RangeId, ReplicaId};
use crate::net::{Error, ErrorCode, Lane};
use crate::proto::method;
use crate::proto::raft::{Append, Entry, LogId, Membership, Payload, Route};
use crate::raft::types::Vote;

#[tokio::test]
async fn ten_thousand_entries_arrive_everywhere_in_order() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.range(1, &[1, 2, 3]).await;
    let commands = write(&leader, 0, 10_000, 32).await;
    let order = cluster.process(1).machine(1).commands();
    assert!(same(&order, &commands));
    for store in 2..=3 {
        let machine = cluster.process(store).machine(1);
        until("every replica applies everything", || {
            machine.commands().len() == commands.len()
        })
        .await;
        assert!(
            machine.commands() == order,
            "store {store} has the leader's order"
        );
        assert_eq!(machine.installed(), 0, "store {store} needed no snapshot");
    }
    cluster.stop().await;
}

/// One command larger than what a pipeline keeps in flight passes, and so do those behind it.
#[tokio::test]
async fn large_commands_pass() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.range(1, &[1, 2, 3]).await;
    let mut commands = write(&leader, 0, 1, 8 << 20).await;
    commands.extend(write(&leader, 1, 4, 3 << 20).await);
    for store in 1..=3 {
        let machine = cluster.process(store).machine(1);
        until("every replica applies everything", || {
            same(&machine.commands(), &commands)
        })
        .await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_follower_that_was_cut_off_catches_up() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.range(1, &[1, 2, 3]).await;
    let mut commands = write(&leader, 0, 10, 32).await;
    cluster.world.isolate(3);
    commands.extend(write(&leader, 10, 1_000, 32).await);
    cluster.world.heal();
    // Connections that break under a pipeline cost nothing but a retry.
    for store in [2, 3] {
        cluster.process(1).client.forget(&cluster.world.address(store));
    }
    commands.extend(write(&leader, 1_010, 1_000, 32).await);
    let machine = cluster.process(3).machine(1);
    until("the follower has everything", || {
        machine.commands().len() == commands.len()
    })
    .await;
    assert!(same(&machine.commands(), &commands));
    cluster.stop().await;
}

#[tokio::test]
async fn heartbeats_of_many_groups_travel_together() {
    let cluster = Cluster::start(3).await;
    for range in 1..=50 {
        cluster.range(range, &[1, 2, 3]).await;
    }
    let gate = &cluster.process(2).gate;
    let (beats_before, messages_before) = (
        gate.beats.load(Ordering::SeqCst),
        gate.messages(method::RAFT_HEARTBEATS),
    );
    let beats = || gate.beats.load(Ordering::SeqCst) - beats_before;
    until("every group has sent some heartbeats", || beats() >= 500).await;
    let messages = gate.messages(method::RAFT_HEARTBEATS) - messages_before;
    assert!(
        2 * messages <= beats(),
        "{messages} messages for {} heartbeats",
        beats()
    );
    for range in 1..=50 {
        let metrics = metrics(&cluster.process(1).raft(range));
        assert_eq!(
            metrics.current_leader,
            Some(replica(range, 1)),
            "a leader that is heard keeps leading"
        );
        assert!(metrics.last_quorum_acked.is_some());
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_message_for_an_unknown_replica_is_unreachable() {
    let cluster = Cluster::start(2).await;
    cluster.range(1, &[1]).await;
    let rpc = || AppendEntriesRequest {
        vote: Vote::new_committed(9, replica(1, 2)),
        prev_log_id: None,
        leader_commit: None,
        entries: Vec::new(),
    };
    let option = RPCOption::new(PATIENCE);
    // Right range, wrong replica; then a range that is not here.
    for (range, to) in [(1, ReplicaId(999)), (7, replica(7, 1))] {
        let mut line = cluster.process(2).line(range, replica(1, 2), to, 1).await;
        let answer = line.append_entries(rpc(), option.clone()).await;
        assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
    }
    let mut nowhere = cluster.process(2).line(1, replica(1, 2), replica(1, 1), 9).await;
    let answer = nowhere.append_entries(rpc(), option.clone()).await;
    assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
    let here = cluster.process(1).raft(1);
    assert!(
        metrics(&here).current_term < 9,
        "nobody took the stranger for a leader"
    );

    // Still known, but stopped.
    here.shutdown().await.expect("stops");
    let mut line = cluster.process(2).line(1, replica(1, 2), replica(1, 1), 1).await;
    let answer = line.append_entries(rpc(), option).await;
    assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
    cluster.process(2).client.close();
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let cluster = Cluster::start(2).await;
    cluster.range(1, &[1]).await;
    let route = Route {
        range: RangeId(1),
        from: replica(1, 2),
        to: replica(1, 1),
    };
    let voterless = Membership {
        configs: vec![vec![]],
        members: Vec::new(),
    };
    let implausible = Append {
        route,
        term: 9,
        prev: Some(LogId { term: 1, index: 1 }),
        commit: None,
        entries: vec![Entry {
            term: 9,
            payload: Payload::Membership(voterless),
        }],
    };
    let client = &cluster.process(2).client;
    let address = cluster.world.address(1);
    let methods = [
        method::RAFT_APPEND,
        method::RAFT_VOTE,
        method::RAFT_TRANSFER,
        method::RAFT_HEARTBEATS,
    ];
    let garbage = methods.map(|method| (method, vec![1, 0xff, 0xff].into()));
    for (method, body) in garbage
        .into_iter()
        .chain([(method::RAFT_APPEND, implausible.encode())])
    {
        let answer = client
            .call(&address, Lane::Fast, method, body, clock::now() + PATIENCE)
            .await;
        let refused = matches!(
            answer,
            Err(Error::Remote {
                code: ErrorCode::BadRequest,
                ..
            })
        );
        assert!(refused, "{method:#x}: {answer:?}");
    }
    write(&cluster.process(1).raft(1), 0, 1, 8).await;
    cluster.stop().await;
}
