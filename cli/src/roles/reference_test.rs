//! `docs/configuration.md` says what the configurations are: its tables are made from the types that are parsed, their
//! defaults, and the command line. The examples in `deploy/` are held to the same types.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

use clap::{Command, CommandFactory};
use holdfast_placement::settings::Settings;
use serde_json::{Value, json};
use toml::Table;

use super::settings::{layered, parse, take};
use crate::args::Cli;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

/// What every role takes besides its own configuration; what they mean is said by the command line.
const OF_EVERY_ROLE: [&str; 3] = ["log_format", "threads", "scheduling"];

/// A public field and what its documentation says.
struct Field {
    name: String,
    meaning: String,
}

/// The fields of a struct, from its source: their meaning is in comments, and there alone.
fn fields(source: &str, name: &str) -> Vec<Field> {
    let body = source
        .split_once(&format!("pub struct {name} {{\n"))
        .expect("the struct")
        .1;
    let mut found = Vec::new();
    let mut meaning = Vec::new();
    for line in body.lines().take_while(|line| *line != "}") {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///") {
            meaning.push(text.trim());
        } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':')) {
            found.push(Field {
                name: name.to_owned(),
                meaning: plain(&meaning.join(" ")),
            });
            meaning.clear();
        }
    }
    found
}

/// A comment without its links.
fn plain(comment: &str) -> String {
    let largest = holdfast_common::limits::MAX_VALUE_BYTES.to_string();
    comment
        .replace("[`MAX_VALUE_BYTES`]", &largest)
        .replace("[`Config::", "`")
        .replace("[`Limits::", "`")
        .replace("`]", "`")
        .replace('|', "\\|")
}

/// A default, as one writes it in the file.
fn written(name: &str, value: &Value) -> String {
    let nothing = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    };
    if nothing {
        return String::new();
    }
    let bytes = value
        .as_u64()
        .filter(|bytes| name.contains("bytes") && *bytes >= 1 << 20);
    match bytes.map(|bytes| (bytes, bytes >> 20)) {
        Some((bytes, mib)) if mib << 20 == bytes => format!("`{value}` ({mib} MiB)"),
        _ => format!("`{value}`"),
    }
}

/// The flag that sets a setting, if one does.
fn flag(command: &Command, setting: &str) -> Option<String> {
    let named = |id: &str| id == setting || format!("{id}s") == setting;
    command
        .get_arguments()
        .find(|argument| !argument.is_hide_set() && named(argument.get_id().as_str()))
        .and_then(|argument| argument.get_long().map(|long| format!("`--{long}`")))
}

/// One table: `fields` of something whose defaults are `defaults`, below `prefix`. They have to be the same fields.
fn table(command: Option<&Command>, prefix: &str, fields: &[Field], defaults: &Value) -> String {
    let names = |known: &serde_json::Map<String, Value>| known.keys().cloned().collect::<Vec<_>>();
    let mut listed: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    listed.sort();
    assert_eq!(listed, names(defaults.as_object().expect("an object")));
    let mut text = match command {
        Some(_) => "| setting | flag | default | meaning |\n|---|---|---|---|\n".to_owned(),
        None => "| setting | default | meaning |\n|---|---|---|\n".to_owned(),
    };
    for Field { name, meaning } in fields {
        if defaults[name].as_object().is_some_and(|inner| !inner.is_empty()) {
            continue;
        }
        let default = written(name, &defaults[name]);
        let flag = command.map(|command| format!(" {} |", flag(command, name).unwrap_or_default()));
        let flag = flag.unwrap_or_default();
        writeln!(text, "| `{prefix}{name}` |{flag} {default} | {meaning} |").expect("a string");
    }
    text
}

fn source(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).expect("a source")
}

fn role(name: &str) -> Command {
    let mut cli = Cli::command();
    cli.find_subcommand_mut(name).expect("the role").clone()
}

/// Every generated part of the document, by its name.
fn parts() -> Vec<(&'static str, String)> {
    let placement = serde_json::to_value(holdfast_placement::Config::default()).expect("JSON");
    let store = serde_json::to_value(holdfast_store::Config::default()).expect("JSON");
    let settings = serde_json::to_value(Settings::default()).expect("JSON");
    let least: holdfast_router::Config =
        serde_json::from_value(json!({"http": "127.0.0.1:7400", "placement": []})).expect("a configuration");
    let mut router = serde_json::to_value(least).expect("JSON");
    router["http"] = Value::Null;
    let of = |path: &str, name: &str| fields(&source(path), name);
    let process: String = OF_EVERY_ROLE
        .into_iter()
        .map(|name| {
            let command = role("store");
            let argument = command.get_arguments().find(|argument| argument.get_id() == name);
            let help = argument
                .and_then(|argument| argument.get_help())
                .expect("help")
                .to_string();
            let flag = flag(&command, name).expect("a flag");
            format!("| `{name}` | {flag} | {help} |\n")
        })
        .collect();
    let routers = of("router/src/config.rs", "Config");
    let limits = of("router/src/config.rs", "Limits");
    let live = of("placement/src/settings.rs", "Settings");
    let schedulers = of("placement/src/settings.rs", "Schedulers");
    vec![
        (
            "every role",
            format!("| setting | flag | meaning |\n|---|---|---|\n{process}"),
        ),
        (
            "placement",
            table(
                Some(&role("placement")),
                "",
                &of("placement/src/config.rs", "Config"),
                &placement,
            ),
        ),
        (
            "store",
            table(
                Some(&role("store")),
                "",
                &of("store/src/config.rs", "Config"),
                &store,
            ),
        ),
        ("router", table(Some(&role("router")), "", &routers, &router)),
        (
            "router limits",
            table(None, "limits.", &limits, &router["limits"]),
        ),
        ("live", table(None, "", &live, &settings)),
        (
            "schedulers",
            table(None, "schedulers.", &schedulers, &settings["schedulers"]),
        ),
    ]
}

/// The document with its generated parts made anew.
fn document(committed: &str) -> String {
    let mut text = committed.to_owned();
    for (name, part) in parts() {
        let (begin, end) = (
            format!("<!-- begin: {name} -->\n"),
            format!("<!-- end: {name} -->"),
        );
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
        let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
        text = format!("{before}{begin}\n{part}\n{end}{after}");
    }
    text
}

#[test]
fn the_committed_document_is_the_present_one() {
    let committed = std::fs::read_to_string(DOCUMENT).expect("docs/configuration.md");
    let present = document(&committed);
    if std::env::var_os("HOLDFAST_BLESS").is_some() {
        std::fs::write(DOCUMENT, &present).expect("a file");
        return;
    }
    assert!(
        committed == present,
        "docs/configuration.md is out of date: run `just openapi` and commit it"
    );
}

/// What a role makes of a file, and of what its environment adds.
fn settings(role: &str, file: &str, environment: &[(&str, &str)]) -> Table {
    let environment = environment
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let file = Path::new(ROOT).join(file);
    let mut settings = layered(role, Some(&file), environment, &Table::new()).expect("settings");
    for name in OF_EVERY_ROLE {
        take::<Value>(&mut settings, name).expect("a value");
    }
    settings
}

fn placement_starts(file: &str, environment: &[(&str, &str)]) {
    let config: holdfast_placement::Config = parse(settings("placement", file, environment)).expect(file);
    config.validate().expect(file);
}

fn store_starts(file: &str, environment: &[(&str, &str)]) {
    let config: holdfast_store::Config = parse(settings("store", file, environment)).expect(file);
    config.validate().expect(file);
}

fn router_starts(file: &str) {
    let config: holdfast_router::Config = parse(settings("router", file, &[])).expect(file);
    config.validate().expect(file);
}

#[test]
fn the_examples_for_systemd_are_accepted() {
    placement_starts("deploy/systemd/placement.toml", &[]);
    store_starts("deploy/systemd/store.toml", &[]);
    router_starts("deploy/systemd/router.toml");
}

#[test]
fn what_kubernetes_mounts_is_accepted_with_the_environment_of_a_pod() {
    let placement = [
        ("HOLDFAST_PLACEMENT_NAME", "holdfast-placement-0"),
        (
            "HOLDFAST_PLACEMENT_ADVERTISE",
            "holdfast-placement-0.holdfast-placement:7450",
        ),
        ("HOLDFAST_PLACEMENT_DATA_DIR", "/var/lib/holdfast/data"),
        (
            "HOLDFAST_PLACEMENT_TLS_CERT",
            "/etc/holdfast/tls/holdfast-placement-0.pem",
        ),
        (
            "HOLDFAST_PLACEMENT_TLS_KEY",
            "/etc/holdfast/tls/holdfast-placement-0-key.pem",
        ),
    ];
    placement_starts("deploy/kubernetes/base/placement.toml", &placement);
    let store = [
        ("HOLDFAST_STORE_NAME", "holdfast-store-0"),
        (
            "HOLDFAST_STORE_ADVERTISE_HTTP",
            "holdfast-store-0.holdfast-store:7420",
        ),
        (
            "HOLDFAST_STORE_TLS_CERT",
            "/etc/holdfast/tls/holdfast-store-0.pem",
        ),
        (
            "HOLDFAST_STORE_TLS_KEY",
            "/etc/holdfast/tls/holdfast-store-0-key.pem",
        ),
        ("HOLDFAST_STORE_ADVERTISE", "holdfast-store-0.holdfast-store:7460"),
        ("HOLDFAST_STORE_LABELS", "zone=a,node=n1"),
    ];
    store_starts("deploy/kubernetes/base/store.toml", &store);
    router_starts("deploy/kubernetes/base/router.toml");
}
