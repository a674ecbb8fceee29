//! Splits ranges that have grown past the size that the settings name.

use super::{Idea, MAX_IDEAS, Scheduler};
use crate::operator::Kind;
use crate::settings::Settings;
use crate::view::View;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct SplitBySize;

impl Scheduler for SplitBySize {
    fn name(&self) -> &'static str {
        "split"
    }

    fn is_enabled(&self, settings: &Settings) -> bool {
        settings.schedulers.split
    }

    fn propose(&self, view: &View<'_>) -> Vec<Idea> {
        let limit = view.state.settings.split_bytes;
        let idle = view.idle_ranges();
        let led = idle.filter(|range| view.leader(range.id).is_some());
        let sized = led.filter_map(|range| Some((range, view.reports.leading(range.id)?.size_bytes)));
        let mut large: Vec<_> = sized.filter(|(_, size)| *size > limit).collect();
        large.sort_by_key(|(range, size)| (std::cmp::Reverse(*size), range.id));
        let ideas = large.into_iter().take(MAX_IDEAS).map(|(range, size)| Idea {
            range: range.id,
            change: Some(Kind::Split { at: None }),
            why: format!("{size} bytes, more than {limit}"),
            scores: Vec::new(),
        });
        ideas.collect()
    }
}
