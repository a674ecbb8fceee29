"""What can be said of the files without running anything."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
KINDS = {"row", "stat", "timeseries", "heatmap"}
UNITS = {"none", "short", "s", "bytes", "Bps", "ops", "reqps", "percentunit"}


def dashboards():
    paths = sorted((GRAFANA / "dashboards").glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def panels(board):
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def faults():
    """Everything that is wrong with the dashboards and the alerts."""
    boards = dashboards()
    found = [] if boards else ["there is no dashboard"]
    uids = {board["uid"] for board in boards}
    metrics = documented_metrics()
    for board in boards:
        name = board["uid"]
        found += [f"{name}: {fault}" for fault in board_faults(board, uids - {name})]
        for panel in panels(board):
            found += [f"{name} / {panel['title']}: {fault}" for fault in panel_faults(panel, metrics)]
    return found + alert_faults(metrics)


def board_faults(board, others):
    names = [variable["name"] for variable in board["templating"]["list"]]
    if names != ["datasource", "job", "instance"]:
        yield f"its variables are {names}"
    linked = {link["url"].split("?")[0].removeprefix("/d/") for link in board["links"]}
    if linked != others:
        yield f"it links to {sorted(linked)}"
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        yield "ids of panels are not unique"
    titles = [panel["title"] for panel in panels(board)]
    if len(titles) != len(set(titles)):
        yield "titles of panels are not unique"
    taken = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        if grid["x"] + grid["w"] > 24 or cells & taken:
            yield f"{panel['title']} lies over another panel, or over the edge"
        taken |= cells


def panel_faults(panel, metrics):
    if panel["type"] not in KINDS:
        yield f"its type is {panel['type']}"
    if len(panel.get("description", "")) < 15:
        yield "it has no description"
    if panel["fieldConfig"]["defaults"].get("unit") not in UNITS:
        yield "it has no unit"
    if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
        yield "its data source is not the variable"
    if not panel["targets"]:
        yield "it asks nothing"
    for target in panel["targets"]:
        expression = target["expr"]
        if "@" in expression or "#" in expression:
            yield f"a placeholder is left in {expression}"
        yield from unknown(expression, metrics)
        if 'job=~"$job"' not in expression:
            yield f"it does not ask for the chosen cluster: {expression}"


def documented_metrics():
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))


def unknown(expression, metrics):
    """Names in an expression that no process exposes."""
    for name in set(re.findall(r"(?<![\w:])(?:holdfast|process)_\w+(?![\w:])", expression)):
        if name not in metrics and re.sub(r"_(bucket|sum|count)$", "", name) not in metrics:
            yield f"no metric is called {name}"


def alert_faults(metrics):
    """Each alert has an entry in the runbook and a test, and the other way round."""
    alerts = (GRAFANA / "prometheus/alerts.yml").read_text(encoding="utf-8")
    tests = (GRAFANA / "prometheus/rules_test.yml").read_text(encoding="utf-8")
    runbook = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    names = re.findall(r"- alert: (\w+)", alerts)
    entries = re.findall(r"^### (Holdfast\w+)$", runbook, re.MULTILINE)
    urls = re.findall(r"runbook_url: docs/runbook\.md#(\w+)", alerts)
    found = [f"{name}: no entry in docs/runbook.md" for name in names if name not in entries]
    found += [f"docs/runbook.md: there is no alert {name}" for name in entries if name not in names]
    found += [f"{name}: no test" for name in names if name not in tests]
    if urls != [name.lower() for name in names]:
        found.append("an alert's runbook_url is not that of its own entry")
    for file in ["alerts.yml", "rules.yml"]:
        text = (GRAFANA / "prometheus" / file).read_text(encoding="utf-8")
        expressions = re.findall(r"expr: ((?:\|\n(?: {10,}.*\n)+)|.*)", text)
        found += [f"{file}: {fault}" for expression in expressions for fault in unknown(expression, metrics)]
    return found
