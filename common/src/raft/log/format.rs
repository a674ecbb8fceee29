//! The file that says what a directory holds and in which version, before anything in it is touched.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::raft::journal::OpenError;

/// Its name in the directory.
const FILE: &str = "FORMAT";
/// Its content. The version goes up when an older build could misread what a newer one wrote.
const CONTENT: &str = "holdfast raft log 1\n";
/// Bytes of a foreign file that are shown in the error.
const MAX_SHOWN_BYTES: usize = 64;

/// Claims an empty directory for the Raft log, or makes sure that it is one of this version. Creates the directory.
pub(super) fn claim(dir: &Path) -> Result<(), OpenError> {
    std::fs::create_dir_all(dir).map_err(|e| OpenError::io(dir, e))?;
    let path = dir.join(FILE);
    match std::fs::read(&path) {
        Ok(content) if content == CONTENT.as_bytes() => Ok(()),
        // A creation that was cut short: nothing can have been stored yet.
        Ok(content) if content.is_empty() && !holds_anything_else(dir)? => write(dir, &path),
        Ok(content) => Err(foreign(dir, &content)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OpenError::io(&path, error)),
        Err(_) if holds_anything_else(dir)? => Err(foreign(dir, b"something without a FORMAT file")),
        Err(_) => write(dir, &path),
    }
}

fn write(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        file.write_all(CONTENT.as_bytes())?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| OpenError::io(path, e))
}

fn holds_anything_else(dir: &Path) -> Result<bool, OpenError> {
    let mut entries = std::fs::read_dir(dir).map_err(|e| OpenError::io(dir, e))?;
    Ok(entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != FILE)))
}

fn foreign(dir: &Path, content: &[u8]) -> OpenError {
    let shown = String::from_utf8_lossy(&content[..content.len().min(MAX_SHOWN_BYTES)]);
    OpenError::Foreign {
        dir: dir.to_owned(),
        found: shown.trim_end().to_owned(),
        expected: CONTENT.trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_an_empty_directory_and_knows_it_again() {
        let dir = tempfile::tempdir().expect("a directory");
        claim(dir.path()).expect("empty");
        claim(dir.path()).expect("ours");
    }

    #[test]
    fn finishes_a_claim_that_was_cut_short() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILE), "").expect("written");
        claim(dir.path()).expect("nothing was stored");
        assert_eq!(
            std::fs::read_to_string(dir.path().join(FILE)).expect("there"),
            CONTENT
        );
    }

    #[test]
    fn refuses_another_version_and_another_content() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILE), "holdfast raft log 2\n").expect("written");
        let error = claim(dir.path()).expect_err("from the future");
        assert!(
            matches!(error, OpenError::Foreign { ref found, .. } if found == "holdfast raft log 2"),
            "{error}"
        );

        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("photos"), "").expect("written");
        assert!(matches!(claim(dir.path()), Err(OpenError::Foreign { .. })));
    }
}
