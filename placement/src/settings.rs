//! The live settings of a cluster: replicated, shown by `GET /v1/config`, changed by `PATCH /v1/config`. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything that can be changed while the cluster runs. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Voters that every range should have, 1 to 7; an even number survives no more failures than one less.
    pub replication_factor: u8,
    /// Size past which a range is split, at least 1 MiB.
    pub split_bytes: u64,
    /// Size below which a range is merged with a neighbour, if both together stay below half of `split_bytes`; 0 to never.
    pub merge_bytes: u64,
    /// Requests a second that two ranges may have together and still be merged.
    pub merge_ops_per_second: u64,
    /// Time that the bounds of both must have been what they are.
    pub merge_after_ms: u64,
    /// Time between a store's heartbeats, 100 ms to 60 s.
    pub heartbeat_interval_ms: u64,
    /// Silence after which a store is suspected: no leadership is given to it.
    pub store_suspect_after_ms: u64,
    /// Silence after which a store is down: it is given nothing.
    pub store_down_after_ms: u64,
    /// Time that a store may be down before its replicas are replaced.
    pub store_replace_after_ms: u64,
    /// Most operators under way.
    pub max_operators: u32,
    /// Most operators under way that move data to or from one store.
    pub max_operators_per_store: u32,
    /// Operations a second past which a range is split, at least 10.
    pub split_operations_per_second: u64,
    /// Bytes read and written a second past which a range is split, at least 64 KiB.
    pub split_bytes_per_second: u64,
    /// How long a range must have been busy before it is split for that.
    pub split_load_after_ms: u64,
    /// Bytes per second that a store sends of replicas that move, all together: 64 KiB to 1 TiB.
    pub move_bytes_per_second: u64,
    /// Labels such as `zone=a`, the most wanted first: leaders are where a voter's store has the first of them that any has.
    pub leader_preference: Vec<String>,
    /// Which schedulers may act.
    pub schedulers: Schedulers,
}

/// The schedulers, on or off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedulers {
    /// Brings ranges to the replication factor.
    pub repair: bool,
    /// Splits ranges that have grown too large.
    pub split: bool,
    /// Merges small, cold neighbours.
    pub merge: bool,
    /// Spreads replicas over the stores.
    pub balance: bool,
    /// Spreads leaderships over the stores.
    pub balance_leaders: bool,
    /// Splits ranges of which too much is asked.
    pub split_by_load: bool,
    /// Spreads load over the stores.
    pub hot: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            replication_factor: 3,
            split_bytes: 96 << 20,
            merge_bytes: 16 << 20,
            merge_ops_per_second: 2,
            merge_after_ms: 600_000,
            heartbeat_interval_ms: 1_000,
            store_suspect_after_ms: 5_000,
            store_down_after_ms: 30_000,
            store_replace_after_ms: 600_000,
            max_operators: 64,
            max_operators_per_store: 8,
            split_operations_per_second: 32_000,
            split_bytes_per_second: 64 << 20,
            split_load_after_ms: 10_000,
            move_bytes_per_second: 64 << 20,
            leader_preference: Vec::new(),
            schedulers: Schedulers {
                repair: true,
                split: true,
                merge: true,
                balance: true,
                balance_leaders: true,
                split_by_load: true,
                hot: true,
            },
        }
    }
}

/// Why settings were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// An unknown name or a value of another type.
    #[error("{0}")]
    Malformed(String),
    /// A value out of its bounds.
    #[error("{name} must be {expected}")]
    OutOfBounds {
        /// The setting.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
}

impl Settings {
    /// The settings with a JSON merge patch (RFC 7396) applied.
    ///
    /// # Errors
    /// The patch names what there is not, or the result is not valid.
    pub fn patched(&self, patch: &Value) -> Result<Self, Invalid> {
        let malformed = |error: serde_json::Error| Invalid::Malformed(error.to_string());
        if !patch.is_object() {
            return Err(Invalid::Malformed("expected an object of settings".to_owned()));
        }
        let mut document = serde_json::to_value(self).map_err(malformed)?;
        merge(&mut document, patch);
        let settings: Self = serde_json::from_value(document).map_err(malformed)?;
        settings.validate()?;
        Ok(settings)
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// The first setting that is out of them.
    pub fn validate(&self) -> Result<(), Invalid> {
        let check = |holds: bool, name, expected| {
            if holds {
                Ok(())
            } else {
                Err(Invalid::OutOfBounds { name, expected })
            }
        };
        check(
            (1..=7).contains(&self.replication_factor),
            "replication_factor",
            "1 to 7",
        )?;
        check(
            (1 << 20..=1 << 40).contains(&self.split_bytes),
            "split_bytes",
            "1 MiB to 1 TiB",
        )?;
        check(
            self.merge_after_ms <= MAX_TIME_MS,
            "merge_after_ms",
            "at most 30 days",
        )?;
        check(
            (100..=60_000).contains(&self.heartbeat_interval_ms),
            "heartbeat_interval_ms",
            "100 to 60,000",
        )?;
        let beats = self.store_suspect_after_ms / 2 >= self.heartbeat_interval_ms;
        check(
            beats,
            "store_suspect_after_ms",
            "at least twice heartbeat_interval_ms",
        )?;
        let later = self.store_down_after_ms > self.store_suspect_after_ms;
        check(later, "store_down_after_ms", "longer than store_suspect_after_ms")?;
        let later = self.store_replace_after_ms >= self.store_down_after_ms
            && self.store_replace_after_ms <= MAX_TIME_MS;
        check(
            later,
            "store_replace_after_ms",
            "at least store_down_after_ms and at most 30 days",
        )?;
        check(
            (1..=10_000).contains(&self.max_operators),
            "max_operators",
            "1 to 10,000",
        )?;
        check(
            (1..=1_000).contains(&self.max_operators_per_store),
            "max_operators_per_store",
            "1 to 1,000",
        )?;
        check(
            (10..=1_000_000_000).contains(&self.split_operations_per_second),
            "split_operations_per_second",
            "10 to 1,000,000,000",
        )?;
        check(
            (64 << 10..=1 << 40).contains(&self.split_bytes_per_second),
            "split_bytes_per_second",
            "64 KiB to 1 TiB",
        )?;
        check(
            self.split_load_after_ms <= 3_600_000,
            "split_load_after_ms",
            "at most an hour",
        )?;
        check(
            (64 << 10..=1 << 40).contains(&self.move_bytes_per_second),
            "move_bytes_per_second",
            "64 KiB to 1 TiB",
        )?;
        let is_label = |label: &String| label.split_once('=').is_some_and(|(name, _)| !name.is_empty());
        check(
            self.leader_preference.len() <= MAX_PREFERENCES && self.leader_preference.iter().all(is_label),
            "leader_preference",
            "at most 16 labels such as \"zone=a\"",
        )
    }
}

/// Most labels in [`Settings::leader_preference`].
const MAX_PREFERENCES: usize = 16;

/// Longest time that may be set: 30 days.
const MAX_TIME_MS: u64 = 30 * 24 * 3_600_000;

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (target, value) => *target = value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let patched = Settings::default()
            .patched(&json!({"replication_factor": 5, "schedulers": {"repair": false}}))
            .unwrap();
        assert_eq!(patched.replication_factor, 5);
        assert_eq!(
            patched.schedulers,
            Schedulers {
                repair: false,
                ..Settings::default().schedulers
            }
        );
        assert_eq!(patched.split_bytes, Settings::default().split_bytes);
    }

    #[test]
    fn unknown_names_wrong_types_and_bad_values_are_refused() {
        let patch = |patch: Value| Settings::default().patched(&patch);
        assert!(matches!(
            patch(json!({"replication_facto": 5})),
            Err(Invalid::Malformed(_))
        ));
        assert!(matches!(
            patch(json!({"schedulers": {"nothing": true}})),
            Err(Invalid::Malformed(_))
        ));
        assert!(matches!(
            patch(json!({"split_bytes": "many"})),
            Err(Invalid::Malformed(_))
        ));
        assert!(matches!(patch(json!([1])), Err(Invalid::Malformed(_))));
        assert!(matches!(
            patch(json!({"replication_factor": 0})),
            Err(Invalid::OutOfBounds { .. })
        ));
        assert!(matches!(
            patch(json!({"store_down_after_ms": 1})),
            Err(Invalid::OutOfBounds { .. })
        ));
        for label in [json!(["zone"]), json!(["=a"])] {
            assert!(matches!(
                patch(json!({"leader_preference": label})),
                Err(Invalid::OutOfBounds { .. })
            ));
        }
        assert!(patch(json!({"leader_preference": ["zone=a"]})).is_ok());
    }
}
