//! H: with the faults over, every range takes writes and gets all its replicas, without anybody's help.

use crate::director::Told;

/// What speaks against it: the clients waited for it, and say so when it did not come.
pub(crate) fn violations(told: &Told) -> Vec<String> {
    let mut violations = told.findings.clone();
    violations.extend(
        told.ranges
            .is_empty()
            .then(|| "the ranges did not settle".to_owned()),
    );
    violations
}
