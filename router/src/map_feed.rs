//! The placement driver's map, as it changes, into the directory.
//!
//! A router begins with nothing but the addresses of placement members. From the first of them that answers it learns which
//! cluster it serves, without which no store would talk to it; then it follows the driver's stream. While there is no
//! driver, requests go on with what is known and with what stores tell.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use holdfast_common::clock;
use holdfast_common::ids::ClusterId;
use holdfast_common::net::{Client, ClusterIdCell, Lane};
use holdfast_common::placement_client::PlacementClient;
use holdfast_common::proto::placement::{MapEvent, WatchMap};
use holdfast_common::proto::{self, method};

use crate::directory::Directory;

/// How long one member is given to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The pause after a first round of members in vain; it doubles up to [`MAX_PAUSE`], and is jittered.
const MIN_PAUSE: Duration = Duration::from_millis(25);

/// The longest pause, before jitter.
const MAX_PAUSE: Duration = Duration::from_millis(800);

/// The map of the cluster that these members drive: all of it, then its changes. The cluster is put into `cluster` before the
/// first event. The stream never ends.
pub(crate) fn events(
    client: Client,
    members: Vec<String>,
    cluster: ClusterIdCell,
) -> BoxStream<'static, MapEvent> {
    let found = async move {
        let id = find_cluster(&client, &members).await;
        match cluster.set(id) {
            Ok(()) => tracing::info!(cluster = %id, "serving this cluster"),
            Err(known) => {
                tracing::error!(cluster = %known, theirs = %id, "the members are of another cluster")
            }
        }
        PlacementClient::new(members, client)
    };
    stream::once(found)
        .flat_map(|placement| placement.watch_map())
        .boxed()
}

/// Takes in events until the stream ends.
pub(crate) async fn follow(mut events: BoxStream<'static, MapEvent>, directory: Arc<Directory>) {
    while let Some(event) = events.next().await {
        tracing::debug!(
            full = event.full,
            ranges = event.ranges.len(),
            gone = event.gone.len(),
            stores = event.stores.len(),
            "the map has changed"
        );
        directory.learn_map(event);
    }
}

/// Asks one member after the other until one tells its cluster.
async fn find_cluster(client: &Client, members: &[String]) -> ClusterId {
    let mut pause = MIN_PAUSE;
    loop {
        for member in members {
            if let Some(cluster) = cluster_of(client, member).await {
                return cluster;
            }
        }
        tracing::debug!("no placement member tells its cluster yet");
        clock::sleep(clock::jittered(pause)).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// The cluster of one member: whatever it answers to the request, it named its cluster when it took the connection.
async fn cluster_of(client: &Client, member: &str) -> Option<ClusterId> {
    let peer = client.peer(member, Lane::Fast);
    let body = proto::encode(&WatchMap::default());
    if let Err(error) = peer
        .stream(method::PLACEMENT_WATCH_MAP, body, clock::now() + PATIENCE)
        .await
    {
        tracing::debug!(member, %error, "a placement member does not tell the map");
    }
    let cluster = peer.info()?.cluster_id;
    if !cluster.is_some() {
        // It may be bootstrapped by the next time, which only a new connection tells.
        client.forget(member);
        return None;
    }
    Some(cluster)
}
