//! Network namespaces, a bridge, and rules that drop packets: by `ip` and `nft`.
//!
//! Everything is made inside a namespace of the whole run ([`enclose`]), which goes with its last process: nothing is left behind on
//! the machine, whatever becomes of the run, and several runs don't meet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// In the environment of a process that runs inside.
const INSIDE: &str = "HOLDFAST_FAULTS_INSIDE";

/// What the networks are made with, and the Debian packages that have it.
const TOOLS: [(&str, &str); 5] = [
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("strace", "strace"),
    ("faketime", "faketime"),
];

/// Runs this very program again with networks, mounts and process ids of its own, unless it does already. All its processes end
/// with it.
///
/// # Errors
/// A tool is missing, or this is not root.
pub fn enclose() -> anyhow::Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        // Names of namespaces are mounts.
        run("mkdir", &["-p", "/run/netns"])?;
        return run("mount", &["-t", "tmpfs", "tmpfs", "/run/netns"]);
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "faults between networks need root: the run makes network namespaces. Run it as root, as CI does"
    );
    for (tool, package) in TOOLS {
        let found = Command::new("which")
            .arg(tool)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(found.success(), "`{tool}` is missing: apt-get install {package}");
    }
    let error = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("unshare: network namespaces can't be made here")
}

/// The address of a member.
pub(super) fn address(member: usize) -> String {
    format!("10.77.0.{}", member + 10)
}

/// The namespace of a member.
pub(super) fn namespace(member: usize) -> String {
    format!("m{member}")
}

/// The networks of all members.
pub(super) struct Network {
    members: usize,
    /// How many faults drop the packets from the first to the second.
    cut: BTreeMap<(usize, usize), usize>,
    loss_percent: u8,
}

impl Network {
    /// Makes them, all connected.
    pub(super) fn build(members: usize) -> anyhow::Result<Self> {
        ip("link set lo up")?;
        ip("link add hub type bridge")?;
        ip("addr add 10.77.0.1/24 dev hub")?;
        ip("link set hub up")?;
        for member in 0..members {
            let (name, address) = (namespace(member), address(member));
            ip(&format!("netns add {name}"))?;
            ip(&format!(
                "link add hub{member} type veth peer name eth0 netns {name}"
            ))?;
            ip(&format!("link set hub{member} master hub up"))?;
            ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} link set eth0 up"))?;
        }
        Ok(Self {
            members,
            cut: BTreeMap::new(),
            loss_percent: 0,
        })
    }

    pub(super) fn cut(&mut self, pairs: &BTreeSet<(usize, usize)>) -> anyhow::Result<()> {
        for pair in pairs {
            *self.cut.entry(*pair).or_default() += 1;
        }
        self.enforce()
    }

    pub(super) fn mend(&mut self, pairs: &BTreeSet<(usize, usize)>) -> anyhow::Result<()> {
        for pair in pairs {
            if let Some(count) = self.cut.get_mut(pair) {
                *count -= 1;
            }
        }
        self.cut.retain(|_, count| *count > 0);
        self.enforce()
    }

    pub(super) fn lose(&mut self, percent: u8) -> anyhow::Result<()> {
        self.loss_percent = percent;
        self.enforce()
    }

    /// Puts the rules of every member in place, each in one transaction. A packet is dropped where it arrives.
    fn enforce(&self) -> anyhow::Result<()> {
        for member in 0..self.members {
            let mut rules = String::from("table ip faults\ndelete table ip faults\n");
            rules.push_str("table ip faults { chain arriving { type filter hook input priority 0;\n");
            for (from, _) in self.cut.keys().filter(|(_, to)| *to == member) {
                writeln!(rules, "ip saddr {} drop", address(*from))?;
            }
            if self.loss_percent > 0 {
                let percent = self.loss_percent;
                // Not between the clients and a router.
                writeln!(
                    rules,
                    "ip saddr != 10.77.0.1 numgen random mod 100 < {percent} drop"
                )?;
            }
            rules.push_str("}\n}\n");
            nft(&namespace(member), &rules)?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for member in 0..self.members {
            let _ = ip(&format!("link del hub{member}"));
            let _ = ip(&format!("netns del {}", namespace(member)));
        }
        let _ = ip("link del hub");
    }
}

fn nft(namespace: &str, rules: &str) -> anyhow::Result<()> {
    let mut nft = Command::new("ip")
        .args(["netns", "exec", namespace, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    nft.stdin
        .take()
        .context("no standard input")?
        .write_all(rules.as_bytes())?;
    ensure!(
        nft.wait()?.success(),
        "nft in {namespace} does not take:\n{rules}"
    );
    Ok(())
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    run("ip", &arguments.split(' ').collect::<Vec<_>>())
        .context("network namespaces can't be made here: is this root, with CAP_NET_ADMIN and CAP_SYS_ADMIN?")
}

/// Runs a program of the system, which must succeed.
pub(super) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context(program.to_owned())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}
