//! A client of Holdfast.
//!
//! ```no_run
//! # async fn example() -> Result<(), holdfast_client::Error> {
//! use holdfast_client::{Client, Condition};
//!
//! let client = Client::new("http://127.0.0.1:7400")?;
//! let written = client.put("greeting", "hello").await?;
//! let record = client.get("greeting").await?.expect("it was written");
//! assert_eq!((&record.value[..], record.revision), (&b"hello"[..], written.revision));
//!
//! // Compare-and-set: only if nobody was faster.
//! let outcome = client
//!     .write("greeting", "hello again")
//!     .only_if(Condition::Revision(record.revision))
//!     .send()
//!     .await;
//! if let Err(error) = outcome {
//!     assert!(error.is_precondition());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is repeated
//! A request that was not applied, as the router says or because nothing was connected, is sent again after a pause, until the
//! client's time for it is over ([`Options::timeout`]). A *write* whose answer was lost, or which the router calls unknown (504),
//! is repeated too: each carries an `Idempotency-Key`, under which it is applied once. What stays unknown when the time is
//! over is [`Error::OutcomeUnknown`]; every other error means that nothing was applied.
#![forbid(unsafe_code)]

mod client;
mod error;
mod operations;
mod retry;
mod scan;
mod text;

pub use self::client::{Client, Options, Record, Write, Written};
pub use self::error::{Error, Problem};
pub use self::operations::{Condition, Operation, Outcome, Transacted, Txn};
pub use self::scan::{Item, Scan};
