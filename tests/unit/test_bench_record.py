"""What `scripts/bench --keep` writes into the record, and what it leaves as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.__main__ import _keep

RUN: dict[str, Any] = {"at": "now", "quick": False, "revision": "new", "machine": {}, "load_before": {"B1": 1.0, "B2": 2.0}}


@pytest.mark.parametrize(
    ("met", "kept"), [pytest.param((True, None), "new", id="met"), pytest.param((True, False), "old", id="one missed")]
)
def test_a_benchmark_that_misses_a_target_leaves_the_record_as_it_is(
    tmp_path: Path, met: tuple[bool | None, ...], kept: str
) -> None:
    record = tmp_path / "figures.json"
    record.write_text(json.dumps({"B1": {"revision": "old"}}))

    _keep(RUN | {"figures": {"B1": [{"name": "x", "met": each} for each in met], "B2": [{"name": "y", "met": True}]}}, record)

    revisions = {name: each["revision"] for name, each in json.loads(record.read_text()).items()}
    assert revisions == {"B1": kept, "B2": "new"}
