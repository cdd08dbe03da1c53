"""PostgreSQL has no room left on its disk: every door says so, and work goes on when there is room again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedq import wiring
from embedq.settings import from_env
from embedq.store import Store
from embedq.store.database import Database
from tests.smalldisk import SmallDisk, small_disk
from tests.standin import StandIn
from tests.support import start_poller, until

from .conftest import LIGHT
from .operating import answered
from .test_no_progress import as_an_hour_ago, stalls, told_everywhere
from .underload import use_standin

ARTICLES = "INSERT INTO articles (id, title, content) SELECT 'a' || i, 'Tea ' || i, 'text ' || i FROM generate_series(1, 60) i"


@pytest.fixture(scope="module")
def disk() -> Iterator[SmallDisk]:
    with small_disk() as mounted:
        yield mounted


@pytest.fixture
def polled(disk: SmallDisk, redis_url: str, standin: StandIn, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A living poller, whose PostgreSQL is on the small disk."""
    known = {
        "DATABASE_URL": disk.url,
        "REDIS_URL": redis_url,
        "EMBEDDING_PROVIDER": "hashing",
        "EMBEDDING_DIMENSIONS": "64",
        "EMBEDDING_WORKER_INTERVAL": "200",
        "EMBEDQ_HOME": str(tmp_path / "home"),
    }
    store = Store(Database(disk.url))
    wiring.set_up(from_env(known), store)
    store.close()
    disk.node.sql("UPDATE embedding_worker_status SET mode = 'database'")
    known = use_standin(known, standin, **LIGHT)
    with start_poller(known) as poller:
        until(lambda: disk.node.sql("SELECT 1 FROM embedding_workers WHERE steward_since IS NOT NULL"), why=poller.output)
        yield known


def test_a_full_disk_is_told_and_work_goes_on_when_there_is_room(
    polled: dict[str, str], disk: SmallDisk, standin: StandIn
) -> None:
    standin.hold()
    disk.node.sql(ARTICLES)
    standin.wait_until_held(1)
    with as_an_hour_ago(disk.url):
        disk.fill()
        standin.release()
        stalls(polled, "the next finding tells why")
        # After five settles in a row that failed, and the next heartbeat.
        until(lambda: "threads-fail" in [each["rule"] for each in answered(polled, "status")["findings"]])
        told_everywhere(polled, "threads-fail", "settle", "has no room left")
        told = answered(polled, "status")["findings"]
    disk.free()

    hints = {each["rule"]: each["next"] for each in told}
    assert all("free disk space on the database server" in hints[rule] for rule in ("no-progress", "threads-fail")), hints
    until(lambda: disk.node.sql("SELECT DISTINCT status FROM embedding_tasks") == [("completed",)])
    until(lambda: answered(polled, "status")["findings"] == [], why=lambda: answered(polled, "status"))
