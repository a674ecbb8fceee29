//! Points at which a test has something go wrong, by name and by the rules of the crate `fail`: in the environment of a process,
//! `FAILPOINTS="answer-lost=5%return"` has one answer of twenty lost. Builds without the feature `failpoints` have none of it.

use bytes::Bytes;
use holdfast_common::net::Reply;

/// Answers a client; at `answer-lost` the network loses it.
pub(crate) fn answer(reply: Reply, body: Bytes) {
    #[cfg(feature = "failpoints")]
    if is_lost() {
        return reply.lose();
    }
    reply.send(body);
}

/// Whether a leader takes its lease for granted, held or not: a bug planted to see that it is found.
pub(crate) fn reads_without_lease() -> bool {
    #[cfg(feature = "failpoints")]
    fail::fail_point!("read-without-lease", |_| true);
    false
}

/// Whether a range takes a repeated write for a new one: a bug planted to see that it is found.
pub(crate) fn outcomes_are_forgotten() -> bool {
    #[cfg(feature = "failpoints")]
    fail::fail_point!("outcomes-forgotten", |_| true);
    false
}

/// Whether nobody asks if a range still has the key that a router believes it to have: a bug planted to see that it is found.
pub(crate) fn bounds_are_unchecked() -> bool {
    #[cfg(feature = "failpoints")]
    fail::fail_point!("bounds-unchecked", |_| true);
    false
}

/// Whether a range that is being given to its neighbour goes on serving: a bug planted to see that it is found.
pub(crate) fn merge_fence_is_ignored() -> bool {
    #[cfg(feature = "failpoints")]
    fail::fail_point!("merge-fence-ignored", |_| true);
    false
}

#[cfg(feature = "failpoints")]
fn is_lost() -> bool {
    fail::fail_point!("answer-lost", |_| true);
    false
}
