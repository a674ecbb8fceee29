//! What breaks a cluster on purpose: a [`schedule`](mod@schedule) that a seed decides, and [`perform`] that carries it out on a
//! [`Site`](crate::site::Site), while [`changes`] split, merge and move its ranges all along.

pub mod changes;
pub mod perform;
pub mod schedule;

pub use perform::{Nemesis, Summary};
pub use schedule::{Cut, Fault, Planned, Victim, schedule};
