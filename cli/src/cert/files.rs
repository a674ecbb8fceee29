//! A certificate and its key on disk: `NAME.pem`, and `NAME-key.pem` that only its owner reads.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure, Outcome};

/// A certificate and its key, PEM.
pub(super) struct Made {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Where the certificate and the key of `name` are.
pub(super) fn paths(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    (
        dir.join(format!("{name}.pem")),
        dir.join(format!("{name}-key.pem")),
    )
}

/// Writes both. Without `replace`, what is there is left as it is.
///
/// Each comes to its place whole. The certificate comes first: a process that looks in between finds that it does not fit the
/// old key, goes on with what it has, and looks again.
pub(super) fn write(dir: &Path, name: &str, made: &Made, replace: bool) -> Outcome {
    fs::create_dir_all(dir)?;
    let (certificate, key) = paths(dir, name);
    if let Some(there) = [&certificate, &key]
        .into_iter()
        .find(|path| !replace && path.exists())
    {
        let message = format!("{} is there already; --force replaces it", there.display());
        return Err(Failure::new(Exit::Precondition, message));
    }
    put(&certificate, &made.certificate, 0o644)?;
    put(&key, &made.key, 0o600)
}

fn put(path: &Path, text: &str, mode: u32) -> Outcome {
    let new = path.with_extension("pem.new");
    // What an earlier attempt left has other rights, perhaps.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(fs::rename(&new, path)?)
}
