//! One client's dealings with the target: what an operation is on the wire, and what its answer counts as.

use std::{io, net::ToSocketAddrs, time::Duration};

use crate::{
    Error,
    http::{Access, Connection, Endpoint, RequestError},
    keys::Key,
    library::{LibrarySession, Routers},
    workload::Consistency,
};

/// How long a client waits before it dials again: a dead target must not turn the closed loop into a busy one.
const REDIAL_PAUSE: Duration = Duration::from_millis(20);

/// Whom to load.
#[derive(Clone, Debug)]
pub enum Target {
    /// A Holdfast cluster, through its routers; clients spread over them and move on to the next when one fails.
    Holdfast(Vec<Endpoint>),
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

#[derive(Debug)]
pub(crate) struct HoldfastSession {
    routers: Vec<Endpoint>,
    /// Index of the router in use.
    current: usize,
    /// Absent before the first request, after a failure, and while a request is under way: whoever gives up on a request
    /// drops its connection with it.
    connection: Option<Connection>,
    /// Appended to the path of a read.
    read_query: &'static str,
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
        let routers: Vec<_> = routers
            .into_iter()
            .map(|router| resolve(router.as_ref(), access))
            .collect::<Result<_, _>>()?;
        if routers.is_empty() {
            return Err(Error::InvalidTarget {
                target: String::new(),
                reason: "no router given".to_owned(),
            });
        }
        Ok(Self::Holdfast(routers))
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

fn resolve(router: &str, access: &Access) -> Result<Endpoint, Error> {
    let invalid = |reason: String| Error::InvalidTarget {
        target: router.to_owned(),
        reason,
    };
    let (secured, address) = match router.strip_prefix("https://") {
        Some(address) => (true, address),
        None => (false, router.strip_prefix("http://").unwrap_or(router)),
    };
    let address = address.trim_end_matches('/');
    let mut resolved = address
        .to_socket_addrs()
        .map_err(|error| invalid(error.to_string()))?;
    let resolved = resolved.next().ok_or_else(|| invalid("no address".to_owned()))?;
    let name = address.rsplit_once(':').map_or(address, |(name, _)| name);
    let endpoint = match secured {
        true => Endpoint::secured(resolved, name.trim_matches(['[', ']']), access).map_err(invalid)?,
        false => Endpoint::plain(resolved),
    };
    Ok(endpoint.in_the_name_of(access))
}

/// Connects clients `clients` to the target, each over what it will use.
pub(crate) async fn connect(
    target: &Target,
    clients: std::ops::Range<usize>,
    consistency: Consistency,
) -> Result<Vec<Session>, Error> {
    match target {
        Target::Holdfast(routers) => {
            let mut sessions = Vec::with_capacity(clients.len());
            for client in clients {
                sessions.push(Session::Holdfast(
                    HoldfastSession::connect(routers, client, consistency).await?,
                ));
            }
            Ok(sessions)
        }
        Target::Library(routers) => {
            let mut sessions = Vec::with_capacity(clients.len());
            for client in clients {
                sessions.push(Session::Library(routers.connect(client, consistency).await?));
            }
            Ok(sessions)
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

impl HoldfastSession {
    async fn connect(routers: &[Endpoint], client: usize, consistency: Consistency) -> Result<Self, Error> {
        let read_query = match consistency {
            Consistency::Linearizable => "",
            Consistency::Stale => "?consistency=stale",
        };
        let current = client % routers.len();
        let dial = Connection::open(&routers[current]).await;
        let connection = dial.map_err(|error| Error::Connect {
            target: routers[current].address.to_string(),
            failure: Failure::Connect(error.kind()),
        })?;
        Ok(Self {
            routers: routers.to_vec(),
            current,
            connection: Some(connection),
            read_query,
        })
    }

    async fn put(&mut self, key: Key, value: &[u8]) -> Result<Answer, Failure> {
        match self
            .exchange("PUT", &["/v1/kv/", key.as_str()], Some(value))
            .await?
        {
            201 | 204 => Ok(Answer::Done),
            status => Err(Failure::Status(status)),
        }
    }

    async fn get(&mut self, key: Key) -> Result<Answer, Failure> {
        let query = self.read_query;
        match self
            .exchange("GET", &["/v1/kv/", key.as_str(), query], None)
            .await?
        {
            200 => Ok(Answer::Done),
            404 => Ok(Answer::NotFound),
            status => Err(Failure::Status(status)),
        }
    }

    async fn scan(&mut self, from: Key, limit: u32) -> Result<Answer, Failure> {
        let limit = limit.to_string();
        match self
            .exchange("GET", &["/v1/kv?start=", from.as_str(), "&limit=", &limit], None)
            .await?
        {
            200 => Ok(Answer::Done),
            status => Err(Failure::Status(status)),
        }
    }

    /// One request and the status of its answer.
    async fn exchange(&mut self, method: &str, target: &[&str], body: Option<&[u8]>) -> Result<u16, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.redial().await?,
        };
        match connection.request(method, target, body).await {
            Ok(response) => {
                let status = response.status;
                self.connection = Some(connection).filter(Connection::is_reusable);
                Ok(status)
            }
            Err(error) => {
                self.current = (self.current + 1) % self.routers.len();
                Err(error.into())
            }
        }
    }

    async fn redial(&mut self) -> Result<Connection, Failure> {
        match Connection::open(&self.routers[self.current]).await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                self.current = (self.current + 1) % self.routers.len();
                tokio::time::sleep(REDIAL_PAUSE).await;
                Err(Failure::Connect(error.kind()))
            }
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Closed => Self::Closed,
            RequestError::Io(error) => Self::Io(error.kind()),
            RequestError::Malformed(_) | RequestError::Surplus => Self::Malformed,
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
                Ok(Target::Holdfast(routers)) => {
                    let addresses: Vec<_> = routers.iter().map(|router| router.address).collect();
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
