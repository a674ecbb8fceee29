//! Which of the other stores live, as far as replicas here rely on them. Pure but for a lock.
//!
//! A store is watched from when somebody first wants to know until nobody does any more. It is *suspected* when it has not
//! answered for as long as a follower would wait for its leader. An answer carries the incarnation of the process: a store
//! that was started again remembers neither who slept nor who led.

use std::collections::HashMap;
use std::time::Duration;

use holdfast_common::clock::Instant;
use holdfast_common::ids::StoreId;
use parking_lot::Mutex;

/// How long a store is watched for nobody.
const UNWANTED: Duration = Duration::from_secs(10);

/// For how long after the leases of a store its former ranges may want another leader: by then openraft's own timers have run out.
const MOURNING: Duration = Duration::from_secs(2);

/// What is known of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contact {
    /// It is not watched, or has not been for long enough.
    Unknown,
    /// It answers, in this incarnation.
    Lives(u64),
    /// It should have answered this long ago.
    Suspected(Duration),
}

/// The stores that are watched.
#[derive(Debug)]
pub(crate) struct Liveness {
    /// How long a store may be silent.
    patience: Duration,
    peers: Mutex<HashMap<StoreId, Peer>>,
}

#[derive(Debug)]
struct Peer {
    incarnation: Option<u64>,
    /// When it first answered in this incarnation after it had answered in another.
    reborn: Option<Instant>,
    /// When it was last known to live; at first, when the watch began.
    heard: Instant,
    /// When somebody last wanted to know.
    wanted: Instant,
}

impl Liveness {
    /// Nobody is watched yet.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            peers: Mutex::default(),
        }
    }

    /// Somebody relies on `store`.
    pub(crate) fn want(&self, store: StoreId, now: Instant) {
        let mut peers = self.peers.lock();
        let peer = peers.entry(store).or_insert(Peer {
            incarnation: None,
            reborn: None,
            heard: now,
            wanted: now,
        });
        peer.wanted = now;
    }

    /// `store` lived at `at`. Of answers that overtook each other, the latest counts.
    pub(crate) fn heard(&self, store: StoreId, incarnation: u64, at: Instant) {
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get_mut(&store)
            && (peer.incarnation.is_none() || at >= peer.heard)
        {
            if peer.incarnation.is_some_and(|before| before != incarnation) {
                peer.reborn = Some(at);
            }
            peer.incarnation = Some(incarnation);
            peer.heard = peer.heard.max(at);
        }
    }

    /// What is known of `store`.
    pub(crate) fn contact(&self, store: StoreId, now: Instant) -> Contact {
        let peers = self.peers.lock();
        let Some(peer) = peers.get(&store) else {
            return Contact::Unknown;
        };
        let silent = now.saturating_duration_since(peer.heard);
        match peer.incarnation {
            _ if silent > self.patience => Contact::Suspected(silent - self.patience),
            Some(incarnation) => Contact::Lives(incarnation),
            None => Contact::Unknown,
        }
    }

    /// How long ago the leases of leaders ran out that were on `store`: it is silent, or was started again. Nothing if that is
    /// long ago.
    pub(crate) fn bereft(&self, store: StoreId, now: Instant) -> Option<Duration> {
        let since = match self.contact(store, now) {
            Contact::Suspected(since) => since,
            Contact::Lives(_) | Contact::Unknown => {
                let reborn = self.peers.lock().get(&store)?.reborn?;
                now.saturating_duration_since(reborn).checked_sub(self.patience)?
            }
        };
        (since < MOURNING).then_some(since)
    }

    /// Whether `store` was seen to be started again within `time`.
    pub(crate) fn was_reborn_within(&self, store: StoreId, time: Duration, now: Instant) -> bool {
        let peers = self.peers.lock();
        let reborn = peers.get(&store).and_then(|peer| peer.reborn);
        reborn.is_some_and(|reborn| now.saturating_duration_since(reborn) < time)
    }

    /// The stores to ask; those that nobody wants to know about any more are forgotten.
    pub(crate) fn watched(&self, now: Instant) -> Vec<StoreId> {
        let mut peers = self.peers.lock();
        peers.retain(|_, peer| now.saturating_duration_since(peer.wanted) < UNWANTED);
        peers.keys().copied().collect()
    }

    /// This process did nothing for `gap`, so that nobody could be heard in it.
    pub(crate) fn excuse(&self, gap: Duration) {
        self.peers.lock().values_mut().for_each(|peer| peer.heard += gap);
    }
}

#[cfg(test)]
mod tests {
    use holdfast_common::clock;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(750);
    const STORE: StoreId = StoreId(2);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_store_that_is_silent_for_too_long_is_suspected_until_it_answers() {
        let (liveness, begin) = (Liveness::new(PATIENCE), clock::now());
        assert_eq!(liveness.contact(STORE, begin), Contact::Unknown);
        liveness.want(STORE, begin);
        assert_eq!(liveness.contact(STORE, begin + ms(750)), Contact::Unknown);
        assert_eq!(
            liveness.contact(STORE, begin + ms(751)),
            Contact::Suspected(ms(1))
        );
        liveness.heard(STORE, 7, begin + ms(900));
        assert_eq!(liveness.contact(STORE, begin + ms(1_000)), Contact::Lives(7));
        assert_eq!(
            liveness.contact(STORE, begin + ms(1_751)),
            Contact::Suspected(ms(101))
        );
    }

    #[test]
    fn of_answers_that_overtook_each_other_the_latest_counts() {
        let (liveness, begin) = (Liveness::new(PATIENCE), clock::now());
        liveness.want(STORE, begin);
        liveness.heard(STORE, 8, begin + ms(200));
        liveness.heard(STORE, 7, begin + ms(100));
        assert_eq!(liveness.contact(STORE, begin + ms(300)), Contact::Lives(8));
    }

    #[test]
    fn leaders_are_lost_with_a_store_that_is_silent_or_was_started_again() {
        let (liveness, begin) = (Liveness::new(PATIENCE), clock::now());
        assert_eq!(liveness.bereft(STORE, begin), None);
        liveness.want(STORE, begin);
        liveness.heard(STORE, 7, begin);
        assert_eq!(liveness.bereft(STORE, begin + ms(750)), None);
        assert_eq!(liveness.bereft(STORE, begin + ms(850)), Some(ms(100)));
        assert_eq!(
            liveness.bereft(STORE, begin + ms(2_750)),
            None,
            "openraft sees to the rest"
        );

        liveness.heard(STORE, 8, begin + ms(1_000));
        assert_eq!(
            liveness.bereft(STORE, begin + ms(1_100)),
            None,
            "its leases may last"
        );
        assert!(liveness.was_reborn_within(STORE, ms(200), begin + ms(1_100)));
        assert!(!liveness.was_reborn_within(STORE, ms(100), begin + ms(1_100)));
        liveness.heard(STORE, 8, begin + ms(1_700));
        assert_eq!(liveness.bereft(STORE, begin + ms(1_800)), Some(ms(50)));
        liveness.heard(STORE, 8, begin + ms(3_700));
        assert_eq!(liveness.bereft(STORE, begin + ms(3_750)), None, "long ago");
    }

    #[test]
    fn who_is_not_wanted_any_more_is_forgotten() {
        let (liveness, begin) = (Liveness::new(PATIENCE), clock::now());
        liveness.want(STORE, begin);
        liveness.want(StoreId(3), begin + ms(5_000));
        assert_eq!(liveness.watched(begin + UNWANTED), [StoreId(3)]);
        assert_eq!(liveness.contact(STORE, begin + UNWANTED), Contact::Unknown);
        liveness.heard(STORE, 7, begin + UNWANTED);
        assert_eq!(liveness.watched(begin + UNWANTED), [StoreId(3)]);
    }

    #[test]
    fn nobody_is_suspected_for_a_pause_of_this_process() {
        let (liveness, begin) = (Liveness::new(PATIENCE), clock::now());
        liveness.want(STORE, begin);
        liveness.heard(STORE, 7, begin);
        liveness.excuse(ms(10_000));
        assert_eq!(liveness.contact(STORE, begin + ms(10_100)), Contact::Lives(7));
    }
}
