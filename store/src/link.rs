//! The link to the placement driver: registration, the map, heartbeats. A store that is known works on without it.

use std::time::Duration;

use futures::StreamExt;
use holdfast_common::clock;
use holdfast_common::ids::{ClusterId, StoreId};
use holdfast_common::placement_client::{Error, PlacementClient};
use holdfast_common::proto::method;
use holdfast_common::proto::placement::{Register, Registered};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::heartbeat::Heart;
use crate::identity::DataDir;
use crate::store::Store;

/// How long one call may try before it is told of in the log; then the next begins.
const ROUND: Duration = Duration::from_secs(10);

/// What a store says of itself when it registers.
pub(crate) fn introduction(config: &Config, dir: &DataDir) -> Register {
    Register {
        name: config.name.clone(),
        known: dir.known(),
        directory: dir.nonce(),
        rpc_address: config.advertise.clone().unwrap_or_else(|| config.rpc.clone()),
        http_address: config.advertise_http.as_ref().unwrap_or(&config.http).clone(),
        labels: config.labels.clone(),
    }
}

/// Registers, trying until a leading member answers.
///
/// # Errors
/// It refuses.
pub(crate) async fn register(
    placement: &PlacementClient,
    introduction: &Register,
) -> Result<(ClusterId, StoreId), Error> {
    loop {
        let deadline = clock::now() + ROUND;
        match placement
            .call::<_, Registered>(method::PLACEMENT_REGISTER, introduction, deadline)
            .await
        {
            Ok(Registered { cluster, store }) => return Ok((cluster, store)),
            Err(Error::GaveUp { last }) => tracing::warn!(last, "waiting for the placement driver"),
            Err(refused) => return Err(refused),
        }
    }
}

/// Keeps in touch until `shutdown`: registers when `introduction` is given, which tells the driver where a known store
/// is now, then sends heartbeats; and follows the map all along.
///
/// # Errors
/// The driver does not take the store.
pub(crate) async fn keep(
    store: &Store,
    placement: PlacementClient,
    introduction: Option<Register>,
    split_alone_after: Duration,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let heart = Heart::new(store.host.clone(), placement.clone(), split_alone_after);
    let voice = async {
        if let Some(introduction) = introduction {
            register(&placement, &introduction).await?;
        }
        heart.beat().await;
        Ok(())
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        ended = voice => ended,
        () = follow_map(store, &placement) => Ok(()),
    }
}

/// Learns from the map where the other stores are; never ends.
async fn follow_map(store: &Store, placement: &PlacementClient) {
    let mut map = placement.watch_map();
    while let Some(event) = map.next().await {
        if let Err(error) = store.host.site.addresses.learn(&store.log, event.stores).await {
            store.host.site.alarm.raise(format!("the log: {error}"));
        }
    }
}
