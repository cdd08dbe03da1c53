"""A worker of the register, and the audit log that the chores write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from embedq.engine.worker import Worker
from embedq.store import Store


@pytest.fixture
def worker(store: Store) -> Worker:
    """Not started: it has no threads and is not registered."""
    return Worker(store, "poller")


@pytest.fixture
def audit(psql: Any) -> Callable[[str], list[tuple[str, str]]]:
    """(level, message) of each entry of a category, the oldest first."""
    return lambda category: psql("SELECT level, message FROM embedding_audit_logs WHERE category = %s ORDER BY id", category)
