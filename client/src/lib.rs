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
//! # A cluster that asks who you are
//! ```no_run
//! # fn example(token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use holdfast_client::{Client, Options, Tls, Token};
//!
//! let options = Options {
//!     tls: Some(Tls::trusting(std::fs::read("pki/ca.pem")?)),
//!     token: Some(Token::new(token)?),
//!     ..Options::default()
//! };
//! let client = Client::with("https://kv.example.com:7400", options)?;
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
mod lines;
mod names;
mod operations;
mod removal;
mod retry;
mod scan;
mod security;
mod text;

pub use self::client::{Client, Options, Record, Write, Written};
pub use self::error::{Error, Problem};
pub use self::operations::{Condition, Operation, Outcome, Transacted, Txn};
pub use self::scan::{Item, Scan};
pub use self::security::{Tls, Token};
