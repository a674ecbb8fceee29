//! When a client's next request is due: at once in the closed loop, at fixed instants in the open loop.

use std::{
    io,
    ops::Range,
    time::{Duration, Instant},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::{io::AsyncReadExt, net::unix::pipe};

/// The pace of one client.
#[derive(Debug)]
pub(crate) enum Pace {
    /// The next request is due when the last one is answered.
    Closed,
    /// Requests are due at fixed instants.
    Open(Schedule),
}

/// Fixed instants at which one client's requests are due.
#[derive(Debug)]
pub(crate) struct Schedule {
    next: Instant,
    interval: Duration,
    alarm: Alarm,
}

impl Pace {
    /// The pace of `client` among `clients` that share `rate` requests a second from `start` on, or the closed loop. The
    /// clients take turns, so that requests are due evenly.
    pub(crate) fn new(rate: Option<f64>, client: usize, clients: usize, start: Instant) -> io::Result<Self> {
        let Some(rate) = rate else { return Ok(Self::Closed) };
        let first = Duration::from_secs_f64(client as f64 / rate);
        let interval = Duration::from_secs_f64(clients as f64 / rate);
        Ok(Self::Open(Schedule {
            next: start + first,
            interval,
            alarm: Alarm::new()?,
        }))
    }

    /// Waits for the next request to be due and returns that instant, which lies in the past when the client is behind.
    pub(crate) async fn next_due(&mut self) -> io::Result<Instant> {
        match self {
            Self::Closed => Ok(Instant::now()),
            Self::Open(schedule) => {
                let due = schedule.next;
                schedule.next += schedule.interval;
                schedule.alarm.wait_until(due).await?;
                Ok(due)
            }
        }
    }

    /// Requests still to come that are due within `window`: what is left unsent when the run ends.
    pub(crate) fn due_within(&self, window: &Range<Instant>) -> u64 {
        match self {
            Self::Closed => 0,
            Self::Open(schedule) => schedule.due_before(window.end) - schedule.due_before(window.start),
        }
    }
}

impl Schedule {
    fn due_before(&self, end: Instant) -> u64 {
        let left = end.saturating_duration_since(self.next);
        left.as_nanos().div_ceil(self.interval.as_nanos().max(1)) as u64
    }
}

/// A timer with the kernel's precision. Tokio's own rounds to milliseconds, which would show in every latency of an open loop.
#[derive(Debug)]
struct Alarm {
    /// A timerfd. It is read like a pipe (non-blocking, readable when there is something to read), and this is tokio's way to
    /// wait for any such descriptor without unsafe code.
    timer: pipe::Receiver,
}

impl Alarm {
    fn new() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        Ok(Self {
            timer: pipe::Receiver::from_owned_fd_unchecked(timer)?,
        })
    }

    async fn wait_until(&mut self, due: Instant) -> io::Result<()> {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let left = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        timerfd_settime(
            &self.timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec {
                it_interval: once,
                it_value: left,
            },
        )?;
        // Eight bytes, the number of expirations, once it has expired.
        self.timer.read_exact(&mut [0; 8]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_take_turns_at_the_asked_rate() {
        let start = Instant::now();
        let mut paces: Vec<_> = (0..4)
            .map(|client| Pace::new(Some(2000.0), client, 4, start).expect("a timer"))
            .collect();
        let mut due = Vec::new();
        for _ in 0..3 {
            for pace in &mut paces {
                due.push(pace.next_due().await.expect("a timer") - start);
            }
        }
        let expected: Vec<_> = (0..12).map(|turn| Duration::from_micros(500 * turn)).collect();
        assert_eq!(due, expected);
        assert!(
            start.elapsed() >= expected[11],
            "no request is sent before it is due"
        );
    }

    #[tokio::test]
    async fn what_stays_unsent_is_counted() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(Some(1000.0), 0, 1, start).expect("a timer");
        assert_eq!(pace.due_within(&(start..at(10))), 10);
        pace.next_due().await.expect("a timer");
        assert_eq!(pace.due_within(&(start..at(10))), 9);
        assert_eq!(pace.due_within(&(at(8)..at(10))), 2);
        assert_eq!(pace.due_within(&(start..start)), 0);
    }
}
