//! How many calls a second the transport carries: `cargo run --profile fast -p holdfast-common --example net_echo`.
//!
//! A server and a client, each a thread with a runtime of its own, exchange 128-byte bodies over one loopback
//! connection. Concurrent callers first await calls one after the other, then the same with callbacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::ClusterId;
use holdfast_common::net::{
    Client, ClientConfig, ClusterIdCell, Lane, Peer, PeerInfo, Reply, Request, Role, Server, ServerConfig,
    Service,
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

const ECHO: u16 = 1;
const BODY_BYTES: usize = 128;
const MEASURED: Duration = Duration::from_secs(3);

struct Echo;

impl Service for Echo {
    fn call(&self, request: Request, reply: Reply) {
        reply.send(request.body);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = ClusterIdCell::known(ClusterId(1));
    let serving = runtime()?;
    let config = ServerConfig::new(PeerInfo::new(Role::Store, 1, "echo"), cluster.clone());
    let server = serving.block_on(Server::bind("127.0.0.1:0", config, Arc::new(Echo)))?;
    let addr = server.local_addr()?.to_string();
    let shutdown = CancellationToken::new();
    let served = std::thread::spawn({
        let shutdown = shutdown.clone();
        move || serving.block_on(server.serve(shutdown))
    });

    runtime()?.block_on(async {
        let client = Client::new(
            ClientConfig::default(),
            cluster,
            PeerInfo::new(Role::Router, 1, "caller"),
        );
        let peer = client.peer(&addr, Lane::Fast);
        for callers in [1, 64, 256] {
            report("awaited", callers, awaited(&peer, callers).await);
            report("callback", callers, with_callbacks(&peer, callers).await);
        }
    });
    shutdown.cancel();
    served.join().map_err(|_| "the server panicked")?;
    Ok(())
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn report(style: &str, callers: u64, calls: u64) {
    let per_second = calls as f64 / MEASURED.as_secs_f64();
    println!("{style:>8}, {callers:>3} callers: {per_second:>9.0} calls/s");
}

/// Calls completed by `callers` tasks that each await one call after the other.
async fn awaited(peer: &Peer, callers: u64) -> u64 {
    let end = clock::now() + MEASURED;
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let peer = peer.clone();
            tokio::spawn(async move {
                let body = Bytes::from(vec![7; BODY_BYTES]);
                let mut calls = 0;
                while clock::now() < end {
                    calls += u64::from(peer.call(ECHO, body.clone(), deadline()).await.is_ok());
                }
                calls
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += task.await.unwrap_or(0);
    }
    calls
}

/// Calls completed by `callers` chains of callbacks, each making the next call when one is answered.
async fn with_callbacks(peer: &Peer, callers: u64) -> u64 {
    let end = clock::now() + MEASURED;
    let calls = Arc::new(AtomicU64::new(0));
    for _ in 0..callers {
        next_call(peer.clone(), Bytes::from(vec![7; BODY_BYTES]), end, calls.clone());
    }
    clock::sleep_until(end).await;
    calls.load(Ordering::Relaxed)
}

fn next_call(peer: Peer, body: Bytes, end: Instant, calls: Arc<AtomicU64>) {
    let caller = peer.clone();
    caller.call_with(ECHO, body, deadline(), move |outcome| {
        if let Ok(body) = outcome
            && clock::now() < end
        {
            calls.fetch_add(1, Ordering::Relaxed);
            next_call(peer, body, end, calls);
        }
    });
}

fn deadline() -> Instant {
    clock::now() + Duration::from_secs(5)
}
