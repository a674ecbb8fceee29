//! How many connections each principal has, so that none takes every place. Pure but for the lock.
//!
//! Who is at the other end of a connection is known with its first request, and may change with the next: a connection counts
//! for whoever asked last over it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::quota::Exceeded;

/// The connections of all principals: at most as many entries as there are connections.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: Mutex<HashMap<u64, usize>>,
}

impl Places {
    /// At most `most` for each principal.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// One more connection of the credential with this id.
    fn take(self: &Arc<Self>, id: u64) -> Result<Place, Exceeded> {
        let mut taken = self.taken.lock();
        let count = taken.entry(id).or_default();
        if *count >= self.most {
            return Err(Exceeded {
                what: "connections",
                retry_after: Duration::from_secs(1),
            });
        }
        *count += 1;
        Ok(Place { id, of: self.clone() })
    }
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
struct Place {
    id: u64,
    of: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock();
        if let Some(count) = taken.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.id);
            }
        }
    }
}

/// Whom a connection counts for.
#[derive(Debug, Default)]
pub(crate) struct Seat(Mutex<Option<Place>>);

impl Seat {
    /// The credential with this id asks over the connection.
    ///
    /// # Errors
    /// It has as many others as it may have. The connection then counts for whom it counted before.
    pub(crate) fn sit(&self, places: &Arc<Places>, id: u64) -> Result<(), Exceeded> {
        let mut place = self.0.lock();
        if place.as_ref().is_none_or(|place| place.id != id) {
            *place = Some(places.take(id)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_for_who_asked_last_and_frees_its_place_at_its_end() {
        let places = Places::new(2);
        let seats: [Seat; 3] = Default::default();
        assert!(seats[0].sit(&places, 1).is_ok() && seats[0].sit(&places, 1).is_ok());
        assert!(seats[1].sit(&places, 1).is_ok());
        assert!(seats[2].sit(&places, 1).is_err(), "two are taken");
        assert!(seats[2].sit(&places, 2).is_ok(), "somebody else has room");
        assert!(seats[1].sit(&places, 2).is_ok());
        assert!(seats[2].sit(&places, 1).is_ok(), "one was left");
        let [first, second, third] = seats;
        drop((first, third));
        assert_eq!(places.taken.lock().get(&1), None);
        assert_eq!(places.taken.lock().get(&2), Some(&1));
        drop(second);
        assert!(places.taken.lock().is_empty());
    }
}
