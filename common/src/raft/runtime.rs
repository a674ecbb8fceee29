//! The runtime that openraft runs on: tokio, with [watch channels](watch) of our own.

mod watch;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::Select4;
use openraft_rt_tokio::{TokioInstant, TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime};

pub use watch::{Borrowed, Latest, Receiver, Sender};

/// Tokio as openraft sees it.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: Send + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + Send> = tokio::time::Timeout<T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = TokioMpsc;
    type Watch = Latest;
    type Oneshot = TokioOneshot;
    type Mutex<T: Send + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    /// In one piece rather than as two selections of two: a core and its streams wait this way all the time.
    async fn select4<A, B, C, D>(
        a: A,
        b: B,
        c: C,
        d: D,
    ) -> Select4<A::Output, B::Output, C::Output, D::Output>
    where
        A: Future + Send,
        B: Future + Send,
        C: Future + Send,
        D: Future + Send,
    {
        let (mut a, mut b, mut c, mut d) = (pin!(a), pin!(b), pin!(c), pin!(d));
        poll_fn(|context| {
            if let Poll::Ready(value) = a.as_mut().poll(context) {
                return Poll::Ready(Select4::First(value));
            }
            if let Poll::Ready(value) = b.as_mut().poll(context) {
                return Poll::Ready(Select4::Second(value));
            }
            if let Poll::Ready(value) = c.as_mut().poll(context) {
                return Poll::Ready(Select4::Third(value));
            }
            d.as_mut().poll(context).map(Select4::Fourth)
        })
        .await
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use openraft::testing::runtime::Suite;

    use super::Runtime;

    #[test]
    fn it_is_what_openraft_expects_of_a_runtime() {
        Suite::<Runtime>::test_all();
    }
}
