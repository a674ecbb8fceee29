//! `cluster.json`: who runs, for programs outside.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::Role;

/// The file's name in the data directory.
pub(super) const NAME: &str = "cluster.json";

/// What a member's process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It runs.
    Running,
    /// It was told to stop and did.
    Stopped,
    /// It ended by itself or was killed.
    Exited,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) role: Role,
    pub(super) name: String,
    /// Its number among its kind, which decides its ports.
    pub(super) number: u16,
    /// A store's id in the cluster, once it has one; else its number among its kind.
    pub(super) id: Option<u64>,
    /// Its process, while it runs.
    pub(super) pid: Option<u32>,
    pub(super) http: String,
    pub(super) rpc: Option<String>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) state: State,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClusterFile {
    pub(super) members: Vec<Entry>,
}

impl ClusterFile {
    /// Reads what an earlier run left in `dir`; none if there is nothing.
    pub(super) fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        match fs::read(dir.join(NAME)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes it whole: a reader sees the old or the new one.
    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let partial = dir.join(format!(".{NAME}.partial"));
        let mut file = fs::File::create(&partial)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        fs::rename(partial, dir.join(NAME))?;
        Ok(())
    }

    /// The stores, by number and name.
    pub(super) fn stores(&self) -> Vec<(u16, String)> {
        let stores = self.members.iter().filter(|member| member.role == Role::Store);
        stores
            .map(|member| (member.number, member.name.clone()))
            .collect()
    }

    /// How many members of a role it has.
    pub(super) fn count(&self, role: Role) -> u16 {
        u16::try_from(self.members.iter().filter(|member| member.role == role).count()).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_is_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ClusterFile::read(dir.path()).unwrap(), None);
        let entry = Entry {
            role: Role::Store,
            name: "store-1".into(),
            number: 1,
            id: Some(1),
            pid: Some(42),
            http: "http://127.0.0.1:7420".into(),
            rpc: Some("127.0.0.1:7460".into()),
            data_dir: Some("store-1".into()),
            state: State::Running,
        };
        let file = ClusterFile { members: vec![entry] };
        file.write(dir.path()).unwrap();
        assert_eq!(ClusterFile::read(dir.path()).unwrap(), Some(file));
        assert!(
            std::fs::read_to_string(dir.path().join(NAME))
                .unwrap()
                .contains("\"role\": \"store\"")
        );
    }
}
