//! The placement driver's map, as it changes, into the directory.
//!
//! The stream's sender reconnects, follows the driver's leader and resumes where it was; here its events are only taken in.
//! While there is none, requests go on with what is known and with what stores tell.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use holdfast_common::proto::placement::MapEvent;

use crate::directory::Directory;

/// Takes in events until the stream ends.
pub(crate) async fn follow(mut events: impl Stream<Item = MapEvent> + Unpin, directory: Arc<Directory>) {
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
