//! What tests have go wrong in a store, by name: see [`failpoint`]. Builds without the feature `failpoints` have none of it.

use bytes::Bytes;
use holdfast_common::failpoint;
use holdfast_common::net::Reply;

/// Answers a client; at `answer-lost` the network loses it.
pub(crate) fn answer(reply: Reply, body: Bytes) {
    #[cfg(feature = "failpoints")]
    if failpoint::fires("answer-lost") {
        return reply.lose();
    }
    reply.send(body);
}

/// Whether a leader takes its lease for granted, held or not: a bug planted to see that it is found.
pub(crate) fn reads_without_lease() -> bool {
    failpoint::fires("read-without-lease")
}

/// Whether a range takes a repeated write for a new one: a bug planted to see that it is found.
pub(crate) fn outcomes_are_forgotten() -> bool {
    failpoint::fires("outcomes-forgotten")
}

/// Whether nobody asks if a range still has the key that a router believes it to have: a bug planted to see that it is found.
pub(crate) fn bounds_are_unchecked() -> bool {
    failpoint::fires("bounds-unchecked")
}

/// Whether a range that is being given to its neighbour goes on serving: a bug planted to see that it is found.
pub(crate) fn merge_fence_is_ignored() -> bool {
    failpoint::fires("merge-fence-ignored")
}

/// Whether a range's applied position is written ahead of what was applied: a bug planted to see that it is found.
pub(crate) fn applied_is_written_apart() -> bool {
    failpoint::fires("applied-apart")
}
