//! What each principal may use of this router: requests and bytes a second, and requests at a time. Pure but for the lock.
//!
//! Each budget is a bucket that holds one second's worth. Bytes are known only after they have passed, so their bucket may go
//! below zero, and the requests that follow wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use holdfast_common::proto::access::{Credential, Limits, Rules};
use parking_lot::Mutex;

/// A principal has used up what it may use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credential's limit of {what} is reached")]
pub(crate) struct Exceeded {
    /// Which limit.
    pub what: &'static str,
    /// When to come back.
    pub retry_after: Duration,
}

/// A budget that refills by time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    level: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, per_second: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * per_second).min(per_second);
        self.at = now;
    }

    /// How long until it holds `amount`.
    fn wait(&self, amount: f64, per_second: f64) -> Duration {
        Duration::try_from_secs_f64((amount - self.level).max(0.0) / per_second)
            .unwrap_or(Duration::from_secs(60))
    }
}

#[derive(Debug)]
struct Use {
    limits: Limits,
    requests: Bucket,
    bytes: Bucket,
    now: u32,
}

impl Use {
    fn new(limits: Limits, at: Instant) -> Self {
        Self {
            limits,
            requests: Bucket {
                level: f64::from(limits.requests_per_second),
                at,
            },
            bytes: Bucket {
                level: limits.bytes_per_second as f64,
                at,
            },
            now: 0,
        }
    }

    fn begin(&mut self, now: Instant) -> Result<(), Exceeded> {
        let Limits {
            requests_per_second: requests,
            bytes_per_second: bytes,
            concurrent_requests: at_a_time,
        } = self.limits;
        if at_a_time > 0 && self.now >= at_a_time {
            return Err(Exceeded {
                what: "requests at a time",
                retry_after: Duration::from_secs(1),
            });
        }
        if bytes > 0 {
            let per_second = bytes as f64;
            self.bytes.refill(per_second, now);
            if self.bytes.level <= 0.0 {
                return Err(Exceeded {
                    what: "bytes a second",
                    retry_after: self.bytes.wait(1.0, per_second),
                });
            }
        }
        if requests > 0 {
            let per_second = f64::from(requests);
            self.requests.refill(per_second, now);
            if self.requests.level < 1.0 {
                return Err(Exceeded {
                    what: "requests a second",
                    retry_after: self.requests.wait(1.0, per_second),
                });
            }
            self.requests.level -= 1.0;
        }
        self.now += 1;
        Ok(())
    }
}

/// What all principals use. Only those with limits are kept: at most as many as there are credentials.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<HashMap<u64, Arc<Mutex<Use>>>>);

impl Quotas {
    /// Begins a request; none when there is nothing to count.
    ///
    /// # Errors
    /// Too much was used already.
    pub(crate) fn begin(&self, credential: &Credential, now: Instant) -> Result<Option<Spending>, Exceeded> {
        if credential.limits == Limits::default() {
            return Ok(None);
        }
        let counted = {
            let mut all = self.0.lock();
            let fresh = || Arc::new(Mutex::new(Use::new(credential.limits, now)));
            all.entry(credential.id).or_insert_with(fresh).clone()
        };
        counted.lock().begin(now)?;
        Ok(Some(Spending(counted)))
    }

    /// Forgets the credentials that are no more.
    pub(crate) fn keep(&self, rules: &Rules) {
        let known = |id: &u64| rules.credentials.iter().any(|credential| credential.id == *id);
        self.0.lock().retain(|id, _| known(id));
    }
}

/// A request of a principal with limits, while it lasts.
#[derive(Debug)]
pub(crate) struct Spending(Arc<Mutex<Use>>);

impl Spending {
    /// So many bytes came or went.
    pub(crate) fn bytes(&self, bytes: usize) {
        let mut counted = self.0.lock();
        let per_second = counted.limits.bytes_per_second as f64;
        counted.bytes.refill(per_second, clock::now());
        counted.bytes.level -= bytes as f64;
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        let mut counted = self.0.lock();
        counted.now = counted.now.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(limits: Limits) -> Use {
        Use::new(limits, clock::now())
    }

    #[tokio::test(start_paused = true)]
    async fn requests_refill_with_time_and_never_above_a_seconds_worth() {
        let mut counted = limited(Limits {
            requests_per_second: 2,
            ..Limits::default()
        });
        let start = clock::now();
        assert!(counted.begin(start).is_ok() && counted.begin(start).is_ok());
        let refused = counted.begin(start).expect_err("used up");
        assert_eq!(refused.retry_after, Duration::from_millis(500));
        let later = start + Duration::from_secs(100);
        assert!(counted.begin(later).is_ok() && counted.begin(later).is_ok());
        assert!(counted.begin(later).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_paid_afterwards() {
        let quotas = Quotas::default();
        let credential = Credential {
            id: 1,
            name: "c".into(),
            proof: holdfast_common::proto::access::Proof::Token([0; 32]),
            right: holdfast_common::proto::access::Right::ReadOnly,
            prefixes: Vec::new(),
            expires_ms: None,
            created_ms: 0,
            limits: Limits {
                bytes_per_second: 100,
                concurrent_requests: 1,
                ..Limits::default()
            },
        };
        let start = clock::now();
        let spending = quotas.begin(&credential, start).expect("room").expect("limits");
        assert!(quotas.begin(&credential, start).is_err(), "one at a time");
        spending.bytes(1_000);
        drop(spending);
        let refused = quotas.begin(&credential, start).expect_err("in debt");
        assert!(refused.retry_after > Duration::from_secs(8), "{refused:?}");
        assert!(quotas.begin(&credential, start + Duration::from_secs(10)).is_ok());
        quotas.keep(&Rules::default());
        assert!(quotas.0.lock().is_empty());
    }
}
