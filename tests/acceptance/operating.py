"""What the tests of an operator's commands share: run one in this process, embed what is due."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from click.testing import CliRunner, Result

from embedq import wiring
from embedq.cli import embedq
from embedq.engine.runs import NextDue
from embedq.settings import Settings


def invoked(environment: Mapping[str, str], *words: str, code: int = 0) -> Result:
    """A command in this process; its exit code must be the expected one."""
    result = CliRunner().invoke(embedq, words, env=dict(environment))
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def answered(environment: Mapping[str, str], *words: str, code: int = 0) -> Any:
    """The same, its answer as JSON."""
    return json.loads(invoked(environment, *words, "--json", code=code).stdout)


def embed_due(settings: Settings, batches: int = 1000, **changes: Any) -> int:
    """Batches that are due are embedded, by a real engine in this process; how many tasks."""
    parts = wiring.worker_parts(replace(settings, worker_timeout_ms=60_000, **changes), "poller")
    parts.worker.start()
    total = 0
    try:
        for _ in range(batches):
            if not (claimed := parts.engine.run(NextDue()).claimed):
                break
            total += claimed
        return total
    finally:
        parts.close()
