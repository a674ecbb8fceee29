//! Splits ranges of which too much is asked, at a key that halves the load.
//!
//! *Too much* is more operations or bytes a second than the settings say; or, where a store has more than its share and no
//! move would better that, a piece of the load that is too large to be spread. It must have lasted, and the leader must have found a key that really
//! divides its requests. Where one key draws them no split would help: that is said, with the key, and nothing is split.

use std::collections::BTreeSet;

use holdfast_common::load::Load;
use holdfast_common::proto::placement::HotSpot;

use super::burden::Burden;
use super::{Idea, MAX_IDEAS, Scheduler, hot};
use crate::operator::Kind;
use crate::settings::Settings;
use crate::view::View;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct SplitByLoad;

/// A range with more than this part of a store's fair share is a piece too large to be spread. Pieces no larger than this
/// can always be laid out so that no store has more than 1.4 times its share.
pub(super) const COARSE: f64 = 0.4;

impl Scheduler for SplitByLoad {
    fn name(&self) -> &'static str {
        "split_by_load"
    }

    fn is_enabled(&self, settings: &Settings) -> bool {
        settings.schedulers.split_by_load
    }

    fn propose(&self, view: &View<'_>) -> Vec<Idea> {
        let burden = Burden::of(view);
        let stuck = if view.state.settings.schedulers.hot {
            hot::stuck(view)
        } else {
            BTreeSet::new()
        };
        let mut busy = Vec::new();
        for range in view.idle_ranges() {
            let (Some(leader), Some(leading)) = (view.leader(range.id), view.reports.leading(range.id))
            else {
                continue;
            };
            let Some(spot) = leading.hot.as_ref().filter(|_| leading.is_measured) else {
                continue;
            };
            let lasted = u64::from(spot.for_seconds) * 1_000 >= view.state.settings.split_load_after_ms;
            let load = leading.load();
            let too_much = too_much(&load, &view.state.settings).or_else(|| {
                let (store, share) = (leader.store, burden.share(load.units()));
                let is_coarse = stuck.contains(&store) && share > COARSE;
                is_coarse.then(|| {
                    format!("store {store} takes more than its share of the load, and this range {share:.2} of one")
                })
            });
            if let Some(too_much) = too_much.filter(|_| lasted && spot.is_conclusive) {
                busy.push((load.units(), range.id, spot, too_much));
            }
        }
        busy.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let ideas = busy.into_iter().take(MAX_IDEAS);
        let ideas = ideas.map(|(_, range, spot, too_much)| {
            let (change, found) = verdict(spot);
            Idea {
                range,
                change,
                why: format!("{too_much}; {found}"),
                scores: burden.scores(),
            }
        });
        ideas.collect()
    }
}

/// Why so much load is too much for one range, if it is.
fn too_much(load: &Load, settings: &Settings) -> Option<String> {
    let (operations, bytes) = (load.operations(), load.bytes());
    if operations > settings.split_operations_per_second as f64 {
        let limit = settings.split_operations_per_second;
        return Some(format!("{operations:.0} operations a second, more than {limit}"));
    }
    if bytes > settings.split_bytes_per_second as f64 {
        let limit = settings.split_bytes_per_second;
        return Some(format!("{bytes:.0} bytes a second, more than {limit}"));
    }
    None
}

/// What to do about it, and what was found.
fn verdict(spot: &HotSpot) -> (Option<Kind>, String) {
    match (&spot.cut, &spot.key) {
        (Some(cut), _) => {
            let (left, right) = (cut.left_percent, cut.right_percent);
            let found = format!("{left} % of it is left of \"{}\", {right} % right", cut.at);
            let at = Some(cut.at.clone());
            (Some(Kind::Split { at }), found)
        }
        (None, Some(hot)) => {
            let found = format!(
                "the one key \"{}\" draws {} % of it: no split would help",
                hot.key, hot.percent
            );
            (None, found)
        }
        (None, None) => (None, "no key divides it: no split would help".to_owned()),
    }
}
