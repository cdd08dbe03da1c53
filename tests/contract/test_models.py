"""A model is built beside the active one, search switches at once, and back at once, and nothing is ever mixed or lost."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from embedq import Client
from embedq.errors import ConfigError, InputError, NotFound, NotWell
from embedq.model import Model
from embedq.settings import from_env
from tests.support import run_command, start_poller, until

SECOND = Model("hashing", "hashing-v1", 96)


@pytest.fixture
def poller(environment, psql):
    """A worker process; mode database."""
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    with start_poller(environment) as process:
        yield process


@pytest.fixture
def first(store):
    return store.models.active()


@pytest.fixture
def second(store):
    return store.models.add(SECOND, kept_in_step=False)


@pytest.fixture
def write(psql):
    def insert(count, prefix="a"):
        psql(
            "INSERT INTO articles (id, title, content) SELECT %s || n, 'title ' || n, 'words number ' || n FROM generate_series(1, %s) n",
            prefix,
            count,
        )

    return insert


@pytest.fixture
def settled(psql):
    def wait(timeout_s=60.0):
        story = lambda: psql("SELECT model_id, status, count(*), min(error_message) FROM embedding_tasks GROUP BY 1, 2")  # noqa: E731
        until(
            lambda: psql("SELECT count(*) FROM embedding_tasks WHERE status IN ('pending', 'processing')") == [(0,)],
            timeout_s,
            story,
        )

    return wait


@pytest.fixture
def complete(psql):
    """How many articles a model has in their newest text."""
    return lambda model: psql(
        "SELECT count(*) FROM article_texts a JOIN embeddings e ON e.article_id = a.id AND e.text_hash = a.text_hash WHERE e.model_id = %s",
        model.id,
    )[0][0]


@pytest.fixture
def built(store, second, write, settled, poller):
    """Twenty articles in both models."""
    write(20)
    settled()
    store.models.build(second)
    settled()
    return second


def test_a_registered_model_costs_nothing_before_it_is_built(psql, second, write):
    write(3)

    assert psql("SELECT DISTINCT model_id = %s FROM embedding_tasks", second.id) == [(False,)]


def test_a_build_promises_every_article_once_at_low_and_leaves_the_active_models_tasks_alone(psql, store, first, second, write):
    write(7)
    before = psql("SELECT id, priority, version FROM embedding_tasks WHERE model_id = %s ORDER BY id", first.id)

    made, again = store.models.build(second), store.models.build(second)

    assert (made, again) == (7, 0)
    rows = psql("SELECT DISTINCT priority, metadata->>'reason' FROM embedding_tasks WHERE model_id = %s", second.id)
    assert rows == [("low", "model_change")]
    assert psql("SELECT id, priority, version FROM embedding_tasks WHERE model_id = %s ORDER BY id", first.id) == before


def test_a_build_goes_on_where_it_was_broken_off(psql, store, second, write, monkeypatch):
    write(10)
    monkeypatch.setattr("embedq.store.models.STEP", 4)

    class Killed(Exception):
        pass

    def die(made):
        raise Killed

    with pytest.raises(Killed):
        store.models.build(second, tell=die)
    rest = store.models.build(second)

    assert rest == 6
    assert psql("SELECT count(*) FROM embedding_tasks WHERE model_id = %s", second.id) == [(10,)]


def test_a_build_with_a_rate_spreads_its_tasks_over_time(psql, store, second, write):
    write(10)

    store.models.build(second, rate=2.0)

    ((span_s,),) = psql(
        "SELECT extract(epoch FROM max(scheduled_at) - min(scheduled_at))::float FROM embedding_tasks WHERE model_id = %s",
        second.id,
    )
    assert span_s == pytest.approx(4.5, abs=0.2)


@pytest.mark.parametrize("mode", ["sync", "off"])
def test_a_build_that_can_make_no_tasks_says_so(psql, store, second, write, mode):
    write(1)
    psql("UPDATE embedding_worker_status SET mode = %s", mode)

    with pytest.raises(NotWell, match="no tasks are made now"):
        store.models.build(second)


def test_an_incomplete_model_is_not_activated(store, first, write, settled, poller, second):
    write(3)
    settled()

    with pytest.raises(NotWell, match="3 articles that search finds now have no vector"):
        store.models.activate(second, who="test")

    assert store.models.active() == first


def test_force_activates_an_incomplete_model_which_is_then_completed(psql, store, complete, write, settled, poller, second):
    write(3)
    settled()

    store.models.activate(second, who="test", force=True)
    write(1, "new")
    store.care.reconcile()
    settled()

    assert complete(second) == 4


def test_search_follows_the_activated_model_from_one_question_to_the_next(client, store, built, first):
    before = client.search("title 3", 3)

    store.models.activate(built, who="test")

    assert client.provider.model == built
    after = client.search("title 3", 3)
    assert before[0].article_id == after[0].article_id
    assert [hit.score for hit in before] != [hit.score for hit in after]
    assert store.models.previous() == first


def test_a_rollback_has_every_article_also_those_edited_and_written_since(psql, store, first, built, complete, write, settled):
    store.models.activate(built, who="test")
    psql("UPDATE articles SET content = content || ' edited' WHERE id IN ('a1', 'a2')")
    psql("DELETE FROM articles WHERE id = 'a3'")
    write(2, "late")
    settled()

    went_to, progress = store.models.rollback(who="test")

    assert went_to == first
    assert store.models.active() == first
    assert (progress.missing, progress.behind) == (0, 0)
    assert complete(first) == complete(built) == 21
    assert psql("SELECT DISTINCT embedding_status FROM articles") == [("ready",)]


def test_a_rollback_can_be_taken_back(store, built, first):
    store.models.activate(built, who="test")
    store.models.rollback(who="test")

    went_to, _ = store.models.rollback(who="test")

    assert went_to == built


def test_without_an_earlier_model_there_is_no_way_back(store):
    with pytest.raises(NotFound, match="no model to go back to"):
        store.models.rollback(who="test")


def test_every_switch_is_on_record_with_who_and_why(psql, store, built, first):
    store.models.activate(built, who="ada@here", why="a trial")

    rows = psql("SELECT message, metadata->>'who', metadata->>'reason' FROM embedding_audit_logs WHERE category = 'model'")
    assert rows == [(f"activate: search follows {built}", "ada@here", "a trial")]


def test_what_is_behind_is_no_longer_background_work_after_the_switch(psql, store, built, poller):
    psql("UPDATE embedding_worker_status SET is_running = false")
    psql("UPDATE articles SET content = content || ' more' WHERE id = 'a5'")

    store.models.activate(built, who="test")
    hurried = store.models.hurry(built)

    assert hurried == 1
    assert psql("SELECT priority FROM embedding_tasks WHERE model_id = %s AND status = 'pending'", built.id) == [("normal",)]


def test_a_dropped_model_leaves_nothing_behind(psql, store, built, first, write):
    psql("UPDATE embedding_worker_status SET is_running = false")
    write(2, "open")

    freed = store.models.drop(built, who="test")

    assert freed["tasks"] == 2
    assert freed["embeddings"] == 20
    assert freed["bytes"] > 0
    assert psql("SELECT to_regclass(%s)", f"embedding_vectors_{built.id}") == [(None,)]
    assert psql("SELECT count(*) FROM embeddings WHERE model_id = %s", built.id) == [(0,)]
    assert list(store.models.by_id()) == [first.id]
    assert store.care.verify()["incomplete"] == 0


def test_the_active_model_is_never_dropped(store, first):
    with pytest.raises(InputError, match="is active"):
        store.models.drop(first, who="test")


def test_a_dropped_previous_model_cannot_be_gone_back_to(store, built, first):
    store.models.activate(built, who="test")
    store.models.drop(first, who="test")

    with pytest.raises(NotFound):
        store.models.rollback(who="test")


def test_dropping_gives_way_to_a_session_that_reads_the_vectors_and_then_succeeds(database_url, store, built):
    reader = psycopg.connect(database_url)
    reader.execute(f"SELECT count(*) FROM embedding_vectors_{built.id}")
    dropping = threading.Thread(target=store.models.drop, args=(built,), kwargs={"who": "test"})
    dropping.start()
    writer_s = time.monotonic()
    with psycopg.connect(database_url, autocommit=True) as writer:
        writer.execute("SET statement_timeout = '5s'")
        writer.execute("DELETE FROM articles WHERE id = 'a1'")
    assert time.monotonic() - writer_s < 5

    reader.close()
    dropping.join(20)

    assert built.id not in store.models.by_id()


def test_a_task_whose_model_was_dropped_meanwhile_is_cancelled_and_not_tried_for_ever(
    psql, store, poller, second, write, settled
):
    write(1)
    settled()
    store.models.drop(second, who="test")

    psql("INSERT INTO embedding_tasks (article_id, model_id) VALUES ('a1', %s)", second.id)
    settled()

    rows = psql("SELECT status, error_message FROM embedding_tasks WHERE model_id = %s", second.id)
    assert rows == [("cancelled", f"model {second.id} is not registered")]


class Interrupted:
    """A provider that lets something happen between the first question's vector and its answer."""

    def __init__(self, inner, meanwhile):
        self.inner, self.model, self.limits, self.meanwhile = inner, inner.model, inner.limits, meanwhile

    def embed(self, texts):
        self.meanwhile()
        return self.inner.embed(texts)

    def close(self):
        self.inner.close()


def test_a_search_that_meets_the_drop_of_its_model_follows_the_new_one(client, store, built, first):
    def switch_and_drop():
        store.models.activate(built, who="test")
        store.models.drop(first, who="test")

    client._parts._provider = Interrupted(client.provider, switch_and_drop)
    hits = client.search("title 1", 1)

    assert [hit.article_id for hit in hits] == ["a1"]
    assert client.provider.model == built


def test_settings_that_name_the_model_before_go_on_with_the_active_one_and_say_so(environment, store, built, caplog):
    store.models.activate(built, who="test")

    with Client(from_env(environment)) as client:
        with caplog.at_level("WARNING"):
            agreed = client.store.models.agree(Model("hashing", "hashing-v1", 64))

        assert agreed == built
        assert "the active one is hashing/hashing-v1/96" in caplog.text


def test_settings_that_name_a_model_nobody_registered_are_refused_with_the_command(environment, store):
    with pytest.raises(ConfigError) as refused:
        store.models.agree(Model("hashing", "hashing-v1", 128))

    assert "embedq model add hashing hashing-v1 128" in refused.value.hint


def test_a_model_is_found_by_id_and_by_any_part_of_its_name_that_is_not_shared(store, first, second):
    assert store.models.named(str(second.id)) == second
    assert store.models.named("hashing/hashing-v1/96") == second
    with pytest.raises(InputError, match="could be"):
        store.models.named("hashing-v1")
    with pytest.raises(NotFound):
        store.models.named("nothing")


def test_a_switch_under_edits_never_fails_a_search_nor_mixes_models(
    psql, environment, store, poller, second, write, settled, database_url
):
    write(2000)
    settled()
    store.models.build(second)
    until(lambda: store.models.progress(second).missing == 0, 90, lambda: store.models.progress(second))
    stop, failures, searched = threading.Event(), [], []

    def edit():
        with psycopg.connect(database_url, autocommit=True) as connection:
            for number in range(10_000):
                if stop.wait(0.01):
                    return
                connection.execute("UPDATE articles SET content = content || '.' WHERE id = %s", (f"a{number % 2000 + 1}",))

    def search():
        with Client(from_env(environment)) as client:
            while not stop.is_set():
                try:
                    hits = client.search("title 77 words number 77", 5)
                    searched.append([hit.score for hit in hits])
                    if len(hits) != 5 or hits[0].article_id != "a77":
                        failures.append(hits)
                except Exception as error:
                    failures.append(error)

    threads = [threading.Thread(target=edit), *(threading.Thread(target=search) for _ in range(2))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            until(lambda: store.models.progress(second).lacks() is None, 60)
            store.models.activate(second, who="test")
            seen = len(searched)
            until(lambda at=seen: len(searched) > at + 3 or failures)
            _, progress = store.models.rollback(who="test")
            assert progress.missing == 0
            seen = len(searched)
            until(lambda at=seen: len(searched) > at + 3 or failures)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    settled(90)

    assert failures == []
    assert store.care.verify()["problems"] == []
    dims = psql("SELECT DISTINCT model_id, vector_dims(embedding) FROM embedding_vectors ORDER BY 1")
    assert dims == [(store.models.active().id, 64), (second.id, 96)]


def test_the_commands_lead_from_a_new_model_to_the_old_ones_drop(environment, psql, write, settled, poller):
    write(5)
    settled()

    def run(*words, code=0):
        done = run_command(environment, *words)
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout + done.stderr

    assert "registered hashing/hashing-v1/96 as 2" in run("model", "add", "hashing", "hashing-v1", "96")
    assert "is not complete" in run("model", "activate", "2", code=3)
    assert "would embed 5 articles" in run("model", "build", "2", "--dry-run")
    assert "5 tasks were made" in run("model", "build", "2")
    settled()
    assert "5 of 5" in run("model", "status", "2")
    assert "share" in run("model", "compare", "2", "title 1")
    assert "search follows hashing/hashing-v1/96" in run("model", "activate", "2", "--reason", "test")
    assert "title 3" in run("search", "title 3")
    assert "search follows hashing/hashing-v1/64" in run("model", "rollback")
    assert "is active" in run("model", "drop", "1", "--yes", code=2)
    assert "There is no terminal" in run("model", "drop", "2", code=2)
    assert "would drop" in run("model", "drop", "2", "--dry-run")
    assert "dropped hashing/hashing-v1/96" in run("model", "drop", "2", "--yes")
    assert psql("SELECT count(*) FROM embedding_models") == [(1,)]


def test_a_model_whose_provider_does_not_answer_is_not_built(environment, psql, write):
    write(1)
    environment |= {"OPENAI_API_KEY": "sk-none", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    run_command(environment, "model", "add", "openai", "text-embedding-3-small", "64")

    done = run_command(environment, "model", "build", "2")

    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert psql("SELECT kept_in_step FROM embedding_models WHERE id = 2") == [(False,)]
    assert psql("SELECT paused_until IS NULL FROM embedding_providers WHERE name = 'openai'") == [(True,)]
