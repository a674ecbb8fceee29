//! Reading a page of rows.
//!
//! A page is read from a view of the engine, opened after the replica was found fit to answer, and filled in portions, so
//! that a large one does not hold up what else runs on the thread.

use std::sync::Arc;

use holdfast_common::clock;
use holdfast_common::net::Reply;
use holdfast_common::proto;
use holdfast_common::proto::kv::{Error, Row, ScanAnswer, ScanRequest};

use super::page::Page;
use crate::keys;
use crate::metrics::{self, Op, Outcome};
use crate::replica::Replica;
use crate::site::Site;

/// Rows between two pauses.
const PORTION: usize = 512;

/// Answers a scan whose replica may speak for its range at this moment, or is `staleness_ms` behind.
pub(crate) fn start(replica: &Arc<Replica>, request: ScanRequest, staleness_ms: u64, reply: Reply) {
    let replica = replica.clone();
    tokio::spawn(async move {
        let begun = clock::now();
        let result = scan(&replica, &request, staleness_ms).await;
        match &result {
            Ok(answer) => {
                metrics::ops(Op::Scan, Outcome::Ok, 1);
                metrics::op_took(Op::Scan, begun.elapsed());
                count(&replica, &request, answer);
            }
            Err(error) => metrics::ops(Op::Scan, Outcome::of(error), 1),
        }
        reply.send(proto::encode(&result));
    });
}

/// A page counts for the keys that are on it, not for all that it might have had.
fn count(replica: &Replica, request: &ScanRequest, answer: &ScanAnswer) {
    let keys = |row: Option<&Row>| row.map_or(request.span.start().clone(), |row| row.key.as_bytes().clone());
    let (one, other) = (keys(answer.rows.first()), keys(answer.rows.last()));
    let sizes = answer.rows.iter();
    let bytes = sizes.map(|row| row.key.as_bytes().len() + row.record.value.len());
    replica
        .load
        .read(one.as_ref().min(&other), one.as_ref().max(&other), bytes.sum());
}

async fn scan(replica: &Replica, request: &ScanRequest, staleness_ms: u64) -> Result<ScanAnswer, Error> {
    let view = replica
        .site
        .engine
        .view()
        .await
        .map_err(|error| replica.engine_failed(error))?;
    // After the view is open, so that bounds that changed before it are seen.
    let last_revision_ms = replica.admit_span(request.target, &request.span)?;
    let mut page = Page::new(request, Site::expiry_now_ms(last_revision_ms));
    let mut rows = view.rows(&keys::records(&request.span));
    for visited in 1.. {
        let Some(row) = (if request.reverse {
            rows.next_back()
        } else {
            rows.next()
        }) else {
            break;
        };
        let (key, stored) = row.map_err(|error| replica.engine_failed(error))?;
        let Some(key) = keys::user_key(&key) else { break };
        if !page
            .offer(key, &stored)
            .map_err(|damage| replica.engine_failed(damage))?
        {
            break;
        }
        if visited % PORTION == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (rows, resume) = page.finish();
    Ok(ScanAnswer {
        rows,
        resume,
        staleness_ms,
    })
}
