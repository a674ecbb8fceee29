//! From damaged data to a new store: see [`quarantine`](crate::quarantine).

use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::ids::StoreId;
use holdfast_common::net::{Client, ClientConfig, ClusterIdCell, PeerInfo, Role};
use holdfast_common::placement_client::{Error as CallError, PlacementClient};
use holdfast_common::proto::method;
use holdfast_common::proto::placement;
use holdfast_common::proto::recovery::Lose;
use holdfast_common::tls::Tls;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::Config;
use crate::identity::DataDir;
use crate::quarantine::Mark;

/// How long a store that is about to end tries to tell the placement driver of its damage.
const PARTING: Duration = Duration::from_secs(3);

/// The pause after an answer that may be another one soon.
const PAUSE: Duration = Duration::from_secs(2);

/// How long one call may try before it is told of in the log; then the next begins.
const ROUND: Duration = Duration::from_secs(10);

/// Takes the store's directory, rebuilt if it is damaged and that is wanted; none if the process was told to stop meanwhile.
///
/// # Errors
/// It can't be used, or the cluster can't do without what is in it.
pub(crate) async fn claim(
    config: &Config,
    tls: Option<&Tls>,
    shutdown: &CancellationToken,
) -> Result<Option<DataDir>, Error> {
    let refused = match DataDir::claim(&config.data_dir, &config.name) {
        Ok(dir) => return Ok(Some(dir)),
        Err(refused) => refused,
    };
    let Some(mark) = refused.mark().cloned() else {
        return Err(refused.into());
    };
    let placement = placement(config, tls, &mark);
    // Whose it was has to be known: else nobody could say whether the others can do without it.
    if !config.rebuild_damaged || mark.store.is_none() {
        part(&placement, &mark).await;
        return Err(refused.into());
    }
    let Some(given_up) = shutdown.run_until_cancelled(give_up(&placement, &mark)).await else {
        return Ok(None);
    };
    given_up?;
    let aside = DataDir::set_aside(&config.data_dir, &mark)?;
    tracing::warn!(
        aside = %aside.display(), reason = mark.reason,
        "what the directory held is damaged and was moved aside: this store joins as a new one"
    );
    Ok(Some(DataDir::claim(&config.data_dir, &config.name)?))
}

fn placement(config: &Config, tls: Option<&Tls>, mark: &Mark) -> PlacementClient {
    let cluster = ClusterIdCell::default();
    if let Some((id, _)) = mark.store {
        // A cell that was just made takes any cluster.
        let _ = cluster.set(id);
    }
    let node = mark.store.map_or(StoreId::NONE, |(_, store)| store);
    let identity = PeerInfo::new(Role::Store, node.0, config.name.clone());
    let client = ClientConfig {
        tls: tls.cloned(),
        ..ClientConfig::default()
    };
    PlacementClient::new(config.placement.clone(), Client::new(client, cluster, identity))
}

/// Tells the placement driver, as far as that is quick, so that it need not wait until the store counts as down.
pub(crate) async fn part(placement: &PlacementClient, mark: &Mark) {
    if let Err(error) = tell(placement, mark, PARTING).await {
        tracing::warn!(%error, "the placement driver did not give this store up: it waits until the store counts as down");
    }
}

/// Has the placement driver give the store up, trying until a leading member does.
async fn give_up(placement: &PlacementClient, mark: &Mark) -> Result<(), Error> {
    loop {
        match tell(placement, mark, ROUND).await {
            Ok(()) => return Ok(()),
            Err(CallError::GaveUp { last }) => tracing::warn!(last, "waiting for the placement driver"),
            // The others may be on their way; nothing is touched before.
            Err(CallError::Refused(needed @ placement::Error::StillNeeded { .. })) => {
                tracing::warn!(%needed, "this store's damaged data is not set aside");
                clock::sleep(PAUSE).await;
            }
            Err(refused) => return Err(Error::Refused(refused)),
        }
    }
}

async fn tell(placement: &PlacementClient, mark: &Mark, within: Duration) -> Result<(), CallError> {
    let Some((cluster, store)) = mark.store else {
        return Ok(());
    };
    let lose = Lose {
        cluster,
        store,
        directory: mark.directory,
        reason: mark.reason.clone(),
    };
    let deadline = clock::now() + within;
    match placement
        .call::<_, ()>(method::PLACEMENT_LOSE, &lose, deadline)
        .await
    {
        // It is gone already.
        Err(CallError::Refused(placement::Error::UnknownStore(_))) => Ok(()),
        told => told,
    }
}
