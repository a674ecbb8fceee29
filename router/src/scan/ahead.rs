//! Going over ranges without rows: several at once, since each costs a round trip, and one that sleeps has to be woken.

use futures::future::join_all;
use holdfast_common::clock::Instant;
use holdfast_common::key::Span;
use holdfast_common::limits::MAX_SCAN_PAGE_BYTES;

use super::{Page, Walk};
use crate::directory::beyond;
use crate::sender::{Failed, Sender};

/// Most ranges that one scan asks at once.
pub(super) const MOST: usize = 16;

impl Walk {
    /// Asks the next ranges whether they have rows at all, twice as many as the last time, and goes on behind those from the near
    /// end on that have none. The first that has is read as any other.
    pub(super) async fn skip_empty(
        &mut self,
        sender: &Sender,
        rest: &Span,
        deadline: Instant,
    ) -> Result<(), Failed> {
        let (reverse, freshness) = (self.plan.reverse, self.plan.freshness);
        let parts = sender.parts(rest, reverse, self.ahead);
        let probes = parts.iter().map(|part| {
            let mut probe = Page {
                keys_only: true,
                limit: 1,
                ..self.page(sender, part, freshness.consistency, MAX_SCAN_PAGE_BYTES)
            };
            async move {
                let answer = sender.send(&mut probe, deadline).await?;
                let is_empty = answer.rows.is_empty() && probe.rest_after(&answer).is_none();
                Ok((is_empty, answer.staleness_ms))
            }
        });
        let mut skipped = 0;
        for (part, told) in parts.iter().zip(join_all(probes).await) {
            match told {
                Ok((true, staleness_ms)) if !freshness.is_exceeded_by(staleness_ms) => {
                    self.staleness_ms = self.staleness_ms.max(staleness_ms);
                    self.rest = beyond(rest, part, reverse);
                    skipped += 1;
                }
                Err(failed) if skipped == 0 => return Err(failed),
                Ok(_) | Err(_) => break,
            }
        }
        let all = skipped > 0 && skipped == parts.len();
        self.ahead = if all { (2 * self.ahead).min(MOST) } else { 1 };
        Ok(())
    }
}
