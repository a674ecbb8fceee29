//! What replicas make of the Raft messages of others before they reach a group: the same functions, without a group behind them.
//! For those who make up messages to see whether one of them does harm (`fuzz/`).

use bytes::Bytes;
use openraft::raft::AppendEntriesRequest;

use super::convert;
use crate::proto::DecodeError;
use crate::proto::raft::{Append, SnapshotHeader};
use crate::raft::types::{SnapshotMeta, TypeConfig};

/// What openraft is given for the body of an append; none if no replica sends such a thing.
///
/// # Errors
/// It is no append.
pub fn append(body: Bytes) -> Result<Option<AppendEntriesRequest<TypeConfig>>, DecodeError> {
    Ok(convert::from_append(Append::decode(body)?).ok())
}

/// What openraft is told of a snapshot that is offered; none if no replica offers such a one.
pub fn snapshot(header: SnapshotHeader) -> Option<SnapshotMeta> {
    convert::from_snapshot_header(header).ok()
}
