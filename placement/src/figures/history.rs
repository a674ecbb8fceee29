//! The last samples. Pure.

use std::collections::VecDeque;

use serde_json::Value;

/// Most samples kept: a quarter of an hour while somebody watches.
const MAX_SAMPLES: usize = 450;

/// The last samples, by number.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Value>,
    next: u64,
}

impl History {
    /// Keeps a sample.
    pub fn push(&mut self, sample: Value) {
        self.samples.push_back(sample);
        self.next += 1;
        if self.samples.len() > MAX_SAMPLES {
            self.samples.pop_front();
        }
    }

    /// Those from number `from` on that are still kept, and the number of the next one.
    pub fn since(&self, from: u64) -> (Vec<Value>, u64) {
        let new = usize::try_from(self.next.saturating_sub(from)).unwrap_or(usize::MAX);
        let old = self.samples.len().saturating_sub(new);
        (self.samples.iter().skip(old).cloned().collect(), self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_once_and_only_so_many_are_kept() {
        let mut history = History::default();
        for i in 0..MAX_SAMPLES + 5 {
            history.push(i.into());
        }
        let (all, next) = history.since(0);
        assert_eq!((all.len(), all[0].as_u64()), (MAX_SAMPLES, Some(5)));
        assert_eq!(history.since(next), (vec![], next));
        history.push("x".into());
        assert_eq!(history.since(next), (vec!["x".into()], next + 1));
    }
}
