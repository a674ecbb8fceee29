//! The launcher's control API, on loopback only: the list of members, and to add, stop, start and delete them.
//!
//! A handler turns a request into a [`Request`] and waits for the launcher's answer; the launcher alone touches processes.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Json;
use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::cluster_file::{Entry, State as MemberState};
use super::leave::leave;

/// What the launcher is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Tell who there is.
    List,
    /// Add a store of this name.
    Add(String),
    /// Stop a member in order.
    Stop(String),
    /// Start a member that does not run.
    Start(String),
    /// Stop a store that has left the cluster, and remove its directory.
    Forget(String),
}

/// Why the launcher did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there is no member {0:?}")]
    Unknown(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0:?} is not a name: 1 to 40 letters, digits, '-' and '_'")]
    Name(String),
    #[error("{0}")]
    Failed(String),
}

/// An action, and where its outcome goes: the members it concerns.
pub(super) struct Request {
    pub(super) action: Action,
    pub(super) reply: oneshot::Sender<Result<Vec<Entry>, Refusal>>,
}

/// A member, in the words of the control API.
#[derive(Serialize)]
struct Node {
    #[serde(flatten)]
    entry: Entry,
    node_id: String,
    status: &'static str,
}

impl From<Entry> for Node {
    fn from(entry: Entry) -> Self {
        let status = if entry.state == MemberState::Running {
            "online"
        } else {
            "offline"
        };
        Self {
            node_id: entry.name.clone(),
            status,
            entry,
        }
    }
}

/// Body of `add`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    node_id: String,
}

type Launcher = State<mpsc::Sender<Request>>;

/// Serves the API on the loopback address until the launcher ends.
pub(super) async fn serve(port: u16, launcher: mpsc::Sender<Request>) -> std::io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let routes = Router::new()
        .route("/api/control/nodes", get(nodes))
        .route("/api/control/add", post(add))
        .route("/api/control/stop/{id}", post(stop))
        .route("/api/control/start/{id}", post(start))
        .route("/api/control/delete/{id}", post(delete))
        .with_state(launcher);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            eprintln!("holdfast: the control API ended: {error}");
        }
    });
    Ok(())
}

async fn nodes(State(launcher): Launcher) -> Response {
    match ask(&launcher, Action::List).await {
        Ok(entries) => {
            Json(json!({"nodes": entries.into_iter().map(Node::from).collect::<Vec<_>>()})).into_response()
        }
        Err(refusal) => problem(&refusal),
    }
}

async fn add(State(launcher): Launcher, body: Result<Json<Add>, JsonRejection>) -> Response {
    match body {
        Ok(Json(Add { node_id })) => change(&launcher, Action::Add(node_id)).await,
        Err(rejection) => (rejection.status(), Json(json!({"error": rejection.body_text()}))).into_response(),
    }
}

async fn stop(State(launcher): Launcher, Path(id): Path<String>) -> Response {
    change(&launcher, Action::Stop(id)).await
}

async fn start(State(launcher): Launcher, Path(id): Path<String>) -> Response {
    change(&launcher, Action::Start(id)).await
}

/// Goes on when whoever asked goes away: half a departure would leave a store that nobody stops.
async fn delete(State(launcher): Launcher, Path(id): Path<String>) -> Response {
    let left = tokio::spawn(async move { leave(&launcher, &id).await }).await;
    answer(left.unwrap_or_else(|error| Err(Refusal::Failed(error.to_string()))))
}

async fn change(launcher: &mpsc::Sender<Request>, action: Action) -> Response {
    answer(ask(launcher, action).await)
}

fn answer(outcome: Result<Vec<Entry>, Refusal>) -> Response {
    match outcome {
        Ok(entries) => Json(entries.into_iter().map(Node::from).next()).into_response(),
        Err(refusal) => problem(&refusal),
    }
}

/// Has the launcher do something.
pub(super) async fn ask(launcher: &mpsc::Sender<Request>, action: Action) -> Result<Vec<Entry>, Refusal> {
    let gone = || Refusal::Failed("the launcher is stopping".into());
    let (reply, answer) = oneshot::channel();
    launcher
        .send(Request { action, reply })
        .await
        .map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

fn problem(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Unknown(_) => StatusCode::NOT_FOUND,
        Refusal::Conflict(_) => StatusCode::CONFLICT,
        Refusal::Name(_) => StatusCode::BAD_REQUEST,
        Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(json!({"error": refusal.to_string()}))).into_response()
}

/// Checks a name for a new member: it becomes a directory.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let fits = (1..=40).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if fits {
        Ok(())
    } else {
        Err(Refusal::Name(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_as_a_directory() {
        assert!(check_name("node5").is_ok() && check_name("store-1").is_ok());
        for bad in ["", "..", "a/b", "a b", &"x".repeat(41)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
