//! Reading one key.

use holdfast_common::clock::{self, Instant};
use holdfast_common::net::Reply;
use holdfast_common::proto;
use holdfast_common::proto::kv::{Error, ExplainedGet, GetAnswer, GetRequest, ReadPath};

use crate::failpoint;
use crate::keys::RecordKey;
use crate::metrics::{self, Op, Outcome};
use crate::record;
use crate::replica::Replica;
use crate::site::Site;

/// Answers a read whose replica may speak for its range at this moment, or is `staleness_ms` behind.
pub(crate) fn answer(replica: &Replica, request: &GetRequest, staleness_ms: u64, reply: Reply) {
    let result = get(replica, request, staleness_ms);
    match &result {
        Ok(answer) => {
            metrics::ops(Op::Get, Outcome::Ok, 1);
            let (key, value) = (request.key.as_bytes(), answer.record.as_ref());
            let bytes = key.len() + value.map_or(0, |record| record.value.len());
            replica.load.read(key, key, bytes);
        }
        Err(error) => metrics::ops(Op::Get, Outcome::of(error), 1),
    }
    failpoint::answer(reply, proto::encode(&result));
}

/// As [`answer`], with what it took since `arrived`.
pub(crate) fn explain(
    replica: &Replica,
    request: &GetRequest,
    staleness_ms: u64,
    path: ReadPath,
    arrived: Instant,
    reply: Reply,
) {
    let begun = clock::now();
    let applied = replica.shared.read().applied.map_or(0, |applied| applied.index);
    let explained = get(replica, request, staleness_ms).map(|answer| ExplainedGet {
        answer,
        path,
        replica: replica.id,
        applied,
        wait_us: (begun - arrived).as_micros() as u64,
        read_us: begun.elapsed().as_micros() as u64,
    });
    let outcome = explained.as_ref().map_or_else(Outcome::of, |_| Outcome::Ok);
    metrics::ops(Op::Get, outcome, 1);
    reply.send(proto::encode(&explained));
}

fn get(replica: &Replica, request: &GetRequest, staleness_ms: u64) -> Result<GetAnswer, Error> {
    let key = request.key.as_bytes();
    let last_revision_ms = replica.admit_key(request.target, key)?;
    let stored = replica
        .site
        .engine
        .get(RecordKey::new(key).as_ref())
        .map_err(|error| replica.engine_failed(error))?;
    let record = match stored {
        None => None,
        Some(stored) => record::decode_live(&stored, Site::expiry_now_ms(last_revision_ms))
            .map_err(|damage| replica.engine_failed(damage))?,
    };
    Ok(GetAnswer { record, staleness_ms })
}
