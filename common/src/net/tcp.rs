//! TCP, from one place: the operating system's, or in tests with the feature `simulation` a simulated one.

#[cfg(feature = "simulation")]
pub use crate::simulation::tcp::{OwnedReadHalf, OwnedWriteHalf, TcpListener, TcpStream};
#[cfg(not(feature = "simulation"))]
pub use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
#[cfg(not(feature = "simulation"))]
pub use tokio::net::{TcpListener, TcpStream};
