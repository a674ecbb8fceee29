//! The router: takes HTTP, and sends each operation to the leader of the range that holds its keys.
//!
//! It keeps nothing: any number of routers serve a cluster, and one that dies takes only its open connections with it.
//!
//! # How it is built
//! ```text
//! client ─▶ http (listener ─▶ front ─▶ kv │ scan │ health) ─▶ point │ scan ─▶ sender ─▶ store
//!                                                              sessions ─┘      │ ▲
//!           placement driver ─▶ map_feed ─▶ directory (range_cache, addresses) ◀┘ └─ retry
//! ```
//! * `range_cache` knows which range holds a key, from descriptions of any age in any order. Pure.
//! * `retry` decides what follows a failed attempt; no other place does. Pure.
//! * `sessions` names writes, so that one can be sent twice and is applied once.
//! * `sender` makes the attempts of one operation, and teaches the `directory` what stores refuse it with.
//! * `point` and `scan` are the operations; a scan walks range after range, a page at a time.
//! * `gate` lets requests in by the rules that the driver tells; `quota` bounds what one principal may use. Pure decisions.
//! * `http` parses, answers, and bounds what clients may ask for. There is no task a request: a client's connection polls
//!   its request down to the store's answer.
//!
//! With the placement driver away everything goes on: routes are cached, and stores tell better ones.
#![forbid(unsafe_code)]

mod config;
mod cursor;
mod directory;
mod explain;
mod gate;
mod http;
mod map_feed;
pub mod metrics;
mod places;
mod point;
mod quota;
mod range_cache;
mod retry;
mod scan;
mod sender;
mod server;
mod sessions;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use self::config::{Config, Limits};
pub use self::http::decoding;
pub use self::server::{Error, Router};

/// Renders every metric of the process in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Runs a router until `shutdown`, then finishes the requests in flight and returns.
///
/// The recorder that `render_metrics` reads is installed before this is called.
///
/// # Errors
/// The configuration is not valid, or the HTTP address can't be bound.
pub async fn run(
    config: Config,
    render_metrics: RenderMetrics,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    Router::bind(config, render_metrics).await?.serve(shutdown).await;
    Ok(())
}
