"""The service against its own OpenAPI document: schemathesis with all of its checks and phases.

python -m tests.contract.openapi --cases 10000
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedq.local.servers import Servers
from embedq.model import Model
from embedq.store import Store, schema
from embedq.store.database import Database
from tests.acceptance.service import ADMIN, AUTH, Served, hashing_at, serving
from tests.support import ROOT

PHASES = ("examples", "coverage", "fuzzing", "stateful")
# `positive_data_acceptance` runs as `accepted_unless_named` (openapi_hooks), which names what a schema cannot say.
CONFIG = """
continue-on-failure = true
[auth.openapi]
AUTH_TOKEN = {{ bearer = "{auth}" }}
ADMIN_TOKEN = {{ bearer = "{admin}" }}
[generation]
database = "none"
[checks.positive_data_acceptance]
enabled = false
"""


@dataclass(frozen=True)
class Tried:
    """`named`: how often each named reason was met. `failures`: everything else that is not as the document says. `sent`: the operations
    that were tried with the token of each scope; `refuted`: the failures with it, which are among `failures`."""

    cases: int
    named: dict[str, int]
    sent: dict[str, list[str]]
    refuted: dict[str, list[str]]
    failures: list[dict[str, Any]]
    complete: bool
    output: str


def tried(
    served: Served,
    database_url: str,
    examples: int,
    seed: int = 1,
    phases: tuple[str, ...] = PHASES,
    tokens: Mapping[str, str] | None = None,
) -> Tried:
    """`examples`: of each operation, in each phase that makes them up. `tokens`: with which requests of the fuzzing phase, and the first of
    each operation, are sent besides the settings' two; by a name of their scope."""
    with tempfile.TemporaryDirectory() as folder:
        config, report, hooks = (Path(folder, name) for name in ("schemathesis.toml", "report.json", "told.json"))
        config.write_text(CONFIG.format(auth=AUTH, admin=ADMIN))
        argv = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(config),
            "run",
            f"{served.url}/openapi.json",
            "--phases",
            ",".join(phases),
            "--max-examples",
            str(examples),
            "--seed",
            str(seed),
            "--no-shrink",
            "--request-timeout",
            "60",
            "--report-json-path",
            str(report),
            "--suppress-health-check",
            "too_slow",
        ]
        ours = {
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.contract.openapi_hooks",
            "OPENAPI_DATABASE_URL": database_url,
            "OPENAPI_TOKENS": json.dumps(dict(tokens or {})),
            "OPENAPI_TOLD": str(hooks),
        }
        done = subprocess.run(argv, env=os.environ | ours, cwd=folder, capture_output=True, text=True, check=False)
        if not report.exists():
            raise AssertionError(f"schemathesis did not run: {done.stdout}{done.stderr}")
        told = json.loads(report.read_text())
        wrong = told["failures"] + told["errors"]
        return Tried(
            told["test_cases"]["generated"],
            **json.loads(hooks.read_text()),
            failures=wrong,
            complete=told["complete"],
            output=done.stdout,
        )


def filled(served: Served) -> None:
    """Some articles to read, edit and delete."""
    for number in range(3):
        served.articles.post("/api/articles", json={"title": f"Article {number}", "id": f"a{number}"})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="at least so many")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embedq-tests-") as home, Servers(Path(home)) as servers:
        database = Database(servers.database_url)
        schema.upgrade(database)
        store = Store(database)
        store.models.agree(Model("hashing", "hashing-v1", 64))
        store.close()
        with serving(hashing_at(servers.database_url, servers.redis_url)) as served:
            filled(served)
            return shown(until_enough(served, servers.database_url, asked.cases, asked.seed))


def until_enough(served: Served, database_url: str, cases: int, seed: int) -> list[Tried]:
    """How many cases an example makes is known after a run: so one with few, then with as many as are lacking."""
    operations = sum(len(methods) for methods in served.stranger.get("/openapi.json").json()["paths"].values())
    runs = [tried(served, database_url, math.ceil(cases / operations / 2), seed)]
    while runs[-1].complete and (lacking := cases - sum(run.cases for run in runs)) > 0:
        seed += 1
        runs.append(tried(served, database_url, math.ceil(lacking / operations), seed, ("fuzzing", "stateful")))
    return runs


def shown(runs: list[Tried]) -> int:
    failures = [failure for run in runs for failure in run.failures]
    for run in runs:
        print(run.output)
    print(f"{sum(run.cases for run in runs):,} cases, {len(failures)} findings")
    for reason in sorted({reason for run in runs for reason in run.named}):
        print(f"  named, {sum(run.named.get(reason, 0) for run in runs):,} times: {reason}")
    return 1 if failures or not all(run.complete for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
