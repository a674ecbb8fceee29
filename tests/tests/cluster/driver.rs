//! The placement driver as a cluster: led by another, a member replaced, all of them away.

use std::time::Duration;

use anyhow::{Context, ensure};
use holdfast_tests::{Admin, Cluster, Options, Writers};
use serde_json::{Value, json};

use crate::cluster;

const MINUTE: Duration = Duration::from_secs(60);

fn with(placements: u16) -> Options {
    Options {
        placements,
        ..Options::default()
    }
}

/// The members' names and parts.
async fn members(admin: &Admin) -> anyhow::Result<Vec<(String, String, u64)>> {
    let cluster = admin.cluster().await?;
    let members = cluster["members"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(members
        .iter()
        .map(|member| {
            (
                text(&member["name"]),
                text(&member["role"]),
                member["id"].as_u64().unwrap_or(0),
            )
        })
        .collect())
}

async fn leader(admin: &Admin) -> anyhow::Result<String> {
    let cluster = admin.cluster().await?;
    Ok(cluster["leader"].as_str().context("a leader")?.to_owned())
}

/// Waits until every member votes, whoever leads.
async fn all_vote(admin: &Admin, count: usize) -> anyhow::Result<()> {
    admin
        .until("every member votes", MINUTE, async || {
            let Ok(members) = members(admin).await else {
                return Ok(false);
            };
            let votes = |role: &str| role == "leader" || role == "follower";
            Ok(members.iter().filter(|(_, role, _)| votes(role)).count() == count)
        })
        .await
}

/// A member that is not this one.
fn other(cluster: &Cluster, than: &str) -> anyhow::Result<(String, Admin)> {
    let members = cluster.members()?;
    let mut placements = members
        .iter()
        .filter(|member| member.role == "placement")
        .zip(1..);
    let (member, number) = placements
        .find(|(member, _)| member.name != than && member.state == "running")
        .context("another member")?;
    Ok((member.name.clone(), cluster.admin_of(number)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_members_are_led_by_whoever_is_asked_to() -> anyhow::Result<()> {
    let cluster = cluster(with(5)).await?;
    let admin = cluster.admin();
    all_vote(&admin, 5).await?;
    for _ in 0..3 {
        let (to, _) = other(&cluster, &leader(&admin).await?)?;
        let (status, answer) = admin
            .post_json("/v1/placement/transfer-leader", &json!({"to": to}))
            .await?;
        ensure!(status == 200, "{answer}");
        admin
            .until("it leads", MINUTE, async || {
                Ok(leader(&admin).await.is_ok_and(|leader| leader == to))
            })
            .await?;
    }
    // Two of five may die, and changes go on.
    for _ in 0..2 {
        let (_, survivor) = other(&cluster, &leader_of_any(&cluster).await?)?;
        let name = leader(&survivor).await?;
        cluster.kill(&name)?;
        survivor
            .until("another leads", MINUTE, async || {
                Ok(leader(&survivor).await.is_ok_and(|now| now != name))
            })
            .await?;
        survivor.settled(3, MINUTE).await?;
    }
    let (_, survivor) = other(&cluster, "")?;
    survivor.split("m").await?;
    Ok(())
}

async fn leader_of_any(cluster: &Cluster) -> anyhow::Result<String> {
    let (_, any) = other(cluster, "")?;
    leader(&any).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_directory_is_replaced() -> anyhow::Result<()> {
    let cluster = cluster(with(3)).await?;
    all_vote(&cluster.admin(), 3).await?;
    let first = leader(&cluster.admin()).await?;
    let (victim, _) = other(&cluster, &first)?;
    let (_, admin) = other(&cluster, &victim)?;
    let before = number_of(&admin, &victim).await?;
    cluster.kill(&victim)?;
    let dir = cluster.member(&victim)?.data_dir.context("a directory")?;
    std::fs::remove_dir_all(&dir)?;
    let (status, answer) = admin
        .post_json("/v1/placement/remove", &json!({"name": victim}))
        .await?;
    ensure!(status == 200, "{answer}");
    cluster.start_member(&victim).await?;
    all_vote(&admin, 3).await?;
    ensure!(
        number_of(&admin, &victim).await? != before,
        "it has no vote of the old one's"
    );
    // The newcomer counts: with another gone, there is still a majority.
    let (third, _) = other(&cluster, &victim)?;
    cluster.kill(&third)?;
    let (_, admin) = other(&cluster, &third)?;
    admin
        .until("there is a leader", MINUTE, async || {
            Ok(leader(&admin).await.is_ok_and(|now| now != third))
        })
        .await?;
    admin.settled(3, MINUTE).await?;
    admin.split("m").await?;
    Ok(())
}

async fn number_of(admin: &Admin, name: &str) -> anyhow::Result<u64> {
    let members = members(admin).await?;
    let found = members.into_iter().find(|(known, _, _)| known == name);
    Ok(found.context("it is known")?.2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leading_member_moves_nothing_before_it_has_heard_of_the_stores() -> anyhow::Result<()> {
    // One store more than a range has replicas: there is somewhere to move what seems lost.
    let cluster = cluster(Options { stores: 4, ..with(3) }).await?;
    let admin = cluster.admin();
    for key in ["d", "h", "l", "p", "t"] {
        admin.split(key).await?;
    }
    // A store counts as lost so soon that a leader which took "not heard of yet" for "silent" would move everything at once.
    let times = json!({
        "heartbeat_interval_ms": 500,
        "store_suspect_after_ms": 1_000,
        "store_down_after_ms": 2_000,
        "store_replace_after_ms": 2_000,
    });
    admin.configure(times).await?;
    admin.settled(3, MINUTE).await?;
    admin.place_by_hand().await?;
    let before = newest_operator(&admin).await?;
    let mut watched = admin.clone();
    for _ in 0..3 {
        let name = leader(&watched).await?;
        let (_, survivor) = other(&cluster, &name)?;
        cluster.kill(&name)?;
        survivor
            .until("a new leader has heard of everything", MINUTE, async || {
                let Ok(now) = survivor.cluster().await else {
                    return Ok(false);
                };
                Ok(now["settled"] == true && now["leader"] != name.as_str() && now["health"] == "ok")
            })
            .await?;
        ensure!(newest_operator(&survivor).await? == before, "nothing was moved");
        cluster.start_member(&name).await?;
        all_vote(&survivor, 3).await?;
        watched = survivor;
    }
    Ok(())
}

async fn newest_operator(admin: &Admin) -> anyhow::Result<u64> {
    let operators = admin.get("/v1/operators?limit=1").await?;
    Ok(operators["items"][0]["id"].as_u64().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_placement_members_dead_no_read_and_no_write_fails() -> anyhow::Result<()> {
    let cluster = cluster(with(3)).await?;
    let (admin, client) = (cluster.admin(), cluster.client());
    for key in ["g", "n", "t"] {
        admin.split(key).await?;
    }
    admin.settled(3, MINUTE).await?;
    let writers = Writers::start(&client, &["a", "h", "p", "w"], 6, 4);
    writers.progress(200, MINUTE).await?;
    let members: Vec<String> = cluster
        .members()?
        .into_iter()
        .filter(|member| member.role == "placement")
        .map(|member| member.name)
        .collect();
    for name in &members {
        cluster.kill(name)?;
    }
    for _ in 0..10 {
        writers.progress(300, MINUTE).await?;
        for key in ["a000-00", "h001-01", "p002-02", "w003-03"] {
            let read = client.get(key).await?;
            ensure!(read.status == 200, "{key}: {read:?}");
        }
    }
    for name in &members {
        cluster.start_member(name).await?;
    }
    all_vote(&admin, 3).await?;
    writers.progress(200, MINUTE).await?;
    let history = writers.stop().await?;
    history.verify_unharmed(&client).await?;
    admin.split("k").await?;
    Ok(())
}
