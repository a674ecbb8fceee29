//! Whether a request may go on at this replica: pure checks of what it names against what the replica holds.

use holdfast_common::key::Span;
use holdfast_common::proto::kv::Target;
use holdfast_common::range::Descriptor;

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The range has other bounds than the sender believes: it should look again.
    StaleEpoch,
    /// The sender believes in the right bounds and asks for something outside them.
    OutOfRange,
    /// The key is beyond a split that is under way; who will own it is not decided.
    Splitting,
}

/// Whether `key` may be read or written at the range described.
pub(crate) fn key(descriptor: &Descriptor, target: Target, key: &[u8]) -> Result<(), Refusal> {
    bounds(descriptor, target)?;
    if descriptor.span.contains(key) {
        Ok(())
    } else {
        Err(Refusal::OutOfRange)
    }
}

/// Whether `span` may be scanned at the range described.
pub(crate) fn span(descriptor: &Descriptor, target: Target, span: &Span) -> Result<(), Refusal> {
    bounds(descriptor, target)?;
    if descriptor.span.covers(span) {
        Ok(())
    } else {
        Err(Refusal::OutOfRange)
    }
}

fn bounds(descriptor: &Descriptor, target: Target) -> Result<(), Refusal> {
    if descriptor.epoch.bounds == target.bounds {
        Ok(())
    } else {
        Err(Refusal::StaleEpoch)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_common::ids::RangeId;
    use holdfast_common::range::Epoch;

    use super::*;

    fn range() -> Descriptor {
        Descriptor {
            id: RangeId(1),
            span: Span::new("b", "m").unwrap(),
            epoch: Epoch {
                bounds: 4,
                membership: 9,
            },
            replicas: Vec::new(),
        }
    }

    fn target(bounds: u64) -> Target {
        Target {
            range: RangeId(1),
            bounds,
        }
    }

    #[test]
    fn other_bounds_are_stale_whatever_the_key() {
        for bounds in [0, 3, 5] {
            assert_eq!(key(&range(), target(bounds), b"c"), Err(Refusal::StaleEpoch));
            assert_eq!(key(&range(), target(bounds), b"z"), Err(Refusal::StaleEpoch));
        }
    }

    #[test]
    fn a_key_outside_is_never_served() {
        assert_eq!(key(&range(), target(4), b"b"), Ok(()));
        assert_eq!(key(&range(), target(4), b"a"), Err(Refusal::OutOfRange));
        assert_eq!(key(&range(), target(4), b"m"), Err(Refusal::OutOfRange));
    }

    #[test]
    fn a_scan_must_lie_within() {
        assert_eq!(span(&range(), target(4), &Span::new("b", "m").unwrap()), Ok(()));
        assert_eq!(
            span(&range(), target(4), &Span::new("b", "n").unwrap()),
            Err(Refusal::OutOfRange)
        );
        assert_eq!(
            span(&range(), target(4), &Span::everything()),
            Err(Refusal::OutOfRange)
        );
    }
}
