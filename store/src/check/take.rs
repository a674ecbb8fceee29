//! Taking a view at the entry of a check, and summing it up.

use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::RangeId;
use holdfast_common::proto::check::{Sum, Told};
use tokio::sync::OwnedSemaphorePermit;

use super::sum::{Adder, Failed};
use super::{Checks, stopping};
use crate::engine::View;
use crate::metrics;
use crate::site::Site;
use crate::state::Identity;

/// Longest time that applying waits for a view.
const VIEW_WITHIN: Duration = Duration::from_secs(1);

/// Bytes that are summed up at a time, on a thread that may block.
const PIECE_BYTES: u64 = 1 << 20;

/// Called before the entry of a check shows as applied: from then on the replica can tell that it has met it.
pub(crate) fn begin(site: &Site, me: Identity, check: u64) {
    site.checks
        .0
        .results
        .lock()
        .note(me.replica, check, Told::Underway);
}

/// Called when a replica has applied the entry of a check and nothing behind it. Whatever comes of it, applying goes on and
/// is the same everywhere: only what this replica can tell afterwards depends on it.
pub(crate) async fn at_entry(site: &Arc<Site>, me: Identity, check: u64) {
    let checks = site.checks.clone();
    let ended = |told| checks.0.results.lock().finish(me.replica, check, told);
    if checks.0.stopped.is_cancelled() {
        return ended(Told::Nothing(stopping()));
    }
    let Ok(place) = checks.0.views.clone().try_acquire_owned() else {
        return ended(nothing("its store has too many replicas to sum up already"));
    };
    let view = match clock::timeout(VIEW_WITHIN, site.engine.view()).await {
        Ok(Ok(view)) => view,
        // The engine tells of its failure itself.
        Ok(Err(error)) => return ended(Told::Nothing(error.to_string())),
        Err(_) => return ended(nothing("its store was too busy to look at its data")),
    };
    let (site, tracked) = (site.clone(), checks.0.tasks.clone());
    tracked.spawn(async move {
        let told = match checks.sum_up(me.range, view, place).await {
            Ok(sum) => Told::Sum(sum),
            Err(Stopped::Told) => Told::Nothing(stopping()),
            Err(Stopped::Failed(failed)) => {
                let why = format!("summing up range {}: {failed}", me.range);
                // What can't be read here can't be served either.
                site.alarm.raise(why.clone());
                Told::Nothing(why)
            }
        };
        checks.0.results.lock().finish(me.replica, check, told);
    });
}

/// Why a view was not summed up.
enum Stopped {
    /// The store is stopping.
    Told,
    /// It can't be read.
    Failed(Failed),
}

impl Checks {
    /// Sums a view up when it is its turn, at the pace that is allowed. Looks up from its work after each piece, never in it:
    /// when it ends, nobody holds the view.
    async fn sum_up(&self, range: RangeId, view: View, _place: OwnedSemaphorePermit) -> Result<Sum, Stopped> {
        let stopped = &self.0.stopped;
        let Some(Ok(_turn)) = stopped.run_until_cancelled(self.0.turn.acquire()).await else {
            return Err(Stopped::Told);
        };
        let begun = clock::now();
        let mut adder = blocking(move || Adder::new(view, range)).await?;
        loop {
            let before = adder.bytes();
            let (now, sum) = blocking(move || {
                let sum = adder.advance(PIECE_BYTES)?;
                Ok((adder, sum))
            })
            .await?;
            adder = now;
            metrics::summed_up(adder.bytes() - before);
            if let Some(sum) = sum {
                return Ok(sum);
            }
            let due = clock::sleep_until(due(begun, adder.bytes(), self.0.pace.bytes_per_second));
            if stopped.run_until_cancelled(due).await.is_none() {
                return Err(Stopped::Told);
            }
        }
    }
}

/// When so many bytes may be done that were begun then.
fn due(begun: Instant, bytes: u64, bytes_per_second: u64) -> Instant {
    begun + Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64)
}

fn nothing(why: &str) -> Told {
    Told::Nothing(why.to_owned())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Stopped> {
    match holdfast_common::blocking::run(work).await {
        // The runtime is shutting down.
        Err(_) => Err(Stopped::Told),
        Ok(worked) => worked.map_err(Stopped::Failed),
    }
}
