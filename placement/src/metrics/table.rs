//! What a placement member measures, beside the Raft log and network: see [`holdfast_common::raft::metrics`].

use holdfast_common::telemetry::catalogue::{Label, Metric};

use super::{
    DIRECTIONS, HEARTBEAT_AGE, HOT_RANGES, LEADER, OPERATOR_SECONDS, OPERATORS, PENDING, RANGES, RANKS,
    SCORES, STORE_SCORE, STORE_STATES, STORES,
};
use crate::operator::{Kind, Status};
use crate::view::RangeHealth;

const TYPE: Label = Label::one_of("type", &Kind::NAMES);
const STORE: Label = Label::each("store", "the store's id");

/// The metrics. Those of the cluster are told by the leading member alone: elsewhere they are 0.
pub const METRICS: &[Metric] = &[
    Metric::gauge(
        LEADER,
        &[],
        "Whether this member leads the placement driver: 1 or 0.",
    ),
    Metric::gauge(
        STORES,
        &[Label::one_of("state", &STORE_STATES)],
        "Stores by state. Told by the leading member.",
    ),
    Metric::gauge(
        RANGES,
        &[Label::one_of("health", &RangeHealth::NAMES)],
        "Ranges by health: as they should be, with too many or too few replicas, with a replica on a store that is down, without \
         a leader. The worst counts. Told by the leading member.",
    ),
    Metric::counter(
        OPERATORS,
        &[TYPE, Label::one_of("state", &Status::ENDS)],
        "Operators that ended, by type and how. Told by the member that led.",
    ),
    Metric::histogram(
        OPERATOR_SECONDS,
        &[TYPE],
        "Time from the start of an operator to its end. Told by the member that led.",
    ),
    Metric::gauge(
        PENDING,
        &[TYPE],
        "Operators under way, by type. Told by the leading member.",
    ),
    Metric::gauge(
        HEARTBEAT_AGE,
        &[STORE],
        "Time since a store was last heard of; 0 for one that was removed. Told by the leading member.",
    ),
    Metric::gauge(
        STORE_SCORE,
        &[STORE, Label::one_of("kind", &SCORES)],
        "What a store holds: replicas, leaderships, and load in units of work a second. Told by the leading member.",
    ),
    Metric::gauge(
        HOT_RANGES,
        &[
            Label::one_of("rank", &RANKS),
            Label::one_of("direction", &DIRECTIONS),
        ],
        "Operations a second of the busiest ranges, by rank; which ranges they are is in the admin API. Told by the leading member.",
    ),
];
