//! The fence of a split under way.
//!
//! A follower may apply a split, and the new range be elected and serve there, before the leader that proposed the split
//! applies it here. The new range then takes writes that this leader, lease and all, would not know of. So from before
//! the proposal until its outcome is known, what lies at or beyond the split key is not served.
//!
//! When the outcome stays unknown, the fence stays for the rest of the term: a leader of a later term has applied every
//! entry of earlier ones before it serves anything.

use holdfast_common::key::{Key, Span};
use parking_lot::RwLock;

#[derive(Debug)]
struct Raised {
    term: u64,
    at: Key,
}

/// The fence of one replica.
#[derive(Debug, Default)]
pub(crate) struct Fence(RwLock<Option<Raised>>);

impl Fence {
    /// Raises the fence at `at`, for what is left of `term` or until [`lower`](Self::lower). False when one stands in
    /// that term already.
    pub(crate) fn raise(&self, term: u64, at: Key) -> bool {
        let mut raised = self.0.write();
        if raised.as_ref().is_some_and(|standing| standing.term == term) {
            return false;
        }
        *raised = Some(Raised { term, at });
        true
    }

    /// Lowers it: the split was applied or certainly will not be.
    pub(crate) fn lower(&self) {
        *self.0.write() = None;
    }

    /// Whether `key` is behind it. `term` is asked for the replica's term only while a fence is raised.
    pub(crate) fn hides(&self, key: &[u8], term: impl FnOnce() -> u64) -> bool {
        self.stands(term, |at| key >= at.as_ref())
    }

    /// Whether some of `span` is behind it.
    pub(crate) fn cuts(&self, span: &Span, term: impl FnOnce() -> u64) -> bool {
        self.stands(term, |at| span.end().is_empty() || span.end()[..] > *at.as_ref())
    }

    fn stands(&self, term: impl FnOnce() -> u64, before: impl FnOnce(&Key) -> bool) -> bool {
        let raised = self.0.read();
        raised
            .as_ref()
            .is_some_and(|raised| before(&raised.at) && raised.term == term())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_at_or_beyond_the_key_is_hidden_for_the_term() {
        let fence = Fence::default();
        assert!(!fence.hides(b"z", || 3));
        assert!(fence.raise(3, Key::new("m").unwrap()));
        assert!(!fence.raise(3, Key::new("z").unwrap()));
        assert!(fence.hides(b"m", || 3) && fence.hides(b"z", || 3));
        assert!(!fence.hides(b"l", || 3) && !fence.hides(b"z", || 4));
        fence.lower();
        assert!(!fence.hides(b"z", || 3));
    }

    #[test]
    fn a_span_that_reaches_beyond_the_key_is_cut() {
        let fence = Fence::default();
        assert!(fence.raise(3, Key::new("m").unwrap()));
        assert!(fence.cuts(&Span::everything(), || 3));
        assert!(fence.cuts(&Span::new("a", "mm").unwrap(), || 3));
        assert!(!fence.cuts(&Span::new("a", "m").unwrap(), || 3));
        assert!(!fence.cuts(&Span::everything(), || 4));
    }
}
