//! What a sample of requests says: where a cut would halve the load, and whether one key draws it. Pure.
//!
//! A cut at a key puts each request on the left, on the right, or, if it touches keys on both sides, across: such a request
//! then costs both. So the busier part would have what lies on its side and all that lies across, and the best cut is the
//! one whose busier part has least. It is worth making only if that is clearly less than everything; no cut through the
//! requests for a single key is, since all of them lie on one side.

use std::collections::HashMap;

use bytes::Bytes;
use holdfast_common::key::{Key, Span};
use holdfast_common::proto::placement::{HotKey, HotSpot, LoadCut};

use super::meter::Touched;

/// Fewer requests than this say nothing: the share of a side is then known to within five percent.
const ENOUGH: usize = 100;

/// Most that the busier part may have for a cut to be worth making, in percent.
const MAX_BUSIER_PERCENT: usize = 70;

/// From what share on, in percent, a key is called hot.
const HOT_KEY_PERCENT: usize = 50;

/// What a sample of the requests to a range of this span, busy for `for_seconds`, says.
pub(crate) fn judge(sample: &[Touched], span: &Span, for_seconds: u32) -> HotSpot {
    let is_conclusive = sample.len() >= ENOUGH;
    let top = if is_conclusive { top_key(sample) } else { None };
    let cut = if is_conclusive {
        best_cut(sample, top.as_ref().map(|(key, _)| key), span)
    } else {
        None
    };
    let key = top.filter(|(_, count)| percent(*count, sample.len()) >= HOT_KEY_PERCENT);
    HotSpot {
        for_seconds,
        is_conclusive,
        cut,
        key: key.and_then(|(key, count)| {
            Some(HotKey {
                key: Key::new(key).ok()?,
                percent: small(percent(count, sample.len())),
            })
        }),
    }
}

/// The key that most requests for one key are for.
fn top_key(sample: &[Touched]) -> Option<(Bytes, usize)> {
    let mut counts: HashMap<&Bytes, usize> = HashMap::new();
    for (first, last) in sample {
        if first == last {
            *counts.entry(first).or_default() += 1;
        }
    }
    let top = counts
        .into_iter()
        .max_by_key(|(key, count)| (*count, std::cmp::Reverse(*key)))?;
    Some((top.0.clone(), top.1))
}

fn best_cut(sample: &[Touched], top: Option<&Bytes>, span: &Span) -> Option<LoadCut> {
    let mut firsts: Vec<&[u8]> = sample.iter().map(|(first, _)| first.as_ref()).collect();
    let mut lasts: Vec<&[u8]> = sample.iter().map(|(_, last)| last.as_ref()).collect();
    firsts.sort_unstable();
    lasts.sort_unstable();
    // Behind a key that many ask for may be a better place than before it.
    let behind_top = top.map(just_behind);
    let mut places: Vec<&[u8]> = firsts.clone();
    places.dedup();
    places.extend(behind_top.as_deref());
    let inside = |place: &&[u8]| *place > span.start().as_ref() && span.contains(place);
    let cuts = places.into_iter().filter(inside).map(|place| {
        let left = lasts.partition_point(|last| *last < place);
        let right = firsts.len() - firsts.partition_point(|first| *first < place);
        let across = sample.len() - left - right;
        // Of two that are as good, one that somebody asks for: it reads better.
        let is_made_up = behind_top.as_deref() == Some(place);
        (left.max(right) + across, is_made_up, place, left, right)
    });
    let (busier, _, place, left, right) = cuts.min()?;
    let is_worth_it = percent(busier, sample.len()) <= MAX_BUSIER_PERCENT;
    is_worth_it.then_some(())?;
    Some(LoadCut {
        at: Key::new(Bytes::copy_from_slice(place)).ok()?,
        left_percent: small(percent(left, sample.len())),
        right_percent: small(percent(right, sample.len())),
    })
}

/// The next key in order.
fn just_behind(key: &Bytes) -> Vec<u8> {
    let mut behind = key.to_vec();
    behind.push(0);
    behind
}

fn percent(part: usize, whole: usize) -> usize {
    (100 * part).div_ceil(whole.max(1))
}

fn small(percent: usize) -> u8 {
    u8::try_from(percent).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(keys: impl Iterator<Item = String>) -> Vec<Touched> {
        keys.map(|key| (Bytes::from(key.clone()), Bytes::from(key)))
            .collect()
    }

    fn scans(count: usize, first: &str, last: &str) -> Vec<Touched> {
        vec![(Bytes::from(first.to_owned()), Bytes::from(last.to_owned())); count]
    }

    fn judged(sample: &[Touched]) -> HotSpot {
        judge(sample, &Span::everything(), 1)
    }

    #[test]
    fn even_requests_are_halved() {
        let found = judged(&points((0..200).map(|i| format!("{:03}", i % 100))));
        let cut = found.cut.unwrap();
        assert_eq!(
            (cut.at.to_string(), cut.left_percent, cut.right_percent),
            ("050".into(), 50, 50)
        );
        assert!(found.key.is_none() && found.is_conclusive);
    }

    #[test]
    fn skewed_requests_are_halved_where_they_are() {
        // Nine of ten for keys 70 and 71, which have alike.
        let key = |i: usize| match i % 20 {
            0 | 1 => format!("{:03}", i % 100),
            n => format!("{:03}", 700 + n % 2),
        };
        let cut = judged(&points((0..200).map(key))).cut.unwrap();
        assert_eq!(cut.at.to_string(), "701");
    }

    #[test]
    fn a_single_hot_key_is_named_and_not_cut_off() {
        let key = |i: usize| {
            if i.is_multiple_of(10) {
                format!("{i:03}")
            } else {
                "hot".into()
            }
        };
        let found = judged(&points((0..200).map(key)));
        assert_eq!(found.cut, None);
        let hot = found.key.unwrap();
        assert_eq!((hot.key.to_string(), hot.percent), ("hot".into(), 90));
    }

    #[test]
    fn a_hot_key_with_much_beside_it_is_named_and_what_is_beside_it_is_cut_off() {
        let key = |i: usize| if i % 5 < 3 { "a".into() } else { format!("b{i:03}") };
        let found = judged(&points((0..200).map(key)));
        assert_eq!(found.key.unwrap().percent, 60);
        // Not before the key, where everything would be on the right, but behind it.
        assert_eq!(found.cut.unwrap().left_percent, 60);
    }

    #[test]
    fn scans_across_are_counted_on_both_sides() {
        assert_eq!(judged(&scans(200, "a", "z")).cut, None, "each would cost both");
        let mut apart = scans(100, "a", "f");
        apart.extend(scans(100, "n", "z"));
        assert_eq!(judged(&apart).cut.unwrap().at.to_string(), "n");
        let mut mixed = scans(40, "a", "z");
        mixed.extend(points((0..160).map(|i| format!("k{i:03}"))));
        let cut = judged(&mixed).cut.unwrap();
        assert_eq!(
            (cut.left_percent, cut.right_percent),
            (40, 40),
            "and a fifth across"
        );
    }

    #[test]
    fn few_requests_say_nothing() {
        let found = judged(&points((0..ENOUGH - 1).map(|i| format!("{i:03}"))));
        assert!(!found.is_conclusive && found.cut.is_none() && found.key.is_none());
    }

    #[test]
    fn a_cut_lies_inside_the_range() {
        let span = Span::new("b", "d").unwrap();
        // Requests from before a split may still be in the sample.
        let keys = (0..200).map(|i| ["a", "b", "e"][i % 3].to_owned());
        assert_eq!(judge(&points(keys), &span, 1).cut, None);
    }
}
