//! Whether all that a stopped store has on disk can be read, and fits together: `holdfast store verify`.
//!
//! The databases are opened as a start opens them: their journals are checked, and a last batch that a crash left unfinished, and
//! that nobody was told of, is cut off. Before that every table is read whole and compared with the checksum that its manifest has of it,
//! and after it every entry of every log and every row is read and decoded. Nothing is mended: what is damaged is replaced by the copies of other stores, under a new identity.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use holdfast_common::blocking;
use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::raft::journal;
use holdfast_common::raft::log::{self, LogEngine};
use holdfast_common::raft::types::{Entry, Payload};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::command::Command;
use crate::engine::{self, Engine, View};
use crate::identity::{self, DataDir};
use crate::keys::{self, Interval};
use crate::ledger::Ledger;
use crate::machine;
use crate::quarantine::DATABASES;
use crate::record::Header;
use crate::row::RangeRow;
use crate::startup;

/// Most findings that are told; the rest are counted.
const MAX_TOLD: usize = 100;

/// Rows between two words of progress.
const ROWS_A_WORD: u64 = 16_384;

/// What there is, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The store, if it ever registered.
    pub store: Option<u64>,
    /// Files of rows, both databases'.
    pub tables: u64,
    /// Replicas that have data.
    pub ranges: u64,
    /// Replicas that have a log.
    pub logs: u64,
    /// Entries of logs.
    pub entries: u64,
    /// Records, expired ones too.
    pub records: u64,
    /// Names that clients gave writes.
    pub tokens: u64,
    /// Entries whose outcomes are remembered.
    pub outcomes: u64,
    /// Records and names of writes of no range that is here. They hurt nobody; what a removal that was cut short has left, a
    /// start removes.
    pub strays: u64,
    /// Bytes of keys and values in the data.
    pub bytes: u64,
    /// How much is damaged.
    pub damaged: u64,
    /// What is, and how; the first 100.
    pub damage: Vec<String>,
}

/// Why nothing was looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is not a store's, or is in use.
    #[error(transparent)]
    Directory(#[from] identity::Error),
    /// The thread that looked ended early.
    #[error("the examination was interrupted")]
    Interrupted,
}

impl Report {
    fn found(&mut self, what: impl fmt::Display) {
        self.damaged += 1;
        if self.damage.len() < MAX_TOLD {
            self.damage.push(what.to_string());
        }
    }

    /// Takes what could be read; what could not is a finding.
    fn read<T>(&mut self, read: Result<T, impl fmt::Display>) -> Option<T> {
        read.map_err(|error| self.found(error)).ok()
    }

    fn rows(&self) -> u64 {
        self.entries + self.records + self.tokens
    }
}

/// Reads everything in the directory of a store that does not run, and says from time to time how far it is.
///
/// # Errors
/// See [`Error`]. What is damaged is no error but in the report.
pub async fn verify(dir: &Path, progress: impl FnMut(&Report) + Send + 'static) -> Result<Report, Error> {
    let dir = DataDir::reopen(dir)?;
    let store = dir.known().map(|(_, store)| store);
    // The lock on the directory lasts as long as this.
    let report = examine(dir.path(), store, progress).await;
    report.map_err(|_| Error::Interrupted)
}

/// Reads the databases under `path`.
pub(crate) async fn examine(
    path: &Path,
    store: Option<StoreId>,
    progress: impl FnMut(&Report) + Send + 'static,
) -> Result<Report, blocking::Interrupted> {
    let mut examination = Examination {
        runtime: Handle::current(),
        path: path.to_owned(),
        store: store.unwrap_or(StoreId::NONE),
        progress,
        report: Report {
            store: store.map(|store| store.0),
            ..Report::default()
        },
    };
    let examination = blocking::run(move || {
        examination.run();
        examination.report
    });
    examination.await
}

struct Examination<P> {
    runtime: Handle,
    path: PathBuf,
    store: StoreId,
    progress: P,
    report: Report,
}

impl<P: FnMut(&Report)> Examination<P> {
    fn run(&mut self) {
        for database in DATABASES {
            self.tables(&self.path.join(database));
        }
        let log = LogEngine::open(&self.path.join("raft"), log::Options::default());
        let log = self.report.read(log);
        let engine = Engine::open(&self.path.join("data"), engine::Options::default());
        let engine = self.report.read(engine);
        if let Some(log) = &log {
            self.logs(log);
        }
        if let Some(engine) = &engine {
            let view = self.runtime.block_on(engine.view());
            if let Some(view) = self.report.read(view) {
                self.data(&view, log.as_ref());
            }
        }
        if let Some(engine) = engine {
            self.runtime.block_on(engine.close());
        }
        if let Some(log) = log {
            self.runtime.block_on(log.close());
        }
    }

    fn tables(&mut self, database: &Path) {
        let tables = self.report.read(journal::tables(database)).unwrap_or_default();
        for table in tables {
            self.report.tables += 1;
            (self.progress)(&self.report);
            let verified = journal::verify(&table, |_| {});
            if let Some(Some(defect)) = self.report.read(verified) {
                self.report
                    .found(format!("{}: {}", defect.file.display(), defect.why));
            }
        }
    }

    fn logs(&mut self, log: &LogEngine) {
        let Some(groups) = self.report.read(log.groups()) else {
            return;
        };
        for (range, replica) in groups {
            self.report.logs += 1;
            let read = log.read_entries(range, replica, |entry| {
                if let Err(error) = understood(entry) {
                    let at = format!("range {range}, replica {replica}, entry {}", entry.log_id.index);
                    self.report.found(format!("{at}: {error}"));
                }
                self.report.entries += 1;
                self.advance();
            });
            match read {
                // Half removed: a start removes the rest.
                Ok(()) | Err(log::Error::Dropped(_)) => {}
                Err(error) => self.report.found(error),
            }
        }
    }

    fn data(&mut self, view: &View, log: Option<&LogEngine>) {
        let rows = self.range_rows(view);
        if let Some(log) = log {
            self.fit(&rows, log);
        }
        let mut spans = Vec::with_capacity(rows.len());
        for (range, row) in rows {
            spans.push((row.span.clone(), range));
            let state = machine::rebuild(view, range, row, self.store);
            self.report
                .read(state.map_err(|error| format!("range {range}: {error}")));
        }
        spans.sort_unstable_by(|a, b| a.0.start().cmp(b.0.start()));
        for pair in spans.windows(2) {
            if pair[0].0.overlaps(&pair[1].0) {
                self.report.found(startup::Error::Overlap(pair[0].1, pair[1].1));
            }
        }
        let spans: Vec<Span> = spans.into_iter().map(|(span, _)| span).collect();
        self.records(view, &spans);
        self.tokens(view, &spans);
        let outcomes = Interval {
            start: Bytes::from_static(&[keys::OUTCOMES]),
            end: Bytes::from_static(&[keys::OUTCOMES + 1]),
        };
        self.each(view, &outcomes, |report, _, _| {
            report.outcomes += 1;
            Ok(())
        });
    }

    fn range_rows(&mut self, view: &View) -> BTreeMap<RangeId, RangeRow> {
        let mut rows = BTreeMap::new();
        self.each(view, &keys::all_range_rows(), |report, key, value| {
            report.ranges += 1;
            let range = keys::range_of_row(key).ok_or("a range row under a key that is none")?;
            let row = RangeRow::decode(value.clone()).map_err(|error| format!("range {range}: {error}"))?;
            rows.insert(range, row);
            Ok(())
        });
        rows
    }

    /// Whether the logs still hold what the data lacks.
    fn fit(&mut self, rows: &BTreeMap<RangeId, RangeRow>, log: &LogEngine) {
        let Some(ledger) = self.report.read(Ledger::open(log.clone())) else {
            return;
        };
        let alive = |replica: &ReplicaId| !ledger.buried(*replica);
        for (range, row) in rows.iter().filter(|(_, row)| alive(&row.replica)) {
            // One that can't be read was found before.
            if let Ok(bounds) = log.log_bounds(*range, row.replica) {
                let fits = startup::fits(*range, row.replica, row.applied, bounds);
                self.report.read(fits);
            }
        }
    }

    fn records(&mut self, view: &View, spans: &[Span]) {
        let mut owner = Owner::of(spans);
        self.each(view, &keys::records(&Span::everything()), |report, key, value| {
            report.records += 1;
            let key = &key[1..];
            report.strays += u64::from(!owner.has(key));
            Header::read(value)
                .map_err(|error| format!("the record of {:?}: {error}", key.escape_ascii().to_string()))?;
            Ok(())
        });
    }

    fn tokens(&mut self, view: &View, spans: &[Span]) {
        let mut owner = Owner::of(spans);
        self.each(view, &keys::tokens(&Span::everything()), |report, key, _| {
            report.tokens += 1;
            let (key, _) = keys::token_of_row(key).ok_or("a token under a key that is none")?;
            report.strays += u64::from(!owner.has(&key));
            Ok(())
        });
    }

    /// Looks at every row of an interval, up to one that can't be read.
    fn each(
        &mut self,
        view: &View,
        interval: &Interval,
        mut look: impl FnMut(&mut Report, &Bytes, &Bytes) -> Result<(), String>,
    ) {
        for row in view.rows(interval) {
            let Some((key, value)) = self.report.read(row) else {
                return;
            };
            self.report.bytes += (key.len() + value.len()) as u64;
            let looked = look(&mut self.report, &key, &value);
            self.report.read(looked);
            self.advance();
        }
    }

    fn advance(&mut self) {
        if self.report.rows().is_multiple_of(ROWS_A_WORD) {
            (self.progress)(&self.report);
        }
    }
}

/// Whether an entry says something.
fn understood(entry: &Entry) -> Result<(), String> {
    match &entry.payload {
        Payload::Normal(command) => Command::decode(&command.0)
            .map(drop)
            .map_err(|error| error.to_string()),
        Payload::Blank | Payload::Membership(_) => Ok(()),
    }
}

/// Who has the keys that come in order.
struct Owner<'a> {
    spans: std::slice::Iter<'a, Span>,
    now: Option<&'a Span>,
}

impl<'a> Owner<'a> {
    fn of(spans: &'a [Span]) -> Self {
        let mut spans = spans.iter();
        let now = spans.next();
        Self { spans, now }
    }

    fn has(&mut self, key: &[u8]) -> bool {
        while let Some(span) = self.now {
            if span.contains(key) {
                return true;
            }
            if key < span.start() {
                return false;
            }
            self.now = self.spans.next();
        }
        false
    }
}
