//! Tokens that are revoked and certificates that are exchanged while clients are at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use holdfast_client::{Client, Error, Options, Tls, Token};
use holdfast_tests::Secured;

use crate::PROGRAM;

/// How soon after its revocation a token is worth nothing, at every router.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

/// Requests over one client, and so over few connections, before there is a new one.
const REQUESTS_A_CLIENT: usize = 20;

/// What became of the requests of one token at one router.
#[derive(Default)]
struct Seen {
    /// When each that succeeded was begun.
    successes: Vec<Instant>,
    /// When each that was refused as unknown was begun.
    refusals: Vec<Instant>,
}

/// A router, and a token that is shown to it.
#[derive(Clone)]
struct Door {
    router: &'static str,
    url: String,
    ca: Vec<u8>,
    token: String,
}

impl Door {
    fn of(cluster: &Secured, router: &'static str, token: &str) -> anyhow::Result<Self> {
        Ok(Self {
            router,
            url: cluster.url(router)?,
            ca: cluster.ca()?,
            token: token.to_owned(),
        })
    }

    /// A client with connections of its own.
    fn client(&self) -> Result<Client, Error> {
        let options = Options {
            tls: Some(Tls::trusting(self.ca.clone())),
            token: Some(Token::new(&self.token)?),
            ..Options::default()
        };
        Client::with(&self.url, options)
    }
}

/// Writes and reads back, one after the other, until `stop`; anything but success or 401 fails.
async fn work(door: Door, stop: Arc<AtomicBool>) -> anyhow::Result<Seen> {
    let router = door.router;
    let key = format!("{router}/{}", &door.token[3..11]);
    let mut seen = Seen::default();
    let (mut number, mut written) = (0usize, String::new());
    while !stop.load(Ordering::Relaxed) {
        let client = door.client()?;
        for _ in 0..REQUESTS_A_CLIENT {
            let begun = Instant::now();
            number += 1;
            let wanted = number.to_string();
            let put = client.put(&key, wanted.clone()).await.map(|_| written = wanted);
            let outcome = match put {
                Ok(()) => client.get(&key).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(record) => {
                    let value = record.map(|record| record.value);
                    ensure!(value.as_deref() == Some(written.as_bytes()), "{key}: {value:?}");
                    seen.successes.push(begun);
                }
                Err(Error::Refused(problem)) if problem.status == 401 => seen.refusals.push(begun),
                Err(error) => bail!("{router}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_revoked_and_certificates_exchanged_under_load() -> anyhow::Result<()> {
    let cluster = Secured::start(PROGRAM).await?;
    // The first has to be an admin's.
    cluster.create_token("root", "admin").await?;
    let (_, keeper) = cluster.create_token("keeper", "read-write").await?;
    let (leaver_id, leaver) = cluster.create_token("leaver", "read-write").await?;
    // Every router has to have heard of both.
    for router in ["router-1", "router-2"] {
        for token in [&keeper, &leaver] {
            let client = Door::of(&cluster, router, token)?.client()?;
            while let Err(error) = client.put("heard", "of").await {
                ensure!(
                    matches!(&error, Error::Refused(problem) if problem.status == 401),
                    "{error}"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    let stop = Arc::new(AtomicBool::new(false));
    let start = |router, token: &str| -> anyhow::Result<_> {
        Ok(tokio::spawn(work(
            Door::of(&cluster, router, token)?,
            stop.clone(),
        )))
    };
    let keepers = [start("router-1", &keeper)?, start("router-2", &keeper)?];
    let leavers = [start("router-1", &leaver)?, start("router-2", &leaver)?];

    cluster.exchange_certificates(30).await?;
    let asked = Instant::now();
    cluster.revoke_token(leaver_id).await?;
    let revoked = Instant::now();
    cluster.exchange_certificates(60).await?;
    tokio::time::sleep_until((revoked + 2 * REVOKED_WITHIN).into()).await;
    stop.store(true, Ordering::Relaxed);

    for keeper in keepers {
        let seen = keeper.await??;
        ensure!(seen.refusals.is_empty(), "a good token was refused");
        ensure!(
            seen.successes.iter().any(|begun| *begun > revoked),
            "it did nothing"
        );
    }
    for leaver in leavers {
        let seen = leaver.await??;
        ensure!(
            seen.refusals
                .iter()
                .all(|begun| *begun + Duration::from_secs(1) > asked),
            "refused too soon"
        );
        let last = seen.successes.iter().max().copied();
        ensure!(
            last.is_some_and(|last| last < revoked + REVOKED_WITHIN),
            "{:?}",
            last.map(|last| last - revoked)
        );
        ensure!(
            seen.refusals
                .iter()
                .any(|begun| *begun > revoked + REVOKED_WITHIN),
            "it was not tried"
        );
    }
    cluster.assert_no_errors()
}
