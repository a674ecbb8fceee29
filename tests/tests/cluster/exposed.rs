//! Addresses that others can reach: refused in plain text, and loud where that is overridden.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use holdfast_tests::Options;

use crate::refusals::refused;
use crate::{PROGRAM, cluster};

#[test]
fn every_process_refuses_plain_text_on_an_address_that_others_can_reach() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let nobody = "127.0.0.1:1";
    for (role, rest) in [
        ("router", ["--placement", nobody, "--http"].as_slice()),
        (
            "store",
            ["--name", "s", "--placement", nobody, "--http"].as_slice(),
        ),
        (
            "store",
            ["--name", "s", "--placement", nobody, "--rpc"].as_slice(),
        ),
        (
            "placement",
            &["--name", "p", "--members", "p=127.0.0.1:7450", "--http"],
        ),
        ("placement", &["--name", "p", "--members", "p=0.0.0.0:0", "--rpc"]),
    ] {
        let mut command = Command::new(PROGRAM);
        command.arg(role).args(rest).arg("0.0.0.0:0");
        if role == "placement" {
            command.arg("--bootstrap");
        }
        let home = dir.path().join("home");
        if role != "router" {
            command.arg("--data-dir").arg(&home);
        }
        let said = refused(&mut command)?;
        ensure!(
            said.contains("can be reached from other machines") && said.contains("--insecure"),
            "{command:?}: {said}"
        );
        ensure!(!home.exists(), "it made a directory before it refused");
    }
    Ok(())
}

/// A process that is ended when the test is.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_insists_is_served_and_told_in_log_and_metrics() -> anyhow::Result<()> {
    let cluster = cluster(Options {
        stores: 1,
        ..Options::default()
    })
    .await?;
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("router.log");
    let file = File::create(&log)?;
    let mut command = Command::new(PROGRAM);
    command.args(["router", "--http", "0.0.0.0:0", "--insecure", "--placement"]);
    command.arg(cluster.placement_rpc()).stdin(Stdio::null());
    let _router = Ended(command.stdout(file.try_clone()?).stderr(file).spawn()?);
    let port = port_in(&log).await?;
    let said = fs::read_to_string(&log)?;
    ensure!(said.contains("INSECURE: started with --insecure"), "{said}");
    let metrics = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .get(format!("http://127.0.0.1:{port}/metrics"));
    let metrics = metrics.send().await?.text().await?;
    ensure!(metrics.contains("\nholdfast_insecure 1\n"), "{metrics}");
    Ok(())
}

/// Waits until the router has logged where it takes HTTP.
async fn port_in(log: &Path) -> anyhow::Result<u16> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let said = fs::read_to_string(log)?;
        let line = said.lines().find(|line| line.contains("the router takes HTTP"));
        if let Some((_, rest)) = line.and_then(|line| line.split_once("0.0.0.0:")) {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            return digits.parse().context(rest.to_owned());
        }
        ensure!(Instant::now() < deadline, "{said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
