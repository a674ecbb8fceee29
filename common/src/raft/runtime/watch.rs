//! A channel that keeps the latest value, for a few receivers that mostly do not wait.
//!
//! A group's core tells some ten of these of each entry's progress, and most of them have nobody who waits; a
//! replication stream waits for four at once, each time anew. Tokio's channel is made for thousands of waiters: it takes
//! eight locks to tell them, waiting or not, and enters a list and leaves it for each wait. Here a receiver has one place
//! for its waker, for as long as it lives.
//!
//! A receiver that gave up waiting may be woken once more, for nothing.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use futures::task::AtomicWaker;
use openraft::async_runtime::watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

/// Versions are even while the channel has a sender.
const CLOSED: usize = 1;
const STEP: usize = 2;

/// The kind of channel.
pub struct Latest;

struct Shared<T> {
    value: RwLock<T>,
    /// Goes up by [`STEP`] with each value, under the value's lock; [`CLOSED`] is set when the last sender is gone.
    version: AtomicUsize,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// How many places `waiting` has.
    places: AtomicUsize,
    /// Of each receiver that has ever waited, its place.
    waiting: Mutex<Vec<Arc<AtomicWaker>>>,
}

/// Gives the channel values.
pub struct Sender<T>(Arc<Shared<T>>);

/// Looks at the latest value and waits for the next.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that was seen last.
    seen: usize,
    /// Its place, since it first waited.
    place: Option<Arc<AtomicWaker>>,
}

/// The value, which nobody changes for as long as this is held.
pub type Borrowed<'a, T> = RwLockReadGuard<'a, T>;

impl Watch for Latest {
    type Sender<T: Send + Sync> = Sender<T>;
    type Receiver<T: Send + Sync> = Receiver<T>;
    type Ref<'a, T: Send + 'a> = Borrowed<'a, T>;

    fn channel<T: Send + Sync>(init: T) -> (Sender<T>, Receiver<T>) {
        let shared = Arc::new(Shared {
            value: RwLock::new(init),
            version: AtomicUsize::new(0),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            places: AtomicUsize::new(0),
            waiting: Mutex::default(),
        });
        let receiver = Receiver {
            shared: Arc::clone(&shared),
            seen: 0,
            place: None,
        };
        (Sender(shared), receiver)
    }
}

impl<T> Shared<T> {
    /// Wakes who waits. The version has gone up before: with [`Receiver::poll_changed`] that leaves no gap, as each of the
    /// two first writes (version, place) and then reads (places, version).
    fn tell(&self) {
        if self.places.load(Ordering::SeqCst) == 0 {
            return;
        }
        // Woken without the lock, since what a waker runs is not known here. Without waiters this allocates nothing.
        let wakers: Vec<Waker> = self
            .waiting
            .lock()
            .iter()
            .filter_map(|place| place.take())
            .collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T: Send + Sync> WatchSender<Latest, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.receivers.load(Ordering::SeqCst) == 0 {
            return Err(SendError(value));
        }
        let mut value = value;
        self.send_if_modified(|place| {
            mem::swap(place, &mut value);
            true
        });
        // The former value is dropped here, without the lock.
        drop(value);
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let mut value = self.0.value.write();
        if !modify(&mut value) {
            return false;
        }
        self.0.version.fetch_add(STEP, Ordering::SeqCst);
        drop(value);
        self.0.tell();
        true
    }

    fn borrow_watched(&self) -> Borrowed<'_, T> {
        self.0.value.read()
    }

    fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.fetch_add(1, Ordering::SeqCst);
        Receiver {
            shared: Arc::clone(&self.0),
            seen: self.0.version.load(Ordering::SeqCst) & !CLOSED,
            place: None,
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.version.fetch_or(CLOSED, Ordering::SeqCst);
            self.0.tell();
        }
    }
}

impl<T> Receiver<T> {
    fn poll_changed(&mut self, context: &Context<'_>) -> Poll<Result<(), RecvError>> {
        if let Some(news) = self.news() {
            return Poll::Ready(news);
        }
        let shared = &self.shared;
        let place = self.place.get_or_insert_with(|| {
            let place = Arc::new(AtomicWaker::new());
            shared.waiting.lock().push(Arc::clone(&place));
            shared.places.fetch_add(1, Ordering::SeqCst);
            place
        });
        place.register(context.waker());
        match self.news() {
            Some(news) => Poll::Ready(news),
            None => Poll::Pending,
        }
    }

    /// That there is a value that has not been seen, or that there will be none.
    fn news(&mut self) -> Option<Result<(), RecvError>> {
        let version = self.shared.version.load(Ordering::SeqCst);
        if version & !CLOSED != self.seen {
            self.seen = version & !CLOSED;
            return Some(Ok(()));
        }
        (version & CLOSED != 0).then_some(Err(RecvError(())))
    }
}

impl<T: Send + Sync> WatchReceiver<Latest, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        poll_fn(|context| self.poll_changed(context)).await
    }

    fn borrow_watched(&self) -> Borrowed<'_, T> {
        self.shared.value.read()
    }

    fn borrow_and_update(&mut self) -> Borrowed<'_, T> {
        let value = self.shared.value.read();
        // The version only goes up under the lock that is held.
        self.seen = self.shared.version.load(Ordering::SeqCst) & !CLOSED;
        value
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receivers.fetch_add(1, Ordering::SeqCst);
        Self {
            shared: Arc::clone(&self.shared),
            seen: self.seen,
            place: None,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::SeqCst);
        let Some(place) = self.place.take() else { return };
        let mut waiting = self.shared.waiting.lock();
        if let Some(index) = waiting.iter().position(|other| Arc::ptr_eq(other, &place)) {
            waiting.swap_remove(index);
            self.shared.places.fetch_sub(1, Ordering::SeqCst);
        }
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures::FutureExt;

    use super::*;

    fn channel(init: u64) -> (Sender<u64>, Receiver<u64>) {
        Latest::channel(init)
    }

    #[test]
    fn a_value_is_news_once_to_each_receiver() {
        let (sender, mut first) = channel(0);
        let mut second = first.clone();
        assert!(first.changed().now_or_never().is_none());
        sender.send(1).expect("receivers");
        assert!(first.changed().now_or_never().expect("news").is_ok());
        assert!(first.changed().now_or_never().is_none());
        assert_eq!(*second.borrow_and_update(), 1);
        assert!(second.changed().now_or_never().is_none());
    }

    #[test]
    fn the_last_value_is_seen_before_the_end() {
        let (sender, mut receiver) = channel(0);
        let other = sender.clone();
        sender.send(1).expect("a receiver");
        drop(sender);
        assert!(receiver.changed().now_or_never().expect("news").is_ok());
        assert!(receiver.changed().now_or_never().is_none());
        drop(other);
        assert!(receiver.changed().now_or_never().expect("the end").is_err());
    }

    #[test]
    fn places_go_with_their_receivers() {
        let (sender, mut receiver) = channel(0);
        for _ in 0..3 {
            assert!(receiver.clone().changed().now_or_never().is_none());
        }
        assert_eq!(sender.0.waiting.lock().len(), 0);
        assert!(receiver.changed().now_or_never().is_none());
        assert!(receiver.changed().now_or_never().is_none());
        assert_eq!(sender.0.waiting.lock().len(), 1);
        drop(receiver);
        assert_eq!(sender.0.places.load(Ordering::SeqCst), 0);
        sender.send(1).expect_err("nobody is there");
    }

    /// Each of two threads waits for what the other sends: a wake-up that went missing would leave both waiting.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_news_is_missed() {
        const TURNS: u64 = 20_000;
        let (to_other, mut ours) = channel(0);
        let (to_us, mut theirs) = channel(0);
        let other = tokio::spawn(async move {
            for turn in 1..=TURNS {
                ours.wait_until_ge(&turn).await.expect("a sender");
                to_us.send(turn).expect("a receiver");
            }
        });
        for turn in 1..=TURNS {
            to_other.send(turn).expect("a receiver");
            theirs.wait_until_ge(&turn).await.expect("a sender");
        }
        other.await.expect("no panic");
    }

    #[test]
    fn a_sender_on_another_thread_ends_the_wait() {
        let (sender, mut receiver) = channel(0);
        let thread = thread::spawn(move || sender.send(1));
        futures::executor::block_on(receiver.changed()).expect("a value before the end");
        thread.join().expect("no panic").expect("a receiver");
        assert_eq!(*receiver.borrow_watched(), 1);
    }
}
