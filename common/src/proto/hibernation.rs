//! Between stores whose replicas sleep: their timers are stopped (`docs/hibernation.md`).
//!
//! None of these messages moves a range's state. [`Sleep`] and [`Wake`] only stop and start the timers of replicas, so one
//! that is lost, repeated or late costs time and nothing else.

use serde::{Deserialize, Serialize};

use crate::ids::StoreId;
use crate::proto::raft::Route;

/// Most replicas in one [`Sleep`].
pub const MAX_REPLICAS: usize = 1024;

/// Asks replicas to sleep, from the store of their leaders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sleep {
    /// Of the sender: drawn at each start of a process.
    pub incarnation: u64,
    /// At most [`MAX_REPLICAS`].
    pub replicas: Vec<Bedtime>,
}

/// Whom a follower must follow to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bedtime {
    /// From the leader to the follower.
    pub route: Route,
    /// The term that the leader leads.
    pub term: u64,
}

/// The answer to a [`Sleep`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SleepAnswer {
    /// Of the store that answers.
    pub incarnation: u64,
    /// Whether each replica sleeps now, in the order of the request.
    pub asleep: Vec<bool>,
}

/// A follower has woken, or is read from: its leader shall wake, and let its followers hear from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// From the follower to its leader.
    pub route: Route,
}

/// Asks whether a store lives, for all the replicas that sleep on the word of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AreYouThere {}

/// The answer to [`AreYouThere`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HereIAm {
    /// Who answers: an address may have passed to another.
    pub store: StoreId,
    /// Drawn at each start of its process.
    pub incarnation: u64,
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;

    use super::*;
    use crate::ids::{RangeId, ReplicaId};
    use crate::proto::{decode, encode};

    fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(message: &T) {
        assert_eq!(decode::<T>(&encode(message)).as_ref(), Ok(message));
    }

    #[test]
    fn every_message_comes_back() {
        let route = Route {
            range: RangeId(1),
            from: ReplicaId(u64::MAX),
            to: ReplicaId(3),
        };
        let bedtime = Bedtime { route, term: 5 };
        comes_back(&Sleep {
            incarnation: u64::MAX,
            replicas: vec![bedtime; MAX_REPLICAS],
        });
        comes_back(&SleepAnswer {
            incarnation: 7,
            asleep: vec![true, false],
        });
        comes_back(&Wake { route });
        comes_back(&AreYouThere {});
        comes_back(&HereIAm {
            store: StoreId(2),
            incarnation: 9,
        });
    }
}
