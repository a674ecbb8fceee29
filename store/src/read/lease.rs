//! May this replica answer a linearizable read from its own state, without asking anyone? Pure.
//!
//! A leader holds a lease while no other replica can have been elected. openraft's `last_quorum_acked` is the moment at
//! which the leader *sent* the latest round that a quorum acknowledged; each of those followers refuses votes for
//! `leader_lease` (the longest election timeout) from the moment it *received* it, which is later. So until
//! `last_quorum_acked + leader_lease` no quorum can elect another, if monotonic clocks run at the same rate; the margin
//! allows for those that don't quite.
//!
//! Four things break that reasoning, and each is a condition here:
//!
//! - **A transfer.** The voters of a leadership transfer ignore the lease, and openraft goes on reporting
//!   `last_quorum_acked`. The host gives the lease up before it starts one.
//! - **A leader outside its configuration.** One that a change of membership removed leads on for a moment, and openraft
//!   then transfers its leadership without telling. Only a voter has a lease.
//! - **A leader without an applied entry of its term.** It may not have applied what an earlier leader acknowledged.
//! - **A voter's restart.** A restarted voter has forgotten what it acknowledged. The host keeps it from voting until any
//!   such promise has run out ([`Terms::grace`]); this part can't be checked by the leader.

use std::time::Duration;

/// How this replica counts in the newest configuration that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voting {
    /// Not at all.
    No,
    /// It is one of several voters.
    OneOfMany,
    /// It is the only voter: nobody else can be elected.
    Alone,
}

/// What a replica knows about its leadership at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// Its term.
    pub term: u64,
    /// Whether it was elected in that term and has not heard of a higher one.
    pub leads: bool,
    /// How it counts.
    pub voting: Voting,
    /// The term of the last entry that it applied.
    pub applied_term: Option<u64>,
    /// How long ago it sent the latest round that a quorum acknowledged.
    pub quorum_acked: Option<Duration>,
    /// The last term whose lease it gave up, to hand over its leadership; 0 for none, `u64::MAX` for every one.
    pub renounced_term: u64,
}

/// How long a lease lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long a follower keeps its promise: openraft's leader lease, the longest election timeout.
    pub lease: Duration,
    /// What is taken off for clocks that run at different rates.
    pub margin: Duration,
}

/// What a replica may do about a linearizable read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lease {
    /// Answer from its state as it is now, or later.
    Held,
    /// Ask a quorum first.
    Lapsed,
    /// Send the reader elsewhere.
    NotLeader,
}

impl Terms {
    /// The terms for a longest election timeout: a twentieth, and at least 20 ms, is the margin. Crystal clocks differ by
    /// less than a thousandth.
    pub(crate) fn for_election_timeout(longest: Duration) -> Self {
        Self {
            lease: longest,
            margin: (longest / 20).max(Duration::from_millis(20)),
        }
    }

    /// How long after the start of its process a replica from the disk neither votes nor campaigns: until every promise
    /// it may have given before has run out.
    pub(crate) fn grace(&self) -> Duration {
        self.lease + self.margin
    }
}

/// Decides, for a read that arrived at or before the moment of `standing`.
pub(crate) fn judge(standing: &Standing, terms: &Terms) -> Lease {
    if !standing.leads {
        return Lease::NotLeader;
    }
    if standing.applied_term != Some(standing.term) || standing.renounced_term >= standing.term {
        return Lease::Lapsed;
    }
    match (standing.voting, standing.quorum_acked) {
        (Voting::Alone, _) => Lease::Held,
        (Voting::OneOfMany, Some(age)) if age + terms.margin < terms.lease => Lease::Held,
        (Voting::OneOfMany | Voting::No, _) => Lease::Lapsed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        lease: Duration::from_millis(1_000),
        margin: Duration::from_millis(50),
    };

    const LEADING: Standing = Standing {
        term: 4,
        leads: true,
        voting: Voting::OneOfMany,
        applied_term: Some(4),
        quorum_acked: Some(Duration::ZERO),
        renounced_term: 0,
    };

    #[test]
    fn a_lease_lasts_from_the_sending_of_the_acknowledged_round_less_the_margin() {
        let ages = [
            (0, Lease::Held),
            (949, Lease::Held),
            (950, Lease::Lapsed),
            (60_000, Lease::Lapsed),
        ];
        for (age_ms, lease) in ages {
            let quorum_acked = Some(Duration::from_millis(age_ms));
            assert_eq!(
                judge(
                    &Standing {
                        quorum_acked,
                        ..LEADING
                    },
                    &TERMS
                ),
                lease,
                "{age_ms} ms"
            );
        }
    }

    #[test]
    fn who_does_not_lead_has_none() {
        assert_eq!(
            judge(
                &Standing {
                    leads: false,
                    ..LEADING
                },
                &TERMS
            ),
            Lease::NotLeader
        );
    }

    #[test]
    fn a_new_leader_has_none_before_it_applied_an_entry_of_its_term() {
        for applied_term in [None, Some(3)] {
            for voting in [Voting::OneOfMany, Voting::Alone] {
                assert_eq!(
                    judge(
                        &Standing {
                            applied_term,
                            voting,
                            ..LEADING
                        },
                        &TERMS
                    ),
                    Lease::Lapsed
                );
            }
        }
    }

    #[test]
    fn a_leader_that_was_never_acknowledged_has_none() {
        assert_eq!(
            judge(
                &Standing {
                    quorum_acked: None,
                    ..LEADING
                },
                &TERMS
            ),
            Lease::Lapsed
        );
    }

    #[test]
    fn a_transfer_ends_the_lease_of_its_term_and_of_no_later_one() {
        for (renounced_term, lease) in [(4, Lease::Lapsed), (u64::MAX, Lease::Lapsed), (3, Lease::Held)] {
            assert_eq!(
                judge(
                    &Standing {
                        renounced_term,
                        ..LEADING
                    },
                    &TERMS
                ),
                lease,
                "{renounced_term}"
            );
        }
    }

    #[test]
    fn a_leader_that_its_configuration_no_longer_counts_has_none() {
        assert_eq!(
            judge(
                &Standing {
                    voting: Voting::No,
                    ..LEADING
                },
                &TERMS
            ),
            Lease::Lapsed
        );
    }

    #[test]
    fn the_only_voter_needs_nobodys_acknowledgement() {
        let alone = Standing {
            voting: Voting::Alone,
            quorum_acked: None,
            ..LEADING
        };
        assert_eq!(judge(&alone, &TERMS), Lease::Held);
    }

    #[test]
    fn the_grace_outlasts_every_lease() {
        let terms = Terms::for_election_timeout(Duration::from_millis(200));
        assert_eq!(terms.margin, Duration::from_millis(20));
        assert!(terms.grace() > terms.lease);
    }
}
