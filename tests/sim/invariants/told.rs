//! L, D and A: what clients were told is what one copy of every key would have told them, nothing that was acknowledged is lost, and
//! nothing was done twice.

use holdfast_tests::history;

use crate::director::Told;

/// What speaks against it.
pub(crate) fn violations(told: &Told) -> Vec<String> {
    let verdict = history::check(&told.recorded.history);
    let violations = verdict.violations.iter().map(ToString::to_string);
    violations
        .chain(told.recorded.unexpected.iter().cloned())
        .collect()
}
