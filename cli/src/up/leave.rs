//! A store that leaves for good: the cluster takes everything off it, then the launcher forgets it.
//!
//! This may take long, so it happens beside the launcher, which meanwhile notices deaths and does what else it is asked.

use std::time::Duration;

use holdfast_common::clock;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;

use super::cluster_file::{Entry, State};
use super::control::{Action, Refusal, Request, ask};
use super::plan::Role;
use super::ready::credentials;

/// Longest time that a store is given to hand over what it has.
const LEAVE_WITHIN: Duration = Duration::from_secs(3_600);

/// Pause before a placement member is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Has a store leave the cluster, ends its process and removes its directory; tells what it was.
pub(super) async fn leave(launcher: &mpsc::Sender<Request>, name: &str) -> Result<Vec<Entry>, Refusal> {
    let members = ask(launcher, Action::List).await?;
    let member = members.iter().find(|member| member.name == name);
    let member = member.ok_or_else(|| Refusal::Unknown(name.to_owned()))?;
    if member.role != Role::Store {
        return Err(Refusal::Conflict(format!(
            "{name} is not a store: it can be stopped, and nothing has to be taken off it"
        )));
    }
    if let Some(id) = member.id {
        let retired = clock::timeout(LEAVE_WITHIN, decommission(launcher, id)).await;
        retired.map_err(|_| Refusal::Failed(format!("{name} still holds data after {LEAVE_WITHIN:?}")))??;
    }
    ask(launcher, Action::Forget(name.to_owned())).await
}

/// What a placement member said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// The store has left.
    Left,
    /// Ask again: it has not left yet, or nobody could tell.
    Again,
    /// It can't leave, because of this.
    Refused(String),
}

/// Returns once the store has left the cluster.
async fn decommission(launcher: &mpsc::Sender<Request>, id: u64) -> Result<(), Refusal> {
    let credentials = credentials().map_err(|error| Refusal::Failed(error.to_string()))?;
    let client = Client::builder().default_headers(credentials).no_proxy().build();
    let client = client.map_err(|error| Refusal::Failed(error.to_string()))?;
    loop {
        for member in ask(launcher, Action::List).await? {
            if member.role != Role::Placement || member.state != State::Running {
                continue;
            }
            let url = format!("{}/v1/stores/{id}/decommission?wait=true", member.http);
            let Ok(answer) = client.post(url).send().await else {
                continue;
            };
            let status = answer.status();
            let body: Value = answer.json().await.unwrap_or_default();
            match understood(status, &body) {
                Said::Left => return Ok(()),
                Said::Refused(why) => return Err(Refusal::Conflict(why)),
                Said::Again => {}
            }
        }
        clock::sleep(PAUSE).await;
    }
}

fn understood(status: StatusCode, body: &Value) -> Said {
    match (status, body["state"].as_str()) {
        // What has left already is not known any more.
        (StatusCode::OK, Some("removed")) | (StatusCode::NOT_FOUND, _) => Said::Left,
        (StatusCode::OK | StatusCode::ACCEPTED, Some("up" | "suspect" | "draining")) => {
            Said::Refused("it was put back into service meanwhile".to_owned())
        }
        (status, _) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => Said::Refused(
            body["detail"]
                .as_str()
                .unwrap_or("the placement driver refuses")
                .to_owned(),
        ),
        _ => Said::Again,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_store_that_has_left_is_forgotten() {
        let said = |status: u16, body: Value| understood(StatusCode::from_u16(status).unwrap(), &body);
        assert_eq!(said(200, json!({"state": "removed"})), Said::Left);
        assert_eq!(said(404, json!({"detail": "there is no store 4"})), Said::Left);
        assert_eq!(
            said(202, json!({"state": "decommissioning"})),
            Said::Again,
            "the leadership moved"
        );
        assert_eq!(said(503, json!({"detail": "no leader"})), Said::Again);
        assert!(matches!(said(202, json!({"state": "up"})), Said::Refused(_)));
        let full = json!({"detail": "store 1 can't leave: 3 stores are needed"});
        assert_eq!(
            said(409, full),
            Said::Refused("store 1 can't leave: 3 stores are needed".into())
        );
    }
}
