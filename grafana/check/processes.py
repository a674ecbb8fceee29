"""A cluster and a Prometheus that scrapes it, both gone when the `with` is over."""

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

GRAFANA = Path(__file__).parents[1]


def free_base():
    """A base port with the ports free that a cluster takes from it on."""
    for base in range(20000, 30000, 100):
        taken = False
        for port in [*range(base, base + 30), *range(base + 50, base + 62)]:
            with socket.socket() as probe:
                taken = taken or probe.connect_ex(("127.0.0.1", port)) == 0
        if not taken:
            return base
    raise SystemExit("no free ports")


def until(what, seconds, ask):
    """What `ask` answers once that is something; fails after so many seconds."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            if answer := ask():
                return answer
        except OSError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"within {seconds} seconds it was not the case: {what}")


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


class Running:
    """Processes and a directory, ended and removed in the opposite order."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="holdfast-dashboards-"))
        self.children = []

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        if failure:
            for path in sorted(self.dir.glob("*.log")):
                print(f"--- the end of {path.name}", *path.read_text(encoding="utf-8").splitlines()[-15:], sep="\n")
        for child in reversed(self.children):
            child.terminate()
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, name, command):
        log = open(self.dir / f"{name}.log", "w", encoding="utf-8")
        child = subprocess.Popen([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT)
        self.children.append(child)
        return child

    def log(self, name):
        return (self.dir / f"{name}.log").read_text(encoding="utf-8")


class Cluster:
    def __init__(self, running, holdfast, stores):
        self.holdfast, self.data, base = holdfast, running.dir / "cluster", free_base()
        self.router, self.placement, self.control = (f"http://127.0.0.1:{base + offset}" for offset in (0, 10, 9))
        words = ["up", "--data-dir", self.data, "--base-port", base, "--stores", stores, "--placements", 3]
        launcher = running.start("cluster", [holdfast, *words])

        def ready():
            if launcher.poll() is not None:
                raise SystemExit(f"the cluster did not start:\n{running.log('cluster')}")
            return "Ctrl-C stops it" in running.log("cluster")

        until("the cluster is up", 60, ready)

    def members(self):
        return json.loads((self.data / "cluster.json").read_text(encoding="utf-8"))["members"]

    def member(self, name):
        return next(member for member in self.members() if member["name"] == name)

    def admin(self, *words):
        command = [self.holdfast, *words, "--placement", self.placement]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, timeout=60)

    def api(self, path):
        return json.loads(get(self.placement + path))

    def start_again(self, name):
        request = urllib.request.Request(f"{self.control}/api/control/start/{name}", method="POST")
        urllib.request.urlopen(request, timeout=30).close()


class Prometheus:
    def __init__(self, running, targets):
        rules = [str(GRAFANA / "prometheus" / name) for name in ("rules.yml", "alerts.yml")]
        scrape = {"job_name": "holdfast", "static_configs": [{"targets": targets}]}
        timing = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config = running.dir / "prometheus.yml"
        # JSON is YAML.
        config.write_text(json.dumps({"global": timing, "rule_files": rules, "scrape_configs": [scrape]}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        listen = f"--web.listen-address=127.0.0.1:{port}"
        storage = f"--storage.tsdb.path={running.dir / 'prometheus'}"
        running.start("prometheus", ["prometheus", f"--config.file={config}", listen, storage, "--log.level=warn"])
        until("Prometheus is ready", 30, lambda: get(f"{self.url}/-/ready"))

    def ask(self, path, **parameters):
        try:
            answer = json.loads(get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
        except urllib.error.HTTPError as error:
            answer = json.loads(error.read().decode())
        if answer["status"] != "success":
            raise ValueError(answer.get("error", "no success"))
        return answer["data"]

    def firing(self):
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}
