//! Steps between two of which a process may end, and bugs that tests plant. Builds without the feature `failpoints` have none of it.
//!
//! A test has a process end where it reaches a step: one of a simulated machine by the world's [`Falls`](crate::simulation::falls::Falls), a real one by the
//! rules of the crate `fail` in its environment. With `FAILPOINTS="step:split-applied=1%return"` it aborts at one of a hundred.

/// Defines [`Step`] with its names.
macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal,)*) => {
        /// A step that has just been done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        #[cfg(feature = "failpoints")]
        impl Step {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$step,)*];

            /// What tests call it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$step => concat!("step:", $name),)*
                }
            }
        }
    };
}

steps! {
    /// A batch of the Raft log is written, and not synced.
    LogWritten = "log-written",
    /// A batch of the Raft log is synced, and nobody was told.
    LogSynced = "log-synced",
    /// A batch of the data is written, and not synced.
    DataWritten = "data-written",
    /// The data is synced, and nobody was told.
    DataSynced = "data-synced",
    /// An entry is applied, and its proposer was not answered.
    EntryApplied = "entry-applied",
    /// A child's place is free, and nothing of the split is written.
    SplitPrepared = "split-prepared",
    /// A split is written, and the child does not run.
    SplitApplied = "split-applied",
    /// The child of a split runs, and has not campaigned.
    ChildStarted = "child-started",
    /// A step of a merge (freezing, thawing) is applied, and nobody was told.
    MergeApplied = "merge-applied",
    /// A neighbour's replica has ended, and is noted as about to be taken over.
    TakeoverBegun = "takeover-begun",
    /// A neighbour's rows are this range's, and its replica is not buried.
    TakenOver = "taken-over",
    /// A replica that was taken over is about to be buried.
    Burying = "burying",
    /// A replica has its tombstone, and all its rows.
    DestroyBegun = "destroy-begun",
    /// A replica's rows are gone, and its log is not.
    RowsGone = "rows-gone",
    /// A replica's log is gone, and the intent is not.
    LogGone = "log-gone",
    /// A replica is noted as created, and does not run.
    ReplicaNoted = "replica-noted",
    /// The row of a range that begins is written, and the range does not run.
    RangeFounded = "range-founded",
    /// A snapshot is taken, and the data under it is not synced.
    SnapshotTaken = "snapshot-taken",
    /// A snapshot has arrived whole, and nothing of it is installed.
    SnapshotReceived = "snapshot-received",
    /// A snapshot's rows are in tables that no manifest knows.
    SnapshotStaged = "snapshot-staged",
    /// A snapshot is installed, and its file is there yet.
    SnapshotInstalled = "snapshot-installed",
    /// A change of members is applied, and nobody was told.
    MembersApplied = "members-applied",
    /// A change of members is committed, and the driver was not told.
    MembersChanged = "members-changed",
    /// The driver has applied a command, and its proposer was not answered.
    CommandApplied = "command-applied",
    /// The driver's snapshot is written, and the log before it is there yet.
    DriverSaved = "driver-saved",
    /// A scheduler's operator is begun, and no store was told.
    OperatorBegun = "operator-begun",
    /// A store has done what an operator asked, and the driver has not taken note.
    StepTold = "step-told",
    /// An operator is a step further, and nobody was told.
    OperatorAdvanced = "operator-advanced",
    /// A store is registered, and was not answered.
    StoreRegistered = "store-registered",
    /// A store knows who it is, and its directory does not say so.
    StoreNamed = "store-named",
}

/// A step has been done: here the process ends, if a test would have it so.
#[inline]
pub fn reached(step: Step) {
    #[cfg(feature = "failpoints")]
    fall_at(step);
    #[cfg(not(feature = "failpoints"))]
    let _ = step;
}

#[cfg(feature = "failpoints")]
fn fall_at(step: Step) {
    #[cfg(feature = "simulation")]
    if let Some(here) = crate::simulation::here() {
        return here.world.reached(here.machine, step);
    }
    if fail::eval(step.name(), |_| ()).is_some() {
        std::process::abort();
    }
}

/// Whether a test has something go wrong here: `FAILPOINTS="answer-lost=5%return"` has one answer of twenty lost.
#[inline]
pub fn fires(name: &'static str) -> bool {
    #[cfg(feature = "failpoints")]
    if fail::eval(name, |_| ()).is_some() {
        return true;
    }
    let _ = name;
    false
}
