//! Clients that share connections, by HTTP/2.

use super::*;

/// Runs `workload` with so many clients to a connection.
fn run_sharing(server: &Server, workload: &Workload, clients: usize) -> Report {
    run(workload, &target(server).with_clients_per_connection(clients)).expect("the server is up")
}

fn connections(server: &Server) -> u64 {
    server.connections.load(Ordering::Relaxed)
}

#[test]
fn one_connection_carries_every_workload() {
    let server = Server::start(Trouble::None);
    let shared = target(&server).with_clients_per_connection(64);
    load(&workload("put"), &shared).expect("the server is up");
    assert_eq!((server.values().len(), connections(&server)), (200, 1));
    assert!(server.values().values().all(|value| value.len() == 128));
    for (before, kind) in (1..).zip(["put", "get", "mixed:80", "scan:10", "ycsb-d", "ycsb-e", "ycsb-f"]) {
        let report = run_sharing(&server, &workload(kind), 64);
        assert!(report.operations > 0, "{report}");
        assert_eq!((report.error_count(), report.not_found), (0, 0), "{report}");
        assert_eq!(connections(&server), before + 1, "{report}");
    }
}

#[test]
fn values_larger_than_what_may_be_sent_ahead_arrive_whole() {
    let server = Server::start(Trouble::None);
    let large = Workload {
        value_bytes: 3 << 20,
        keys: 4,
        ..workload("mixed")
    };
    let shared = target(&server).with_clients_per_connection(4);
    load(&large, &shared).expect("the server is up");
    assert!(server.values().values().all(|value| value.len() == 3 << 20));
    let report = run(&large, &shared).expect("the server is up");
    assert!(report.operations > 0, "{report}");
    assert_eq!((report.error_count(), report.not_found), (0, 0), "{report}");
}

#[test]
fn as_many_connections_are_made_as_are_needed() {
    let server = Server::start(Trouble::None);
    let report = run_sharing(&server, &workload("put"), 3);
    assert_eq!((report.error_count(), connections(&server)), (0, 2), "{report}");

    let server = Server::start(Trouble::None);
    let on_threads = Workload {
        threads: 2,
        ..workload("put")
    };
    let report = run_sharing(&server, &on_threads, 4);
    assert_eq!((report.error_count(), connections(&server)), (0, 2), "{report}");
}

#[test]
fn clients_go_on_together_after_the_server_ended_their_connection() {
    let server = Server::start(Trouble::CloseAfter(20));
    let report = run_sharing(&server, &workload("put"), 4);
    assert!(report.operations > 100, "{report}");
    let made = connections(&server);
    // Whoever finds it ended dials for all four: never four connections for twenty requests.
    assert!(
        made > 2 && made <= 2 + report.answered_in_all / 10,
        "{made} connections: {report}"
    );
}

#[test]
fn who_waits_too_long_leaves_the_connection_to_the_others() {
    let server = Server::start(Trouble::Silence);
    let impatient = Workload {
        timeout: Duration::from_millis(50),
        ..workload("get")
    };
    let report = run_sharing(&server, &impatient, 4);
    assert_eq!(
        report.errors.keys().map(String::as_str).collect::<Vec<_>>(),
        ["timeout"],
        "{report}"
    );
    assert_eq!(connections(&server), 1);
}

#[test]
fn refusals_are_counted_and_an_absent_target_is_an_error() {
    let server = Server::start(Trouble::Status(503));
    let report = run_sharing(&server, &workload("put"), 4);
    assert!(report.errors["status 503"] > 0, "{report}");
    assert_eq!(report.errors.len(), 1, "{report}");
    drop(server);

    let vacated = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let absent = Target::holdfast([vacated.to_string()]).expect("an address");
    assert!(matches!(
        run(&workload("get"), &absent.with_clients_per_connection(4)),
        Err(Error::Connect { .. })
    ));
}
