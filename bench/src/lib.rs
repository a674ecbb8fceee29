//! Load generation for Holdfast and for the peers it is measured against.
//!
//! A [`Workload`] says what to do (which operations, over which keys, by how many clients, for how long); a [`Target`] says
//! to whom; [`run`] does it and returns a [`Report`]. [`load`] writes the key set first, so that reads have something to find.
//!
//! # How it is built
//! ```text
//! workload ─▶ plan (pure: seed → operations) ─▶ driver ─▶ session ─▶ http::Connection │ http::Share │ etcd
//!                keys, zipf                       │
//!                                                 └─▶ recorder ─▶ report
//! ```
//! * **The client must be cheap.** Generator and cluster usually share a machine, so each microsecond spent here is one that
//!   the cluster does not get. A client thread runs one `current_thread` runtime; each client owns one keep-alive connection
//!   spoken by the small HTTP/1.1 client in [`http`], which writes a request with one system call and reads the answer with
//!   one more, from buffers that it reuses; or it shares one with others by HTTP/2, as clients of gRPC do.
//! * **Two ways to apply load.** Closed: each client sends its next request when the last is answered, which measures
//!   capacity. Open (`rate`): requests are due at fixed instants whatever the server does, and latency counts from the
//!   instant a request was *due*, so a stall shows in every request that it delayed (no coordinated omission).
//! * **Time is the measurement.** This crate reads the monotonic clock directly, and takes all its randomness from the
//!   workload's seed.

#![forbid(unsafe_code)]

mod args;
mod driver;
#[cfg(feature = "etcd")]
pub mod etcd;
mod holdfast;
pub mod http;
mod keys;
mod library;
mod loading;
mod pacing;
mod plan;
mod recorder;
mod report;
mod session;
mod workload;
mod zipf;

pub use args::{LoadArgs, sharing};
pub use driver::run;
pub use holdfast::Routes;
pub use http::Access;
pub use keys::{Key, KeySpace};
pub use library::Routers;
pub use loading::load;
pub use report::{Latency, LoadReport, OperationReport, Report};
pub use session::{Failure, Target};
pub use workload::{Consistency, Distribution, InvalidWorkload, Kind, Workload, Ycsb};

/// Why a run produced no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The workload's parameters contradict each other or are out of bounds.
    #[error(transparent)]
    InvalidWorkload(#[from] InvalidWorkload),
    /// The target's address could not be understood.
    #[error("cannot use target {target:?}: {reason}")]
    InvalidTarget {
        /// The address as it was given.
        target: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A client could not connect before the load started.
    #[error("cannot connect to {target}: {failure}")]
    Connect {
        /// The address dialled.
        target: String,
        /// How it failed.
        failure: Failure,
    },
    /// A key could not be written while loading the key set, after every retry.
    #[error("cannot load key {key}: {failure}")]
    Load {
        /// The key as text.
        key: String,
        /// How its last attempt failed.
        failure: Failure,
    },
    /// The operating system refused a runtime, a thread or a timer.
    #[error("cannot start the load generator: {0}")]
    System(#[from] std::io::Error),
}
