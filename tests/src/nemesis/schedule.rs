//! Which fault happens when: a function of the seed, the duration and how harsh it is to be.

use std::fmt;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Who suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The store that leads the range of this letter at that moment.
    Leader(usize),
    /// A store.
    Store(usize),
    /// The leading placement member.
    PlacementLeader,
    /// A placement member.
    Placement(usize),
    /// A router.
    Router(usize),
}

/// Between whom packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The leader of a letter's range and everybody else.
    LeaderAlone(usize),
    /// The leader with one router, and everybody else: clients of that router know of nobody newer.
    LeaderWithRouter(usize),
    /// Every other member, and the rest.
    Halves,
    /// Each store sees only its two neighbours.
    Ring,
    /// The leader is not heard.
    FromLeader(usize),
    /// The leader hears nobody.
    ToLeader(usize),
    /// Stores don't see each other; everybody sees them.
    StoresOnly,
    /// A router and the leader of a letter's range.
    RouterFromLeader(usize),
    /// The placement members and the routers, who have to learn from stores alone what changes.
    PlacementFromRouters,
    /// The placement members and the stores.
    PlacementFromStores,
    /// The placement members and everybody else.
    PlacementAway,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9, and a start when the fault is over.
    Kill(Victim),
    /// SIGTERM, as for an upgrade, and a start when the fault is over.
    Stop(Victim),
    /// kill -9 of every process.
    KillAll,
    /// kill -9 of all stores but one: most ranges lose their majority for a while.
    KillStoresBut(usize),
    /// SIGSTOP.
    Pause(Victim),
    /// A partition.
    Cut(Cut),
    /// So many of a hundred packets between members are lost.
    Loss(u8),
    /// A wall clock is off by so many seconds.
    Clock(Victim, i64),
    /// The wall clocks of any two stores are so many seconds apart, or a multiple.
    ClocksApart(i64),
    /// Each fsync takes so many milliseconds more.
    SlowSync(Victim, u64),
    /// Each fsync fails: the process must end.
    FailSync(Victim),
    /// A store's disk is full but for less than its reserve.
    DiskFull(Victim),
}

/// A fault and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Milliseconds after the start.
    pub at_ms: u64,
    /// How long it lasts, milliseconds.
    pub lasts_ms: u64,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:>7.1} s, for {:>4.1} s: {:?}",
            self.at_ms as f64 / 1e3,
            self.lasts_ms as f64 / 1e3,
            self.fault
        )
    }
}

/// Two election timeouts, and a bit: long enough for another leader.
const PAUSE_MS: u64 = 2_000;

/// The faults of this many milliseconds. Every kind has had its turn before one has its second; from harshness 2 on, so many
/// happen side by side.
pub fn schedule(seed: u64, duration_ms: u64, harshness: u8) -> Vec<Planned> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut planned = Vec::new();
    for _ in 0..harshness.max(1) {
        let (mut at_ms, mut deck) = (random.random_range(1_000..3_000), Vec::new());
        loop {
            if deck.is_empty() {
                deck = kinds(&mut random);
                deck.shuffle(&mut random);
            }
            let Some((fault, lasts_ms)) = deck.pop() else {
                break;
            };
            let lasts_ms = lasts_ms * random.random_range(70..130) / 100;
            if at_ms + lasts_ms > duration_ms {
                break;
            }
            planned.push(Planned {
                at_ms,
                lasts_ms,
                fault,
            });
            at_ms += lasts_ms + random.random_range(500..3_000);
        }
    }
    planned.sort_by_key(|planned| planned.at_ms);
    planned
}

/// One of each kind, and how long it lasts on average.
fn kinds(random: &mut StdRng) -> Vec<(Fault, u64)> {
    let mut letter = || random.random_range(0..5);
    let cuts = [
        Cut::LeaderAlone(letter()),
        Cut::LeaderWithRouter(letter()),
        Cut::Halves,
        Cut::Ring,
        Cut::FromLeader(letter()),
        Cut::ToLeader(letter()),
        Cut::StoresOnly,
        Cut::RouterFromLeader(letter()),
        Cut::PlacementFromRouters,
        Cut::PlacementFromStores,
        Cut::PlacementAway,
    ];
    let mut kinds: Vec<(Fault, u64)> = cuts.map(|cut| (Fault::Cut(cut), 5_000)).into();
    kinds.extend([
        (Fault::Kill(Victim::Leader(letter())), 3_000),
        (Fault::Kill(Victim::Leader(letter())), 500),
        (Fault::Kill(Victim::Store(letter())), 3_000),
        (Fault::Kill(Victim::PlacementLeader), 3_000),
        (Fault::Kill(Victim::Router(letter())), 1_000),
        (Fault::Stop(Victim::Leader(letter())), 3_000),
        (Fault::Stop(Victim::PlacementLeader), 1_000),
        (Fault::Stop(Victim::Router(letter())), 1_000),
        (Fault::KillAll, 500),
        (Fault::Kill(Victim::Leader(letter())), 50),
        (Fault::KillStoresBut(letter()), 1_500),
        (Fault::ClocksApart(2), 8_000),
        (Fault::Pause(Victim::Leader(letter())), PAUSE_MS),
        (Fault::Pause(Victim::Leader(letter())), 700),
        (Fault::Pause(Victim::Leader(letter())), PAUSE_MS),
        (Fault::Pause(Victim::PlacementLeader), PAUSE_MS),
        (Fault::Pause(Victim::Router(letter())), PAUSE_MS),
        (Fault::Loss(5), 5_000),
        (Fault::Loss(25), 4_000),
        (Fault::Clock(Victim::Leader(letter()), 600), 4_000),
        (Fault::Clock(Victim::Store(letter()), -600), 4_000),
        (Fault::Clock(Victim::PlacementLeader, 600), 4_000),
        (Fault::SlowSync(Victim::Leader(letter()), 300), 4_000),
        (Fault::SlowSync(Victim::Store(letter()), 5_000), 8_000),
        (Fault::FailSync(Victim::Leader(letter())), 3_000),
        (Fault::DiskFull(Victim::Store(letter())), 5_000),
    ]);
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_another() {
        let minute = 60_000;
        assert_eq!(schedule(5, minute, 2), schedule(5, minute, 2));
        assert_ne!(schedule(5, minute, 2), schedule(6, minute, 2));
    }

    #[test]
    fn every_kind_has_its_turn_and_nothing_outlasts_the_run() {
        let duration = 400_000;
        let planned = schedule(9, duration, 1);
        let kinds = kinds(&mut StdRng::seed_from_u64(0));
        for (kind, _) in kinds {
            let happened = planned
                .iter()
                .any(|planned| std::mem::discriminant(&planned.fault) == std::mem::discriminant(&kind));
            assert!(happened, "{kind:?}");
        }
        assert!(
            planned
                .iter()
                .all(|planned| planned.at_ms + planned.lasts_ms <= duration)
        );
    }

    #[test]
    fn alone_faults_follow_each_other_and_harsher_ones_overlap() {
        let overlap = |planned: &[Planned]| {
            planned
                .windows(2)
                .any(|pair| pair[0].at_ms + pair[0].lasts_ms > pair[1].at_ms)
        };
        assert!(!overlap(&schedule(1, 300_000, 1)));
        assert!(overlap(&schedule(1, 300_000, 2)));
    }
}
