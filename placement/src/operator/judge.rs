//! Whether an operator stays at its step, goes on, or ends.

use crate::operator::{Operator, Status};
use crate::view::{Millis, View};

/// What is to become of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its step is not done yet.
    Wait,
    /// Its step is done.
    Advance,
    /// It ends so.
    End(Status),
}

/// Judges an operator whose present step was first seen at `since`.
///
/// Time is the leading member's own monotonic clock, so a wall clock that jumps ends nothing; a new leading member gives
/// every step its full time again.
pub fn judge(operator: &Operator, since: Millis, view: &View<'_>) -> Verdict {
    let Some(action) = operator.action() else {
        return Verdict::Wait;
    };
    if action.is_done(operator.range(), view) {
        return Verdict::Advance;
    }
    if let Some(reason) = action.hopeless(operator.range(), view) {
        return Verdict::End(Status::Failed(format!("{}: {reason}", action.name())));
    }
    let waited = view.now.saturating_sub(since);
    match action.timeout() {
        Some(timeout) if u128::from(waited) > timeout.as_millis() => Verdict::End(Status::TimedOut(format!(
            "{} was not done after {} s",
            action.name(),
            timeout.as_secs()
        ))),
        _ => Verdict::Wait,
    }
}
