//! A cluster with TLS and credentials, each member a process of its own, with certificates that `holdfast cert` made.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::{Certificate, Identity};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::cluster::{free_ports, turn};

/// Who there is: role, name.
const MEMBERS: [(&str, &str); 6] = [
    ("placement", "placement-1"),
    ("store", "store-1"),
    ("store", "store-2"),
    ("store", "store-3"),
    ("router", "router-1"),
    ("router", "router-2"),
];

/// Long enough for anything that is going to happen at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running cluster. Dropped, it stops, and its directory is removed.
pub struct Secured {
    program: PathBuf,
    dir: tempfile::TempDir,
    /// HTTP and RPC of each member, in the order of [`MEMBERS`].
    ports: Vec<(u16, u16)>,
    processes: Vec<Child>,
    /// Speaks with an admin's certificate, on a connection of its own for each request.
    admin: reqwest::Client,
    _turn: MutexGuard<'static, ()>,
}

impl Secured {
    /// Starts a cluster with `program`, and returns once all its members are ready.
    pub async fn start(program: &str) -> anyhow::Result<Self> {
        let turn = turn();
        let dir = tempfile::Builder::new().prefix("holdfast-test-").tempdir()?;
        let pki = dir.path().join("pki");
        let cert = |args: &[&str]| certify(program, &pki, args);
        cert(&["create-ca", "--out", "."])?;
        for (role, name) in MEMBERS {
            cert(&["create-node", "--role", role, "--name", name])?;
        }
        cert(&["create-client", "--name", "ops", "--admin"])?;
        let admin = reqwest::Client::builder()
            .use_rustls_tls()
            .add_root_certificate(Certificate::from_pem(&fs::read(pki.join("ca.pem"))?)?)
            .identity(Identity::from_pem(
                &[fs::read(pki.join("ops.pem"))?, fs::read(pki.join("ops-key.pem"))?].concat(),
            )?)
            .pool_max_idle_per_host(0)
            .timeout(PATIENCE)
            .no_proxy()
            .build()?;
        let base = free_ports()?;
        let ports = (base..).step_by(2).take(MEMBERS.len());
        let ports = ports.map(|port| (port, port + 1)).collect();
        let mut cluster = Self {
            program: program.into(),
            ports,
            dir,
            processes: Vec::new(),
            admin,
            _turn: turn,
        };
        for at in 0..MEMBERS.len() {
            let process = cluster.spawn(at)?;
            cluster.processes.push(process);
        }
        for (_, name) in MEMBERS {
            cluster.ready(name).await?;
        }
        Ok(cluster)
    }

    fn spawn(&self, at: usize) -> anyhow::Result<Child> {
        let (role, name) = MEMBERS[at];
        let (http, rpc) = self.ports[at];
        let address = |port| format!("127.0.0.1:{port}");
        let placement = address(self.ports[0].1);
        let mut command = Command::new(&self.program);
        command.arg(role).args(["--http", &address(http)]);
        for (flag, file) in [("--tls-ca", "ca"), ("--tls-cert", name)] {
            command.arg(flag).arg(self.pki().join(format!("{file}.pem")));
        }
        command
            .arg("--tls-key")
            .arg(self.pki().join(format!("{name}-key.pem")));
        if role != "router" {
            command.args(["--name", name, "--rpc", &address(rpc), "--data-dir"]);
            command.arg(self.dir.path().join(name));
        }
        match role {
            "placement" => command.args([
                "--members",
                &format!("{name}={placement}"),
                "--bootstrap",
                "--auth",
                "--routers",
                &address(self.ports[4].0),
            ]),
            "store" => command.args(["--placement", &placement]),
            _ => command.args(["--placement", &placement, "--auth"]),
        };
        // Wordy, so that a secret that would be logged anywhere is.
        command.env("HOLDFAST_LOG", "debug");
        let log = File::create(self.log(name))?;
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command.spawn()?)
    }

    async fn ready(&self, name: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.admin.get(format!("{}/ready", self.url(name)?)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let log = fs::read_to_string(self.log(name))?;
            ensure!(Instant::now() < deadline, "{name} is not ready:\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where a member serves HTTP.
    pub fn url(&self, name: &str) -> anyhow::Result<String> {
        let at = MEMBERS.iter().position(|(_, member)| *member == name);
        let (http, _) = self.ports[at.with_context(|| format!("no member {name}"))?];
        Ok(format!("https://127.0.0.1:{http}"))
    }

    /// The certificates.
    pub fn pki(&self) -> PathBuf {
        self.dir.path().join("pki")
    }

    /// The authority, PEM.
    pub fn ca(&self) -> anyhow::Result<Vec<u8>> {
        Ok(fs::read(self.pki().join("ca.pem"))?)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// The admin API, for an operator.
    pub fn admin(&self) -> anyhow::Result<Admin> {
        Ok(Admin::speaking(self.url("placement-1")?, self.admin.clone()))
    }

    /// What every member has logged so far.
    pub fn logs(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let log = |(_, name): (_, &'static str)| Ok((name, fs::read_to_string(self.log(name))?));
        MEMBERS.into_iter().map(log).collect()
    }

    /// Makes a token for all keys: its id and itself.
    pub async fn create_token(&self, name: &str, role: &str) -> anyhow::Result<(u64, String)> {
        self.create_token_for(name, role, &[]).await
    }

    /// Makes a token for these prefixes, or for all keys if there are none: its id and itself.
    pub async fn create_token_for(
        &self,
        name: &str,
        role: &str,
        prefixes: &[&str],
    ) -> anyhow::Result<(u64, String)> {
        let wish = json!({"name": name, "role": role, "prefixes": prefixes});
        let url = format!("{}/v1/tokens", self.url("placement-1")?);
        let answer = self.admin.post(url).json(&wish).send().await?;
        let (status, made) = (answer.status(), answer.json::<Value>().await?);
        ensure!(status.is_success(), "{status}: {made}");
        let token = made["token"].as_str().context("a token")?;
        Ok((made["id"].as_u64().context("an id")?, token.to_owned()))
    }

    /// Revokes it.
    pub async fn revoke_token(&self, id: u64) -> anyhow::Result<()> {
        let url = format!("{}/v1/tokens/{id}", self.url("placement-1")?);
        let status = self.admin.delete(url).send().await?.status();
        ensure!(status.is_success(), "{status}");
        Ok(())
    }

    /// Gives every member a new certificate, good for `days`, and waits until each uses it.
    pub async fn exchange_certificates(&self, days: u32) -> anyhow::Result<()> {
        for (role, name) in MEMBERS {
            let before = self.good_until(name).await?;
            let days = days.to_string();
            let args = [
                "create-node",
                "--role",
                role,
                "--name",
                name,
                "--days",
                &days,
                "--force",
            ];
            certify(&self.program.to_string_lossy(), &self.pki(), &args)?;
            let deadline = Instant::now() + PATIENCE;
            while self.good_until(name).await? == before {
                ensure!(
                    Instant::now() < deadline,
                    "{name} goes on with its old certificate"
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// When the certificate ends that a member uses, as its metrics have it.
    async fn good_until(&self, name: &str) -> anyhow::Result<String> {
        let answer = self
            .admin
            .get(format!("{}/metrics", self.url(name)?))
            .send()
            .await?;
        let metrics = answer.text().await?;
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with("holdfast_tls_certificate_not_after_seconds"));
        Ok(line.context("no such metric")?.to_owned())
    }

    /// Fails when a member has panicked or logged an error.
    pub fn assert_no_errors(&self) -> anyhow::Result<()> {
        for (name, log) in self.logs()? {
            let bad = log
                .lines()
                .find(|line| line.contains(" ERROR ") || line.contains("panicked at"));
            ensure!(bad.is_none(), "{name}: {bad:?}");
        }
        Ok(())
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let all = || {
            self.processes
                .iter()
                .filter_map(|child| i32::try_from(child.id()).ok())
        };
        for pid in all().filter_map(Pid::from_raw) {
            // One that has ended already is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        for process in &mut self.processes {
            while process.try_wait().is_ok_and(|status| status.is_none()) {
                if Instant::now() > deadline {
                    let _ = process.kill();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Runs `holdfast cert` in the folder of certificates.
fn certify(program: &str, pki: &Path, args: &[&str]) -> anyhow::Result<()> {
    fs::create_dir_all(pki)?;
    let made = Command::new(program)
        .arg("cert")
        .args(args)
        .current_dir(pki)
        .output()?;
    let said = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success(), "{args:?}: {said}");
    Ok(())
}
