//! A store that found damage never takes part again with what it has.
//!
//! Before the process ends it puts a mark into its directory: [`Mark`]. A start on a marked directory is refused. With
//! `rebuild_damaged` it asks the placement driver first whether every range there can do without this store; if so, the driver gives
//! the store's id up for good, everything in the directory is moved into `quarantine-<time>`, and the start goes on as that of a
//! **new** store, to which the others bring what they have.
//!
//! A failure whose cause is not known leaves a [doubt](set_doubt) instead: the next start reads every table whole before it opens
//! anything.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use holdfast_common::clock;
use holdfast_common::ids::{ClusterId, StoreId};
use holdfast_common::raft::journal;
use serde::{Deserialize, Serialize};

/// The layout of `QUARANTINE` that this build writes and reads.
const FORMAT: u32 = 1;

const MARK_FILE: &str = "QUARANTINE";
const DOUBT_FILE: &str = "DOUBT";
/// What begins the names of the directories to which damaged data is moved.
pub(crate) const ASIDE_PREFIX: &str = "quarantine-";

/// The databases of a store.
pub(crate) const DATABASES: [&str; 2] = ["raft", "data"];

/// Damage that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In which file, or in what else.
    pub file: Option<PathBuf>,
    /// What it is.
    pub reason: String,
}

/// Says that what a directory holds is damaged, and whose it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    format: u32,
    /// When the damage was found: wall time, milliseconds.
    pub at_ms: u64,
    /// What was found.
    pub reason: String,
    /// In which file, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The store that it was, if it ever registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<(ClusterId, StoreId)>,
    /// Random, minted with the directory.
    #[serde(default)]
    pub directory: u64,
}

impl Mark {
    /// A mark that is to be set now.
    pub fn new(found: Found, store: Option<(ClusterId, StoreId)>, directory: u64) -> Self {
        Self {
            format: FORMAT,
            at_ms: clock::wall_ms(),
            reason: found.reason,
            file: found.file,
            store,
            directory,
        }
    }
}

/// Puts a mark into the directory, durably. One that is there stays: it was the first.
pub(crate) fn set_mark(dir: &Path, mark: &Mark) -> io::Result<()> {
    if read_mark(dir).is_some() {
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(mark)?;
    replace(dir, MARK_FILE, &text)
}

/// The mark in a directory. One that can't be read is a mark all the same.
pub(crate) fn read_mark(dir: &Path) -> Option<Mark> {
    let text = match fs::read(dir.join(MARK_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        read => read.unwrap_or_default(),
    };
    let unreadable = |error: serde_json::Error| {
        let reason = format!("{MARK_FILE} can't be read ({error})");
        Mark::new(Found { file: None, reason }, None, 0)
    };
    Some(serde_json::from_slice(&text).unwrap_or_else(unreadable))
}

/// Notes that the next start has to look at everything before it uses any of it.
pub(crate) fn set_doubt(dir: &Path, reason: &str) -> io::Result<()> {
    replace(dir, DOUBT_FILE, reason.as_bytes())
}

/// Why everything is to be looked at, if it is.
pub(crate) fn doubt(dir: &Path) -> Option<String> {
    match fs::read(dir.join(DOUBT_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        read => Some(String::from_utf8_lossy(&read.unwrap_or_default()).into_owned()),
    }
}

/// Everything was looked at, and nothing found.
pub(crate) fn dispel_doubt(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(DOUBT_FILE)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads every table of the databases in `dir` whole.
///
/// # Errors
/// The first that is damaged, or can't be read.
pub(crate) fn read_tables(dir: &Path) -> Result<(), journal::OpenError> {
    for database in DATABASES {
        for table in journal::tables(&dir.join(database))? {
            if let Some(defect) = journal::verify(&table, |_| {})? {
                return Err(defect.into());
            }
        }
    }
    Ok(())
}

/// Moves what is in a marked directory aside, so that it is an empty store's; returns where to. If a crash comes between, the mark
/// is still there, and the next call goes on. `keep` are names that stay.
pub(crate) fn set_aside(dir: &Path, mark: &Mark, keep: &[&str]) -> io::Result<PathBuf> {
    let aside = dir.join(format!("{ASIDE_PREFIX}{}", mark.at_ms));
    fs::create_dir_all(&aside)?;
    sync(dir)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name());
    }
    let stays = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name == MARK_FILE || name.starts_with(ASIDE_PREFIX) || keep.contains(&&*name)
    };
    for name in names.iter().filter(|name| !stays(name)) {
        fs::rename(dir.join(name), aside.join(name))?;
    }
    sync(&aside)?;
    // Last: without it the directory passes for an empty one.
    fs::rename(dir.join(MARK_FILE), aside.join(MARK_FILE))?;
    sync(&aside)?;
    sync(dir)?;
    Ok(aside)
}

/// Writes a file so that after a crash all or nothing of it is there.
fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    sync(dir)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        let found = Found {
            file: Some("data/keyspaces/1/tables/7".into()),
            reason: "the table's checksum does not match".to_owned(),
        };
        Mark::new(found, Some((ClusterId(7), StoreId(3))), 99)
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_first_mark_stays_and_one_that_cant_be_read_is_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_mark(dir.path()), None);
        set_mark(dir.path(), &mark()).unwrap();
        let later = Mark { at_ms: 1, ..mark() };
        set_mark(dir.path(), &later).unwrap();
        let read = read_mark(dir.path()).unwrap();
        assert_eq!((read.directory, read.store), (99, mark().store));
        assert_ne!(read.at_ms, 1);
        fs::write(dir.path().join(MARK_FILE), "{\"format\"").unwrap();
        assert_eq!(read_mark(dir.path()).unwrap().store, None);
    }

    #[test]
    fn a_doubt_lasts_until_it_is_dispelled() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(doubt(dir.path()), None);
        set_doubt(dir.path(), "the data: poisoned").unwrap();
        assert_eq!(doubt(dir.path()).as_deref(), Some("the data: poisoned\n"));
        dispel_doubt(dir.path()).unwrap();
        dispel_doubt(dir.path()).unwrap();
        assert_eq!(doubt(dir.path()), None);
    }

    #[test]
    fn everything_but_what_is_to_stay_is_moved_and_a_move_that_was_cut_short_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mark = mark();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::create_dir(dir.path().join("quarantine-5")).unwrap();
        for name in ["LOCK", "IDENTITY"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        set_mark(dir.path(), &mark).unwrap();
        // As a crash may leave it: some is moved already.
        let aside = dir.path().join(format!("quarantine-{}", mark.at_ms));
        fs::create_dir(&aside).unwrap();
        fs::create_dir(aside.join("raft")).unwrap();

        assert_eq!(set_aside(dir.path(), &mark, &["LOCK"]).unwrap(), aside);
        assert_eq!(names(&aside), ["IDENTITY", "QUARANTINE", "data", "raft"]);
        let left = format!("quarantine-{}", mark.at_ms);
        assert_eq!(names(dir.path()), ["LOCK", &left, "quarantine-5"]);
    }
}
