//! Minimal HTTP clients for load generation: HTTP/1.1, one request under way on one keep-alive connection, and HTTP/2, a
//! connection that clients share.
//!
//! * [`response`]: the pure half, which finds the end of an answer in the bytes received so far.
//! * [`connection`]: the socket and its two reused buffers.
//! * [`shared`]: HTTP/2, and who of several clients dials.
//! * [`endpoint`]: where a socket leads to, in plain text or by TLS, and in whose name.
//!
//! What is absent on purpose: redirects, pipelining, chunked transfer coding, `Expect`. A server that answers in a
//! form not spoken here gets a typed error, never a guess.

mod connection;
mod endpoint;
mod response;
mod shared;

pub use connection::{Connection, RequestError, Response};
pub use endpoint::{Access, Endpoint};
pub use response::{Framing, Malformed, frame};
pub use shared::{Party, Share};
