//! The OpenAPI document of the admin API, made from one table. It is served at `/openapi.json`, and lies in
//! `docs/api/placement.json`, which a test holds to be the same; another one holds that everything in it is routed.

use std::sync::LazyLock;

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApiBuilder, Paths, Ref, Required,
    ResponseBuilder, Type,
};

/// A member of a body, or a parameter of a query.
type Member = (&'static str, Kind, &'static str);

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Flag,
    Object,
}

/// An operation of the API.
struct Entry {
    method: HttpMethod,
    path: &'static str,
    summary: &'static str,
    query: &'static [Member],
    body: &'static [Member],
    answers: &'static [(u16, &'static str)],
    problems: &'static [u16],
}

const WAIT: Member = (
    "wait",
    Kind::Flag,
    "Answer when the change has ended, at most after a minute",
);
const DRY_RUN: Member = ("dry_run", Kind::Flag, "Only say what it would take");
const LIMIT: Member = ("limit", Kind::Number, "Most items");
const CURSOR: Member = ("cursor", Kind::Text, "Where an earlier list ended");
const TO_STORE: Member = ("to_store", Kind::Number, "The store that is to lead");

const CHANGED: &[(u16, &str)] = &[
    (200, "How the change ended"),
    (202, "The change was planned; the operator"),
];
const SHOWN: &[(u16, &str)] = &[(200, "As it is")];
const LISTED: &[(u16, &str)] = &[(200, "A page: items, and next_cursor or null")];

const READING: &[u16] = &[400, 503, 504];
const FINDING: &[u16] = &[400, 404, 503, 504];
const CHANGING: &[u16] = &[400, 404, 409, 413, 429, 501, 503, 504];

const fn get(path: &'static str, summary: &'static str) -> Entry {
    Entry {
        method: HttpMethod::Get,
        path,
        summary,
        query: &[],
        body: &[],
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

const TABLE: &[Entry] = &[
    get("/v1/cluster", "The cluster: members, leader, health, counts"),
    change(
        "/v1/placement/transfer-leader",
        "Hand the lead of the placement driver over",
        &[("to", Kind::Text, "The member's name")],
    ),
    Entry {
        query: &[],
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
        query: &[
            ("key", Kind::Text, "Only the range that holds this key"),
            ("start", Kind::Text, "From the range that holds this key on"),
            LIMIT,
            CURSOR,
        ],
        ..list("/v1/ranges", "The ranges in order of their keys")
    },
    find("/v1/ranges/{id}", "One range"),
    change(
        "/v1/ranges/split",
        "Split a range at a key, or in the middle of its data",
        &[
            ("key", Kind::Text, "The key at which the right part begins"),
            ("key_base64", Kind::Text, "The same, when it is not UTF-8"),
            ("range_id", Kind::Number, "The range to split in the middle"),
        ],
    ),
    change(
        "/v1/ranges/{id}/move",
        "Move a replica",
        &[
            ("from_store", Kind::Number, "The store that holds it"),
            ("to_store", Kind::Number, "The store that is to hold it"),
        ],
    ),
    change(
        "/v1/ranges/{id}/transfer-leader",
        "Hand the lead of a range over",
        &[TO_STORE],
    ),
    change(
        "/v1/ranges/{id}/merge",
        "Merge a range with its right neighbour",
        &[],
    ),
    change("/v1/ranges/{id}/scatter", "Spread the replicas of a range", &[]),
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
        problems: &[400, 501, 503, 504],
        ..get("/v1/heatmap", "Load by key range and time")
    },
    own("/health", "The process runs"),
    Entry {
        answers: &[(200, "It takes part"), (503, "It does not yet, and why")],
        ..own("/ready", "Requests can be served")
    },
    own("/metrics", "Every metric, for Prometheus"),
    own("/openapi.json", "This document"),
];

/// The document.
pub(super) fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(written);
    &DOCUMENT
}

fn written() -> String {
    let mut paths = Paths::new();
    for entry in TABLE {
        paths.add_path_operation(entry.path, vec![entry.method.clone()], operation(entry));
    }
    let about = "The placement driver of a Holdfast cluster: the admin API. Any member answers; one that does not lead hands the \
                 request on. Errors are application/problem+json.";
    let info = InfoBuilder::new().title("Holdfast administration").version("1");
    let mut components = Components::new();
    components.schemas.insert("Problem".to_owned(), problem().into());
    let document = OpenApiBuilder::new()
        .info(info.description(Some(about)).build())
        .paths(paths)
        .components(Some(components))
        .build();
    // Strings, numbers and maps always serialize.
    document.to_pretty_json().unwrap_or_default() + "\n"
}

fn operation(entry: &Entry) -> Operation {
    let tag = entry.path.split('/').nth(2).unwrap_or("process");
    let mut operation = OperationBuilder::new().summary(Some(entry.summary)).tag(tag);
    if entry.path.contains("{id}") {
        let id = ParameterBuilder::new()
            .name("id")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(schema(Kind::Number)));
        operation = operation.parameter(id.build());
    }
    for (name, kind, about) in entry.query {
        let parameter = ParameterBuilder::new()
            .name(*name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(*about))
            .schema(Some(schema(*kind)));
        operation = operation.parameter(parameter.build());
    }
    if !entry.body.is_empty() {
        let mut object = ObjectBuilder::new();
        for (name, kind, about) in entry.body {
            object = object.property(*name, schema(*kind).description(Some(*about)));
        }
        let content = ContentBuilder::new().schema(Some(object.build()));
        let body = RequestBodyBuilder::new().content("application/json", content.build());
        operation = operation.request_body(Some(body.required(Some(Required::True)).build()));
    }
    let kind = if entry.path == "/metrics" {
        "text/plain"
    } else {
        "application/json"
    };
    for (status, about) in entry.answers {
        let schema = schema(if kind == "text/plain" {
            Kind::Text
        } else {
            Kind::Object
        });
        let content = ContentBuilder::new().schema(Some(schema));
        let response = ResponseBuilder::new()
            .description(*about)
            .content(kind, content.build());
        operation = operation.response(status.to_string(), response.build());
    }
    for status in entry.problems {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new()
            .description(super::problem::titles(*status))
            .content("application/problem+json", content.build());
        operation = operation.response(status.to_string(), response.build());
    }
    operation.build()
}

fn schema(kind: Kind) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(match kind {
        Kind::Text => Type::String,
        Kind::Number => Type::Integer,
        Kind::Flag => Type::Boolean,
        Kind::Object => Type::Object,
    })
}

/// An error, as RFC 9457 has it.
fn problem() -> utoipa::openapi::schema::Schema {
    let text = || schema(Kind::Text);
    ObjectBuilder::new()
        .property("type", text())
        .property("title", text())
        .property("status", schema(Kind::Number))
        .property("detail", text())
        .property("code", text().description(Some("What went wrong; a closed list")))
        .property("retryable", schema(Kind::Flag))
        .property("request_id", text())
        .required("status")
        .required("code")
        .required("detail")
        .build()
        .into()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock};

    use axum::body::Body;
    use axum::http::{Method, Request};
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    use super::*;
    use crate::admin::{Admin, routes};

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api/placement.json");

    #[test]
    fn the_committed_document_is_the_present_one() {
        if std::env::var_os("HOLDFAST_BLESS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api")).expect("a folder");
            std::fs::write(COMMITTED, document()).expect("a file");
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == document(),
            "docs/api/placement.json is out of date: run `just openapi` and commit it"
        );
    }

    #[tokio::test]
    async fn everything_in_it_is_routed() {
        let render: crate::run::Render = Arc::new(String::new);
        let admin = Admin::new(
            "p".to_owned(),
            Arc::new(OnceLock::new()),
            render,
            CancellationToken::new(),
        );
        let routes = routes(admin);
        for entry in TABLE {
            let method = match entry.method {
                HttpMethod::Get => Method::GET,
                HttpMethod::Post => Method::POST,
                HttpMethod::Delete => Method::DELETE,
                HttpMethod::Patch => Method::PATCH,
                _ => panic!("a method that the table does not have"),
            };
            let path = entry.path.replace("{id}", "1");
            let request = Request::builder().method(method.clone()).uri(&path);
            let answer = routes
                .clone()
                .oneshot(request.body(Body::empty()).expect("a request"))
                .await;
            let status = answer.expect("an answer").status().as_u16();
            // Without a cluster every route under /v1 says so.
            let expected = if path.starts_with("/v1/") || path == "/ready" {
                503
            } else {
                200
            };
            assert_eq!(status, expected, "{method} {path}");
        }
    }
}
