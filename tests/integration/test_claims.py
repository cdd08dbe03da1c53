"""Who gets which task, when several ask at once."""

from __future__ import annotations

from collections import Counter

import pytest

from embedq.model import Delivery, Model, Priority
from tests.support import until


def articles_of(tasks):
    return [task.article_id for task in tasks]


def test_two_claimers_never_share_a_task(psql, add, poller, another, in_thread):
    add(*(f"a{number:03}" for number in range(400)))
    claimers = [poller, another(), another(), another()]

    def claim_all(claimer):
        found = []
        while batch := claimer.claim(7):
            found += batch
        return found

    shares = [share.result(30) for share in [in_thread(claim_all, each) for each in claimers]]

    counted = Counter(task.id for share in shares for task in share)
    assert len(counted) == 400
    assert set(counted.values()) == {1}
    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'processing' AND claims = 1") == [(400,)]


def test_a_task_that_somebody_is_at_is_passed_over_without_waiting(add, poller, session, psql):
    add("a", "b", "c")
    first = session()
    first.do("SELECT id FROM embedding_tasks WHERE article_id = 'a' FOR UPDATE")

    claimed = poller.claim()

    assert sorted(articles_of(claimed)) == ["b", "c"]


def test_a_message_claims_its_tasks_once_however_often_it_comes(psql, add, another):
    add("a", "b")
    ids = [row[0] for row in psql("SELECT id FROM embedding_tasks ORDER BY id")]
    one, two = another(Delivery.CELERY), another(Delivery.CELERY)

    claimed = [len(one.claim_named(*ids)), len(two.claim_named(*ids)), len(one.claim_named(*ids, 999_999))]

    assert claimed == [2, 0, 0]


def test_the_most_urgent_are_claimed_first_the_oldest_of_these_and_nothing_less_urgent_with_them(add, poller):
    for priority in ("low", "normal", "urgent", "high"):
        add(f"{priority} 1", priority=priority)
        add(f"{priority} 2", priority=priority)

    claimed = [articles_of(poller.claim(3)) for _ in range(4)]

    assert claimed == [["urgent 1", "urgent 2"], ["high 1", "high 2"], ["normal 1", "normal 2"], ["low 1", "low 2"]]


def test_tenants_get_the_same_share_however_many_tasks_they_have(add, poller):
    add(*(f"big{number}" for number in range(500)), tenant="big")
    add(*(f"small{number}" for number in range(3)), tenant="small")
    add(*(f"other{number}" for number in range(40)), tenant="other")

    first = Counter(task.tenant_id for task in poller.claim(30))
    second = Counter(task.tenant_id for task in poller.claim(30))

    assert first == {"big": 10, "other": 10, "small": 3}
    assert second == {"big": 15, "other": 15}


def test_more_tenants_than_a_claim_can_serve_are_served_in_turn(psql, poller):
    psql("INSERT INTO articles (id, tenant_id, title) SELECT 'a' || n, 'tenant' || n % 200, 'x' FROM generate_series(1, 400) n")

    served = [task.tenant_id for _ in range(20) for task in poller.claim(10)]

    assert len(served) == len(set(served)) == 200


def test_a_tenant_whose_tasks_all_wait_takes_nobodys_place(psql, poller):
    psql("INSERT INTO articles (id, tenant_id, title) SELECT 'a' || n, 'tenant' || n, 'x' FROM generate_series(1, 300) n")
    psql("UPDATE embedding_tasks SET scheduled_at = now() + interval '1 hour'")
    psql("INSERT INTO articles (id, tenant_id, title) SELECT 'z' || n, 'zz', 'x' FROM generate_series(1, 50) n")

    claimed = poller.claim(50)

    assert {task.tenant_id for task in claimed} == {"zz"}
    assert len(claimed) == 50


def test_a_model_whose_provider_is_paused_starves_no_other_model(psql, store, poller):
    other = store.models.add(Model("ollama", "other", 8))
    psql("INSERT INTO articles (id, tenant_id, title) SELECT 'a' || n, 'tenant' || n, 'x' FROM generate_series(100, 299) n")
    psql("DELETE FROM embedding_tasks WHERE model_id <> %s", other.id)
    psql("UPDATE embedding_models SET kept_in_step = false WHERE id = %s", other.id)
    psql("SET embedq.priority = 'low'")
    psql("INSERT INTO articles (id, tenant_id, title) VALUES ('z', 'zz', 'x')")
    store.providers.pause("ollama", 60, "down")

    claimed = [task.article_id for _ in range(5) for task in poller.claim(10)]

    assert claimed == ["z"]


@pytest.mark.parametrize(
    ("setting", "claimed"),
    [
        ("paused_priorities = '{high}'", ["n acme", "n other"]),
        ("paused_tenants = '{acme}'", ["h other", "n other"]),
        ("paused_priorities = '{high}', paused_tenants = '{acme}'", ["n other"]),
        ("is_running = false", []),
    ],
)
@pytest.mark.parametrize("delivery", ["poller", "celery", "overdue"])
def test_what_is_paused_is_not_claimed_by_any_delivery(psql, add, poller, another, delivery, setting, claimed):
    for tenant in ("acme", "other"):
        add(f"h {tenant}", tenant=tenant, priority="high")
        add(f"n {tenant}", tenant=tenant)
    psql(f"UPDATE embedding_worker_status SET mode = 'hybrid', {setting}")
    ids = [row[0] for row in psql("SELECT id FROM embedding_tasks")]
    if delivery == "overdue":
        psql("UPDATE embedding_tasks SET dispatched_at = now() - interval '1 minute'")

    got = {
        "poller": lambda: poller.claim() + poller.claim(),
        "celery": lambda: another(Delivery.CELERY).claim_named(*ids),
        "overdue": lambda: poller.store.tasks.claim_overdue(poller.id, 100, 30.0),
    }[delivery]()

    assert sorted(articles_of(got)) == claimed


def test_a_task_is_not_claimed_before_its_time(psql, add, poller, another):
    add("now", "later")
    psql("UPDATE embedding_tasks SET scheduled_at = now() + interval '1 hour' WHERE article_id = 'later'")
    psql("UPDATE embedding_worker_status SET mode = 'hybrid'")
    (later,) = psql("SELECT id FROM embedding_tasks WHERE article_id = 'later'")[0]

    assert another(Delivery.CELERY).claim_named(later) == []
    assert articles_of(poller.claim()) == ["now"]


@pytest.mark.parametrize("mode", ["hybrid", "sync"])
def test_a_poller_leaves_alone_what_is_with_the_broker_until_it_is_overdue(psql, add, poller, mode):
    add("fresh", "old")
    psql(f"UPDATE embedding_worker_status SET mode = '{mode}'")
    psql("UPDATE embedding_tasks SET dispatched_at = now() - CASE article_id WHEN 'old' THEN interval '40 s' ELSE '20 s' END")

    assert poller.claim() == []
    assert articles_of(poller.store.tasks.claim_overdue(poller.id, 100, 30.0)) == ["old"]


def test_overdue_tasks_are_claimed_in_the_order_of_their_priority(psql, add, poller):
    for priority in ("low", "urgent", "normal"):
        add(priority, priority=priority)
    psql("UPDATE embedding_worker_status SET mode = 'hybrid'")
    psql("UPDATE embedding_tasks SET dispatched_at = now() - interval '40 s'")

    claimed = [articles_of(poller.store.tasks.claim_overdue(poller.id, 1, 30.0)) for _ in range(3)]

    assert claimed == [["urgent"], ["normal"], ["low"]]


def test_in_hybrid_mode_a_poller_lets_the_dispatcher_go_first(psql, add, poller):
    add("a")
    psql("UPDATE embedding_worker_status SET mode = 'hybrid'")

    assert poller.claim(grace_s=60.0) == []
    assert articles_of(poller.claim(grace_s=0.0)) == ["a"]


def test_what_is_dispatched_is_marked_and_not_dispatched_again(psql, add, store):
    add("a", "b")

    first, second = store.tasks.dispatch(Priority.NORMAL, 10), store.tasks.dispatch(Priority.NORMAL, 10)

    assert (len(first), second) == (2, [])
    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NOT NULL") == [(2,)]


def test_a_claim_carries_the_text_as_it_is_when_the_row_is_had(psql, add, poller):
    add("a", text="first")
    psql("UPDATE articles SET content = 'second'")

    (task,) = poller.claim()

    assert (task.content, task.version, task.claim, task.attempts) == ("second", 2, 1, 0)
    assert task.text_hash == psql("SELECT text_hash FROM article_texts")[0][0]


def test_what_became_due_while_nobody_looked_is_not_slept_over(add, poller, psql):
    add("a")
    psql("UPDATE embedding_tasks SET scheduled_at = clock_timestamp() - interval '1 second'")

    since_before, since_after = poller.store.tasks.next_due_s(60.0), poller.store.tasks.next_due_s(0.0)

    assert since_before is not None
    assert since_before < 0
    assert since_after is None


def test_what_is_freed_behind_the_claims_of_a_backlog_is_soon_claimed(psql, poller):
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'x' FROM generate_series(1, 3000) n")
    poller.claim(1)
    assert poller.store.tasks.trail.of(Priority.NORMAL) is not None
    psql("UPDATE embedding_tasks SET scheduled_at = now() - interval '1 day' WHERE article_id = 'a3000'")

    until(lambda: "a3000" in articles_of(poller.claim(1)), 10)

    assert psql("SELECT count(*) > 0 FROM embedding_tasks WHERE status = 'pending'") == [(True,)]
