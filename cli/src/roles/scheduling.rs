//! How the kernel's scheduler treats a process that serves.

use clap::ValueEnum;
use rustix::process::getpriority_process;
use serde::{Deserialize, Serialize};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id, thread_schedule_policy,
};

const ORDINARY: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
const BATCH: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);

/// Niceness 0 in the library's scale.
const NOT_NICE: u8 = 48;

/// What happens when a thread of this process wakes up and all processors are busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scheduling {
    /// It waits for its turn, some milliseconds at most (`SCHED_BATCH`). Whoever runs gets further with what it has before it: more
    /// requests in one read, more entries in one fsync, fewer switches. Best where Holdfast is what keeps the processors busy.
    #[default]
    Batch,
    /// It may take the processor from whoever runs. Best beside other programs that compute all the time.
    Usual,
}

impl Scheduling {
    /// Applies to this thread and those that it starts from here on. A process that was given another policy or niceness
    /// from outside keeps it.
    pub(super) fn take_effect(self) {
        let is_ordinary = getpriority_process(None) == Ok(0) && thread_schedule_policy() == Ok(ORDINARY);
        let Ok(not_nice) = ThreadPriority::try_from(NOT_NICE) else {
            return;
        };
        if self == Self::Usual || !is_ordinary {
            return;
        }
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), not_nice, BATCH) {
            tracing::debug!(?error, "the scheduling policy stays as it is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The niceness and the policy of a thread that a thread of this scheduling starts, and those of this one.
    fn inherited(scheduling: Scheduling) -> [(i32, ThreadSchedulePolicy); 2] {
        let now = || {
            let nice = getpriority_process(None).expect("a niceness");
            (nice, thread_schedule_policy().expect("a policy"))
        };
        let child = std::thread::spawn(move || {
            scheduling.take_effect();
            std::thread::spawn(now).join().expect("no panic")
        });
        [child.join().expect("no panic"), now()]
    }

    #[test]
    fn batch_is_for_this_thread_and_its_children_and_leaves_the_niceness() {
        let [child, here] = inherited(Scheduling::Batch);
        let expected = if here == (0, ORDINARY) { (0, BATCH) } else { here };
        assert_eq!(child, expected);
    }

    #[test]
    fn usual_changes_nothing() {
        let [child, here] = inherited(Scheduling::Usual);
        assert_eq!(child, here);
    }
}
