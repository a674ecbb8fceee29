//! Whether a request may do what it asks for: decided once, here, before anything is sent to a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_common::access::{Action, Denied, Principal, Target, key_tag};
use holdfast_common::clock;
use holdfast_common::key::Span;
use http::header::AUTHORIZATION;
use metrics::counter;

use super::guarded::Activity;
use super::problem::{Code, Problem};
use super::{Exchange, Front};
use crate::gate::Closed;

/// Most lines of refusals in the audit log a second; further ones are counted alone.
const MAX_REFUSALS_TOLD: u64 = 100;

/// The second of the last refusal, and how many it had.
static TOLD: AtomicU64 = AtomicU64::new(0);

impl Exchange<'_> {
    /// Finds out who makes the request; in a router that has only just begun it waits for the rules, as for the map.
    pub(super) async fn admit(&mut self, activity: &Activity) -> Result<(), Problem> {
        if !self.front.gate.is_ready() {
            self.front.gate.known().await;
        }
        let header = self.head.headers.get(AUTHORIZATION);
        let header = header.map(|value| value.to_str().unwrap_or_default());
        let identity = activity.caller().identity.as_ref();
        match self.front.gate.admit(header, identity) {
            Ok((principal, spending)) => {
                if let Some(credential) = principal.credential()
                    && let Err(exceeded) = activity.seat().sit(&self.front.places, credential.id)
                {
                    self.is_last = true;
                    return Err(Closed::from(exceeded).into());
                }
                (self.principal, self.spending) = (principal, spending);
                Ok(())
            }
            Err(closed) => {
                if let Closed::Denied(denied) = &closed {
                    self.tell("unknown", "-", String::new(), *denied);
                }
                Err(closed.into())
            }
        }
    }

    /// Checks that the request may do that to a key.
    pub(super) fn permit_key(&self, action: Action, key: &[u8]) -> Result<(), Problem> {
        self.permit(action, Target::Key(key), || key_tag(key))
    }

    /// Checks that the request may do that to all keys of a span; an empty one has none.
    pub(super) fn permit_span(&self, action: Action, span: Option<&Span>) -> Result<(), Problem> {
        match span {
            Some(span) => self.permit(action, Target::Span(span), || key_tag(span.start())),
            None => Ok(()),
        }
    }

    fn permit(
        &self,
        action: Action,
        target: Target<'_>,
        tag: impl FnOnce() -> String,
    ) -> Result<(), Problem> {
        let verb = match action {
            Action::Read => "read",
            Action::Write => "write",
            Action::Administer => "administer",
        };
        self.principal.permits(action, target).map_err(|denied| {
            self.tell(&self.principal.to_string(), verb, tag(), denied);
            Problem::from(Closed::from(denied))
        })
    }

    /// A line in the audit log: who, what, the tag of a key in place of the key, and from where.
    fn tell(&self, principal: &str, action: &str, key_tag: String, denied: Denied) {
        let decision = denied.as_str();
        counter!("holdfast_access_decisions_total", "decision" => decision).increment(1);
        if !is_told(clock::wall_ms() / 1_000) {
            return;
        }
        let (from, request_id) = (self.from, self.id.as_str());
        let method = self.head.method.as_str();
        tracing::info!(target: "audit", principal, method, action, key_tag, decision, %from, request_id, "request refused");
    }
}

/// Whether there is room for one more line in this second.
fn is_told(second: u64) -> bool {
    let next = |told: u64| {
        let (of, count) = (told >> 16, told & 0xffff);
        match of == second & 0xffff_ffff_ffff {
            true if count >= MAX_REFUSALS_TOLD => None,
            true => Some(told + 1),
            false => Some(((second & 0xffff_ffff_ffff) << 16) + 1),
        }
    };
    TOLD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        .is_ok()
}

/// What a request that goes on for long keeps, to ask again whether it may.
#[derive(Clone)]
pub(super) struct Leave {
    front: Arc<Front>,
    principal: Principal,
}

impl Leave {
    /// Of this request.
    pub(super) fn of(exchange: &Exchange<'_>) -> Self {
        Self {
            front: exchange.front.clone(),
            principal: exchange.principal.clone(),
        }
    }

    /// Whether it may go on.
    pub(super) fn holds(&self) -> Result<(), Problem> {
        Ok(self.front.gate.reconsider(&self.principal)?)
    }
}

impl From<Closed> for Problem {
    fn from(closed: Closed) -> Self {
        let detail = closed.to_string();
        match closed {
            Closed::Denied(denied) if denied.is_unauthenticated() => Self::new(Code::Unauthenticated, detail),
            Closed::Denied(_) => Self::new(Code::Forbidden, detail),
            Closed::Unknown | Closed::Stale => Self::new(Code::Unavailable, detail),
            Closed::Exceeded(exceeded) => Self {
                retry_after_seconds: exceeded.retry_after.as_secs().saturating_add(1),
                ..Self::new(Code::LimitExceeded, detail)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_does_not_fill_the_log() {
        let told = (0..1_000).filter(|_| is_told(7)).count();
        assert!(told as u64 <= MAX_REFUSALS_TOLD);
        assert!(is_told(8));
    }
}
