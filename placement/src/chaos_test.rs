//! The whole driver against stores that fall silent and messages that are lost, late and repeated, by leaders that change.
//!
//! Whatever happens, no replica that is a member is destroyed, none that was destroyed becomes one again, and a range that
//! had its voters never has fewer; and once everybody is back, every range ends with what it should have and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::{OperatorId, RangeId, StoreId};
use holdfast_common::key::Key;
use holdfast_common::proto::placement::Step;
use holdfast_common::range::Role;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::command::Command;
use crate::corrections::Corrections;
use crate::operator::judge::{Verdict, judge};
use crate::operator::{Intent, Kind, Operator, Status};
use crate::reports::Reports;
use crate::schedule::Driver;
use crate::view::{Millis, View};
use crate::world::World;

const STORES: u64 = 6;
const VOTERS: usize = 3;

/// A step that arrives later than this is not taken: whoever asked has given up.
const STEP_LIVES_MS: Millis = 10_000;

/// Rounds of a second until everything has to be as it should.
const PATIENCE: usize = 2_000;

#[derive(Clone, Debug)]
enum Event {
    /// Time passes; the leading member looks at everything.
    Look(u8),
    /// All stores report.
    Beat,
    /// A message arrives, and perhaps again later.
    Deliver(Index, bool),
    /// A message is lost.
    Lose(Index),
    Sleep(u64),
    Wake(u64),
    /// Another member leads, and knows nothing but the state.
    Depose,
    /// Changes of membership stop half-way from now on, or no longer do.
    HalfWay(bool),
    Ask(Index, Wish),
    Cancel(Index),
}

#[derive(Clone, Debug)]
enum Wish {
    Split(u8),
    Move(Index, u64),
    Lead(Index),
    Merge,
}

fn event() -> impl Strategy<Value = Event> {
    let store = 1..=STORES;
    let wish = prop_oneof![
        any::<u8>().prop_map(Wish::Split),
        (any::<Index>(), store.clone()).prop_map(|(from, to)| Wish::Move(from, to)),
        any::<Index>().prop_map(Wish::Lead),
        Just(Wish::Merge),
    ];
    prop_oneof![
        8 => (0..20_u8).prop_map(Event::Look),
        6 => Just(Event::Beat),
        12 => (any::<Index>(), prop::bool::weighted(0.2)).prop_map(|(which, again)| Event::Deliver(which, again)),
        2 => any::<Index>().prop_map(Event::Lose),
        1 => store.clone().prop_map(Event::Sleep),
        2 => store.prop_map(Event::Wake),
        1 => Just(Event::Depose),
        1 => any::<bool>().prop_map(Event::HalfWay),
        3 => (any::<Index>(), wish).prop_map(|(range, wish)| Event::Ask(range, wish)),
        1 => any::<Index>().prop_map(Event::Cancel),
    ]
}

struct Chaos {
    world: World,
    driver: Driver,
    corrections: Corrections,
    since: BTreeMap<OperatorId, (usize, Millis)>,
    led_since: Millis,
    wire: Vec<(Millis, StoreId, Step)>,
    /// The most voters that each range ever had.
    most: BTreeMap<RangeId, usize>,
}

impl Chaos {
    fn new() -> Self {
        let mut world = World::new(&["a", "b", "c", "a", "b", "c"]);
        world.replicate(&[2, 3]);
        world.state.settings.store_replace_after_ms = 60_000;
        let (led_since, most) = (world.now, BTreeMap::new());
        Self {
            world,
            driver: Driver::default(),
            corrections: Corrections::default(),
            since: BTreeMap::new(),
            led_since,
            wire: Vec::new(),
            most,
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Look(seconds) => {
                self.world.now += u64::from(*seconds) * 1_000;
                self.look();
            }
            Event::Beat => self.world.heartbeats(),
            Event::Deliver(which, again) => self.deliver(which, *again),
            Event::Lose(which) => {
                if !self.wire.is_empty() {
                    self.wire.swap_remove(which.index(self.wire.len()));
                }
            }
            // A majority of stores stays, as in a cluster that can be repaired.
            Event::Sleep(store) if self.world.stores.asleep.len() < 2 => {
                self.world.stores.sleep(StoreId(*store))
            }
            Event::Sleep(_) => {}
            Event::Wake(store) => self.world.stores.wake(StoreId(*store)),
            Event::Depose => {
                (self.world.reports, self.since) = (Reports::default(), BTreeMap::new());
                (self.driver, self.corrections) = (Driver::default(), Corrections::default());
                self.led_since = self.world.now;
            }
            Event::HalfWay(stop) => self.world.stores.stop_half_way = *stop,
            Event::Ask(range, wish) => self.ask(range, wish),
            Event::Cancel(which) => {
                let running: Vec<OperatorId> = self
                    .world
                    .state
                    .operators
                    .running()
                    .map(|operator| operator.id)
                    .collect();
                if !running.is_empty() {
                    let (id, now_ms) = (running[which.index(running.len())], self.world.now);
                    self.world.apply(Command::End {
                        id,
                        status: Status::Cancelled("chaos".into()),
                        now_ms,
                    });
                }
            }
        }
        self.check();
    }

    fn ask(&mut self, range: &Index, wish: &Wish) {
        let ranges: Vec<_> = self.world.state.map.iter().cloned().collect();
        let range = &ranges[range.index(ranges.len())];
        let replicas = &range.replicas;
        let kind = match wish {
            // No more ranges than can be looked through quickly.
            Wish::Split(_) if ranges.len() >= 4 => return,
            Wish::Split(at) => Kind::Split {
                at: Some(Key::new(vec![*at]).unwrap()),
            },
            Wish::Move(from, to) => Kind::MoveReplica {
                from: replicas[from.index(replicas.len())].store,
                to: StoreId(*to),
            },
            Wish::Lead(to) => Kind::TransferLeader {
                to: replicas[to.index(replicas.len())].store,
            },
            Wish::Merge => {
                let left = ranges.iter().find(|left| left.span.join(&range.span).is_some());
                let Some(left) = left else { return };
                Kind::Merge { into: left.id }
            }
        };
        // What makes no sense is refused.
        let _ = self.world.start(range.id.0, kind);
    }

    /// One look of the leading member: operators, schedulers, corrections; what is due goes onto the wire.
    fn look(&mut self) {
        for (operator, verdict) in self.verdicts() {
            let (id, now_ms) = (operator.id, self.world.now);
            match verdict {
                Verdict::Wait => {}
                Verdict::Advance => drop(self.world.apply(Command::Advance {
                    id,
                    step: operator.current,
                    now_ms,
                })),
                Verdict::End(status) => {
                    self.driver.ended(&operator, &status, self.world.now);
                    self.world.apply(Command::End { id, status, now_ms });
                }
            }
        }
        let view = View::new(
            &self.world.state,
            &self.world.reports,
            self.world.now,
            self.led_since,
        );
        self.corrections.review(&view);
        let intents: Vec<Intent> = self
            .driver
            .weigh(&view)
            .into_iter()
            .filter_map(|weighed| weighed.verdict.ok())
            .collect();
        for intent in intents {
            self.world.apply(Command::Start {
                intent,
                now_ms: self.world.now,
            });
        }
        let view = View::new(
            &self.world.state,
            &self.world.reports,
            self.world.now,
            self.led_since,
        );
        let operators = view.state.operators.running();
        let planned = operators.filter_map(|operator| operator.action()?.due(operator.range(), &view));
        let corrected = (1..=STORES).flat_map(|store| {
            self.corrections
                .due(StoreId(store))
                .iter()
                .map(move |step| (StoreId(store), step.clone()))
        });
        let due: Vec<_> = planned.chain(corrected).collect();
        self.wire
            .extend(due.into_iter().map(|(store, step)| (self.world.now, store, step)));
        // What nobody takes in time is given up.
        let now = self.world.now;
        self.wire.retain(|(sent, _, _)| now - sent <= STEP_LIVES_MS);
    }

    fn verdicts(&mut self) -> Vec<(Operator, Verdict)> {
        let view = View::new(
            &self.world.state,
            &self.world.reports,
            self.world.now,
            self.led_since,
        );
        let mut verdicts = Vec::new();
        for operator in view.state.operators.running() {
            let since = self
                .since
                .entry(operator.id)
                .or_insert((operator.current, view.now));
            if since.0 != operator.current {
                *since = (operator.current, view.now);
            }
            verdicts.push((operator.clone(), judge(operator, since.1, &view)));
        }
        verdicts
    }

    fn deliver(&mut self, which: &Index, again: bool) {
        if self.wire.is_empty() {
            return;
        }
        let at = which.index(self.wire.len());
        let (sent, store, step) = self.wire[at].clone();
        if !again {
            self.wire.swap_remove(at);
        }
        if self.world.now - sent <= STEP_LIVES_MS {
            self.world.stores.obey(store, step);
            self.world.stores.elect();
        }
    }

    fn check(&mut self) {
        let stores = &self.world.stores;
        for (id, truth) in &stores.ranges {
            for replica in &truth.descriptor.replicas {
                let is_learner = replica.role == Role::Learner;
                assert!(
                    is_learner || !stores.buried.contains(&replica.id),
                    "voter {replica:?} of range {id} was destroyed"
                );
            }
            let voters = truth.descriptor.voters().count();
            let most = self.most.entry(*id).or_insert(voters);
            *most = voters.max(*most);
            assert!(
                voters >= VOTERS.min(*most),
                "range {id} is down to {voters} voters"
            );
        }
    }

    /// Everybody is back and every message arrives at once.
    fn heal(&mut self) {
        (1..=STORES).for_each(|store| self.world.stores.wake(StoreId(store)));
        self.world.stores.stop_half_way = false;
    }

    /// What is still not as it should be.
    fn wrong(&self) -> Option<String> {
        let stores = &self.world.stores;
        if let Some(operator) = self.world.state.operators.running().next() {
            return Some(format!("operator {operator:?}"));
        }
        for (id, truth) in &stores.ranges {
            let fine = truth
                .descriptor
                .replicas
                .iter()
                .all(|replica| replica.role == Role::Voter && stores.has(replica));
            if !fine || truth.descriptor.replicas.len() != VOTERS {
                return Some(format!("range {id}: {truth:?}, stores {:?}", stores.holds));
            }
        }
        let members = stores
            .ranges
            .values()
            .flat_map(|truth| truth.descriptor.replicas.iter().map(|replica| replica.id));
        let members: BTreeSet<_> = members.collect();
        let orphan = stores
            .holds
            .values()
            .flat_map(BTreeMap::keys)
            .find(|id| !members.contains(*id));
        orphan.map(|orphan| format!("replica {orphan} belongs nowhere"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_is_lost_and_everything_ends_as_it_should(events in prop::collection::vec(event(), 1..300)) {
        let mut chaos = Chaos::new();
        events.iter().for_each(|event| chaos.happen(event));
        chaos.heal();
        for _ in 0..PATIENCE {
            for (_, store, step) in std::mem::take(&mut chaos.wire) {
                chaos.world.stores.obey(store, step);
                chaos.world.stores.elect();
                chaos.check();
            }
            chaos.world.heartbeats();
            chaos.look();
            if chaos.wrong().is_none() && chaos.wire.is_empty() {
                break;
            }
        }
        prop_assert_eq!(chaos.wrong(), None);
        let now: BTreeMap<_, _> = chaos.world.stores.ranges.iter().map(|(id, truth)| (*id, truth.descriptor.clone())).collect();
        let known: BTreeMap<_, _> = chaos.world.state.map.iter().map(|range| (range.id, range.clone())).collect();
        prop_assert_eq!(known, now);
        prop_assert_eq!(chaos.world.state.map.holes(), Vec::new());
    }
}
