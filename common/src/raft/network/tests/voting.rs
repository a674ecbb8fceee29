use std::sync::atomic::Ordering;

use openraft::error::RPCError;
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{TransferLeaderRequest, VoteRequest};

use super::cluster::{Cluster, PATIENCE, metrics, replica, same, until, write};
use crate::raft::network::RaftTimings;
use crate::raft::types::{LogId, Vote};

/// A candidate's request that any voter free to vote would grant.
fn candidacy(term: u64, from: u64) -> VoteRequest<crate::raft::types::TypeConfig> {
    let far_ahead = LogId {
        leader_id: openraft::vote::leader_id_std::CommittedLeaderId::new(term),
        index: 1 << 40,
    };
    VoteRequest::new(Vote::new(term, replica(1, from)), Some(far_ahead))
}

#[tokio::test]
async fn a_cut_off_replica_gets_no_pre_vote_and_keeps_its_term() {
    let cluster = Cluster::start(3).await;
    cluster.process(1).create(1).await;
    cluster.process(2).create(1).await;
    cluster.process(3).create_with(1, &RaftTimings::default()).await;
    let leader = cluster.begin(1, &[1, 2, 3]).await;
    let commands = write(&leader, 0, 10, 8).await;
    let cut_off = cluster.process(3).raft(1);
    let machine = cluster.process(3).machine(1);
    until("everybody is up to date", || same(&machine.commands(), &commands)).await;

    let term = metrics(&cut_off).current_term;
    cluster.world.isolate(3);
    let before = cluster.world.lookups(3);
    // Each attempt to be elected looks for the two others.
    until("it tries to be elected, several times", || {
        cluster.world.lookups(3) >= before + 6
    })
    .await;
    assert_eq!(
        metrics(&cut_off).current_term,
        term,
        "without a pre-vote the term stays"
    );

    cluster.world.heal();
    let more = write(&leader, 10, 10, 8).await;
    until("it follows again", || {
        machine.commands().len() == commands.len() + more.len()
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_pre_vote_under_a_live_leader_is_denied_and_changes_nothing() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.range(1, &[1, 2, 3]).await;
    write(&leader, 0, 10, 8).await;
    let term = metrics(&leader).current_term;
    let mut line = cluster.process(3).line(1, replica(1, 3), replica(1, 1), 1).await;
    let answer = line
        .pre_vote(candidacy(term + 5, 3), RPCOption::new(PATIENCE))
        .await
        .expect("an answer");
    assert!(!answer.vote_granted);
    assert_eq!(answer.vote, Vote::new_committed(term, replica(1, 1)));
    assert_eq!(metrics(&leader).current_term, term);
    cluster.stop().await;
}

#[tokio::test]
async fn who_may_not_vote_is_unreachable_for_candidates() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.range(1, &[1, 2, 3]).await;
    let term = metrics(&leader).current_term;
    let abstains = |abstains| cluster.process(2).host.abstains.store(abstains, Ordering::SeqCst);
    let option = RPCOption::new(PATIENCE);
    let mut line = cluster.process(3).line(1, replica(1, 3), replica(1, 2), 2).await;

    abstains(true);
    // With the leader's consent, so that no lease stands in the way.
    let by_transfer = VoteRequest {
        leadership_transfer: true,
        ..candidacy(term + 1, 3)
    };
    for pre in [true, false] {
        let request = by_transfer.clone();
        let answer = if pre {
            line.pre_vote(request, option.clone()).await
        } else {
            line.vote(request, option.clone()).await
        };
        assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
    }
    let mut from_leader = cluster.process(1).line(1, replica(1, 1), replica(1, 2), 2).await;
    let consent = TransferLeaderRequest::new(Vote::new_committed(term, replica(1, 1)), replica(1, 2), None);
    let answer = from_leader.transfer_leader(consent, option.clone()).await;
    assert!(
        matches!(answer, Err(RPCError::Unreachable(_))),
        "it does not campaign either: {answer:?}"
    );

    abstains(false);
    let answer = line.vote(by_transfer, option).await.expect("an answer");
    assert!(answer.vote_granted);
    cluster.stop().await;
}

#[tokio::test]
async fn leadership_moves_to_the_replica_that_is_named() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.range(1, &[1, 2, 3]).await;
    let mut commands = write(&leader, 0, 100, 8).await;
    let machine = cluster.process(2).machine(1);
    until("the target is up to date", || {
        same(&machine.commands(), &commands)
    })
    .await;
    leader
        .trigger()
        .transfer_leader(replica(1, 2))
        .await
        .expect("begins");
    let target = cluster.process(2).raft(1);
    target
        .wait(Some(PATIENCE))
        .metrics(
            |metrics| metrics.current_leader == Some(replica(1, 2)),
            "the target leads",
        )
        .await
        .expect("transferred");
    commands.extend(write(&target, 100, 100, 8).await);
    assert!(same(&machine.commands(), &commands));
    cluster.stop().await;
}
