//! What is asked of a replica whose timers may be stopped, and what comes of it: pure.
//!
//! Timers see to two things that a sleeper that is asked for something still needs now and then: that followers hear of the
//! last commit though nothing follows it, and that a leader whom nobody answers goes about it in another way. Both are found
//! by looking at what has changed between two looks.

use std::time::Duration;

use holdfast_common::clock::Instant;

/// How long a leader must have been quiet before its followers are told once more what is committed. While it is not, what
/// is asked next tells them.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// For how long after anything was asked there may be something to look after.
const STIRS_FOR: Duration = Duration::from_secs(5);

/// What changes when anything is asked of a replica, or comes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Requests that read from it, ever.
    pub reads: u64,
    /// Requests that wrote to it, ever.
    pub writes: u64,
    /// Index of its last entry.
    pub last_index: Option<u64>,
    /// Index of the last entry that it applied.
    pub applied: Option<u64>,
    /// How long ago it sent what a majority acknowledged last.
    pub acked: Option<Duration>,
    /// Whether a write or a read waits, or is in flight.
    pub waits: bool,
}

/// What a sleeping leader needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    Nothing,
    /// A heartbeat, which says what is committed.
    Heartbeat,
    /// To wake: what waits does not get on.
    Timers,
}

/// What was seen of a replica so far.
#[derive(Debug)]
pub(crate) struct Activity {
    seen: Trace,
    /// When that was.
    noted: Instant,
    /// When anything was last seen to have changed.
    stirred: Instant,
    /// When a read was last seen.
    read: Option<Instant>,
    /// Since when something waits and nothing gets on.
    stuck: Option<Instant>,
    /// The end of the log of whose commit its followers must have heard.
    told: Option<u64>,
}

impl Activity {
    /// Of a replica that begins.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            seen: Trace::default(),
            noted: now,
            stirred: now,
            read: None,
            stuck: None,
            told: None,
        }
    }

    /// Notes what is seen now. To be called regularly.
    pub(crate) fn note(&mut self, trace: Trace, now: Instant) {
        let asked = |trace: &Trace| (trace.reads, trace.writes, trace.last_index, trace.applied);
        if asked(&self.seen) != asked(&trace) || trace.waits {
            self.stirred = now;
        }
        if self.seen.reads != trace.reads {
            self.read = Some(now);
        }
        let since = now.saturating_duration_since(self.noted);
        let gets_on = self.seen.applied != trace.applied || trace.acked.is_some_and(|acked| acked < since);
        if gets_on || !trace.waits {
            self.stuck = None;
        } else {
            self.stuck.get_or_insert(now);
        }
        self.seen = trace;
        self.noted = now;
    }

    /// Whether there may be anything to look after.
    pub(crate) fn stirs(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.stirred) < STIRS_FOR
    }

    /// Whether it was read from within `time`.
    pub(crate) fn was_read_within(&self, time: Duration, now: Instant) -> bool {
        self.read
            .is_some_and(|read| now.saturating_duration_since(read) < time)
    }

    /// Its timers run: they tell the followers.
    pub(crate) fn timers_run(&mut self) {
        self.told = self.seen.last_index;
    }

    /// What it needs, sleeping as a leader. `patience`: for how long what waits may not get on. A heartbeat is asked for once.
    pub(crate) fn need(&mut self, patience: Duration, now: Instant) -> Need {
        if self
            .stuck
            .is_some_and(|since| now.saturating_duration_since(since) >= patience)
        {
            return Need::Timers;
        }
        let is_quiet = now.saturating_duration_since(self.stirred) >= TELL_AFTER;
        if is_quiet && self.told != self.seen.last_index {
            self.told = self.seen.last_index;
            return Need::Heartbeat;
        }
        Need::Nothing
    }
}

#[cfg(test)]
mod tests {
    use holdfast_common::clock;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(450);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn written(index: u64) -> Trace {
        Trace {
            writes: index,
            last_index: Some(index),
            applied: Some(index),
            ..Trace::default()
        }
    }

    #[test]
    fn followers_are_told_of_the_last_commit_once_nothing_follows_it() {
        let begin = clock::now();
        let mut activity = Activity::new(begin);
        activity.note(written(1), begin);
        activity.timers_run();
        activity.note(written(2), begin + ms(200));
        activity.note(written(3), begin + ms(900));
        assert_eq!(
            activity.need(PATIENCE, begin + ms(1_800)),
            Need::Nothing,
            "not quiet for long"
        );
        activity.note(written(3), begin + ms(1_900));
        assert_eq!(activity.need(PATIENCE, begin + ms(1_900)), Need::Heartbeat);
        assert_eq!(activity.need(PATIENCE, begin + ms(2_100)), Need::Nothing, "once");
        activity.note(written(4), begin + ms(2_200));
        assert_eq!(activity.need(PATIENCE, begin + ms(3_200)), Need::Heartbeat);
    }

    #[test]
    fn a_leader_that_only_reads_tells_nothing() {
        let begin = clock::now();
        let mut activity = Activity::new(begin);
        activity.note(written(1), begin);
        activity.timers_run();
        let read = Trace {
            reads: 9,
            ..written(1)
        };
        activity.note(read, begin + ms(200));
        assert_eq!(activity.need(PATIENCE, begin + ms(9_000)), Need::Nothing);
        assert!(activity.was_read_within(ms(300), begin + ms(400)));
        assert!(!activity.was_read_within(ms(300), begin + ms(500)));
    }

    #[test]
    fn what_waits_and_does_not_get_on_needs_timers() {
        let begin = clock::now();
        let mut activity = Activity::new(begin);
        activity.note(written(1), begin);
        activity.timers_run();
        let waits = Trace {
            last_index: Some(2),
            waits: true,
            ..written(1)
        };
        activity.note(waits, begin + ms(200));
        activity.note(waits, begin + ms(400));
        assert_eq!(activity.need(PATIENCE, begin + ms(649)), Need::Nothing);
        assert_eq!(activity.need(PATIENCE, begin + ms(650)), Need::Timers);
        // A majority answers: the disk may be slow, but heartbeats would not help.
        let acked = |age| Trace {
            acked: Some(ms(age)),
            ..waits
        };
        activity.note(acked(100), begin + ms(650));
        assert_eq!(activity.need(PATIENCE, begin + ms(700)), Need::Nothing);
        activity.note(acked(250), begin + ms(800));
        assert_eq!(activity.need(PATIENCE, begin + ms(1_250)), Need::Timers);
        activity.note(written(2), begin + ms(1_300));
        assert_eq!(activity.need(PATIENCE, begin + ms(1_300)), Need::Nothing);
    }

    #[test]
    fn a_replica_stirs_for_some_time_after_it_was_asked_for_something_and_while_that_waits() {
        let begin = clock::now();
        let mut activity = Activity::new(begin);
        activity.note(written(1), begin + ms(1_000));
        assert!(activity.stirs(begin + ms(5_999)));
        assert!(!activity.stirs(begin + ms(6_000)));
        let waits = Trace {
            waits: true,
            ..written(1)
        };
        activity.note(waits, begin + ms(6_000));
        assert!(activity.stirs(begin + ms(6_001)));
    }
}
