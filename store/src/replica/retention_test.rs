use super::*;

const ENTRY: u64 = 200;

/// A log of small entries, looked at every hundred of them.
struct Log {
    state: LogState,
    retention: Retention,
    now: Instant,
}

impl Log {
    fn new() -> Self {
        Self {
            state: LogState::default(),
            retention: Retention::default(),
            now: Instant::now(),
        }
    }

    fn apply(&mut self, entries: u64, entry_bytes: u64, matched: &[u64]) {
        let mut left = entries;
        while left > 0 {
            let step = left.min(100);
            left -= step;
            self.state.applied += step;
            self.state.bytes += step * entry_bytes;
            self.look(matched);
        }
    }

    fn look(&mut self, matched: &[u64]) {
        self.retention.observe(&self.state, matched, self.now);
    }

    fn compact(&mut self) {
        self.state.compacted = self.state.applied;
    }

    fn purge(&mut self, matched: &[u64]) -> u64 {
        if let Some(upto) = self.retention.purge(&self.state, matched) {
            assert!(upto > self.state.purged, "a purge goes forward");
            assert!(upto <= self.state.compacted, "only what is durable goes");
            self.state.purged = upto;
        }
        self.state.purged
    }
}

#[tokio::test]
async fn entries_make_a_compaction_due() {
    let mut log = Log::new();
    assert_eq!(log.retention.compaction(&log.state), Compaction::No);
    log.apply(249, ENTRY, &[]);
    assert_eq!(log.retention.compaction(&log.state), Compaction::No);
    log.apply(1, ENTRY, &[]);
    assert_eq!(log.retention.compaction(&log.state), Compaction::Along);
    log.apply(750, ENTRY, &[]);
    assert_eq!(log.retention.compaction(&log.state), Compaction::Due);
    log.compact();
    assert_eq!(log.retention.compaction(&log.state), Compaction::No);
}

#[tokio::test]
async fn a_few_large_entries_make_one_due_too() {
    let mut log = Log::new();
    log.apply(1, 1 << 20, &[]);
    log.compact();
    for _ in 0..3 {
        log.apply(1, 1 << 20, &[]);
        assert_eq!(log.retention.compaction(&log.state), Compaction::Along);
    }
    log.apply(1, 1 << 20, &[]);
    assert_eq!(log.retention.compaction(&log.state), Compaction::Due);
}

#[tokio::test]
async fn little_is_kept_for_nobody() {
    let mut log = Log::new();
    log.apply(10_000, ENTRY, &[]);
    assert_eq!(log.purge(&[]), 0, "nothing is durable yet");
    log.compact();
    assert_eq!(log.purge(&[]), 9_000);
    log.apply(200, ENTRY, &[]);
    log.compact();
    assert_eq!(log.purge(&[]), 9_000, "too few to purge");
}

#[tokio::test]
async fn of_large_entries_fewer_are_kept() {
    let mut log = Log::new();
    for _ in 0..100 {
        log.apply(1, 1 << 20, &[]);
    }
    log.compact();
    let purged = log.purge(&[]);
    assert!(
        (90..=96).contains(&purged),
        "4 MiB are kept, not {}",
        100 - purged
    );
}

#[tokio::test]
async fn a_leader_waits_for_who_lags() {
    let mut log = Log::new();
    let others = [9_990, 3_000];
    log.apply(10_000, ENTRY, &others);
    log.compact();
    assert_eq!(log.purge(&others), 3_000);
    log.apply(30_000, ENTRY, &others);
    log.compact();
    let purged = log.purge(&others);
    assert_eq!(purged, 20_000, "and not for ever");
    assert_eq!(log.purge(&[39_000, 3_000]), 39_000, "it needs a snapshot by now");
}

#[tokio::test]
async fn what_follows_a_snapshot_under_way_is_kept() {
    let mut log = Log::new();
    log.apply(10_000, ENTRY, &[10_000, 0]);
    log.compact();
    assert_eq!(log.purge(&[10_000, 10_000]), 9_000);
    log.apply(1_000, ENTRY, &[11_000, 0]);
    log.compact();
    assert_eq!(
        log.purge(&[11_000, 0]),
        10_000,
        "who has nothing needs a snapshot anyway"
    );
    log.state.sent = 11_000;
    log.apply(50_000, ENTRY, &[61_000, 0]);
    log.compact();
    assert_eq!(log.purge(&[61_000, 0]), 11_000, "until it has arrived");
    // A second one, to somebody else, does not make the first forgotten.
    log.state.sent = 61_000;
    log.look(&[61_000, 0]);
    assert_eq!(log.purge(&[61_000, 0]), 11_000);
    // Installed: from here on it lags like anybody.
    log.look(&[61_000, 11_000]);
    assert_eq!(log.purge(&[61_000, 11_000]), 41_000);
}

#[tokio::test]
async fn a_snapshot_that_never_arrives_is_given_up() {
    let mut log = Log::new();
    log.apply(10_000, ENTRY, &[10_000, 0]);
    log.compact();
    log.purge(&[10_000, 10_000]);
    log.state.sent = 10_000;
    log.look(&[10_000, 0]);
    log.apply(10_000, ENTRY, &[20_000, 0]);
    log.compact();
    assert_eq!(log.purge(&[20_000, 0]), 10_000);
    log.now += SENT_TIME + Duration::from_secs(1);
    log.look(&[20_000, 0]);
    assert_eq!(log.purge(&[20_000, 0]), 19_000);
}

#[tokio::test]
async fn what_is_kept_for_a_snapshot_is_bounded() {
    let mut log = Log::new();
    log.apply(10_000, ENTRY, &[10_000, 0]);
    log.state.sent = 10_000;
    log.look(&[10_000, 0]);
    for _ in 0..1_000 {
        log.apply(1, 1 << 20, &[10_000, 0]);
    }
    log.compact();
    let purged = log.purge(&[10_000, 0]);
    // The marks lie apart by now: up to twice the bound is kept.
    assert!(purged >= 11_000 - 128, "1,000 MiB are not kept: {purged}");
    assert!(purged <= 11_000 - 64);
}

#[tokio::test]
async fn a_replica_that_starts_over_starts_over() {
    let mut log = Log::new();
    log.apply(5_000, ENTRY, &[]);
    log.state.applied = 10;
    log.look(&[]);
    log.apply(100, ENTRY, &[]);
    assert_eq!(log.retention.trail.bytes_behind(10), 100 * ENTRY);
}
