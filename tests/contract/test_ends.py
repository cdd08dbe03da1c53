"""However a Celery worker ends: it claims nothing any more, is gone within its bound, and others have its tasks, uncharged."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

from embedq.broker import lazy_app
from tests.support import CELERY, ROOT, Process, env, start_celery, until

from .conftest import Delivery

STOP_S = 3.0
# What an end may take beyond its bound: Celery's own farewells, on a busy machine.
MARGIN_S = 12.0
pytestmark = pytest.mark.parametrize("place", ["celery"], indirect=True, scope="module")


def by_signal(number: signal.Signals) -> Callable[[Process, dict[str, str]], None]:
    return lambda worker, _: worker.signal(number)


def by_button(worker: Process, environment: dict[str, str]) -> None:
    """As Flower sends it."""
    app = lazy_app(lambda: environment["REDIS_URL"], set_as_current=False)
    app.control.broadcast("shutdown")
    app.close()


def by_command(worker: Process, environment: dict[str, str]) -> None:
    """Not waited for: the command goes on collecting answers when the worker may be gone already."""
    argv = [sys.executable, "-m", "celery", "-A", "embedq", "control", "shutdown"]
    sent = partial(subprocess.run, argv, env=env(environment), cwd=ROOT, capture_output=True, timeout=60)
    Thread(target=sent, daemon=True).start()


def by_error(worker: Process, environment: dict[str, str]) -> None:
    Path(environment["BREAKS_AT"]).touch()


WAYS = [
    pytest.param(by_signal(signal.SIGTERM), id="TERM"),
    pytest.param(by_signal(signal.SIGINT), id="INT"),
    pytest.param(by_signal(signal.SIGQUIT), id="QUIT"),
    pytest.param(by_button, id="control shutdown"),
    pytest.param(by_error, id="an error nobody expected"),
]


@pytest.fixture
def place_of(fresh: Delivery, tmp_path: Path) -> Delivery:
    fresh.environment |= {
        "EMBEDDING_STOP_TIMEOUT": str(int(STOP_S * 1000)),
        "EMBEDDING_BATCH_SIZE": "1",
        "CELERY_CONFIG_MODULE": "tests.breaking",
        "BREAKS_AT": str(tmp_path / "now"),
        "PYTHONPATH": str(ROOT),
    }
    return fresh


def started(delivery: Delivery, pool: str, *more: str, program: Sequence[str] = CELERY) -> Process:
    delivery.workers.append(start_celery(delivery.environment, concurrency=2, pool=pool, more=more, program=program))
    return delivery.workers[-1]


def alive(delivery: Delivery) -> int:
    """As `embedq status` counts workers."""
    return int(
        delivery.sql("SELECT count(*) FROM embedding_workers WHERE alive_until > clock_timestamp() AND ending_since IS NULL")[
            0
        ][0]
    )


@pytest.mark.parametrize("pool", ["threads", "processes"])
@pytest.mark.parametrize("end", WAYS)
def test_a_worker_whose_provider_hangs_ends_all_the_same(place_of: Delivery, pool: str, end):
    delivery = place_of
    worker = started(delivery, pool)
    held = 3 if pool == "threads" else 2
    with delivery.standin.held():
        delivery.sql("SELECT set_config('embedq.priority', 'low', false)")
        delivery.add({"a": "one", "b": "two"})
        delivery.standin.wait_until_held(2, 40.0)
        delivery.sql("SELECT set_config('embedq.priority', 'urgent', false)")
        delivery.add({"c": "the thread for the urgent has this one"})
        delivery.standin.wait_until_held(held, 40.0)

        end(worker, delivery.environment)
        until(
            lambda: delivery.sql("SELECT count(*) FROM embedding_workers WHERE ending_since IS NOT NULL") != [(0,)],
            STOP_S + MARGIN_S,
        )
        until(lambda: alive(delivery) == 0, MARGIN_S, delivery.story)
        for number in range(200):
            if worker.runs:
                delivery.add({f"later {number}": "nobody is to claim this"})
                until(lambda: not worker.runs, 0.2) if not worker.runs else None
        until(lambda: not worker.runs, STOP_S + MARGIN_S, worker.output)

        assert delivery.sql("SELECT count(*) FROM embedding_workers") == [(0,)]
        claimed = delivery.sql("SELECT article_id, processed_at FROM embedding_tasks WHERE claims > 0 ORDER BY processed_at")
        assert len(claimed) == held, (claimed, worker.output())
        until(lambda: delivery.states().keys() == {"pending"}, 15, delivery.story)
        assert delivery.sql("SELECT max(attempts), max(lost_leases) FROM embedding_tasks") == [(0, 0)]

    delivery.environment.pop("CELERY_CONFIG_MODULE")
    started(delivery, "threads")
    assert delivery.until_idle(90).keys() == {"completed"}
    assert worker.exit_code in (0, 1)


def test_a_worker_that_has_nothing_in_hand_is_gone_at_once_when_it_is_told_to_shut_down(place_of: Delivery):
    worker = started(place_of, "threads")
    until(lambda: alive(place_of) == 1, 20, worker.output)

    by_command(worker, place_of.environment)

    until(lambda: not worker.runs, 10, worker.output)
    assert worker.exit_code == 0
    assert place_of.sql("SELECT count(*) FROM embedding_workers") == [(0,)], worker.output() + str(
        place_of.sql("SELECT * FROM embedding_workers")
    )


def test_hup_starts_the_worker_anew_also_when_a_request_hangs(place_of: Delivery):
    # As a program: `python -m celery`, started anew, is not found.
    worker = started(place_of, "threads", program=(str(Path(sys.executable).with_name("celery")),))
    with place_of.standin.held():
        place_of.add({"a": "one"})
        place_of.standin.wait_until_held(1, 40.0)
        before = place_of.sql("SELECT id FROM embedding_workers")

        worker.signal(signal.SIGHUP)

        until(
            lambda: place_of.sql("SELECT id FROM embedding_workers") not in (before, []), STOP_S + 2 * MARGIN_S, worker.output
        )
        assert worker.runs
    assert place_of.until_idle(60) == {"completed": 1}


def test_a_child_that_has_done_its_number_of_tasks_is_out_of_the_register_at_once(place_of: Delivery):
    worker = started(place_of, "processes", "--max-tasks-per-child", "1")
    for number in range(4):
        place_of.add({f"a{number}": f"text {number}"})
        assert place_of.until_idle(30) == {"completed": number + 1}

    until(lambda: alive(place_of) == 1, 3.0, lambda: place_of.sql("SELECT * FROM embedding_workers"))
    assert place_of.sql("SELECT max(lost_leases), max(attempts) FROM embedding_tasks") == [(0, 1)]
    assert worker.runs
