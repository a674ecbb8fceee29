//! `holdfast probe`: whether a process answers, for health checks of containers, where there is no curl.

use std::time::Duration;

use clap::Args;
use holdfast_common::clock;
use reqwest::Method;

use crate::api::{Api, Login};
use crate::exit::{Exit, Failure, Outcome};

/// How long the process has to answer.
const WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// What to ask, such as https://localhost:7410/ready; without a path it is /health
    url: String,
    #[command(flatten)]
    login: Login,
}

/// Succeeds if the answer is a good one.
pub(crate) async fn run(args: ProbeArgs) -> Outcome {
    let (base, path) = split(&args.url);
    let api = Api::new(base, &args.login)?;
    let asked = clock::timeout(WITHIN, api.send(api.request(Method::GET, path))).await;
    let silent = || Failure::new(Exit::Unavailable, format!("{base} does not answer"));
    asked.unwrap_or_else(|_| Err(silent())).map(drop)
}

/// An address and a path.
fn split(url: &str) -> (&str, &str) {
    let host = url.find("://").map_or(0, |at| at + 3);
    match url[host..].find('/') {
        Some(at) => url.split_at(host + at),
        None => (url, "/health"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_may_be_left_out() {
        assert_eq!(split("https://a:1/ready"), ("https://a:1", "/ready"));
        assert_eq!(split("https://a:1"), ("https://a:1", "/health"));
        assert_eq!(split("a:1/ready"), ("a:1", "/ready"));
    }
}
