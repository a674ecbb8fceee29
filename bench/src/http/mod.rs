//! A minimal HTTP/1.1 client for load generation: one request under way on one keep-alive connection.
//!
//! * [`response`]: the pure half, which finds the end of an answer in the bytes received so far.
//! * [`connection`]: the socket and its two reused buffers.
//! * [`endpoint`]: where that socket leads to, in plain text or by TLS, and in whose name.
//!
//! What is absent on purpose: redirects, pipelining, chunked transfer coding, `Expect`. A server that answers in a
//! form not spoken here gets a typed error, never a guess.

mod connection;
mod endpoint;
mod response;

pub use connection::{Connection, RequestError, Response};
pub use endpoint::{Access, Endpoint};
pub use response::{Framing, Malformed, frame};
