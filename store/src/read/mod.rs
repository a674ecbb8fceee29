//! The read path: around the log.
//!
//! A linearizable read is answered on the task that read it from its connection, from memory or disk, without a task, a
//! channel or a wake-up, when the leader's [`lease`] holds; all reads of a range that arrive together share one look
//! at the lease. Otherwise it joins the next [round](index) that asks a quorum. A stale read is answered by any replica.
//!
//! Before a read is answered, and after it waited for anything, the range's epoch and span and the fence of a split are
//! checked: a range that changed its bounds in between must not answer.

pub(crate) mod index;
pub(crate) mod lease;
mod page;
pub(crate) mod point;
pub(crate) mod scan;
