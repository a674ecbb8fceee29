//! A client that uses the client crate, as programs do: what an application gets, rather than what the server can.

use std::ops::Range;

use holdfast_client::{Client, Error as ClientError, Options, Scan};

use futures::{TryStreamExt, future};

use crate::{
    Error,
    keys::Key,
    session::{Answer, Failure},
    workload::Consistency,
};

/// How old a stale read may be: as old as may be asked for.
const ANY_AGE: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Routers, and how they are spoken to.
#[derive(Clone, Debug)]
pub struct Routers {
    /// Their addresses, each `http://HOST:PORT` or `https://HOST:PORT`.
    pub addresses: Vec<String>,
    /// What the clients do; in whose name, and whom they believe.
    pub options: Options,
    /// Clients that share one of the crate's, and with it its connections, at least 1.
    pub sharing: usize,
}

/// One client, or its share of one.
#[derive(Debug)]
pub(crate) struct LibrarySession {
    client: Client,
    consistency: Consistency,
}

impl Routers {
    /// Checks that a client can be made for each.
    ///
    /// # Errors
    /// The first address or credential that can't be used.
    pub(crate) fn checked(self) -> Result<Self, Error> {
        let invalid = |target: &str, reason: String| Error::InvalidTarget {
            target: target.to_owned(),
            reason,
        };
        if self.addresses.is_empty() {
            return Err(invalid("", "no router given".to_owned()));
        }
        for address in &self.addresses {
            Client::with(address, self.options.clone())
                .map_err(|error| invalid(address, error.to_string()))?;
        }
        Ok(self)
    }

    /// Clients `clients`, connected.
    pub(crate) async fn connect(
        &self,
        clients: Range<usize>,
        consistency: Consistency,
    ) -> Result<Vec<LibrarySession>, Error> {
        let sharing = self.sharing.max(1);
        let mut sessions = Vec::with_capacity(clients.len());
        let mut shared = None;
        for (place, client) in clients.enumerate() {
            if place % sharing == 0 {
                shared = Some(self.connect_one(client / sharing).await?);
            }
            let Some(client) = shared.clone() else { continue };
            sessions.push(LibrarySession { client, consistency });
        }
        Ok(sessions)
    }

    async fn connect_one(&self, number: usize) -> Result<Client, Error> {
        let address = &self.addresses[number % self.addresses.len()];
        let refused = |error: ClientError| Error::Connect {
            target: address.clone(),
            failure: failure(&error),
        };
        let client = Client::with(address, self.options.clone()).map_err(refused)?;
        let mut first = std::pin::pin!(client.scan(Scan::everything().keys_only().limit(1)));
        first.try_next().await.map_err(refused)?;
        Ok(client)
    }
}

impl LibrarySession {
    pub(crate) async fn put(&self, key: Key, value: &[u8]) -> Result<Answer, Failure> {
        let written = self.client.put(key.as_str(), value.to_vec()).await;
        written.map(|_| Answer::Done).map_err(|error| failure(&error))
    }

    pub(crate) async fn get(&self, key: Key) -> Result<Answer, Failure> {
        let read = match self.consistency {
            Consistency::Linearizable => self.client.get(key.as_str()).await,
            Consistency::Stale => self.client.get_stale(key.as_str(), ANY_AGE).await,
        };
        match read {
            Ok(Some(_)) => Ok(Answer::Done),
            Ok(None) => Ok(Answer::NotFound),
            Err(error) => Err(failure(&error)),
        }
    }

    pub(crate) async fn scan(&self, from: Key, limit: u32) -> Result<Answer, Failure> {
        let rows = Scan::everything().bounds(Some(from.as_str().to_owned().into()), None);
        let rows = self.client.scan(rows.limit(limit.into()));
        let read = rows.try_for_each(|_| future::ready(Ok(()))).await;
        read.map(|()| Answer::Done).map_err(|error| failure(&error))
    }
}

fn failure(error: &ClientError) -> Failure {
    match error {
        ClientError::Refused(problem) => Failure::Status(problem.status),
        ClientError::Unavailable(_) | ClientError::Address(_) | ClientError::Credentials(_) => {
            Failure::Unavailable
        }
        ClientError::OutcomeUnknown(_) => Failure::OutcomeUnknown,
        ClientError::Nonsense(_) => Failure::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_client_can_be_made_for_is_refused_before_the_load() {
        let of = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
            let routers = Routers {
                addresses,
                options: Options::default(),
                sharing: 1,
            };
            routers.checked()
        };
        assert!(of(&["http://127.0.0.1:7400"]).is_ok());
        for bad in [&[] as &[&str], &["127.0.0.1:7400"], &["https://127.0.0.1:7400"]] {
            assert!(matches!(of(bad), Err(Error::InvalidTarget { .. })), "{bad:?}");
        }
    }
}
