"""What a message named and its worker did not claim is the table's again, at once: the message is about to be acknowledged."""

from __future__ import annotations

import pytest

from embedq import wiring
from embedq.broker import broker_at
from embedq.engine.runs import TheseTasks
from embedq.model import Mode
from embedq.operations import mode_switch
from embedq.settings import from_env
from embedq.steward.lost_messages import LostMessages


@pytest.fixture
def parts(environment, psql):
    psql("UPDATE embedding_worker_status SET mode = 'celery'")
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'text' FROM generate_series(1, 3) n")
    psql("UPDATE embedding_tasks SET dispatched_at = clock_timestamp()")
    made = wiring.worker_parts(from_env(environment), "celery")
    made.worker.start()
    yield made
    made.close()


def ids(psql) -> list[int]:
    return [row[0] for row in psql("SELECT id FROM embedding_tasks ORDER BY id")]


def with_broker(psql) -> int:
    return psql("SELECT count(*) FROM embedding_tasks WHERE dispatched_at IS NOT NULL AND status = 'pending'")[0][0]


def test_by_a_worker_that_stops(parts, psql):
    parts.worker.stopping.set()

    report = parts.engine.run(TheseTasks(ids(psql)))

    assert (report.claimed, with_broker(psql)) == (0, 0)


def test_by_a_worker_that_is_held_back_later_and_later(parts, psql):
    psql("""UPDATE embedding_worker_status SET throttle = '{"batch": 1}'""")

    report = parts.engine.run(TheseTasks(ids(psql)))

    assert (report.claimed, with_broker(psql)) == (1, 0)


def test_not_what_a_pause_forbids(parts, psql):
    psql("UPDATE embedding_worker_status SET paused_priorities = '{normal}'")

    report = parts.engine.run(TheseTasks(ids(psql)))

    assert (report.claimed, with_broker(psql)) == (0, 3)


def test_everything_or_what_was_dispatched_some_time_ago(parts, psql, store):
    psql("UPDATE embedding_tasks SET dispatched_at = clock_timestamp() - interval '9 s' WHERE article_id = 'a1'")
    psql("UPDATE embedding_tasks SET dispatched_at = clock_timestamp() + interval '9 s' WHERE article_id = 'a2'")

    assert mode_switch.free_all(store, older_s=5.0) == 1
    assert mode_switch.free_all(store) == 2
    assert with_broker(psql) == 0


@pytest.mark.parametrize(
    ("mode", "left"), [(Mode.CELERY, 3), (Mode.DATABASE, 0), (Mode.HYBRID, 0), (Mode.SYNC, 0), (Mode.OFF, 0)]
)
def test_by_the_steward_while_the_broker_is_away_where_pollers_take_over(parts, psql, mode, left):
    psql("UPDATE embedding_worker_status SET mode = %s", mode)
    psql("UPDATE embedding_tasks SET dispatched_at = clock_timestamp() - interval '9 s'")
    away = broker_at("redis://127.0.0.1:1/0")

    LostMessages(parts.store, away).look()

    assert with_broker(psql) == left
    away.close()
