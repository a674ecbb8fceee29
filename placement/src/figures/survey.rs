//! Asks routers and stores for their metrics, for as long as this member leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use holdfast_common::clock::{self, Instant};
use holdfast_common::tls::Tls;
use tokio_util::sync::CancellationToken;

use super::sample::{self, Counted, Source};
use crate::admin::fetch_text;
use crate::lead::Lead;
use crate::member::Member;

/// Time between two looks while somebody watches.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// One look in how many is taken while nobody watches, so that charts have a past when somebody comes.
const UNWATCHED_SHARE: u32 = 5;

/// How long a member may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Most members asked at a time.
const AT_A_TIME: usize = 16;

/// Most bytes taken from one.
const MAX_BYTES: usize = 1 << 20;

/// What was last counted.
type Look = (Instant, BTreeMap<Source, Counted>);

/// Samples the metrics of `routers` and of all stores while `member` leads, until `shutdown`.
pub(crate) async fn run(
    member: Arc<Member>,
    routers: Vec<String>,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) {
    let (mut ticks, mut turn) = (clock::every(LOOK_EVERY), 0_u32);
    let mut before: Option<Look> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        turn = turn.wrapping_add(1);
        let Ok(lead) = member.lead() else {
            before = None;
            continue;
        };
        let is_watched = lead.watchers.load(Ordering::Acquire) > 0;
        if !is_watched && turn % UNWATCHED_SHARE != 0 {
            continue;
        }
        let asked = tokio::select! {
            asked = ask(targets(&member, &lead, &routers), tls.as_ref()) => asked,
            () = shutdown.cancelled() => return,
        };
        let now = (clock::now(), asked);
        if let Some((then, before)) = &before {
            let seconds = now.0.duration_since(*then).as_secs_f64();
            lead.figures()
                .push(sample::between(before, &now.1, seconds, clock::wall_ms()));
            lead.note_sample();
        }
        before = Some(now);
    }
}

fn targets(member: &Member, lead: &Lead, routers: &[String]) -> Vec<(Source, String)> {
    let routers = routers
        .iter()
        .map(|address| (Source::Router(address.clone()), address.clone()));
    let stores: Vec<_> = member.look(lead, |view| {
        let present = view.state.living_stores();
        present
            .map(|store| (Source::Store(store.id), store.http_address.clone()))
            .collect()
    });
    routers.chain(stores).collect()
}

/// What they answer; those that don't are left out.
async fn ask(targets: Vec<(Source, String)>, tls: Option<&Tls>) -> BTreeMap<Source, Counted> {
    let one = |(source, address): (Source, String)| async move {
        let text = clock::timeout(ANSWER_WITHIN, fetch_text(&address, tls, "/metrics", MAX_BYTES)).await;
        Some((source, Counted::read(&text.ok()??)))
    };
    let answers = stream::iter(targets).map(one).buffer_unordered(AT_A_TIME);
    answers.filter_map(std::future::ready).collect().await
}
