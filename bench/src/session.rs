//! One client's dealings with the target: what an operation is on the wire, and what its answer counts as.

use std::io;

use crate::{
    Error,
    holdfast::{HoldfastSession, Routes},
    http::{Access, RequestError},
    keys::Key,
    library::{LibrarySession, Routers},
    workload::Consistency,
};

/// Whom to load.
#[derive(Clone, Debug)]
pub enum Target {
    /// A Holdfast cluster, through its routers.
    Holdfast(Routes),
    /// A Holdfast cluster, by way of the client crate.
    Library(Routers),
    /// An etcd member.
    #[cfg(feature = "etcd")]
    Etcd(crate::etcd::Endpoint),
}

/// What a successful operation found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Done,
    NotFound,
}

/// How an operation failed; reports count failures by this.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Failure {
    /// An HTTP status other than the expected ones.
    #[error("status {0}")]
    Status(u16),
    /// A gRPC status other than OK, by its number.
    #[error("grpc code {0}")]
    Grpc(i32),
    /// No answer within the workload's timeout.
    #[error("timeout")]
    Timeout,
    /// The connection was refused, or dialling failed otherwise.
    #[error("connect: {0}")]
    Connect(io::ErrorKind),
    /// The target closed the connection before it answered.
    #[error("connection closed")]
    Closed,
    /// The socket failed.
    #[error("socket: {0}")]
    Io(io::ErrorKind),
    /// The client crate gave up: nothing was applied.
    #[error("unavailable")]
    Unavailable,
    /// The client crate gave up on a write that may have been applied.
    #[error("outcome unknown")]
    OutcomeUnknown,
    /// The answer could not be understood.
    #[error("malformed answer")]
    Malformed,
}

/// One client.
#[derive(Debug)]
pub(crate) enum Session {
    Holdfast(HoldfastSession),
    Library(LibrarySession),
    #[cfg(feature = "etcd")]
    Etcd(crate::etcd::EtcdSession),
}

impl Target {
    /// A Holdfast cluster that asks nobody who they are, from its routers' addresses: `http://HOST:PORT` or `HOST:PORT`, at
    /// least one.
    pub fn holdfast<S: AsRef<str>>(routers: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        Self::holdfast_as(routers, &Access::default())
    }

    /// A Holdfast cluster in somebody's name, from its routers' addresses, which may be `https://HOST:PORT`.
    pub fn holdfast_as<S: AsRef<str>>(
        routers: impl IntoIterator<Item = S>,
        access: &Access,
    ) -> Result<Self, Error> {
        Routes::resolve(routers, access).map(Self::Holdfast)
    }

    /// Has so many clients of a Holdfast cluster share a connection, by HTTP/2, where it is more than one; otherwise each has its
    /// own, by HTTP/1.1. Other targets are as they were.
    #[must_use]
    pub fn with_clients_per_connection(self, clients: usize) -> Self {
        match self {
            Self::Holdfast(routes) => Self::Holdfast(routes.with_clients_per_connection(clients)),
            other => other,
        }
    }

    /// A Holdfast cluster, by way of the client crate.
    ///
    /// # Errors
    /// An address or a credential can't be used.
    pub fn library(routers: Routers) -> Result<Self, Error> {
        routers.checked().map(Self::Library)
    }

    /// The system's name, as reports show it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Holdfast(_) => "holdfast",
            Self::Library(_) => "holdfast, by its client",
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => "etcd",
        }
    }
}

/// Connects clients `clients` to the target, each over what it will use.
pub(crate) async fn connect(
    target: &Target,
    clients: std::ops::Range<usize>,
    consistency: Consistency,
) -> Result<Vec<Session>, Error> {
    match target {
        Target::Holdfast(routes) => {
            let sessions = routes.connect(clients, consistency).await?;
            Ok(sessions.into_iter().map(Session::Holdfast).collect())
        }
        Target::Library(routers) => {
            let sessions = routers.connect(clients, consistency).await?;
            Ok(sessions.into_iter().map(Session::Library).collect())
        }
        #[cfg(feature = "etcd")]
        Target::Etcd(endpoint) => {
            let sessions = crate::etcd::connect(endpoint, clients.len(), consistency).await?;
            Ok(sessions.into_iter().map(Session::Etcd).collect())
        }
    }
}

impl Session {
    pub(crate) async fn put(&mut self, key: Key, value: &[u8]) -> Result<Answer, Failure> {
        match self {
            Self::Holdfast(session) => session.put(key, value).await,
            Self::Library(session) => session.put(key, value).await,
            #[cfg(feature = "etcd")]
            Self::Etcd(session) => session.put(key, value).await,
        }
    }

    pub(crate) async fn get(&mut self, key: Key) -> Result<Answer, Failure> {
        match self {
            Self::Holdfast(session) => session.get(key).await,
            Self::Library(session) => session.get(key).await,
            #[cfg(feature = "etcd")]
            Self::Etcd(session) => session.get(key).await,
        }
    }

    pub(crate) async fn scan(&mut self, from: Key, limit: u32) -> Result<Answer, Failure> {
        match self {
            Self::Holdfast(session) => session.scan(from, limit).await,
            Self::Library(session) => session.scan(from, limit).await,
            #[cfg(feature = "etcd")]
            Self::Etcd(session) => session.scan(from, limit).await,
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Closed | RequestError::NotSent => Self::Closed,
            RequestError::Io(error) => Self::Io(error.kind()),
            RequestError::Malformed(_)
            | RequestError::Surplus
            | RequestError::Http2(_)
            | RequestError::Unsendable => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_are_taken_with_or_without_scheme() {
        for text in [
            "http://127.0.0.1:7400",
            "127.0.0.1:7400",
            "http://127.0.0.1:7400/",
        ] {
            match Target::holdfast([text]) {
                Ok(Target::Holdfast(routes)) => {
                    let addresses: Vec<_> = routes.addresses().collect();
                    assert_eq!(addresses, ["127.0.0.1:7400".parse().expect("an address")])
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        for text in ["https://127.0.0.1:7400", "127.0.0.1", "http://", ""] {
            assert!(
                matches!(Target::holdfast([text]), Err(Error::InvalidTarget { .. })),
                "{text:?}"
            );
        }
        assert!(Target::holdfast::<&str>([]).is_err());
    }
}
