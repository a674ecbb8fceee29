//! Comparing a range's replicas: the part of its leader.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::net::{Error as NetError, ErrorCode, Lane};
use holdfast_common::proto::check::{Answer, Member, Question, Report, Sum, Told, Verdict};
use holdfast_common::proto::placement::StepError;
use holdfast_common::proto::{self, method};
use holdfast_common::range::Descriptor;

use super::judge::judge;
use super::stopping;
use crate::command::Command;
use crate::host::Host;
use crate::metrics;
use crate::replica::Replica;
use crate::state::Merge;

/// How long one question may take.
const ASK: Duration = Duration::from_secs(2);

/// Time between two questions to a replica that is not done; jittered.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// For how long a store is asked again that does not answer.
const AWAY: Duration = Duration::from_secs(3);

/// How long a replica may take, beside the time that summing up takes at the pace that is allowed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The replicas whose rows may have to be summed up before this range's, at each store.
const AHEAD: u64 = super::MAX_VIEWS as u64;

/// What one replica said.
struct Said {
    found: Result<Sum, String>,
    is_noted: bool,
}

impl Host {
    /// Compares the replicas of a range that is led here, and tells everybody whom it concerns.
    ///
    /// # Errors
    /// It was not compared: not led here, or not now.
    pub(crate) async fn compare(self: &Arc<Self>, range: RangeId) -> Result<Report, StepError> {
        let compared = self.try_compare(range).await;
        metrics::checked(compared.as_ref().ok().map(|report| &report.verdict));
        compared
    }

    async fn try_compare(self: &Arc<Self>, range: RangeId) -> Result<Report, StepError> {
        let replica = self.replica(range).ok_or(StepError::NoSuchRange(range))?;
        let checks = &self.site.checks.0;
        let busy = |why: String| StepError::Busy(why);
        let place = checks.stopped.run_until_cancelled(checks.compared.acquire());
        let Some(Ok(_place)) = place.await else {
            return Err(busy(stopping()));
        };
        if !replica.leads() {
            return Err(StepError::NotLeader(range));
        }
        if replica.shared.merge() != Merge::No {
            return Err(busy("the range is being merged".to_owned()));
        }
        let before = replica.descriptor().ok_or(StepError::NoSuchRange(range))?;
        self.all_know(&before).await.map_err(busy)?;
        let (term, check) = (replica.standing().term, clock::random_id());
        let (index, ()) = replica
            .propose_in::<()>(term, &Command::Check { check }, || {})
            .await?;
        let members = replica.descriptor().ok_or(StepError::NoSuchRange(range))?;
        let gathering = self.gather(&replica, &members, check, index);
        let Some(said) = checks.stopped.run_until_cancelled(gathering).await else {
            return Err(busy(stopping()));
        };
        Ok(self.conclude(range, check, index, &members, said).await)
    }

    /// Whether every store of the range knows checks: one that did not would stop at the entry, for it can't know that it
    /// changes nothing.
    async fn all_know(&self, range: &Descriptor) -> Result<(), String> {
        let me = self.site.store;
        let others = range.replicas.iter().filter(|other| other.store != me);
        let asked = others.map(|other| async move {
            let question = Question {
                range: range.id,
                replica: other.id,
                check: 0,
                index: 0,
            };
            let know = &self.site.checks.0.know;
            match self.ask_store(other.store, &question).await {
                Ok(_) => {
                    know.insert(other.store);
                    Ok(())
                }
                Err(NetError::Remote {
                    code: ErrorCode::UnknownMethod,
                    ..
                }) => {
                    know.remove(&other.store);
                    Err(format!("store {} runs a version without checks", other.store))
                }
                Err(_) if know.contains(&other.store) => Ok(()),
                Err(error) => Err(format!(
                    "whether store {} knows checks is not known: {error}",
                    other.store
                )),
            }
        });
        join_all(asked).await.into_iter().collect()
    }

    /// What every replica holds at the entry, or why that is not known.
    async fn gather(&self, replica: &Replica, range: &Descriptor, check: u64, index: u64) -> Vec<Said> {
        let rate = self.site.checks.0.pace.bytes_per_second.max(1);
        let work = replica.shared.read().size_bytes.saturating_mul(2 + AHEAD) / rate;
        let until = clock::now() + PATIENCE + Duration::from_secs(work);
        let asked = range.replicas.iter().map(|member| {
            let question = Question {
                range: range.id,
                replica: member.id,
                check,
                index,
            };
            self.find_out(member.store, question, until)
        });
        join_all(asked).await
    }

    /// Asks until there is an answer, or none is to be expected.
    async fn find_out(&self, store: StoreId, question: Question, until: Instant) -> Said {
        let mut heard = clock::now();
        loop {
            let answer = if store == self.site.store {
                Ok(self.answer(&question))
            } else {
                self.ask_store(store, &question).await
            };
            let unknown = |why: String| Said {
                found: Err(why),
                is_noted: false,
            };
            match answer {
                Ok(Answer { told, is_noted }) => {
                    heard = clock::now();
                    let found = match told {
                        Told::Sum(sum) => Some(Ok(sum)),
                        Told::Nothing(why) => Some(Err(why)),
                        Told::Underway => None,
                    };
                    if let Some(found) = found {
                        return Said { found, is_noted };
                    }
                }
                Err(error) if heard.elapsed() > AWAY => return unknown(error.to_string()),
                Err(_) => {}
            }
            if clock::now() >= until {
                return unknown("it takes too long".to_owned());
            }
            clock::sleep(clock::jittered(ASK_AGAIN)).await;
        }
    }

    async fn ask_store(&self, store: StoreId, question: &Question) -> Result<Answer, NetError> {
        let unknown = |reason: &str| NetError::Unreachable {
            addr: format!("store {store}").into(),
            reason: reason.into(),
        };
        let address = self.site.addresses.get(store);
        let address = address.ok_or_else(|| unknown("its address is not known"))?;
        let (body, deadline) = (proto::encode(question), clock::now() + ASK);
        let client = &self.site.client;
        let answer = client
            .call(&address, Lane::Fast, method::STORE_SUM, body, deadline)
            .await?;
        proto::decode(&answer).map_err(|error| unknown(&error.to_string()))
    }

    /// What this store's replica tells about a check.
    pub(crate) fn answer(&self, question: &Question) -> Answer {
        let checks = &self.site.checks.0;
        let known = checks.results.lock().get(question.replica, question.check);
        let told = known.unwrap_or_else(|| self.not_met(question));
        Answer {
            told,
            is_noted: checks.notes.lock().has(question.range),
        }
    }

    /// About a check that the replica has not met, or that has been forgotten.
    fn not_met(&self, question: &Question) -> Told {
        let replica = self.replica(question.range);
        let Some(replica) = replica.filter(|replica| replica.id == question.replica) else {
            return Told::Nothing("its replica is not there".to_owned());
        };
        let applied = replica.shared.read().applied.map_or(0, |applied| applied.index);
        if applied < question.index {
            return Told::Underway;
        }
        // It may have been met just now: it is noted before it shows as applied.
        let met = self
            .site
            .checks
            .0
            .results
            .lock()
            .get(question.replica, question.check);
        met.unwrap_or_else(|| {
            Told::Nothing("its store was started, or got a snapshot, since that entry".to_owned())
        })
    }

    /// Judges, and tells what has to be told.
    async fn conclude(
        &self,
        range: RangeId,
        check: u64,
        index: u64,
        members: &Descriptor,
        said: Vec<Said>,
    ) -> Report {
        let is_noted = said.iter().any(|said| said.is_noted);
        let replicas: Vec<Member> = members
            .replicas
            .iter()
            .zip(said)
            .map(|(member, said)| Member {
                replica: member.id,
                store: member.store,
                found: said.found,
            })
            .collect();
        let report = Report {
            range,
            check,
            index,
            verdict: judge(&replicas),
            replicas,
        };
        let concerns_all = match report.verdict {
            Verdict::Differ { .. } => true,
            Verdict::Agree => is_noted,
            Verdict::Open => false,
        };
        self.learn(&report);
        if concerns_all {
            self.tell_members(&report).await;
        }
        report
    }

    /// Takes what came of a check, here or at another store.
    pub(crate) fn learn(&self, report: &Report) {
        let is_news = self.site.checks.0.notes.lock().learn(report);
        if is_news {
            metrics::diverged();
            tracing::error!(
                range = %report.range,
                index = report.index,
                suspects = ?suspects(report),
                replicas = %Shown(report),
                "the replicas of this range hold different data: see HoldfastReplicasDiffer in docs/runbook.md"
            );
            self.site.changed.notify_one();
        }
        let _ = self.differing();
    }

    /// Has every other store of the range learn of it, those that hear.
    async fn tell_members(&self, report: &Report) {
        let me = self.site.store;
        let others = report.replicas.iter().filter(|other| other.store != me);
        let told = others.map(|other| async move {
            let Some(address) = self.site.addresses.get(other.store) else {
                return;
            };
            let (body, deadline) = (proto::encode(report), clock::now() + ASK);
            let client = &self.site.client;
            let told = client
                .call(&address, Lane::Fast, method::STORE_COMPARED, body, deadline)
                .await;
            if let Err(error) = told {
                tracing::warn!(store = %other.store, %error, "a store was not told what a check found");
            }
        });
        join_all(told).await;
    }

    /// The ranges here whose replicas differ, as far as is known, and still so.
    pub(crate) fn differing(&self) -> Vec<Report> {
        let mut notes = self.site.checks.0.notes.lock();
        notes.retain(|range| self.replica(range)?.descriptor());
        metrics::differing(notes.len());
        notes.all()
    }
}

fn suspects(report: &Report) -> &[ReplicaId] {
    match &report.verdict {
        Verdict::Differ { suspects } => suspects,
        Verdict::Agree | Verdict::Open => &[],
    }
}

/// What each replica holds, for the log.
struct Shown<'a>(&'a Report);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, member) in self.0.replicas.iter().enumerate() {
            let (
                comma,
                Member {
                    replica,
                    store,
                    found,
                },
            ) = (if place > 0 { ", " } else { "" }, member);
            write!(f, "{comma}replica {replica} on store {store}: ")?;
            match found {
                Ok(sum) => write!(
                    f,
                    "{:032x} of {} rows, {} bytes at entry {} of term {}",
                    sum.checksum, sum.rows, sum.bytes, sum.applied.index, sum.applied.term
                )?,
                Err(why) => write!(f, "not known ({why})")?,
            }
        }
        Ok(())
    }
}
