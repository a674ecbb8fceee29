//! What waits at a leader to be proposed: pure.
//!
//! At most [`MAX_IN_FLIGHT`] entries of a range are between proposal and answer. What arrives meanwhile waits here, and
//! the next entry takes all of it, up to the size of an entry: the busier a range is, the more writes an entry carries.
//! A second entry in flight hides the first one's fsync; more were measured to only lengthen the tail.

use std::collections::VecDeque;

use holdfast_common::limits::{MAX_ENTRY_BYTES, MAX_ENTRY_WRITES};

/// Most entries of one range that are proposed and not answered.
pub(crate) const MAX_IN_FLIGHT: u8 = 2;

/// Bounds on what waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Most items.
    pub items: usize,
    /// Most bytes.
    pub bytes: usize,
}

/// Too much waits already; the item comes back.
#[derive(Debug)]
pub(crate) struct Full<T>(pub T);

/// Items that wait, in the order in which they came, each with its size in an entry.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: VecDeque<(usize, T)>,
    bytes: usize,
    in_flight: u8,
    held: bool,
    bounds: Bounds,
}

impl<T> Queue<T> {
    /// An empty queue.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            in_flight: 0,
            held: false,
            bounds,
        }
    }

    /// Appends an item of `size` bytes. An empty queue takes one of any size.
    pub(crate) fn push(&mut self, size: usize, item: T) -> Result<(), Full<T>> {
        let fits = self.waiting.is_empty() || self.bytes + size <= self.bounds.bytes;
        if self.waiting.len() >= self.bounds.items || !fits {
            return Err(Full(item));
        }
        self.bytes += size;
        self.waiting.push_back((size, item));
        Ok(())
    }

    /// Whether nothing waits and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }

    /// What the next entry carries, when one may be proposed now: it is in flight from here on, until
    /// [`landed`](Self::landed).
    pub(crate) fn take_entry(&mut self) -> Option<Vec<(usize, T)>> {
        if self.held || self.in_flight >= MAX_IN_FLIGHT || self.waiting.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let fitting = self
            .waiting
            .iter()
            .take(MAX_ENTRY_WRITES)
            .take_while(|(size, _)| {
                bytes += size;
                bytes <= MAX_ENTRY_BYTES
            });
        // One that is larger than an entry travels alone.
        let count = fitting.count().max(1);
        let taken: Vec<_> = self.waiting.drain(..count).collect();
        self.bytes -= taken.iter().map(|(size, _)| size).sum::<usize>();
        self.in_flight += 1;
        Some(taken)
    }

    /// An entry in flight was answered, or was never appended.
    pub(crate) fn landed(&mut self) {
        debug_assert!(self.in_flight > 0, "what lands was in flight");
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Puts what [`take_entry`](Self::take_entry) took back to the front: it was never appended.
    pub(crate) fn put_back(&mut self, items: Vec<(usize, T)>) {
        for (size, item) in items.into_iter().rev() {
            self.bytes += size;
            self.waiting.push_front((size, item));
        }
    }

    /// Holds the queue: nothing is taken until [`release`](Self::release). False when it was held already.
    pub(crate) fn hold(&mut self) -> bool {
        !std::mem::replace(&mut self.held, true)
    }

    /// Ends a [`hold`](Self::hold).
    pub(crate) fn release(&mut self) {
        self.held = false;
    }

    /// Takes out everything that `condemned` says.
    pub(crate) fn remove(&mut self, mut condemned: impl FnMut(&T) -> bool) -> Vec<T> {
        if !self.waiting.iter().any(|(_, item)| condemned(item)) {
            return Vec::new();
        }
        let (mut kept, mut removed) = (VecDeque::with_capacity(self.waiting.len()), Vec::new());
        for (size, item) in self.waiting.drain(..) {
            if condemned(&item) {
                self.bytes -= size;
                removed.push(item);
            } else {
                kept.push_back((size, item));
            }
        }
        self.waiting = kept;
        removed
    }

    /// How many items wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue<u32> {
        Queue::new(Bounds {
            items: 4_000,
            bytes: 4 * MAX_ENTRY_BYTES,
        })
    }

    fn items(entry: Option<Vec<(usize, u32)>>) -> Option<Vec<u32>> {
        entry.map(|taken| taken.into_iter().map(|(_, item)| item).collect())
    }

    #[test]
    fn an_entry_takes_all_that_waits_and_two_are_in_flight() {
        let mut queue = queue();
        assert_eq!(items(queue.take_entry()), None);
        queue.push(1, 1).unwrap();
        assert_eq!(items(queue.take_entry()), Some(vec![1]));
        queue.push(1, 2).unwrap();
        queue.push(1, 3).unwrap();
        assert_eq!(items(queue.take_entry()), Some(vec![2, 3]));
        queue.push(1, 4).unwrap();
        assert_eq!(items(queue.take_entry()), None);
        queue.landed();
        assert_eq!(items(queue.take_entry()), Some(vec![4]));
    }

    #[test]
    fn an_entry_is_bounded_in_writes_and_bytes() {
        let mut queue = queue();
        for item in 0..1_500 {
            queue.push(1, item).unwrap();
        }
        assert_eq!(queue.take_entry().unwrap().len(), MAX_ENTRY_WRITES);
        queue.take_entry().unwrap();
        queue.landed();
        for item in 0..3 {
            queue.push(MAX_ENTRY_BYTES / 2, item).unwrap();
        }
        assert_eq!(items(queue.take_entry()), Some(vec![0, 1]));
    }

    #[test]
    fn one_that_is_too_large_for_an_entry_travels_alone() {
        let mut queue = queue();
        queue.push(2 * MAX_ENTRY_BYTES, 1).unwrap();
        queue.push(1, 2).unwrap();
        assert_eq!(items(queue.take_entry()), Some(vec![1]));
        assert_eq!(items(queue.take_entry()), Some(vec![2]));
    }

    #[test]
    fn what_waits_is_bounded_in_items_and_bytes() {
        let mut queue = Queue::new(Bounds { items: 2, bytes: 10 });
        queue.push(100, 1).unwrap();
        assert!(matches!(queue.push(1, 2), Err(Full(2))));
        queue.take_entry().unwrap();
        queue.push(5, 2).unwrap();
        queue.push(5, 3).unwrap();
        assert!(queue.push(0, 4).is_err());
        assert_eq!(queue.remove(|&item| item == 2), vec![2]);
        queue.push(5, 4).unwrap();
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn what_was_not_appended_keeps_its_place() {
        let mut queue = queue();
        queue.push(1, 1).unwrap();
        queue.push(1, 2).unwrap();
        let entry = queue.take_entry().unwrap();
        queue.push(1, 3).unwrap();
        assert!(queue.hold());
        assert!(!queue.hold());
        queue.put_back(entry);
        queue.landed();
        assert_eq!(items(queue.take_entry()), None);
        queue.release();
        assert_eq!(items(queue.take_entry()), Some(vec![1, 2, 3]));
    }
}
