//! The three roles: from flags, environment and file to a running process.

pub(crate) mod placement;
mod process;
#[cfg(test)]
mod reference_test;
pub(crate) mod router;
mod scheduling;
mod settings;
pub(crate) mod store;

use std::path::PathBuf;

use clap::Args;
use holdfast_common::telemetry::LogFormat;
use serde::Serialize;

use self::scheduling::Scheduling;

/// What every role takes. Everything else that a role's configuration knows can be set in the file or the environment.
#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct ProcessArgs {
    /// Settings as TOML, under the names of the flags; the environment wins over it, and flags win over both
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// How log lines look [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = log_format)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_format: Option<LogFormat>,
    /// Runtime threads [default: 1 on up to four processors, else half of them]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) threads: Option<usize>,
    /// Whether a process that wakes up waits for its turn on the processor (batch), or takes it from whoever runs (usual) [default: batch]
    #[arg(long, value_name = "POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scheduling: Option<Scheduling>,
    /// Listen on addresses other than loopback although nothing is encrypted or authenticated
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) insecure: bool,
    /// Certificates of the authorities that are trusted, PEM; TLS is on with this, --tls-cert and --tls-key
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// This process's certificate, PEM; looked at again while it runs
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the certificate, PEM
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Be killed when the process that started this one ends
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub(crate) die_with_parent: bool,
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json".into()),
    }
}

/// `NAME=VALUE`, as in `--label zone=a`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() {
        Err("the name is empty".into())
    } else {
        Ok((name.to_owned(), value.to_owned()))
    }
}
