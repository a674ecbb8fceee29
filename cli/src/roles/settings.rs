//! One configuration from three layers: file, then environment, then flags. Pure but for reading the file.
//!
//! Each layer is a table of the role's settings by name. The role's own configuration type is what refuses a name or a type
//! that it does not know, so nothing is spelled twice.

use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::exit::{Failure, Outcome};

/// Settings that are lists, which environment and flags write with commas.
const LISTS: [&str; 3] = ["placement", "members", "routers"];

/// Settings that are tables, which the environment writes as `name=value` with commas.
const TABLES: [&str; 1] = ["labels"];

/// Merges the layers for `role`; `flags` serializes to what was given on the command line alone.
pub(super) fn layered(
    role: &str,
    file: Option<&Path>,
    environment: impl Iterator<Item = (OsString, OsString)>,
    flags: &impl Serialize,
) -> Outcome<Table> {
    let mut settings = match file {
        Some(file) => read(file)?,
        None => Table::new(),
    };
    settings.extend(from_environment(role, environment)?);
    settings.extend(Table::try_from(flags).map_err(anyhow::Error::from)?);
    Ok(settings)
}

/// Reads a role's configuration off the merged settings; what it does not know is the user's mistake.
pub(super) fn parse<T: DeserializeOwned>(settings: Table) -> Outcome<T> {
    settings
        .try_into()
        .map_err(|error: toml::de::Error| Failure::usage(format!("configuration: {}", error.message())))
}

/// Takes one setting out, if it is there.
pub(super) fn take<T: DeserializeOwned>(settings: &mut Table, name: &str) -> Outcome<Option<T>> {
    let Some(value) = settings.remove(name) else {
        return Ok(None);
    };
    value
        .try_into()
        .map(Some)
        .map_err(|error| Failure::usage(format!("configuration: {name}: {}", error.message())))
}

fn read(file: &Path) -> Outcome<Table> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let table: Table = text
        .parse()
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    // Names may be written as the flags are.
    Ok(table
        .into_iter()
        .map(|(name, value)| (name.replace('-', "_"), value))
        .collect())
}

fn from_environment(role: &str, environment: impl Iterator<Item = (OsString, OsString)>) -> Outcome<Table> {
    let prefix = format!("HOLDFAST_{}_", role.to_uppercase());
    let mut settings = Table::new();
    for (name, value) in environment {
        let Some(setting) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else {
            continue;
        };
        let text = value
            .to_str()
            .ok_or_else(|| Failure::usage(format!("{prefix}{setting} is not UTF-8")))?;
        let setting = setting.to_lowercase();
        let value = typed(&setting, text);
        settings.insert(setting, value);
    }
    Ok(settings)
}

/// The environment knows only text: what reads as a TOML value is that value.
fn typed(setting: &str, text: &str) -> Value {
    let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
    if LISTS.contains(&setting) {
        return Value::Array(parts().map(|part| Value::String(part.to_owned())).collect());
    }
    if TABLES.contains(&setting) {
        let pairs = parts().map(|part| part.split_once('=').unwrap_or((part, "")));
        return Value::Table(
            pairs
                .map(|(name, value)| (name.to_owned(), Value::String(value.to_owned())))
                .collect(),
        );
    }
    let parsed = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"));
    match parsed {
        Some(value @ (Value::Integer(_) | Value::Boolean(_) | Value::Float(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        name: String,
        placement: Vec<String>,
        max_waiting: u64,
    }

    #[derive(Serialize)]
    struct Flags {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'static str>,
    }

    fn merge(file: &str, environment: &[(&str, &str)], name: Option<&'static str>) -> Outcome<Config> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, file).unwrap();
        let environment = environment
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        parse(layered("store", Some(path.path()), environment, &Flags { name })?)
    }

    #[test]
    fn flags_win_over_environment_and_environment_over_file() {
        let file = "name = 'file'\nmax-waiting = 5\nplacement = ['a:1']";
        let environment = [
            ("HOLDFAST_STORE_NAME", "environment"),
            ("HOLDFAST_STORE_PLACEMENT", "b:1, c:1"),
            ("HOLDFAST_OTHER", "x"),
        ];
        let placement = vec!["b:1".to_owned(), "c:1".to_owned()];
        let merged = merge(file, &environment, Some("flag")).unwrap();
        assert_eq!(
            merged,
            Config {
                name: "flag".into(),
                placement,
                max_waiting: 5
            }
        );
        assert_eq!(merge(file, &environment, None).unwrap().name, "environment");
        assert_eq!(
            merge(file, &[("HOLDFAST_STORE_MAX_WAITING", "7")], None)
                .unwrap()
                .max_waiting,
            7
        );
    }

    #[test]
    fn an_unknown_name_is_refused_wherever_it_stands() {
        let file = "name = 'a'\nmax_waiting = 5\nplacement = []";
        assert!(
            merge(&format!("{file}\nnmae = 'b'"), &[], None)
                .unwrap_err()
                .to_string()
                .contains("nmae")
        );
        assert!(
            merge(file, &[("HOLDFAST_STORE_MAX_WAITIN", "7")], None)
                .unwrap_err()
                .to_string()
                .contains("max_waitin")
        );
        assert!(merge("name = ", &[], None).is_err());
    }
}
