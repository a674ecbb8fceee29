//! The stream that tells routers who may do what: everything at first and after each change, and every second that nothing
//! has changed. That a revoked token ends soon everywhere rests on it: a member says so only while it leads.

use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::net::StreamReply;
use holdfast_common::proto;
use holdfast_common::proto::access::Told;
use holdfast_common::proto::placement::Error;

use crate::lead::Lead;
use crate::member::Member;

/// Time between two signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// Tells a router the rules until it leaves, or until this member leads no more; returns why, unless the router left.
pub(crate) async fn tell(member: &Member, lead: &Arc<Lead>, stream: &mut StreamReply) -> Option<Error> {
    let shared = member.group.shared();
    let mut changed = shared.hub().access();
    let mut told = None;
    let mut beats = clock::every(BEAT);
    loop {
        // A member that was cut off leads in its own eyes for a while, and must not say that nothing was revoked.
        changed.mark_unchanged();
        if let Err(error) = member.group.catch_up().await {
            return Some(error);
        }
        let rules = shared.state().access.rules.clone();
        let item = if told == Some(rules.version) {
            Told::Same
        } else {
            told = Some(rules.version);
            Told::Rules(rules)
        };
        if stream
            .send(proto::encode(&Ok::<Told, Error>(item)))
            .await
            .is_err()
        {
            return None;
        }
        tokio::select! {
            _ = beats.tick() => {}
            more = changed.changed() => if more.is_err() { return None },
            () = stream.closed() => return None,
            () = lead.ended() => return Some(member.group.not_leader()),
        }
    }
}
