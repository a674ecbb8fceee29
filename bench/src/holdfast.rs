//! Clients of a Holdfast cluster on the wire: each with a connection of its own, or several to one.

use std::{io, net::ToSocketAddrs, ops::Range, sync::Arc, time::Duration};

use http::Method;

use crate::{
    Error,
    http::{Access, Connection, Endpoint, Party, RequestError, Share},
    keys::Key,
    session::{Answer, Failure},
    workload::Consistency,
};

/// How long a client waits before it dials again: a dead target must not turn the closed loop into a busy one.
const REDIAL_PAUSE: Duration = Duration::from_millis(20);

/// The routers of a cluster, and how clients are connected to them: they spread over the routers and move on to the next when
/// one fails.
#[derive(Clone, Debug)]
pub struct Routes {
    routers: Vec<Endpoint>,
    clients_per_connection: usize,
}

/// One client.
#[derive(Debug)]
pub(crate) struct HoldfastSession {
    line: Line,
    /// Appended to the path of a read.
    read_query: &'static str,
}

/// What a client's requests go over.
#[derive(Debug)]
enum Line {
    Own(Own),
    Shared {
        party: Arc<Party>,
        /// With the number of the connection that it is a share of.
        share: Option<(Share, u64)>,
    },
}

/// A connection of one's own.
#[derive(Debug)]
struct Own {
    routers: Vec<Endpoint>,
    /// Index of the router in use.
    current: usize,
    /// Absent before the first request, after a failure, and while a request is under way: whoever gives up on a request
    /// drops its connection with it.
    connection: Option<Connection>,
}

impl Routes {
    /// The routers at these addresses, at least one, `http://HOST:PORT`, `https://HOST:PORT` or `HOST:PORT`; each client has a
    /// connection of its own.
    pub(crate) fn resolve<S: AsRef<str>>(
        routers: impl IntoIterator<Item = S>,
        access: &Access,
    ) -> Result<Self, Error> {
        let routers: Vec<_> = routers
            .into_iter()
            .map(|router| endpoint(router.as_ref(), access))
            .collect::<Result<_, _>>()?;
        if routers.is_empty() {
            return Err(Error::InvalidTarget {
                target: String::new(),
                reason: "no router given".to_owned(),
            });
        }
        Ok(Self {
            routers,
            clients_per_connection: 1,
        })
    }

    pub(crate) fn with_clients_per_connection(self, clients: usize) -> Self {
        Self {
            clients_per_connection: clients.max(1),
            ..self
        }
    }

    #[cfg(test)]
    pub(crate) fn addresses(&self) -> impl Iterator<Item = std::net::SocketAddr> {
        self.routers.iter().map(|router| router.address)
    }

    /// Connects clients `clients`.
    pub(crate) async fn connect(
        &self,
        clients: Range<usize>,
        consistency: Consistency,
    ) -> Result<Vec<HoldfastSession>, Error> {
        let read_query = match consistency {
            Consistency::Linearizable => "",
            Consistency::Stale => "?consistency=stale",
        };
        let mut sessions = Vec::with_capacity(clients.len());
        let mut party = None;
        for (place, client) in clients.enumerate() {
            let refused = |error: io::Error| self.refused(client, &error);
            let line = if self.clients_per_connection == 1 {
                Line::Own(Own::connect(&self.routers, client).await.map_err(refused)?)
            } else {
                if place % self.clients_per_connection == 0 {
                    let connected = Party::connect(&self.routers, client / self.clients_per_connection).await;
                    party = Some(Arc::new(connected.map_err(refused)?));
                }
                let Some(party) = party.clone() else { continue };
                Line::Shared { party, share: None }
            };
            sessions.push(HoldfastSession { line, read_query });
        }
        Ok(sessions)
    }

    fn refused(&self, client: usize, error: &io::Error) -> Error {
        Error::Connect {
            target: self.routers[client / self.clients_per_connection % self.routers.len()]
                .address
                .to_string(),
            failure: Failure::Connect(error.kind()),
        }
    }
}

fn endpoint(router: &str, access: &Access) -> Result<Endpoint, Error> {
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

impl HoldfastSession {
    pub(crate) async fn put(&mut self, key: Key, value: &[u8]) -> Result<Answer, Failure> {
        match self
            .exchange(Method::PUT, &["/v1/kv/", key.as_str()], Some(value))
            .await?
        {
            201 | 204 => Ok(Answer::Done),
            status => Err(Failure::Status(status)),
        }
    }

    pub(crate) async fn get(&mut self, key: Key) -> Result<Answer, Failure> {
        let query = self.read_query;
        match self
            .exchange(Method::GET, &["/v1/kv/", key.as_str(), query], None)
            .await?
        {
            200 => Ok(Answer::Done),
            404 => Ok(Answer::NotFound),
            status => Err(Failure::Status(status)),
        }
    }

    pub(crate) async fn scan(&mut self, from: Key, limit: u32) -> Result<Answer, Failure> {
        let limit = limit.to_string();
        match self
            .exchange(
                Method::GET,
                &["/v1/kv?start=", from.as_str(), "&limit=", &limit],
                None,
            )
            .await?
        {
            200 => Ok(Answer::Done),
            status => Err(Failure::Status(status)),
        }
    }

    /// One request and the status of its answer.
    async fn exchange(
        &mut self,
        method: Method,
        target: &[&str],
        body: Option<&[u8]>,
    ) -> Result<u16, Failure> {
        match &mut self.line {
            Line::Own(own) => own.exchange(&method, target, body).await,
            Line::Shared { party, share } => {
                // A connection that has ended says so without having sent anything; a new one may still be had.
                let mut answer = Err(RequestError::NotSent);
                for _ in 0..2 {
                    let (mine, made) = match share {
                        Some(mine) => mine,
                        None => share.insert(join(party).await?),
                    };
                    answer = mine.request(&method, target, body).await;
                    if answer.is_ok() {
                        break;
                    }
                    party.lost(*made);
                    *share = None;
                    if !matches!(answer, Err(RequestError::NotSent)) {
                        break;
                    }
                }
                Ok(answer?)
            }
        }
    }
}

async fn join(party: &Party) -> Result<(Share, u64), Failure> {
    match party.join().await {
        Ok(share) => Ok(share),
        Err(error) => {
            tokio::time::sleep(REDIAL_PAUSE).await;
            Err(Failure::Connect(error.kind()))
        }
    }
}

impl Own {
    async fn connect(routers: &[Endpoint], client: usize) -> io::Result<Self> {
        let current = client % routers.len();
        Ok(Self {
            routers: routers.to_vec(),
            current,
            connection: Some(Connection::open(&routers[current]).await?),
        })
    }

    async fn exchange(
        &mut self,
        method: &Method,
        target: &[&str],
        body: Option<&[u8]>,
    ) -> Result<u16, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.redial().await?,
        };
        match connection.request(method.as_str(), target, body).await {
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
