//! What the metrics of routers and stores say of the last seconds: traffic, latency, and where the time of a write goes.
//!
//! [`survey`] asks them while this member leads; [`exposition`] reads what they answer, [`histogram`] and [`sample`] make
//! figures of two answers in a row, and [`history`] keeps those for as long as a chart is wide. A monitoring system does this
//! better and for longer; this is so that the console has something to show without one.

pub(crate) mod exposition;
pub(crate) mod histogram;
pub(crate) mod history;
pub(crate) mod sample;
pub(crate) mod survey;
