//! An etcd client for the side-by-side comparison: gRPC over HTTP/2, with the few messages it needs written by hand.
//!
//! The comparison is fair only if etcd is seen at its best, so the client decodes no more of an answer than it needs, talks to
//! the leader (which spares etcd the hop from a follower), and shares connections among as many clients as serves it best.

mod messages;

use std::time::Duration;

use http::uri::PathAndQuery;
use tonic::{Code, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use self::messages::{PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest, StatusResponse};
use crate::{Error, Failure, keys::Key, session::Answer, workload::Consistency};

/// Clients to a connection. On two cores sharing is what costs both sides least: `docs/benchmarks.md` has the figures.
const CLIENTS_PER_CONNECTION: usize = 256;
/// How long a client waits after an unavailable member, so that the closed loop does not become a busy one.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long dialling may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An etcd member, and how to connect to it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: String,
    clients_per_connection: usize,
}

/// What a member says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberStatus {
    /// The member's id.
    pub member: u64,
    /// The id of the member it takes for the leader; 0 is none.
    pub leader: u64,
}

/// One client: its share of a connection.
#[derive(Debug)]
pub(crate) struct EtcdSession {
    grpc: Grpc<Channel>,
    serializable: bool,
}

impl Endpoint {
    /// The member at `http://HOST:PORT`.
    pub fn new(url: &str) -> Result<Self, Error> {
        let endpoint = Self {
            url: url.to_owned(),
            clients_per_connection: CLIENTS_PER_CONNECTION,
        };
        endpoint.transport()?;
        Ok(endpoint)
    }

    /// Sets how many clients share a connection, at least 1.
    pub fn with_clients_per_connection(self, clients: usize) -> Self {
        Self {
            clients_per_connection: clients.max(1),
            ..self
        }
    }

    /// Asks the member who it is and who leads.
    pub async fn status(&self) -> Result<MemberStatus, Error> {
        let refused = |failure| Error::Connect {
            target: self.url.clone(),
            failure,
        };
        let mut session = EtcdSession {
            grpc: Grpc::new(self.dial().await?),
            serializable: false,
        };
        let answer: StatusResponse = session
            .call("/etcdserverpb.Maintenance/Status", StatusRequest::default())
            .await
            .map_err(refused)?;
        Ok(MemberStatus {
            member: answer.header.unwrap_or_default().member_id,
            leader: answer.leader,
        })
    }

    async fn dial(&self) -> Result<Channel, Error> {
        self.transport()?
            .connect()
            .await
            .map_err(|error| self.invalid(chain(&error)))
    }

    fn transport(&self) -> Result<tonic::transport::Endpoint, Error> {
        let endpoint = tonic::transport::Endpoint::from_shared(self.url.clone())
            .map_err(|error| self.invalid(chain(&error)))?;
        if endpoint.uri().scheme_str() != Some("http") {
            return Err(self.invalid("must be http://HOST:PORT".to_owned()));
        }
        Ok(endpoint.tcp_nodelay(true).connect_timeout(CONNECT_TIMEOUT))
    }

    fn invalid(&self, reason: String) -> Error {
        Error::InvalidTarget {
            target: self.url.clone(),
            reason,
        }
    }
}

/// Connects as many clients as asked.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    clients: usize,
    consistency: Consistency,
) -> Result<Vec<EtcdSession>, Error> {
    let mut channels = Vec::new();
    for _ in 0..clients.div_ceil(endpoint.clients_per_connection) {
        channels.push(endpoint.dial().await?);
    }
    let serializable = consistency == Consistency::Stale;
    let shares = channels.iter().cycle().take(clients);
    Ok(shares
        .map(|channel| EtcdSession {
            grpc: Grpc::new(channel.clone()),
            serializable,
        })
        .collect())
}

impl EtcdSession {
    pub(crate) async fn put(&mut self, key: Key, value: &[u8]) -> Result<Answer, Failure> {
        let request = PutRequest {
            key: key.as_bytes().to_vec(),
            value: value.to_vec(),
        };
        let _: PutResponse = self.call("/etcdserverpb.KV/Put", request).await?;
        Ok(Answer::Done)
    }

    pub(crate) async fn get(&mut self, key: Key) -> Result<Answer, Failure> {
        let request = RangeRequest {
            key: key.as_bytes().to_vec(),
            serializable: self.serializable,
            ..RangeRequest::default()
        };
        let response: RangeResponse = self.call("/etcdserverpb.KV/Range", request).await?;
        Ok(if response.kvs.is_empty() {
            Answer::NotFound
        } else {
            Answer::Done
        })
    }

    pub(crate) async fn scan(&mut self, from: Key, limit: u32) -> Result<Answer, Failure> {
        let request = RangeRequest {
            key: from.as_bytes().to_vec(),
            // A single zero byte means "to the end of the key space".
            range_end: vec![0],
            limit: i64::from(limit),
            serializable: self.serializable,
        };
        let _: RangeResponse = self.call("/etcdserverpb.KV/Range", request).await?;
        Ok(Answer::Done)
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Failure>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let unreachable = Failure::Connect(std::io::ErrorKind::NotConnected);
        self.grpc.ready().await.map_err(|_closed| unreachable)?;
        let codec = ProstCodec::<Q, A>::default();
        match self
            .grpc
            .unary(
                tonic::Request::new(request),
                PathAndQuery::from_static(path),
                codec,
            )
            .await
        {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => {
                if status.code() == Code::Unavailable {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(Failure::Grpc(status.code().into()))
            }
        }
    }
}

/// An error and its causes on one line: tonic's own text is only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_is_taken() {
        assert!(Endpoint::new("http://127.0.0.1:2379").is_ok());
        for url in ["https://127.0.0.1:2379", "127.0.0.1:2379", "http://", ""] {
            assert!(
                matches!(Endpoint::new(url), Err(Error::InvalidTarget { .. })),
                "{url:?}"
            );
        }
    }
}
