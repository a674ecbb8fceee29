#!/usr/bin/env python3
"""Writes dashboards/*.json from the definitions in boards/; with --check, fails when what is there is something else."""

import json
import sys
from pathlib import Path

from boards import DASHBOARDS
from model import dashboard_json

OUT = Path(__file__).parent / "dashboards"


def main():
    wanted = {
        f"{board.uid.removeprefix('holdfast-')}.json": json.dumps(dashboard_json(board, DASHBOARDS), indent=1, ensure_ascii=False) + "\n"
        for board in DASHBOARDS
    }
    if "--check" not in sys.argv:
        OUT.mkdir(exist_ok=True)
        for name, text in wanted.items():
            (OUT / name).write_text(text, encoding="utf-8")
        return
    present = {path.name: path.read_text(encoding="utf-8") for path in OUT.glob("*.json")}
    stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    if stale:
        sys.exit(f"out of date: {', '.join(stale)}: run grafana/generate.py and commit what it writes")


if __name__ == "__main__":
    main()
