"""`embedq export -` into a pipe whose reader takes its time."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.forked import python
from tests.support import ROOT, env, until

TASKS = 3000
# Longer than a session of the pool may be idle in a transaction.
SLOW_S = 7.0


def test_a_slow_reader_of_an_export_gets_all_of_it_and_keeps_no_snapshot(
    environment: dict[str, str], psql: Callable[..., list[tuple[Any, ...]]]
) -> None:
    psql("INSERT INTO articles (id, content) SELECT 'a' || i, 'text' FROM generate_series(1, %s) AS i", TASKS)
    whole = env(environment)
    command = [*python(whole), "-m", "embedq", "export", "-"]
    with subprocess.Popen(command, cwd=ROOT, env=whole, stdout=subprocess.PIPE, text=True) as export:
        assert export.stdout is not None
        first = export.stdout.readline()
        until(lambda: psql(OPEN_TRANSACTIONS) == [(0,)], 5, "the export still reads")
        time.sleep(SLOW_S)
        lines = [first, *export.stdout]

    assert export.returncode == 0
    assert len({json.loads(line)["article_id"] for line in lines}) == TASKS


OPEN_TRANSACTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^embedq' AND xact_start IS NOT NULL"
