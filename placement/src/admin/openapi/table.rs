//! What the admin API takes and answers, an entry an operation.

use utoipa::openapi::path::HttpMethod;

/// A member of a body, or a parameter of a query.
pub(super) type Member = (&'static str, Kind, &'static str);

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Number,
    Flag,
    Object,
    Texts,
    Numbers,
}

/// An operation of the API.
pub(super) struct Entry {
    pub(super) method: HttpMethod,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) query: &'static [Member],
    pub(super) body: &'static [Member],
    /// A body that makes sense.
    pub(super) example: &'static str,
    pub(super) answers: &'static [(u16, &'static str)],
    pub(super) problems: &'static [u16],
}

const WAIT: Member = (
    "wait",
    Kind::Flag,
    "Answer when the change has ended, at most after a minute",
);
const DRY_RUN: Member = ("dry_run", Kind::Flag, "Only say what it would take");
const LIMIT: Member = ("limit", Kind::Number, "Most items");
const CURSOR: Member = ("cursor", Kind::Text, "Where an earlier list ended");
const LOST: &[Member] = &[
    ("lost_stores", Kind::Numbers, "The stores that are gone for good"),
    (
        "create_empty",
        Kind::Flag,
        "Begin a range anew of which no replica is left, with nothing in it",
    ),
];

const CHANGED: &[(u16, &str)] = &[
    (200, "How the change ended"),
    (202, "The change was planned; the operator"),
];
const SHOWN: &[(u16, &str)] = &[(200, "As it is")];
const LISTED: &[(u16, &str)] = &[(200, "A page: items, and next_cursor or null")];

const READING: &[u16] = &[400, 401, 403, 503, 504];
const FINDING: &[u16] = &[400, 401, 403, 404, 503, 504];
const CHANGING: &[u16] = &[400, 401, 403, 404, 409, 413, 429, 503, 504];

const fn get(path: &'static str, summary: &'static str) -> Entry {
    Entry {
        method: HttpMethod::Get,
        path,
        summary,
        query: &[],
        body: &[],
        example: "",
        answers: SHOWN,
        problems: READING,
    }
}

const fn list(path: &'static str, summary: &'static str) -> Entry {
    Entry {
        query: &[LIMIT, CURSOR],
        answers: LISTED,
        ..get(path, summary)
    }
}

const fn find(path: &'static str, summary: &'static str) -> Entry {
    Entry {
        problems: FINDING,
        ..get(path, summary)
    }
}

const fn change(path: &'static str, summary: &'static str, body: &'static [Member]) -> Entry {
    Entry {
        method: HttpMethod::Post,
        query: &[WAIT],
        body,
        answers: CHANGED,
        problems: CHANGING,
        ..get(path, summary)
    }
}

const fn own(path: &'static str, summary: &'static str) -> Entry {
    Entry {
        problems: &[],
        ..get(path, summary)
    }
}

const fn control(path: &'static str, summary: &'static str) -> Entry {
    Entry {
        method: HttpMethod::Post,
        problems: &[400, 401, 403, 404, 409, 503, 504],
        ..get(path, summary)
    }
}

/// Every operation, in the order in which one meets them.
pub(super) const TABLE: &[Entry] = &[
    get("/v1/cluster", "The cluster: members, leader, health, counts"),
    Entry {
        answers: &[(
            200,
            "Server-sent events: `state` tells everything at first and then what is new, in parts while `more` is true; \
             `figures` are samples of traffic and latency; `beat` says that nothing has changed",
        )],
        ..get("/v1/live", "The cluster as it changes")
    },
    Entry {
        example: r#"{"to": "p2"}"#,
        ..change(
            "/v1/placement/transfer-leader",
            "Hand the lead of the placement driver over",
            &[("to", Kind::Text, "The member's name")],
        )
    },
    Entry {
        query: &[],
        answers: SHOWN,
        example: r#"{"name": "p2"}"#,
        ..change(
            "/v1/placement/remove",
            "Remove a member of the placement driver",
            &[("name", Kind::Text, "The member's name")],
        )
    },
    list("/v1/stores", "The stores"),
    find("/v1/stores/{id}", "One store"),
    Entry {
        query: &[WAIT, DRY_RUN],
        ..change(
            "/v1/stores/{id}/drain",
            "Move every leadership away from a store",
            &[],
        )
    },
    Entry {
        query: &[WAIT, DRY_RUN],
        ..change(
            "/v1/stores/{id}/decommission",
            "Move everything away from a store, for good",
            &[],
        )
    },
    Entry {
        query: &[WAIT, DRY_RUN],
        ..change("/v1/stores/{id}/resume", "Take a store back into service", &[])
    },
    Entry {
        query: &[],
        answers: &[(
            200,
            "Every move, the bytes, the time, and the rules that would be broken",
        )],
        example: r#"{"add_stores": 1, "remove_stores": [2]}"#,
        ..change(
            "/v1/plan",
            "What would happen if stores came, left or failed",
            &[
                ("add_stores", Kind::Number, "How many stores come"),
                ("labels", Kind::Object, "Their labels"),
                ("remove_stores", Kind::Numbers, "Stores that are decommissioned"),
                (
                    "fail",
                    Kind::Texts,
                    "What fails: `store=3`, or a label such as `zone=b`",
                ),
                ("bytes_per_second", Kind::Number, "How fast a move copies"),
            ],
        )
    },
    Entry {
        query: &[
            ("key", Kind::Text, "Only the range that holds this key"),
            ("start", Kind::Text, "From the range that holds this key on"),
            LIMIT,
            CURSOR,
        ],
        ..list("/v1/ranges", "The ranges in order of their keys")
    },
    find("/v1/ranges/{id}", "One range"),
    Entry {
        example: r#"{"key": "m"}"#,
        ..change(
            "/v1/ranges/split",
            "Split a range at a key, or in the middle of its data; or ranges at many keys",
            &[
                ("key", Kind::Text, "The key at which the right part begins"),
                ("key_base64", Kind::Text, "The same, when it is not UTF-8"),
                ("range_id", Kind::Number, "The range to split in the middle"),
                ("keys", Kind::Texts, "Many keys; the answer is a job"),
                ("keys_base64", Kind::Texts, "The same, when they are not UTF-8"),
                (
                    "scatter",
                    Kind::Flag,
                    "Spread the parts over the stores, with many keys",
                ),
            ],
        )
    },
    find("/v1/presplits/{id}", "How far a split at many keys is"),
    Entry {
        example: r#"{"from_store": 1, "to_store": 4}"#,
        ..change(
            "/v1/ranges/{id}/move",
            "Move a replica",
            &[
                ("from_store", Kind::Number, "The store that holds it"),
                ("to_store", Kind::Number, "The store that is to hold it"),
            ],
        )
    },
    Entry {
        example: r#"{"to_store": 2}"#,
        ..change(
            "/v1/ranges/{id}/transfer-leader",
            "Hand the lead of a range over",
            &[("to_store", Kind::Number, "The store that is to lead")],
        )
    },
    change(
        "/v1/ranges/{id}/merge",
        "Merge a range with its right neighbour",
        &[],
    ),
    change("/v1/ranges/{id}/scatter", "Spread the replicas of a range", &[]),
    Entry {
        query: &[],
        answers: &[(200, "What each replica holds, and whether that is the same")],
        problems: FINDING,
        ..change(
            "/v1/ranges/{id}/check",
            "Compare the replicas of a range, at one entry of its log",
            &[],
        )
    },
    Entry {
        query: &[WAIT, DRY_RUN],
        example: r#"{"lost_stores": [2, 3]}"#,
        ..change(
            "/v1/ranges/{id}/recover",
            "Have a range that lost its majority go on with what survives",
            LOST,
        )
    },
    Entry {
        query: &[WAIT, DRY_RUN],
        example: r#"{"lost_stores": [2, 3]}"#,
        ..change(
            "/v1/recover",
            "The same, for every range that lost its majority",
            LOST,
        )
    },
    list("/v1/operators", "The operators, under way and ended"),
    find("/v1/operators/{id}", "One operator"),
    Entry {
        method: HttpMethod::Delete,
        ..change("/v1/operators/{id}", "Cancel an operator", &[])
    },
    list("/v1/decisions", "What the schedulers did and rejected, and why"),
    get("/v1/config", "The live settings"),
    Entry {
        method: HttpMethod::Patch,
        query: &[],
        answers: SHOWN,
        example: r#"{"schedulers": {"balance": false}}"#,
        ..change(
            "/v1/config",
            "Change live settings",
            &[(
                "schedulers",
                Kind::Object,
                "Which schedulers run; and any other setting of GET /v1/config",
            )],
        )
    },
    Entry {
        query: &[
            (
                "metric",
                Kind::Text,
                "`reads`, `writes`, `read_bytes` or `written_bytes`",
            ),
            (
                "from",
                Kind::Number,
                "Unix time, seconds; an hour before `to` if left out",
            ),
            ("to", Kind::Number, "Unix time, seconds; now if left out"),
        ],
        ..get("/v1/heatmap", "Load by key range and time")
    },
    get("/v1/tokens", "The credentials, without what proves them"),
    Entry {
        query: &[],
        answers: &[(201, "The credential, and its token, which is shown here alone")],
        example: r#"{"name": "reports", "role": "read-only", "prefixes": ["orders/"], "ttl_seconds": 86400}"#,
        ..change(
            "/v1/tokens",
            "Make a credential; the first closes the cluster to those without one",
            &[
                ("name", Kind::Text, "For people, and for the audit log"),
                ("role", Kind::Text, "`admin`, `read-write` or `read-only`"),
                (
                    "prefixes",
                    Kind::Texts,
                    "The keys that it is for; all, if left out",
                ),
                ("prefixes_base64", Kind::Texts, "Further ones, of any bytes"),
                (
                    "ttl_seconds",
                    Kind::Number,
                    "How long it is good; without end, if left out",
                ),
                (
                    "certificate",
                    Kind::Text,
                    "The name in a client certificate that proves it, in place of a token",
                ),
                (
                    "limits",
                    Kind::Object,
                    "`requests_per_second`, `bytes_per_second`, `concurrent_requests`, at each router; 0 for none",
                ),
            ],
        )
    },
    Entry {
        method: HttpMethod::Delete,
        query: &[],
        answers: &[(
            204,
            "It is revoked; every router that hears the placement driver knows within seconds",
        )],
        ..change("/v1/tokens/{id}", "Revoke a credential", &[])
    },
    Entry {
        problems: &[400, 503],
        ..get("/v1/session", "Who asks, and what that one may do; for everybody")
    },
    Entry {
        query: &[],
        answers: &[(200, "Who that is; the session's cookie comes with it")],
        example: r#"{"token": "hf_…"}"#,
        problems: &[400, 401, 403, 413, 503],
        ..change(
            "/v1/session",
            "Begin a session of a browser; needs the header `x-holdfast-console`, as does everything that it changes",
            &[(
                "token",
                Kind::Text,
                "What it stands for: it ends when that is revoked",
            )],
        )
    },
    Entry {
        method: HttpMethod::Delete,
        query: &[],
        answers: &[(204, "The session has ended, if there was one")],
        problems: &[400, 403, 503],
        ..change("/v1/session", "End the session", &[])
    },
    get("/v1/auth", "Whether requests need a credential"),
    Entry {
        method: HttpMethod::Put,
        query: &[],
        answers: SHOWN,
        example: r#"{"required": true}"#,
        ..change(
            "/v1/auth",
            "Set whether requests need a credential",
            &[("required", Kind::Flag, "Whether they do")],
        )
    },
    Entry {
        problems: &[401, 403, 404, 503, 504],
        ..get(
            "/api/control/nodes",
            "The processes that a launcher runs; without one there is 404",
        )
    },
    Entry {
        body: &[("node_id", Kind::Text, "The store's name")],
        example: r#"{"node_id": "node5"}"#,
        ..control("/api/control/add", "Add a store to a launcher's cluster")
    },
    control("/api/control/start/{name}", "Start a process"),
    control("/api/control/stop/{name}", "Stop a process in order"),
    control(
        "/api/control/delete/{name}",
        "Take a store off the cluster, stop it and remove its directory",
    ),
    Entry {
        answers: &[(200, "Word for word what the router answered")],
        problems: &[404, 503, 504],
        ..get(
            "/router/{path}",
            "Ask a router through this member, by any method",
        )
    },
    own("/health", "The process runs"),
    Entry {
        answers: &[(200, "It takes part"), (503, "It does not yet, and why")],
        ..own("/ready", "Requests can be served")
    },
    own("/metrics", "Every metric, for Prometheus"),
    own("/openapi.json", "This document"),
];
