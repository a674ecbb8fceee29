//! Carries a schedule out, and heals what it did.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::schedule::{Cut, Fault, Planned, Victim};
use crate::load::LETTERS;
use crate::site::{Filler, MemberIndex, Role, Site, Sync, Tracer};

/// Free space that a full disk is left with: less than stores keep in reserve.
const LEFT_FREE_BYTES: u64 = 64 << 20;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Faults that took place.
    pub faults: usize,
    /// Faults that could not be made, such as one of a leader that nobody knew.
    pub missed: usize,
    /// Times that a store's fsync failed and its process went on as if nothing were: it is the promise that it ends.
    pub survived_failed_syncs: usize,
}

/// A fault under way.
struct Underway {
    until: Instant,
    undo: Undo,
}

/// What ends a fault.
enum Undo {
    Restart(Vec<MemberIndex>),
    Resume(MemberIndex),
    Mend(BTreeSet<(MemberIndex, MemberIndex)>),
    LoseNothing,
    Clocks(Vec<MemberIndex>),
    Sync(Tracer),
    FailedSync(Tracer, MemberIndex),
    Free(Filler),
}

/// Faults at work on a site.
pub struct Nemesis<'a> {
    site: &'a mut Site,
    underway: Vec<Underway>,
    summary: Summary,
}

impl<'a> Nemesis<'a> {
    /// For this site.
    pub fn new(site: &'a mut Site) -> Self {
        Self {
            site,
            underway: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// Carries the schedule out; `tell` hears of each fault when it begins. Every fault is over when this ends.
    ///
    /// # Errors
    /// A member ended by itself, or could not be started again.
    pub async fn run(mut self, schedule: &[Planned], mut tell: impl FnMut(&str)) -> anyhow::Result<Summary> {
        let begun = Instant::now();
        for planned in schedule {
            let due = begun + Duration::from_millis(planned.at_ms);
            while Instant::now() < due {
                self.end_those_over(Instant::now())?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let begin = self.begin(planned.fault).await;
            match begin {
                Ok((undo, victim)) => {
                    tell(&format!("{planned} {victim}"));
                    self.summary.faults += 1;
                    self.underway.push(Underway {
                        until: Instant::now() + Duration::from_millis(planned.lasts_ms),
                        undo,
                    });
                }
                Err(error) => {
                    tell(&format!("{planned}: not made: {error:#}"));
                    self.summary.missed += 1;
                }
            }
        }
        while !self.underway.is_empty() {
            self.end_those_over(Instant::now())?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(self.summary)
    }

    fn end_those_over(&mut self, now: Instant) -> anyhow::Result<()> {
        while let Some(over) = self.underway.iter().position(|fault| fault.until <= now) {
            let fault = self.underway.swap_remove(over);
            self.undo(fault.undo)?;
        }
        self.check_exits()
    }

    /// Nobody ends by itself, but one whose disk is made to fail.
    fn check_exits(&mut self) -> anyhow::Result<()> {
        for member in self.site.exited() {
            let expected = self
                .underway
                .iter()
                .any(|fault| matches!(fault.undo, Undo::FailedSync(_, victim) if victim == member));
            ensure!(expected, "{} has ended by itself", self.site.name(member));
        }
        Ok(())
    }

    fn undo(&mut self, undo: Undo) -> anyhow::Result<()> {
        match undo {
            Undo::Restart(members) => {
                for member in members {
                    self.site.restart(member)?;
                }
                Ok(())
            }
            Undo::Resume(member) => self.site.resume(member),
            Undo::Clocks(members) => {
                let mut members = members.into_iter();
                members.try_for_each(|member| self.site.set_clock(member, 0))
            }
            Undo::Mend(pairs) => self.site.mend(&pairs),
            Undo::LoseNothing => self.site.lose(0),
            Undo::Sync(tracer) => {
                drop(tracer);
                Ok(())
            }
            Undo::Free(filler) => {
                drop(filler);
                Ok(())
            }
            Undo::FailedSync(tracer, member) => {
                let has_ended = self.site.exited().contains(&member);
                self.summary.survived_failed_syncs += usize::from(!has_ended && tracer.has_failed_some());
                drop(tracer);
                // It may be about to end.
                self.site.kill(member)?;
                self.site.restart(member)
            }
        }
    }

    async fn begin(&mut self, fault: Fault) -> anyhow::Result<(Undo, String)> {
        let victim = match fault {
            Fault::Kill(victim)
            | Fault::Stop(victim)
            | Fault::Pause(victim)
            | Fault::Clock(victim, _)
            | Fault::SlowSync(victim, _)
            | Fault::FailSync(victim)
            | Fault::DiskFull(victim) => Some(self.find(victim).await?),
            Fault::KillAll
            | Fault::KillStoresBut(_)
            | Fault::ClocksApart(_)
            | Fault::Cut(_)
            | Fault::Loss(_) => None,
        };
        let name = victim.map_or(String::new(), |victim| self.site.name(victim).to_owned());
        let undo = match (fault, victim) {
            (Fault::Kill(_), Some(victim)) => {
                self.site.kill(victim)?;
                Undo::Restart(vec![victim])
            }
            (Fault::Stop(_), Some(victim)) => {
                self.site.stop(victim)?;
                Undo::Restart(vec![victim])
            }
            (Fault::Pause(_), Some(victim)) => {
                self.site.pause(victim)?;
                Undo::Resume(victim)
            }
            (Fault::Clock(_, seconds), Some(victim)) => {
                self.site.set_clock(victim, seconds)?;
                Undo::Clocks(vec![victim])
            }
            (Fault::SlowSync(_, ms), Some(victim)) => {
                Undo::Sync(self.site.slow_disk(victim, Sync::Delayed(ms))?)
            }
            (Fault::FailSync(_), Some(victim)) => {
                Undo::FailedSync(self.site.slow_disk(victim, Sync::Fails)?, victim)
            }
            (Fault::DiskFull(_), Some(victim)) => Undo::Free(self.site.fill_disk(victim, LEFT_FREE_BYTES)?),
            (Fault::Loss(percent), _) => {
                self.site.lose(percent)?;
                Undo::LoseNothing
            }
            (Fault::Cut(cut), _) => {
                let pairs = self.pairs(cut).await?;
                self.site.cut(&pairs)?;
                Undo::Mend(pairs)
            }
            (Fault::ClocksApart(seconds), _) => {
                let stores = self.site.of(Role::Store);
                for (store, number) in stores.iter().zip(-1..) {
                    self.site.set_clock(*store, seconds * number)?;
                }
                Undo::Clocks(stores)
            }
            (Fault::KillStoresBut(number), _) => {
                let mut stores = self.site.of(Role::Store);
                stores.remove(number % stores.len());
                self.kill(stores)?
            }
            (_, _) => {
                let roles = [Role::Placement, Role::Store, Role::Router].into_iter();
                let all = roles.flat_map(|role| self.site.of(role)).collect();
                self.kill(all)?
            }
        };
        Ok((undo, name))
    }

    fn kill(&mut self, members: Vec<MemberIndex>) -> anyhow::Result<Undo> {
        for member in &members {
            self.site.kill(*member)?;
        }
        Ok(Undo::Restart(members))
    }

    async fn find(&self, victim: Victim) -> anyhow::Result<MemberIndex> {
        let one_of = |role, number: usize| {
            let members = self.site.of(role);
            members[number % members.len()]
        };
        match victim {
            Victim::Store(number) => Ok(one_of(Role::Store, number)),
            Victim::Router(number) => Ok(one_of(Role::Router, number)),
            Victim::Placement(number) => Ok(one_of(Role::Placement, number)),
            Victim::Leader(letter) => self.leader(letter).await,
            Victim::PlacementLeader => {
                let cluster = self.ask("/v1/cluster").await?;
                let leader = cluster["leader"].as_str().context("no leader")?;
                self.site.named(leader).context("an unknown leader")
            }
        }
    }

    /// Looks for the leader of a letter's range for a second: it may be changing.
    async fn leader(&self, letter: usize) -> anyhow::Result<MemberIndex> {
        let begun = Instant::now();
        loop {
            match self.leader_now(letter).await {
                Err(_) if begun.elapsed() < Duration::from_secs(1) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                found => return found,
            }
        }
    }

    async fn leader_now(&self, letter: usize) -> anyhow::Result<MemberIndex> {
        let key = format!("{}-", LETTERS[letter % LETTERS.len()]);
        let ranges = self.ask(&format!("/v1/ranges?key={key}")).await?;
        let id = ranges["items"][0]["leader_store"]
            .as_u64()
            .context("no leader is known")?;
        let stores = self.ask("/v1/stores").await?;
        let stores = stores["items"].as_array().context("no stores")?;
        let store = stores
            .iter()
            .find(|store| store["id"] == id)
            .context("no store")?;
        let name = store["name"].as_str().context("no name")?;
        self.site.named(name).context("an unknown store")
    }

    /// Asks one placement member after the other.
    async fn ask(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        for admin in self.site.admins() {
            let answer = tokio::time::timeout(Duration::from_millis(500), admin.get(path)).await;
            if let Ok(Ok(answer)) = answer {
                return Ok(answer);
            }
        }
        anyhow::bail!("no placement member answers")
    }

    /// The pairs whose packets a partition drops: from the first, to the second.
    async fn pairs(&self, cut: Cut) -> anyhow::Result<BTreeSet<(MemberIndex, MemberIndex)>> {
        let [placements, stores, routers] =
            [Role::Placement, Role::Store, Role::Router].map(|role| self.site.of(role));
        let all: Vec<MemberIndex> = [&placements[..], &stores, &routers].concat();
        let others = |some: &[MemberIndex]| -> Vec<MemberIndex> {
            let others = all.iter().copied();
            others.filter(|member| !some.contains(member)).collect()
        };
        Ok(match cut {
            Cut::LeaderAlone(letter) => {
                let leader = [self.leader(letter).await?];
                between(&leader, &others(&leader))
            }
            Cut::LeaderWithRouter(letter) => {
                let pair = [self.leader(letter).await?, routers[letter % routers.len()]];
                between(&pair, &others(&pair))
            }
            Cut::Halves => {
                let half: Vec<MemberIndex> = all.iter().copied().step_by(2).collect();
                between(&half, &others(&half))
            }
            Cut::Ring => {
                let far = |(at, from): (usize, &MemberIndex)| {
                    let opposite = stores[(at + stores.len() / 2) % stores.len()];
                    between(&[*from], &[opposite])
                };
                stores.iter().enumerate().flat_map(far).collect()
            }
            Cut::FromLeader(letter) => {
                let leader = [self.leader(letter).await?];
                one_way(&leader, &others(&leader))
            }
            Cut::ToLeader(letter) => {
                let leader = [self.leader(letter).await?];
                one_way(&others(&leader), &leader)
            }
            Cut::StoresOnly => one_way(&stores, &stores),
            Cut::RouterFromLeader(letter) => {
                between(&[self.leader(letter).await?], &[routers[letter % routers.len()]])
            }
            Cut::PlacementFromRouters => between(&placements, &routers),
            Cut::PlacementFromStores => between(&placements, &stores),
            Cut::PlacementAway => between(&placements, &others(&placements)),
        })
    }
}

fn one_way(from: &[MemberIndex], to: &[MemberIndex]) -> BTreeSet<(MemberIndex, MemberIndex)> {
    let pairs = from.iter().flat_map(|from| to.iter().map(|to| (*from, *to)));
    pairs.filter(|(from, to)| from != to).collect()
}

fn between(some: &[MemberIndex], others: &[MemberIndex]) -> BTreeSet<(MemberIndex, MemberIndex)> {
    let mut pairs = one_way(some, others);
    pairs.extend(one_way(others, some));
    pairs
}
