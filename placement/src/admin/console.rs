//! The console: a few files that a browser runs, built from `console/` and carried in the binary.
//!
//! Every member serves them, and the page asks only the member that it came from. What is not a file and is not the API's is
//! a page of the console: the browser is given the one document, which looks at the path by itself.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::problem::Problem;

#[derive(RustEmbed)]
#[folder = "../console/dist"]
struct Files;

const PAGE: &str = "index.html";

/// Files under this have the hash of their contents in their name.
const HASHED: &str = "assets/";

/// Everything that the page needs comes from this member, and nothing may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Paths that are an interface of programs: what is not there is not there.
const INTERFACES: [&str; 3] = ["/v1/", "/api/", "/assets/"];

/// A file of the console, or its page.
pub(super) async fn serve(request: Request) -> Response {
    let path = request.uri().path();
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    let name = path.trim_start_matches('/');
    match Files::get(name).filter(|_| is_read && !name.is_empty()) {
        Some(file) => deliver(name, file, request.headers()),
        None if is_read && is_page(path, request.headers()) => match Files::get(PAGE) {
            Some(page) => deliver(PAGE, page, request.headers()),
            None => Problem::not_found("this build has no console").into_response(),
        },
        None => Problem::not_found("there is nothing at this path").into_response(),
    }
}

/// Whether it is a browser that goes to a page, rather than a program that asks for what there is not.
fn is_page(path: &str, headers: &HeaderMap) -> bool {
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let wants_page = accepts.is_some_and(|accepts| accepts.contains("text/html"));
    path == "/" || (wants_page && !INTERFACES.iter().any(|interface| path.starts_with(interface)))
}

fn deliver(name: &str, file: EmbeddedFile, asked: &HeaderMap) -> Response {
    let tag = entity_tag(&file.metadata.sha256_hash());
    let keep = if name.starts_with(HASHED) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let known = asked
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| *known == tag);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        file.data.into_owned().into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    headers.insert(header::ETAG, tag);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn entity_tag(hash: &[u8; 32]) -> HeaderValue {
    let hex: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("\"{hex}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    async fn get(path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        serve(request.body(Body::empty()).unwrap()).await
    }

    #[tokio::test]
    async fn the_page_is_given_wherever_a_browser_goes_and_programs_are_told_that_nothing_is_there() {
        let html = (header::ACCEPT, "text/html,*/*");
        for path in ["/", "/stores", "/ranges/12"] {
            let page = get(path, std::slice::from_ref(&html)).await;
            assert_eq!(page.status(), StatusCode::OK, "{path}");
            assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
            assert_eq!(page.headers()[header::CACHE_CONTROL], "no-cache");
        }
        for (path, headers) in [("/stores", &[][..]), ("/v1/storez", std::slice::from_ref(&html))] {
            assert_eq!(get(path, headers).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(
            get("/assets/../index.html", &[html]).await.status(),
            StatusCode::NOT_FOUND
        );
    }

    #[tokio::test]
    async fn what_the_browser_has_is_not_sent_again_and_hashed_files_are_kept_for_good() {
        let hashed = Files::iter()
            .filter(|name| name.starts_with(HASHED))
            .map(|name| format!("/{name}"));
        for path in hashed.chain(["/".to_owned()]) {
            let first = get(&path, &[]).await;
            let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
            let again = get(&path, &[(header::IF_NONE_MATCH, &tag)]).await;
            assert_eq!(
                (first.status(), again.status()),
                (StatusCode::OK, StatusCode::NOT_MODIFIED),
                "{path}"
            );
            let is_kept = first.headers()[header::CACHE_CONTROL]
                .to_str()
                .unwrap()
                .contains("immutable");
            assert_eq!(is_kept, path != "/", "{path}");
            assert_ne!(
                first.headers()[header::CONTENT_TYPE],
                "application/octet-stream",
                "{path}"
            );
        }
    }

    #[test]
    fn the_page_names_only_files_that_are_there() {
        let page = String::from_utf8(Files::get(PAGE).unwrap().data.into_owned()).unwrap();
        let named = page
            .split('"')
            .filter(|part| part.starts_with('/') && part.contains('.'));
        let named: Vec<_> = named.collect();
        assert!(!named.is_empty(), "the page loads nothing");
        for name in named {
            assert!(
                Files::get(name.trim_start_matches('/')).is_some(),
                "{name} is not there"
            );
        }
    }
}
