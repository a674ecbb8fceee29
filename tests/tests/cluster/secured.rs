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

/// Writes and reads back, one after the other, until `stop`; anything but success or 401 fails.
async fn work(
    cluster: Arc<Secured>,
    router: &'static str,
    token: String,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Seen> {
    let options = || -> anyhow::Result<Options> {
        Ok(Options {
            tls: Some(Tls::trusting(cluster.ca()?)),
            token: Some(Token::new(&token)?),
            ..Options::default()
        })
    };
    let key = format!("{router}/{}", &token[3..11]);
    let mut seen = Seen::default();
    let (mut number, mut written) = (0usize, String::new());
    while !stop.load(Ordering::Relaxed) {
        let client = Client::with(&cluster.url(router)?, options()?)?;
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
    let cluster = Arc::new(Secured::start(PROGRAM).await?);
    // The first has to be an admin's.
    cluster.create_token("root", "admin").await?;
    let (_, keeper) = cluster.create_token("keeper", "read-write").await?;
    let (leaver_id, leaver) = cluster.create_token("leaver", "read-write").await?;
    // Every router has to have heard of both.
    for router in ["router-1", "router-2"] {
        for token in [&keeper, &leaver] {
            let options = Options {
                tls: Some(Tls::trusting(cluster.ca()?)),
                token: Some(Token::new(token)?),
                ..Options::default()
            };
            let client = Client::with(&cluster.url(router)?, options)?;
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
    let start =
        |router, token: &String| tokio::spawn(work(cluster.clone(), router, token.clone(), stop.clone()));
    let keepers = [start("router-1", &keeper), start("router-2", &keeper)];
    let leavers = [start("router-1", &leaver), start("router-2", &leaver)];

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
