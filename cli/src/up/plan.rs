//! Who there is in a local cluster, and where: pure.

use std::ffi::OsString;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::UpArgs;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// Part of the placement driver.
    Placement,
    /// Holds data.
    Store,
    /// Takes HTTP.
    Router,
}

/// A member and the command that runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) role: Role,
    pub(super) name: String,
    /// Its number among its kind, from one.
    pub(super) number: u16,
    pub(super) http: String,
    pub(super) rpc: Option<String>,
    /// A router keeps no data.
    pub(super) data_dir: Option<std::path::PathBuf>,
    /// The arguments after `holdfast`.
    pub(super) command: Vec<OsString>,
}

/// Tells a placement member to found the cluster.
pub(super) const BOOTSTRAP: &str = "--bootstrap";

/// Where the launcher's control API listens, behind the base port.
pub(super) const CONTROL_PORT: u16 = 9;

/// Most stores that the ports have room for.
pub(super) const MAX_STORES: u16 = 30;

/// The members, in the order in which they start. `first_start` says that no member has ever run in this directory: only then
/// is the first placement member told to bootstrap. `added` are stores of an earlier run that got names of their own.
pub(super) fn members(args: &UpArgs, dir: &Path, first_start: bool, added: &[(u16, String)]) -> Vec<Spec> {
    let placement_rpc = placement_rpc(args);
    let placements = (1..=args.placements).map(|n| placement(args, dir, n, &placement_rpc, first_start));
    let plain = (1..=args.stores).filter(|number| added.iter().all(|(taken, _)| taken != number));
    let mut stores: Vec<_> = plain
        .map(|number| (number, format!("store-{number}")))
        .chain(added.iter().cloned())
        .collect();
    stores.sort();
    let stores = stores
        .into_iter()
        .map(|(number, name)| store(args, dir, number, &name));
    let routers = (1..=args.routers).map(|n| router(args, n, &placement_rpc));
    placements.chain(stores).chain(routers).collect()
}

fn placement_rpc(args: &UpArgs) -> Vec<String> {
    (1..=args.placements)
        .map(|n| address(args.base_port + 49 + n))
        .collect()
}

fn placement(args: &UpArgs, dir: &Path, number: u16, rpc: &[String], first_start: bool) -> Spec {
    let name = format!("placement-{number}");
    let members: Vec<String> = rpc
        .iter()
        .enumerate()
        .map(|(i, rpc)| format!("placement-{}={rpc}", i + 1))
        .collect();
    let http = address(args.base_port + 9 + number);
    let own_rpc = address(args.base_port + 49 + number);
    let data_dir = dir.join(&name);
    let mut command = role_command("placement", &name, &data_dir, &http, &own_rpc);
    command.extend(["--members".into(), members.join(",").into()]);
    let routers: Vec<String> = (1..=args.routers).map(|n| router_http(args, n)).collect();
    command.extend(["--routers".into(), routers.join(",").into()]);
    command.extend(["--control".into(), address(args.base_port + CONTROL_PORT).into()]);
    if first_start && number == 1 {
        command.push(BOOTSTRAP.into());
    }
    Spec {
        role: Role::Placement,
        name,
        number,
        http: url(&http),
        rpc: Some(own_rpc),
        data_dir: Some(data_dir),
        command,
    }
}

/// The store with this number, which decides its ports, and this name, which decides its directory.
pub(super) fn store(args: &UpArgs, dir: &Path, number: u16, name: &str) -> Spec {
    let http = address(args.base_port + 19 + number);
    let rpc = address(args.base_port + 59 + number);
    let data_dir = dir.join(name);
    let mut command = role_command("store", name, &data_dir, &http, &rpc);
    command.extend(["--placement".into(), placement_rpc(args).join(",").into()]);
    command.push("--rebuild-damaged".into());
    Spec {
        role: Role::Store,
        name: name.to_owned(),
        number,
        http: url(&http),
        rpc: Some(rpc),
        data_dir: Some(data_dir),
        command,
    }
}

fn router(args: &UpArgs, number: u16, placement: &[String]) -> Spec {
    let http = router_http(args, number);
    let words = ["router", "--http", &http, "--placement", &placement.join(",")];
    let command = words.iter().map(OsString::from).collect();
    Spec {
        role: Role::Router,
        name: format!("router-{number}"),
        number,
        http: url(&http),
        rpc: None,
        data_dir: None,
        command,
    }
}

fn router_http(args: &UpArgs, number: u16) -> String {
    address(args.base_port + number - 1)
}

fn role_command(role: &str, name: &str, data_dir: &Path, http: &str, rpc: &str) -> Vec<OsString> {
    let mut command: Vec<OsString> = [role, "--name", name, "--http", http, "--rpc", rpc]
        .iter()
        .map(OsString::from)
        .collect();
    command.extend(["--data-dir".into(), data_dir.into()]);
    command
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn url(address: &str) -> String {
    format!("http://{address}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(first_start: bool) -> Vec<Spec> {
        let args = UpArgs {
            stores: 30,
            placements: 5,
            routers: 9,
            ..UpArgs::default()
        };
        members(&args, Path::new("data"), first_start, &[])
    }

    #[test]
    fn addresses_are_where_the_documentation_says() {
        let members = members(&UpArgs::default(), Path::new("data"), true, &[]);
        let shown: Vec<_> = members
            .iter()
            .map(|m| (m.name.as_str(), m.http.as_str(), m.rpc.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                ("placement-1", "http://127.0.0.1:7410", Some("127.0.0.1:7450")),
                ("store-1", "http://127.0.0.1:7420", Some("127.0.0.1:7460")),
                ("store-2", "http://127.0.0.1:7421", Some("127.0.0.1:7461")),
                ("store-3", "http://127.0.0.1:7422", Some("127.0.0.1:7462")),
                ("router-1", "http://127.0.0.1:7400", None),
            ]
        );
    }

    #[test]
    fn the_largest_cluster_has_no_address_twice_and_leaves_the_control_port_free() {
        let members = plan(true);
        let http = members
            .iter()
            .map(|m| m.http.trim_start_matches("http://").to_owned());
        let all: Vec<String> = http.chain(members.iter().filter_map(|m| m.rpc.clone())).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(!all.contains(&"127.0.0.1:7409".to_owned()));
    }

    #[test]
    fn an_added_store_keeps_its_number_and_its_name() {
        let members = members(
            &UpArgs::default(),
            Path::new("data"),
            false,
            &[(2, "two".into()), (5, "node5".into())],
        );
        let stores: Vec<_> = members
            .iter()
            .filter(|m| m.role == Role::Store)
            .map(|m| (m.number, m.name.as_str()))
            .collect();
        assert_eq!(stores, [(1, "store-1"), (2, "two"), (3, "store-3"), (5, "node5")]);
    }

    #[test]
    fn one_member_bootstraps_and_only_ever_once() {
        let bootstrapping = |first| {
            plan(first)
                .into_iter()
                .filter(|m| m.command.contains(&BOOTSTRAP.into()))
                .count()
        };
        assert_eq!(bootstrapping(true), 1);
        assert_eq!(bootstrapping(false), 0);
    }
}
