//! The OpenAPI document of the admin API, made from one table. It is served at `/openapi.json`, and lies in
//! `docs/api/placement.json`, which a test holds to be the same; another one holds that everything in it is routed.

mod table;

use std::sync::LazyLock;

use utoipa::openapi::path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{
    ArrayBuilder, Components, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApiBuilder, Paths, Ref,
    Required, ResponseBuilder, Type,
};

use table::{Entry, Kind, TABLE};

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
    for (name, kind) in [("id", Kind::Number), ("name", Kind::Text), ("path", Kind::Text)] {
        if !entry.path.contains(&format!("{{{name}}}")) {
            continue;
        }
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(schema(kind)));
        operation = operation.parameter(parameter.build());
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
            object = object.property(*name, member(*kind, about));
        }
        let example: Option<serde_json::Value> = serde_json::from_str(entry.example).ok();
        let content = ContentBuilder::new()
            .schema(Some(object.build()))
            .example(example);
        let body = RequestBodyBuilder::new().content("application/json", content.build());
        operation = operation.request_body(Some(body.required(Some(Required::True)).build()));
    }
    let kind = match entry.path {
        "/metrics" => "text/plain",
        "/v1/live" => "text/event-stream",
        _ => "application/json",
    };
    for (status, about) in entry.answers {
        let schema = schema(if kind == "application/json" {
            Kind::Object
        } else {
            Kind::Text
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
        Kind::Texts | Kind::Numbers => Type::Array,
    })
}

/// A member of a body.
fn member(kind: Kind, about: &str) -> Schema {
    let items = match kind {
        Kind::Texts => Kind::Text,
        Kind::Numbers => Kind::Number,
        single => return schema(single).description(Some(about)).build().into(),
    };
    let list = ArrayBuilder::new().items(schema(items));
    list.description(Some(about)).build().into()
}

/// An error, as RFC 9457 has it.
fn problem() -> Schema {
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
    use utoipa::openapi::path::HttpMethod;

    use super::*;
    use crate::admin::{Admin, Posture, Upstreams, routes};

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
            Arc::new(OnceLock::new()),
            Upstreams::new(Vec::new(), None, None),
            render,
            Posture::default(),
            CancellationToken::new(),
        );
        let routes = routes(admin);
        for entry in TABLE {
            let method = match entry.method {
                HttpMethod::Get => Method::GET,
                HttpMethod::Post => Method::POST,
                HttpMethod::Delete => Method::DELETE,
                HttpMethod::Patch => Method::PATCH,
                HttpMethod::Put => Method::PUT,
                _ => panic!("a method that the table does not have"),
            };
            let path = entry.path.replace("{id}", "1").replace("{name}", "s1");
            let body = Body::from(entry.example);
            let request = Request::builder().method(method.clone()).uri(&path).body(body);
            let answer = routes.clone().oneshot(request.expect("a request")).await;
            let answer = answer.expect("an answer");
            let status = answer.status().as_u16();
            // Without a cluster every route under /v1 says so, and those that hand on have nobody to hand to.
            let expected = match path.as_str() {
                "/ready" => 503,
                path if path.starts_with("/v1/") => 503,
                path if path.starts_with("/router/") || path.starts_with("/api/control/") => 404,
                _ => 200,
            };
            assert_eq!(status, expected, "{method} {path}");
        }
    }
}
