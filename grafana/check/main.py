#!/usr/bin/env python3
"""Holds dashboards, rules and alerts to a cluster at work: usage: main.py PATH-TO-HOLDFAST.

A Prometheus scrapes every process while there is load, a split, a move with its snapshot, and a store that is killed and comes
back. Every query of every panel must be answered, and not by nothing; the alerts for the killed store must fire, and clear."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.dont_write_bytecode = True

import structure  # noqa: E402
from boards import DASHBOARDS  # noqa: E402
from processes import GRAFANA, Cluster, Prometheus, Running, get, until  # noqa: E402

# What a killed store sets off: Prometheus misses it at once, the driver is sure after 30 seconds, and each alert waits a while.
EXPECTED = {"HoldfastProcessDown", "HoldfastStoreSilent", "HoldfastStoreDown"}
RATE_INTERVAL = "10s"


def say(text):
    print(f"{time.monotonic() - STARTED:5.0f} s  {text}", flush=True)


def fail_on(faults, what):
    for fault in faults:
        print(f"  {fault}")
    if faults:
        sys.exit(f"{what}: {len(faults)} faults")
    say(f"{what}: well")


def tool(*words, text=None):
    ended = subprocess.run(["promtool", *map(str, words)], input=text, capture_output=True, text=True)
    return [] if ended.returncode == 0 and not ended.stderr.strip() else [ended.stdout + ended.stderr]


def check_files():
    subprocess.run([sys.executable, "-B", GRAFANA / "generate.py", "--check"], check=True)
    fail_on(structure.faults(), "structure of dashboards and alerts")
    rules = [GRAFANA / "prometheus" / name for name in ("rules.yml", "alerts.yml")]
    fail_on(tool("check", "rules", *rules), "promtool check rules")
    fail_on(tool("test", "rules", GRAFANA / "prometheus/rules_test.yml"), "promtool test rules")
    fail_on(tool("check", "config", GRAFANA / "prometheus/prometheus.yml"), "promtool check config")


def check_metrics(cluster):
    faults = []
    for member in cluster.members():
        if member["state"] == "running":
            text = get(f"{member['http']}/metrics")
            faults += [f"{member['name']}: {fault}" for fault in tool("check", "metrics", text=text)]
    fail_on(faults, "promtool check metrics on every process")


def work(cluster):
    """A split, and a move that takes a snapshot, under load. Answers with a store to kill: one that holds what was moved."""
    cluster.admin("range", "split", "--at", "k000000000010000")
    moved = cluster.api("/v1/ranges?key=k000000000020000")["items"][0]
    here = {replica["store_id"] for replica in moved["replicas"]}
    stores = {store["id"]: store["name"] for store in cluster.api("/v1/stores")["items"]}
    target = next(store for store in stores if store not in here)
    source = next(store for store in here if store != moved["leader_store"])
    cluster.admin("range", "move", moved["id"], "--from", source, "--to", target)
    return stores[target]


def check_panels(prometheus, since):
    reasons = {(board.uid, panel.title): panel.may_be_empty for board in DASHBOARDS for _, panels in board.rows for panel in panels}
    faults, asked = [], 0
    for board in structure.dashboards():
        for panel in structure.panels(board):
            for target in panel["targets"]:
                asked += 1
                if fault := query_fault(prometheus, target["expr"], since):
                    reason = reasons[board["uid"], panel["title"]]
                    if fault == "empty" and reason:
                        say(f"empty, as it may be ({reason}): {panel['title']}")
                    else:
                        faults.append(f"{board['uid']} / {panel['title']}: {fault}: {target['expr']}")
        for variable in board["templating"]["list"][1:]:
            if not variable_values(prometheus, variable["query"]["query"]):
                faults.append(f"{board['uid']}: the variable {variable['name']} has no values")
    fail_on(faults, f"{asked} queries of panels")


def substituted(expression):
    values = {"$__rate_interval": RATE_INTERVAL, "$job": "holdfast", "$instance": ".+"}
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression


def query_fault(prometheus, expression, since):
    try:
        answer = prometheus.ask("query_range", query=substituted(expression), start=since, end=time.time(), step=2)
    except ValueError as error:
        return str(error)
    values = (float(value) for series in answer["result"] for _, value in series["values"])
    return None if any(math.isfinite(value) for value in values) else "empty"


def variable_values(prometheus, query):
    """`label_values(selector, label)`, as Grafana asks for it."""
    selector, label = substituted(query).removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
    return prometheus.ask(f"label/{label}/values", **{"match[]": selector})


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: main.py PATH-TO-HOLDFAST")
    holdfast = Path(sys.argv[1]).resolve()
    for needed in ("prometheus", "promtool"):
        if not shutil.which(needed):
            sys.exit(f"{needed} is missing: install Debian's package prometheus")
    # So that what runs is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    check_files()
    with Running() as running:
        cluster = Cluster(running, holdfast, stores=4)
        prometheus = Prometheus(running, [member["http"].removeprefix("http://") for member in cluster.members()])
        since = time.time()
        say("a cluster and a Prometheus run")
        check_metrics(cluster)
        load = ["--router", cluster.router, "--clients", 4, "--rate", 200, "--keys", 30000, "--warm-up", 0]
        running.start("load", [holdfast, "bench", "mixed", "--seconds", 150, *load])
        running.start("scans", [holdfast, "bench", "scan", "--seconds", 150, "--router", cluster.router, "--clients", 1, "--rate", 5, "--keys", 1000])
        victim = cluster.member(work(cluster))
        until("a snapshot was sent", 60, lambda: prometheus.ask("query", query='sum(holdfast_raft_snapshots_total{direction="receive",result="ok"}) > 0')["result"])
        until("nothing fires", 60, lambda: not prometheus.firing())
        os.kill(victim["pid"], signal.SIGKILL)
        killed = time.monotonic()
        say(f"split, moved, and {victim['name']} was killed")
        until(f"{sorted(EXPECTED)} fire", 100, lambda: EXPECTED <= prometheus.firing())
        say(f"the alerts for it fire, {time.monotonic() - killed:.0f} s after")
        check_panels(prometheus, since)
        check_metrics(cluster)
        cluster.start_again(victim["name"])
        back = time.monotonic()
        until("they clear", 60, lambda: not EXPECTED & prometheus.firing())
        say(f"they cleared, {time.monotonic() - back:.0f} s after it was started again")
    say("dashboards, rules and alerts hold")


STARTED = time.monotonic()
if __name__ == "__main__":
    main()
