"""`scripts/bench [B1 B2 …] [--quick]`: runs benchmarks, prints each figure with its ratio and target, keeps the raw ones as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import psycopg

from .compare import compare
from .figures import Figure
from .world import POSTGRES, World

HERE = Path(__file__).parent
MODULES = {
    "B1": "embedding",
    "B2": "overhead",
    "B3": "writing",
    "B4": "urgent",
    "B5": "switching",
    "B6": "growth",
    "B7": "questions",
    "B8": "search",
    "B9": "startup",
    "B10": "scale",
    "B11": "service",
    "B12": "attached",
    "B13": "attaching",
    "B14": "quality",
    "B15": "api",
    "B17": "console",
    "B18": "upgrading",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Benchmarks, as ratios measured side by side in one run."
    )
    parser.add_argument("which", nargs="*", metavar="B1 … B18", help="all of them, when none is named")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer rounds: to see that it runs, not how fast")
    parser.add_argument("--huge", action="store_true", help="B8 at a million vectors, and at 200,000 long ones")
    parser.add_argument("--vectors", type=int, metavar="N", help="B8 at so many vectors")
    parser.add_argument(
        "--keep", action="store_true", help="write tests/bench/figures.json, the record; not those that miss a target"
    )
    parser.add_argument("--compare", metavar="REV", help="measure this revision and the checkout in turn, and print ratios")
    parser.add_argument("--rounds", type=int, default=3, help="how often, with --compare")
    wish = parser.parse_args()
    wanted = [name.upper() for name in wish.which] or list(MODULES)
    if unknown := [name for name in wanted if name not in MODULES]:
        parser.error(f"{', '.join(unknown)}: there are {', '.join(MODULES)}")
    if wish.compare:
        return compare(wish.compare, wanted, rounds=wish.rounds, quick=wish.quick)
    run = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _revision(),  # before the record itself is changed
        "quick": wish.quick,
        "machine": machine(),
        "load_before": {},
        "figures": {},
    }
    with World() as world:
        run["machine"]["postgresql"] = _postgresql(world)
        for name in wanted:
            run["load_before"][name] = os.getloadavg()[0]
            more = {"huge": wish.huge, "vectors": wish.vectors} if name == "B8" else {}
            run["figures"][name] = _one(world, name, quick=wish.quick, **more)
            _write(run, keep=wish.keep)
    figures = [figure for found in run["figures"].values() for figure in found]
    print(f"{sum(f['met'] is not False for f in figures)} of {len(figures)} figures are as they should be")
    if wish.keep and (missed := [name for name, found in run["figures"].items() if missing(found)]):
        print(f"not kept, because a target is missed: {', '.join(missed)}")
        return 1
    # Quality does not depend on what else the machine does: a drop is a failure.
    return int(bool(missing(run["figures"].get("B14", []))))


def _one(world: World, name: str, *, quick: bool, **more: Any) -> list[dict[str, Any]]:
    module = import_module(f".{MODULES[name]}", __package__)
    print(f"{name} {_title(name)}", flush=True)
    start, found = time.monotonic(), []
    for figure in module.run(world, quick=quick, **more):
        assert isinstance(figure, Figure)
        print(f"  {figure.line()}", flush=True)
        found.append(figure.as_dict())
    print(f"  ({time.monotonic() - start:.0f} s)", flush=True)
    return found


def _title(name: str) -> str:
    return (import_module(f".{MODULES[name]}", __package__).__doc__ or "").splitlines()[0]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgresql_settings": POSTGRES,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _postgresql(world: World) -> str:
    with psycopg.connect(world.servers.database_url) as connection:
        row = connection.execute("SHOW server_version").fetchone()
        return str(row[0]) if row else "unknown"


def _write(run: dict[str, Any], *, keep: bool) -> None:
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    stamp = run["at"].replace(":", "").replace("+0000", "Z")
    (results / f"{stamp}.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    if keep:
        _keep(run, HERE / "figures.json")


def missing(figures: Iterable[dict[str, Any]]) -> list[str]:
    """Names of those that miss their target."""
    return [figure["name"] for figure in figures if figure["met"] is False]


def _keep(run: dict[str, Any], path: Path) -> None:
    """The figures of this run take the place of those of the same benchmarks in the record; each says when and of what it is. A benchmark of which
    one figure misses its target leaves the record as it is."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, figures in run["figures"].items():
        if missing(figures):
            continue
        record[name] = {
            "title": _title(name),
            "at": run["at"],
            "quick": run["quick"],
            "revision": run["revision"],
            "machine": run["machine"] | {"load_before": run["load_before"][name]},
            "figures": figures,
        }
    record = {name: record[name] for name in MODULES if name in record}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _revision() -> str:
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
