//! Counters in the way of every request, and a bounded sample of the keys asked for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use holdfast_common::clock;
use holdfast_common::load::{read_units, write_units};
use parking_lot::Mutex;

/// Most requests that a sample holds; older ones go first.
const MAX_REQUESTS: usize = 256;

/// Most bytes of keys that a sample holds.
const MAX_KEY_BYTES: usize = 128 * 1024;

/// No request is due to be sampled.
const NEVER: u64 = u64::MAX;

/// Which keys a request touched: from the first to the last, which is the same for one key.
pub(crate) type Touched = (Bytes, Bytes);

/// Counts what is asked of a replica. Shared by the threads that serve it.
///
/// A request is sampled when the units of work counted so far pass `due`, which then moves on by a random step of `stride`
/// on average: in proportion to the work, and not in step with any pattern of the requests. Only a sampled request takes
/// the lock and allocates; one that finds the lock taken is not sampled.
#[derive(Default)]
pub(crate) struct Meter {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    sampling: Sampling,
}

/// What was counted since the replica started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
}

struct Sampling {
    work: AtomicU64,
    due: AtomicU64,
    stride: AtomicU64,
    sample: Mutex<Sample>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            work: AtomicU64::new(0),
            due: AtomicU64::new(NEVER),
            stride: AtomicU64::new(1),
            sample: Mutex::default(),
        }
    }
}

#[derive(Default)]
struct Sample {
    requests: VecDeque<Touched>,
    bytes: usize,
}

impl Meter {
    /// Counts a read that touched the keys from `first` to `last` and was answered with `bytes` of keys and values.
    pub(crate) fn read(&self, first: &[u8], last: &[u8], bytes: usize) {
        let bytes = bytes as u64;
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sampling.work(read_units(1, bytes), || (first, last));
    }

    /// Counts writes that were carried out together, each with its key and the bytes of key and value.
    pub(crate) fn write<'a>(&self, writes: impl Iterator<Item = (&'a [u8], usize)>) {
        let (mut count, mut total) = (0, 0);
        for (key, bytes) in writes {
            let bytes = bytes as u64;
            (count, total) = (count + 1, total + bytes);
            self.sampling.work(write_units(1, bytes), || (key, key));
        }
        self.writes.fetch_add(count, Ordering::Relaxed);
        self.written_bytes.fetch_add(total, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn totals(&self) -> Totals {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            reads: of(&self.reads),
            read_bytes: of(&self.read_bytes),
            writes: of(&self.writes),
            written_bytes: of(&self.written_bytes),
        }
    }

    /// Samples one request every `stride` units of work, on average.
    pub(crate) fn sample_every(&self, stride: u64) {
        let sampling = &self.sampling;
        sampling.stride.store(stride.max(1), Ordering::Relaxed);
        if sampling.due.load(Ordering::Relaxed) == NEVER {
            let now = sampling.work.load(Ordering::Relaxed);
            sampling.due.store(now + 1, Ordering::Relaxed);
        }
    }

    /// Samples no more, and forgets the sample.
    pub(crate) fn stop_sampling(&self) {
        self.sampling.due.store(NEVER, Ordering::Relaxed);
        *self.sampling.sample.lock() = Sample::default();
    }

    /// The sample as it is, oldest first.
    pub(crate) fn sample(&self) -> Vec<Touched> {
        self.sampling.sample.lock().requests.iter().cloned().collect()
    }
}

impl Sampling {
    fn work<'a>(&self, units: u64, touched: impl FnOnce() -> (&'a [u8], &'a [u8])) {
        let done = self.work.fetch_add(units, Ordering::Relaxed) + units;
        if done >= self.due.load(Ordering::Relaxed) {
            self.take(done, touched());
        }
    }

    #[cold]
    fn take(&self, done: u64, (first, last): (&[u8], &[u8])) {
        let Some(mut sample) = self.sample.try_lock() else {
            return;
        };
        // Under the lock, so that one request is taken for one that was due; and it may have been told to stop.
        let due = self.due.load(Ordering::Relaxed);
        if due == NEVER || done < due {
            return;
        }
        let step = 1 + clock::random_below(2 * self.stride.load(Ordering::Relaxed));
        self.due.store(done + step, Ordering::Relaxed);
        sample.push(first, last);
    }
}

impl Sample {
    /// Copies the keys: a slice of a request would keep all that came with it in memory.
    fn push(&mut self, first: &[u8], last: &[u8]) {
        let head = Bytes::copy_from_slice(first);
        let tail = if last == first {
            head.clone()
        } else {
            Bytes::copy_from_slice(last)
        };
        self.bytes += head.len() + tail.len();
        self.requests.push_back((head, tail));
        while self.requests.len() > MAX_REQUESTS || self.bytes > MAX_KEY_BYTES {
            let Some((head, tail)) = self.requests.pop_front() else {
                return;
            };
            self.bytes -= head.len() + tail.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(meter: &Meter, key: &str) {
        meter.read(key.as_bytes(), key.as_bytes(), 10);
    }

    #[test]
    fn everything_is_counted_and_nothing_sampled_unasked() {
        let meter = Meter::default();
        get(&meter, "a");
        meter.write([(&b"a"[..], 3), (&b"b"[..], 4)].into_iter());
        let counted = Totals {
            reads: 1,
            read_bytes: 10,
            writes: 2,
            written_bytes: 7,
        };
        assert_eq!(meter.totals(), counted);
        assert_eq!(meter.sample(), []);
    }

    #[test]
    fn a_sample_is_in_proportion_and_bounded() {
        let meter = Meter::default();
        meter.sample_every(10);
        for i in 0..20_000 {
            get(&meter, if i % 4 == 0 { "rare" } else { "often" });
        }
        let sample = meter.sample();
        assert_eq!(sample.len(), MAX_REQUESTS, "of about 2,000 that were due");
        let rare = sample.iter().filter(|(first, _)| first == "rare").count();
        // A quarter of 256 is 64; six standard deviations are 42.
        assert!((22..=106).contains(&rare), "{rare}");
        meter.stop_sampling();
        get(&meter, "a");
        assert_eq!(meter.sample(), []);
    }

    #[test]
    fn long_keys_don_t_fill_the_memory() {
        let meter = Meter::default();
        meter.sample_every(1);
        let key = vec![b'k'; 4096];
        for _ in 0..1_000 {
            meter.read(&key, &key, 0);
        }
        assert!(meter.sample().len() <= MAX_KEY_BYTES / (2 * 4096));
        assert!(!meter.sample().is_empty());
    }

    #[test]
    fn heavy_requests_are_sampled_by_their_weight() {
        let meter = Meter::default();
        meter.sample_every(1_000);
        for _ in 0..2_000 {
            for _ in 0..9 {
                meter.read(b"light", b"light", 0);
            }
            meter.read(b"heavy", b"heavy", 90 * 4_096);
        }
        let sample = meter.sample();
        let heavy = sample.iter().filter(|(first, _)| first == "heavy").count();
        assert!(heavy * 4 > sample.len() * 3, "{heavy} of {}", sample.len());
    }
}
