//! Thousands of clients that do nothing, send by the byte or do not read, beside a few that work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use holdfast_tests::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::probe::{Foreground, Memory};
use crate::{cluster, length};

const IDLE: usize = 5_000;
const SLOW: usize = 200;
const STALLED: usize = 50;
const CLIENTS: usize = 4;
const LENGTH: Duration = Duration::from_secs(30);
/// Measured: at most 285, while all of them come at once; about 170 from then on.
const MAX_EXTRA_MIB: u64 = 320;

/// Clients that are of no use to anybody. Each comes again when the router has had enough of it.
struct Crowd {
    stop: Arc<AtomicBool>,
    turned_away: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Crowd {
    fn gather(address: &str) -> Self {
        let mut crowd = Self {
            stop: Arc::default(),
            turned_away: Arc::default(),
            tasks: JoinSet::new(),
        };
        for number in 0..IDLE + SLOW + STALLED {
            let (stop, away, address) = (crowd.stop.clone(), crowd.turned_away.clone(), address.to_owned());
            crowd.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // However it ends: closed in an orderly way, reset, or not taken at all.
                    let _ = match number {
                        number if number < IDLE => idle(&address).await,
                        number if number < IDLE + SLOW => slow(&address).await,
                        _ => stalled(&address).await,
                    };
                    away.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            });
        }
        crowd
    }

    fn leave(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.abort_all();
        self.turned_away.load(Ordering::Relaxed)
    }
}

/// Asks once, and stays.
async fn idle(address: &str) -> std::io::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    socket
        .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        .await?;
    drain(&mut socket).await
}

/// Sends a body a byte at a time.
async fn slow(address: &str) -> std::io::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    let head = b"PUT /v1/kv/crowd-slow HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";
    for byte in head.iter().chain(std::iter::repeat_n(&b'x', 100_000)) {
        socket.write_all(&[*byte]).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drain(&mut socket).await
}

/// Asks for everything, as a stream, and does not read it.
async fn stalled(address: &str) -> std::io::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    let head = b"GET /v1/kv?prefix=crowd-row HTTP/1.1\r\nhost: x\r\naccept: application/x-ndjson\r\n\r\n";
    socket.write_all(head).await?;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    Ok(())
}

async fn drain(socket: &mut TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 4_096];
    while socket.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// Rows enough that no socket holds them all.
async fn fill(client: &Client) -> anyhow::Result<()> {
    for row in 0..400 {
        let answer = client
            .put(&format!("crowd-row/{row:04}"), vec![b'x'; 64 << 10])
            .await?;
        ensure!(answer.status < 300, "{answer:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_does_not_keep_others_from_working() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let client = cluster.client();
    fill(&client).await?;
    let work = async |prefix: &str, long: Duration| {
        let work = Foreground::start(&client, prefix, CLIENTS);
        tokio::time::sleep(long).await;
        work.stop().await
    };
    let alone = work("alone", LENGTH).await?;
    let router = Memory::watch(cluster.member("router-1")?.pid)?;
    let address = client.url().strip_prefix("http://").context("an address")?;
    let crowd = Crowd::gather(address);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let beside = work("beside", length(LENGTH)?).await?;
    let away = crowd.leave();
    let again = work("again", LENGTH).await?;
    for (when, latencies) in [("alone", &alone), ("in the crowd", &beside), ("again", &again)] {
        println!("{when}: {latencies}");
    }
    let extra = router.extra() >> 20;
    println!(
        "{IDLE} idle, {SLOW} slow, {STALLED} stalled; {away} were turned away; the router had {extra} MiB more"
    );
    ensure!(
        beside.per_mille(990) <= 2 * alone.per_mille(990).max(again.per_mille(990)),
        "the crowd is felt"
    );
    ensure!(extra < MAX_EXTRA_MIB, "{extra} MiB");
    cluster.assert_no_errors()
}
