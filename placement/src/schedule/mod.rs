//! Schedulers: each looks at the cluster and says what it would do about one concern. Pure.
//!
//! A scheduler only chooses; the [`Driver`] holds its choices against the limits, records what becomes of them, and hands
//! those that are taken to the leading member. To add one: implement [`Scheduler`] in a file of its own, add it to
//! [`all`] and its switch to [`Schedulers`](crate::settings::Schedulers).

mod balance;
pub mod burden;
pub mod decision;
pub mod departure;
pub mod driver;
mod evacuate;
mod hot;
mod leaders;
mod merge;
pub mod pace;
mod placing;
pub(crate) mod repair;
mod scatter;
mod split;
mod split_load;

use holdfast_common::ids::{RangeId, StoreId};

pub use self::balance::Balance;
pub use self::driver::Driver;
pub use self::evacuate::Evacuate;
pub use self::hot::Hot;
pub use self::leaders::BalanceLeaders;
pub use self::merge::MergeSmall;
pub use self::repair::Repair;
pub use self::scatter::scatter;
pub use self::split::SplitBySize;
pub use self::split_load::SplitByLoad;
use crate::operator::Kind;
use crate::settings::Settings;
use crate::view::View;

/// Most ideas that a scheduler has at a time; the rest is found again at the next look.
pub const MAX_IDEAS: usize = 64;

/// Chooses changes for one concern.
pub trait Scheduler: Send + Sync {
    /// Its name, in decisions, in operators and in the settings.
    fn name(&self) -> &'static str;

    /// Whether the settings let it act.
    fn is_enabled(&self, settings: &Settings) -> bool;

    /// What it would do now, most urgent first, at most [`MAX_IDEAS`]. Ranges with an operator under way are left alone.
    fn propose(&self, view: &View<'_>) -> Vec<Idea>;
}

/// What a scheduler thinks of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct Idea {
    /// The range.
    pub range: RangeId,
    /// What to do; none when something should be done and nothing can be.
    pub change: Option<Kind>,
    /// Why, or why not.
    pub why: String,
    /// What the choice was made by: stores and their scores, the best first.
    pub scores: Vec<Score>,
}

/// How well a store suits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The store.
    pub store: StoreId,
    /// The lower the better.
    pub score: f64,
}

/// Every scheduler, most urgent first.
pub fn all() -> Vec<Box<dyn Scheduler>> {
    vec![
        Box::new(Repair),
        Box::new(Evacuate),
        Box::new(SplitBySize),
        Box::new(SplitByLoad),
        Box::new(MergeSmall),
        Box::new(Hot),
        Box::new(Balance),
        Box::new(BalanceLeaders),
    ]
}

#[cfg(test)]
mod hot_test;
#[cfg(test)]
mod motion_test;
