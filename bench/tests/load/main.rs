//! The load generator against a small HTTP server in memory that speaks the router's data routes.

mod server;
mod sharing;

use std::{sync::atomic::Ordering, time::Duration};

use holdfast_bench::{Error, Kind, Report, Target, Workload, load, run};
use server::{Server, Trouble};

fn workload(kind: &str) -> Workload {
    let mut workload = Workload::new(kind.parse::<Kind>().expect("a known workload"));
    workload.clients = 4;
    workload.keys = 200;
    workload.warm_up = Duration::from_millis(20);
    workload.duration = Duration::from_millis(200);
    workload
}

fn run_on(server: &Server, workload: &Workload) -> Report {
    run(workload, &target(server)).expect("the server is up")
}

fn target(server: &Server) -> Target {
    Target::holdfast([format!("http://{}", server.address)]).expect("an address")
}

#[test]
fn loading_writes_every_key_once() {
    let server = Server::start(Trouble::None);
    let report = load(&workload("put"), &target(&server)).expect("the server is up");
    assert_eq!((report.keys, report.retries), (200, 0));
    let values = server.values();
    assert_eq!(values.len(), 200);
    assert!(values.values().all(|value| value.len() == 128));
    assert!(values.contains_key("k000000000000000") && values.contains_key("k995000000000000"));
    assert_eq!(server.requests.load(Ordering::Relaxed), 200);
}

#[test]
fn every_workload_runs_without_errors() {
    let server = Server::start(Trouble::None);
    load(&workload("put"), &target(&server)).expect("the server is up");
    for kind in [
        "put", "get", "mixed:80", "scan:10", "ycsb-a", "ycsb-b", "ycsb-c", "ycsb-e", "ycsb-f",
    ] {
        let report = run_on(&server, &workload(kind));
        assert!(
            report.operations > 0 && report.answered_in_all >= report.operations,
            "{report}"
        );
        assert_eq!(
            (report.error_count(), report.not_found, report.unsent),
            (0, 0, 0),
            "{report}"
        );
    }
}

#[test]
fn insertions_add_keys() {
    let server = Server::start(Trouble::None);
    load(&workload("put"), &target(&server)).expect("the server is up");
    let report = run_on(&server, &workload("ycsb-d"));
    assert_eq!(report.error_count(), 0, "{report}");
    assert!(server.values().len() > 200);
}

#[test]
fn absent_keys_are_counted_apart_from_errors() {
    let server = Server::start(Trouble::None);
    let report = run_on(&server, &workload("get"));
    assert!(report.not_found > 0);
    assert_eq!((report.not_found, report.error_count()), (report.operations, 0));
}

#[test]
fn refusals_are_counted_by_status() {
    let server = Server::start(Trouble::Status(503));
    let report = run_on(&server, &workload("put"));
    assert_eq!(report.operations, 0);
    assert!(report.errors["status 503"] > 0, "{report}");
    assert_eq!(report.errors.len(), 1, "{report}");
}

#[test]
fn clients_reconnect_after_the_server_closes() {
    let server = Server::start(Trouble::CloseAfter(5));
    let report = run_on(&server, &workload("put"));
    assert!(
        report.operations > 20,
        "more than the first connections carried: {report}"
    );
}

#[test]
fn a_server_that_never_answers_is_a_timeout() {
    let server = Server::start(Trouble::Silence);
    let report = run_on(
        &server,
        &Workload {
            timeout: Duration::from_millis(50),
            ..workload("get")
        },
    );
    assert_eq!(
        (
            report.operations,
            report.errors.keys().map(String::as_str).collect::<Vec<_>>()
        ),
        (0, vec!["timeout"]),
        "{report}"
    );
}

#[test]
fn an_open_loop_sends_at_the_asked_rate() {
    let server = Server::start(Trouble::None);
    let report = run_on(
        &server,
        &Workload {
            rate: Some(500.0),
            ..workload("put")
        },
    );
    assert_eq!(
        report.operations + report.error_count() + report.unsent,
        100,
        "{report}"
    );
}

#[test]
fn an_open_loop_counts_what_a_stalled_server_kept_it_from_sending() {
    let server = Server::start(Trouble::Silence);
    let stalled = Workload {
        rate: Some(500.0),
        timeout: Duration::from_millis(100),
        ..workload("put")
    };
    let report = run_on(&server, &stalled);
    assert!(report.unsent > 0, "{report}");
    assert_eq!(report.operations, 0, "{report}");
}

#[test]
fn several_threads_share_the_clients() {
    let server = Server::start(Trouble::None);
    let report = run_on(
        &server,
        &Workload {
            threads: 2,
            ..workload("put")
        },
    );
    assert!(report.operations > 0);
    assert_eq!(
        (report.error_count(), server.connections.load(Ordering::Relaxed)),
        (0, 4)
    );
}

#[test]
fn an_absent_target_is_an_error() {
    let vacated = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let target = Target::holdfast([vacated.to_string()]).expect("an address");
    assert!(matches!(
        run(&workload("get"), &target),
        Err(Error::Connect { .. })
    ));
    assert!(matches!(
        load(&workload("get"), &target),
        Err(Error::Connect { .. })
    ));
}
