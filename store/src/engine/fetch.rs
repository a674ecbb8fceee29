//! Rows that have to come from the disk: fetched side by side, by threads that may wait, before they are read.
//!
//! What a store does, it does on one thread, which searches tables by itself: as long as their blocks are in memory, the
//! engine's or the system's, a search takes a few microseconds, and another thread would take longer to wake. Once they are
//! not, each search holds all ranges up until the disk has answered, and the disk is asked one thing at a time. So while
//! searches have been slow, rows are fetched first: then their blocks lie in the cache when the row is read. That is all a
//! fetch does; what is read, and when, stays the reader's business.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::{blocking, clock};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Engine;
use crate::metrics;

/// Searches take this long on average when the disk is in play, nanoseconds: one of four that takes the 300 µs of a good disk.
const SLOW_NS: u64 = 80_000;
/// Searches take this long on average once it is not any more, nanoseconds.
const FAST_NS: u64 = 25_000;
/// What a single search counts for at most, nanoseconds: it may have been the processor that was elsewhere.
const MOST_NS: u64 = 1_000_000;
/// A search counts for one in so many.
const MEMORY: u64 = 64;
/// Threads that fetch: a disk that is read like this is rarely faster for more, and each costs memory.
const MAX_THREADS: usize = 8;

/// How fast tables answer.
#[derive(Default)]
pub(super) struct Pace {
    mean_ns: AtomicU64,
    is_slow: AtomicBool,
}

impl Pace {
    /// Whether searches have been slow lately.
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed)
    }

    /// Takes note of a search. Of two at the same moment one may be lost.
    pub(super) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(MOST_NS).min(MOST_NS);
        let mean = self.mean_ns.load(Ordering::Relaxed);
        let mean = mean - mean / MEMORY + took / MEMORY;
        self.mean_ns.store(mean, Ordering::Relaxed);
        let limit = if self.is_slow() { FAST_NS } else { SLOW_NS };
        self.is_slow.store(mean > limit, Ordering::Relaxed);
    }
}

/// Rows to fetch, and the threads that do it. As many wait as entries being applied and reads being answered name: both are bounded.
#[derive(Default)]
pub(super) struct Fetches(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Fetch>,
    threads: usize,
}

/// A row to fetch, for somebody who waits until the last of these is gone that came together.
struct Fetch {
    key: Bytes,
    _last: Arc<oneshot::Sender<()>>,
}

impl Fetches {
    /// Queues fetches. How many more threads are wanted.
    fn add(&self, fetches: impl Iterator<Item = Fetch>) -> usize {
        let mut queue = self.0.lock();
        queue.waiting.extend(fetches);
        let wanted = queue.waiting.len().min(MAX_THREADS);
        let more = wanted.saturating_sub(queue.threads);
        queue.threads += more;
        more
    }

    /// The next, for a thread that is done with its last one; without any, the thread counts as gone.
    fn next(&self) -> Option<Fetch> {
        let mut queue = self.0.lock();
        let next = queue.waiting.pop_front();
        queue.threads -= usize::from(next.is_none());
        next
    }
}

impl Engine {
    /// Whether a row that was not written lately has to be waited for: then [`fetch`](Self::fetch) it before it is read on
    /// a thread that others need.
    pub(crate) fn is_slow(&self) -> bool {
        self.0.shared.pace.is_slow()
    }

    /// Whether [`get`](Self::get) has to search the tables.
    pub(crate) fn must_search(&self, key: &[u8]) -> bool {
        self.0.shared.pending.read().get(key).is_none()
    }

    /// Brings the rows under these keys into memory, as many side by side as the disk takes. What fails here fails again
    /// when the row is read, and is told then.
    pub(crate) async fn fetch(&self, keys: Vec<Bytes>) {
        let keys: Vec<Bytes> = keys.into_iter().filter(|key| self.must_search(key)).collect();
        if keys.is_empty() {
            return;
        }
        metrics::fetched(keys.len());
        let (last, all) = oneshot::channel();
        let last = Arc::new(last);
        let fetches = keys.into_iter().map(|key| Fetch {
            key,
            _last: last.clone(),
        });
        for _ in 0..self.0.shared.fetches.add(fetches) {
            let shared = self.0.shared.clone();
            blocking::start(move || {
                while let Some(fetch) = shared.fetches.next() {
                    let begun = clock::now();
                    let _ = shared.data.get(&fetch.key);
                    shared.pace.note(begun.elapsed());
                }
            });
        }
        drop(last);
        // An error is what is waited for: nobody is left to send anything.
        let _ = all.await;
    }
}

#[cfg(test)]
impl Engine {
    /// How long a search takes on average, nanoseconds. While searches are slow only fetches change it.
    pub(crate) fn mean_search_ns(&self) -> u64 {
        self.0.shared.pace.mean_ns.load(Ordering::Relaxed)
    }

    /// As if its disk had been slow for a while.
    pub(crate) fn seem_slow(&self) {
        for _ in 0..10 * MEMORY {
            self.0.shared.pace.note(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pace: &Pace, searches: usize, micros: u64) -> bool {
        for _ in 0..searches {
            pace.note(Duration::from_micros(micros));
        }
        pace.is_slow()
    }

    #[test]
    fn slow_is_what_takes_long_often_and_only_then() {
        let pace = Pace::default();
        assert!(!after(&pace, 10_000, 10), "from memory");
        assert!(!after(&pace, 1, 50_000), "one that the processor left");
        assert!(after(&pace, 100, 300), "from the disk");
    }

    #[test]
    fn one_of_a_few_from_the_disk_is_slow() {
        let pace = Pace::default();
        for _ in 0..200 {
            after(&pace, 2, 10);
            after(&pace, 1, 300);
        }
        assert!(pace.is_slow());
    }

    #[test]
    fn slow_ends_when_nearly_all_come_from_memory() {
        let pace = Pace::default();
        assert!(after(&pace, 200, 300));
        assert!(after(&pace, 1_000, 40), "between the two bounds nothing changes");
        assert!(!after(&pace, 1_000, 10));
        assert!(!after(&pace, 1_000, 40), "between the two bounds nothing changes");
    }

    fn fetches(count: usize) -> impl Iterator<Item = Fetch> {
        let last = Arc::new(oneshot::channel().0);
        (0..count).map(move |key| Fetch {
            key: Bytes::from(key.to_string()),
            _last: last.clone(),
        })
    }

    #[test]
    fn there_are_as_many_threads_as_fetches_up_to_a_bound() {
        let queue = Fetches::default();
        assert_eq!(queue.add(fetches(2)), 2);
        assert_eq!(queue.add(fetches(1)), 1, "nothing was taken yet");
        assert_eq!(queue.add(fetches(100)), MAX_THREADS - 3);
        assert_eq!(queue.add(fetches(1)), 0);
    }

    #[test]
    fn a_thread_that_finds_nothing_is_replaced_when_something_comes() {
        let queue = Fetches::default();
        assert_eq!(queue.add(fetches(2)), 2);
        assert_eq!(queue.next().unwrap().key, "0");
        assert_eq!(queue.next().unwrap().key, "1");
        assert!(queue.next().is_none());
        assert_eq!(queue.add(fetches(1)), 0, "the other thread is still there");
        assert!(queue.next().is_some() && queue.next().is_none());
        assert_eq!(queue.add(fetches(1)), 1);
    }
}
