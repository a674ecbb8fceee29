//! Merges small ranges that hardly anything is asked of with a neighbour: every range costs its stores tasks, memory and
//! heartbeats, whatever it holds.
//!
//! A pair is merged when one of the two is small, both together stay far below the size at which they would be split again,
//! few requests come, and their bounds have been what they are for a while: an empty key space that somebody has cut up in
//! advance is given the time to fill.

use holdfast_common::range::Descriptor;

use super::{Idea, MAX_IDEAS, Scheduler};
use crate::operator::Kind;
use crate::settings::Settings;
use crate::view::{Health, View};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct MergeSmall;

impl Scheduler for MergeSmall {
    fn name(&self) -> &'static str {
        "merge"
    }

    fn is_enabled(&self, settings: &Settings) -> bool {
        settings.schedulers.merge && settings.merge_bytes > 0
    }

    fn propose(&self, view: &View<'_>) -> Vec<Idea> {
        let mut ideas = Vec::new();
        // The last range that was looked at and is not in a pair yet.
        let mut before: Option<(&Descriptor, Figures)> = None;
        for range in view.state.map.iter() {
            let now = figures(range, view).map(|figures| (range, figures));
            let pair = before.take().zip(now);
            let why =
                pair.and_then(|((left, a), (right, b))| Some((left, worth(left, &a, right, &b, view)?)));
            match why {
                Some((left, why)) => ideas.push(Idea {
                    range: range.id,
                    change: Some(Kind::Merge { into: left.id }),
                    why,
                    scores: Vec::new(),
                }),
                None => before = now,
            }
            if ideas.len() == MAX_IDEAS {
                break;
            }
        }
        ideas
    }
}

/// What decides about a range.
#[derive(Clone, Copy, Debug)]
struct Figures {
    bytes: u64,
    ops: f64,
}

/// The figures of a range that could be merged: nothing is being done to it, its replicas are where they should be and
/// alive, and its bounds have been what they are for long enough.
fn figures(range: &Descriptor, view: &View<'_>) -> Option<Figures> {
    let voters = range.voters().count();
    let whole = voters == range.replicas.len() && voters == view.state.wanted_voters();
    let mut replicas = range.replicas.iter();
    let lives = replicas.all(|replica| view.health(replica.store) == Health::Up);
    if view.is_busy(range.id) || range.is_joint() || !whole || !lives {
        return None;
    }
    view.leader(range.id)?;
    let (bounds, since) = view.reports.bounds(range.id)?;
    let age = view.now.saturating_sub(since);
    if bounds != range.epoch.bounds || age < view.state.settings.merge_after_ms {
        return None;
    }
    let leading = view.reports.leading(range.id)?;
    Some(Figures {
        bytes: leading.size_bytes,
        ops: leading.reads_per_second + leading.writes_per_second,
    })
}

/// Why two neighbours should be one, if they should.
fn worth(left: &Descriptor, a: &Figures, right: &Descriptor, b: &Figures, view: &View<'_>) -> Option<String> {
    let settings = &view.state.settings;
    let (bytes, ops) = (a.bytes.saturating_add(b.bytes), a.ops + b.ops);
    let small = a.bytes.min(b.bytes) < settings.merge_bytes && bytes < settings.split_bytes / 2;
    let cold = ops <= settings.merge_ops_per_second as f64;
    let touch = left.span.join(&right.span).is_some();
    (touch && small && cold && left.replicas.len() == right.replicas.len()).then(|| {
        format!(
            "{bytes} bytes and {ops:.1} requests a second together with range {}",
            left.id
        )
    })
}
