//! The HTTP client of every command, and how a problem document becomes an exit code.

mod login;

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::login::{Login, absolute};
use crate::exit::{Exit, Failure, Outcome};

/// A problem document (RFC 9457), as far as a command needs it.
#[derive(Debug, Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

/// A router or a placement member.
pub(crate) struct Api {
    base: String,
    client: reqwest::Client,
}

impl Api {
    /// A client of the server at `base`, for example `http://127.0.0.1:7400`.
    pub(crate) fn new(base: &str, login: &Login) -> Outcome<Self> {
        let mut client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .default_headers(login.headers()?)
            .no_proxy();
        if let Some(mut tls) = login.tls()? {
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            client = client.use_preconfigured_tls(tls);
        } else if base.starts_with("https:") {
            return Err(Failure::usage(
                "https needs --ca, the authority that signed the server's certificate",
            ));
        }
        let client = client.build().map_err(anyhow::Error::from)?;
        let base = login::absolute(base);
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            client,
        })
    }

    /// A request for `path`, which begins with a slash and is percent-encoded already.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request and accepts any 2xx.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Outcome<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(refusal(response).await)
        }
    }

    /// GETs JSON.
    pub(crate) async fn get(&self, path: &str) -> Outcome<Value> {
        let response = self.send(self.request(Method::GET, path)).await?;
        Ok(response.json().await.map_err(anyhow::Error::from)?)
    }

    /// Sends JSON and returns the JSON that comes back.
    pub(crate) async fn change(&self, method: Method, path: &str, body: &Value) -> Outcome<Value> {
        let response = self.send(self.request(method, path).json(body)).await?;
        Ok(response.json().await.map_err(anyhow::Error::from)?)
    }

    /// GETs every page of a list and returns the items.
    pub(crate) async fn list(&self, path: &str) -> Outcome<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut request = self.request(Method::GET, path);
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let mut page: Value = self
                .send(request)
                .await?
                .json()
                .await
                .map_err(anyhow::Error::from)?;
            match page["items"].take() {
                Value::Array(more) => items.extend(more),
                _ => {
                    return Err(Failure::new(
                        Exit::Other,
                        "the answer has no items: is this the right address?",
                    ));
                }
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
    }

    /// A request that got no answer. Only one that never connected has certainly not been carried out.
    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_connect() {
            return Failure::new(
                Exit::Unavailable,
                format!("nothing answers at {}: is the cluster running?", self.base),
            );
        }
        Failure::new(
            Exit::OutcomeUnknown,
            format!("{} broke off before it answered: {error}", self.base),
        )
    }
}

impl From<holdfast_client::Error> for Failure {
    fn from(error: holdfast_client::Error) -> Self {
        use holdfast_client::Error;
        let text = error.to_string();
        match error {
            Error::Address(_) | Error::Credentials(_) => Self::usage(text),
            Error::Refused(problem) => {
                let status = StatusCode::from_u16(problem.status).unwrap_or_default();
                Self::new(exit_for(status), problem.detail)
            }
            Error::Unavailable(_) => Self::new(Exit::Unavailable, format!("{text}: is the cluster running?")),
            Error::OutcomeUnknown(_) => Self::new(Exit::OutcomeUnknown, text),
            Error::Nonsense(_) => Self::new(Exit::Other, text),
        }
    }
}

/// Turns an answer that is not a success into a failure.
pub(crate) async fn refusal(response: Response) -> Failure {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let message = match serde_json::from_str::<Problem>(&text) {
        Ok(Problem {
            detail: Some(detail), ..
        }) => detail,
        Ok(Problem {
            title: Some(title), ..
        }) => title,
        _ if text.is_empty() => status.to_string(),
        _ => text.chars().take(500).collect(),
    };
    Failure::new(exit_for(status), message)
}

/// The exit code for a refusal.
fn exit_for(status: StatusCode) -> Exit {
    match status.as_u16() {
        404 => Exit::NotFound,
        409 | 412 | 428 => Exit::Precondition,
        429 | 502 | 503 | 507 => Exit::Unavailable,
        504 => Exit::OutcomeUnknown,
        400..500 => Exit::Usage,
        _ => Exit::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_may_have_been_applied_is_told_apart() {
        let exit = |code| exit_for(StatusCode::from_u16(code).unwrap());
        assert_eq!(exit(503), Exit::Unavailable);
        assert_eq!(exit(504), Exit::OutcomeUnknown);
        assert_eq!(exit(412), Exit::Precondition);
        assert_eq!(exit(404), Exit::NotFound);
        assert_eq!(exit(414), Exit::Usage);
        assert_eq!(exit(500), Exit::Other);
    }
}
