//! When a leader without a majority keeps silent.
//!
//! A leader whose messages arrive but whose answers do not would keep its followers loyal for ever, and nobody could take
//! a write. So it falls silent for a while, and speaks for a while, in turns: in the silence those who can reach each other
//! elect another. openraft has this, too, but counts from the last acknowledgement alone: a leader that slept for an hour
//! would as likely as not wake into a silence. Here a leader that has just woken, or was just elected, counts from that.

use std::time::Duration;

use holdfast_common::clock::Instant;

use super::Replica;
use crate::read::lease::Voting;

impl Replica {
    /// Holds its heartbeats back, or lets them go. To be called a few times in a lease. Who sleeps sends none but those that
    /// requests wait for.
    pub(crate) fn mind_silence(&self, now: Instant) {
        if self.is_still() {
            return;
        }
        let standing = self.standing();
        let alone = standing.leads && standing.voting != Voting::Alone;
        let up = self.up_for(now);
        let without = standing.quorum_acked.map_or(up, |age| age.min(up));
        self.hush.set(alone && is_silent(without, self.site.terms.lease));
    }
}

/// Whether a leader keeps silent that has been without a majority for this long. A silence lasts for a lease and the longest
/// election timeout, which are equal.
fn is_silent(without: Duration, lease: Duration) -> bool {
    let Some(beyond) = without.checked_sub(lease) else {
        return false;
    };
    let turn = (2 * lease).as_nanos().max(1);
    (beyond.as_nanos() / turn).is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_without_a_majority_is_silent_and_speaks_in_turns() {
        let lease = Duration::from_millis(750);
        let turns = [
            (0, false),
            (749, false),
            (750, true),
            (2_249, true),
            (2_250, false),
            (3_749, false),
            (3_750, true),
        ];
        for (ms, silent) in turns {
            assert_eq!(is_silent(Duration::from_millis(ms), lease), silent, "{ms} ms");
        }
    }
}
