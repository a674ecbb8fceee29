"""What a dashboard is made of: panels, rows, variables and links, as Grafana 10 and later read them."""

from dataclasses import dataclass, field

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GRID = 24
HEIGHT = 8

# In an expression `@` stands for the processes that were chosen, `#` for all of the cluster.
CHOSEN = 'job=~"$job",instance=~"$instance"'
CLUSTER = 'job=~"$job"'


@dataclass
class Panel:
    """A figure. `may_be_empty` says why a healthy cluster at work may have nothing to show in it."""

    title: str
    description: str
    unit: str
    queries: list  # (legend, expression)
    kind: str = "timeseries"
    width: int = 8
    stack: bool = False
    levels: tuple = ()  # (value, colour), ascending
    may_be_empty: str = ""


@dataclass
class Dashboard:
    uid: str
    title: str
    description: str
    role: str  # of the processes to choose from; a regular expression
    rows: list = field(default_factory=list)  # (title, [Panel])


def rate(metric, by=""):
    return f"sum by ({by}) (rate({metric}{{@}}[$__rate_interval]))" if by else f"sum(rate({metric}{{@}}[$__rate_interval]))"


def quantile(q, metric, by="", where=""):
    labels = ", ".join(filter(None, ["le", by]))
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{@{where}}}[$__rate_interval])))"


def mean(metric, by=""):
    grouped = f" by ({by})" if by else ""
    part = lambda which: f"sum{grouped} (rate({metric}_{which}{{@}}[$__rate_interval]))"
    return f"{part('sum')} / {part('count')}"


def expression(text):
    return text.replace("@", CHOSEN).replace("#", CLUSTER)


def target(at, query, panel):
    legend, text = query
    made = {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expression(text),
        "legendFormat": legend,
        "range": panel.kind != "stat",
        "instant": panel.kind == "stat",
        "refId": chr(ord("A") + at),
    }
    if panel.kind == "heatmap":
        made["format"] = "heatmap"
    return made


def options(panel):
    if panel.kind == "stat":
        return {
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
        }
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
            "legend": {"show": True},
            "tooltip": {"mode": "single", "show": True},
            "yAxis": {"unit": panel.unit},
        }
    return {
        "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def field_config(panel):
    steps = [{"color": panel.levels[0][1] if panel.levels else "text", "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.levels[1:]]
    custom = {
        "fillOpacity": 30 if panel.stack else 8,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if panel.stack else "none"},
        "thresholdsStyle": {"mode": "line" if panel.levels else "off"},
    }
    defaults = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        defaults |= {"custom": custom, "color": {"mode": "palette-classic"}, "min": 0}
    if panel.kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
    return {"defaults": defaults, "overrides": []}


def panel_json(panel, ident, x, y):
    return {
        "id": ident,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"h": 4 if panel.kind == "stat" else HEIGHT, "w": panel.width, "x": x, "y": y},
        "fieldConfig": field_config(panel),
        "options": options(panel),
        "targets": [target(at, query, panel) for at, query in enumerate(panel.queries)],
    }


def panels_json(rows):
    made, y, ident = [], 0, 1
    for title, panels in rows:
        row = {"h": 1, "w": GRID, "x": 0, "y": y}
        made.append({"id": ident, "type": "row", "title": title, "collapsed": False, "gridPos": row, "panels": []})
        y, x, tallest, ident = y + 1, 0, 0, ident + 1
        for panel in panels:
            if x + panel.width > GRID:
                y, x, tallest = y + tallest, 0, 0
            made.append(panel_json(panel, ident, x, y))
            tallest = max(tallest, made[-1]["gridPos"]["h"])
            x, ident = x + panel.width, ident + 1
        y += tallest
    return made


def variable(name, label, query, multi):
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": multi,
        "allValue": ".+" if multi else None,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]} if multi else {},
    }


def variables(role):
    instances = f'label_values(holdfast_build_info{{{CLUSTER},role=~"{role}"}}, instance)'
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "current": {}},
        variable("job", "Cluster (job)", "label_values(holdfast_build_info, job)", False),
        variable("instance", "Instance", instances, True),
    ]


def links(dashboards, own):
    link = lambda board: {
        "title": board.title,
        "type": "link",
        "url": f"/d/{board.uid}",
        "icon": "dashboard",
        "tooltip": board.description,
        "includeVars": False,
        "keepTime": True,
        "targetBlank": False,
    }
    made = [link(board) for board in dashboards if board is not own]
    for entry in made:
        # The instances of another role are others, so they are not taken along.
        entry["url"] += "?var-datasource=${datasource}&var-job=${job}"
    return made


def dashboard_json(board, dashboards):
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["holdfast"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": links(dashboards, board),
        "templating": {"list": variables(board.role)},
        "panels": panels_json(board.rows),
    }
