//! What is asked of a replica: how much, and, while it is busy, for which keys.
//!
//! [`Meter`] stands in the way of every request and costs it a few relaxed additions. [`judge()`] looks at a sample of the
//! requests and says where the range could be cut, or that one key draws them. Both know nothing of time: the heartbeat asks
//! them at its pace.

mod judge;
mod meter;

pub(crate) use self::judge::judge;
pub(crate) use self::meter::{Meter, Totals};
