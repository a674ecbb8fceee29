//! C: replicas have the same contents. Nobody writes any more, so every replica has applied the same; what lies on the disks is
//! compared row by row.

use std::ops::Bound;

use bytes::Bytes;
use holdfast_common::key::Span;
use holdfast_store::keys::{self, Interval};

use crate::cluster::Cluster;
use crate::director::Told;

/// What speaks against it.
pub(crate) fn violations(cluster: &Cluster, told: &Told) -> Vec<String> {
    let mut violations = Vec::new();
    for range in &told.ranges {
        let Ok(span) = Span::new(range.start.clone(), range.end.clone()) else {
            violations.push(format!("range {} has no span", range.id));
            continue;
        };
        let mut first: Option<(u64, Vec<(Bytes, Bytes)>)> = None;
        for store in range.voters() {
            let rows = rows(cluster, told, store, &keys::records(&span));
            match &first {
                None => first = Some((store, rows)),
                Some((other, expected)) if *expected != rows => violations.push(format!(
                    "range {}: store {store} has {} rows, store {other} has {}, and they differ",
                    range.id,
                    rows.len(),
                    expected.len()
                )),
                Some(_) => {}
            }
        }
    }
    violations
}

fn rows(cluster: &Cluster, told: &Told, store: u64, interval: &Interval) -> Vec<(Bytes, Bytes)> {
    let name = told
        .stores
        .iter()
        .find(|(id, _)| *id == store)
        .map(|(_, name)| name);
    let machine = cluster
        .machines
        .iter()
        .find(|machine| Some(&machine.name) == name);
    let Some(machine) = machine else { return Vec::new() };
    let volume = cluster.world.volumes().of(&machine.dir().join("data"));
    let rows = volume.lock().rows("data");
    let bounds = (
        Bound::Included(&interval.start[..]),
        Bound::Excluded(&interval.end[..]),
    );
    rows.range::<[u8], _>(bounds)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
