"""Behind a real PgBouncer: applications need no session, workers say that they do."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest

from embedq import Client
from embedq.errors import ConfigError
from embedq.model import ArticleDraft
from embedq.settings import from_env
from embedq.store import Store
from embedq.store.database import Database
from tests.pgbouncer import MISSING, pooled, program
from tests.support import run_command, start_celery, start_poller, until

pytestmark = pytest.mark.skipif(program() is None, reason=MISSING)
THREADS, EACH = 4, 30


@pytest.fixture
def through(tmp_path, database_url):
    with pooled(tmp_path, database_url) as url:
        yield url


@pytest.fixture
def by_sessions(tmp_path, database_url):
    with pooled(tmp_path, database_url, mode="session", size=40) as url:
        yield url


@pytest.fixture
def application(environment, through):
    with Client(from_env(environment | {"DATABASE_URL": through})) as client:
        yield client


def test_applications_save_and_search_from_many_threads(application, psql):
    def work(number):
        for each in range(EACH):
            article = application.create(f"Tea {number}", f"green {each}", id=f"{number}-{each}", metadata={"n": number})
            application.edit(article.id, content=f"black {each}")
            application.get(article.id)
            application.search("tea", filter={"n": number}, hybrid=True)
        return EACH

    with ThreadPoolExecutor(THREADS) as threads:
        assert list(threads.map(work, range(THREADS))) == [EACH] * THREADS

    assert psql("SELECT count(*), min(version) FROM article_texts") == [(THREADS * EACH, 2)]
    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'pending'") == [(THREADS * EACH,)]


def test_everything_that_a_client_does_works(application, psql):
    application.put([ArticleDraft("Tea", "green", id="a"), ArticleDraft("Coffee", "black", id="b", slug="coffee")])
    application.put([ArticleDraft("Tea", "white", id="a")])
    application.restore("a", 1)
    application.delete("b")
    application.restore("b")
    with application.store.database.transaction() as connection, application.within(connection, priority="urgent"):
        connection.execute("INSERT INTO articles (id, content) VALUES ('c', 'milk')")

    assert psql("SELECT id, content FROM articles ORDER BY id") == [("a", "green"), ("b", "black"), ("c", "milk")]
    assert psql("SELECT priority FROM embedding_tasks WHERE article_id = 'c'") == [("urgent",)]
    assert application.store.care.verify()["problems"] == []


def test_no_setting_of_ours_reaches_another_client_of_the_pool(tmp_path, database_url, environment, psql):
    name = re.sub(r".*/", "", database_url)
    psql(f"ALTER DATABASE {name} SET statement_timeout = '77s'")
    psql(f"ALTER DATABASE {name} SET search_path = pg_catalog, public")
    shown = "SELECT current_setting('statement_timeout'), current_setting('search_path'), current_setting('idle_in_transaction_session_timeout')"
    with pooled(tmp_path, database_url, size=1) as url, psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:
        before = other.execute(shown).fetchone()
        with Client(from_env(environment | {"DATABASE_URL": url})) as client:
            client.create("Tea", "green")
            client.search("tea")
            with suppress(ConfigError):
                client.store.database.connect()

        assert other.execute(shown).fetchone() == before
        assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


@pytest.mark.parametrize(
    "default", ["default_transaction_isolation = 'serializable'", "statement_timeout = '50ms'", "datestyle = 'SQL, DMY'"]
)
def test_defaults_of_the_database_change_nothing_there_either(application, database_url, psql, default):
    psql(f"ALTER DATABASE {database_url.rsplit('/', 1)[1]} SET {default}")

    article = application.create("Tea", "green")

    with application.store.database.transaction() as connection:
        row = connection.execute(
            "SELECT current_setting('transaction_isolation') AS level, current_setting('statement_timeout') AS least"
        ).fetchone()
    assert row == {"level": "read committed", "least": "0"}
    assert application.get(article.id).created_at.tzinfo is not None


@pytest.mark.parametrize("start", [start_poller, start_celery])
def test_a_worker_behind_transaction_pooling_refuses_with_the_reason(environment, through, psql, start):
    worker = start(environment | {"DATABASE_URL": through}, ready=False)

    until(lambda: not worker.runs, why=worker.output)

    assert worker.exit_code == 2
    assert "shares sessions between clients" in worker.output() and "Traceback" not in worker.output()
    assert psql("SELECT count(*) FROM embedding_workers") == [(0,)]


def test_a_worker_that_finds_itself_among_busy_sessions_refuses_too(through, database_url):
    with ThreadPoolExecutor(4) as threads:
        busy = [threads.submit(_asks, through) for _ in range(4)]
        database = Database(through)
        with pytest.raises(ConfigError, match="shares sessions"):
            database.demand_session()
        [each.result() for each in busy]


def _asks(url):
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        for _ in range(300):
            connection.execute("SELECT pg_sleep(0.001)")


@pytest.mark.parametrize("command", [("index", "build"), ("db", "upgrade")])
def test_a_command_that_needs_a_session_says_so(environment, through, command):
    done = run_command(environment | {"DATABASE_URL": through}, *command)

    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "DATABASE_URL" in done.stderr and "pooler" in done.stderr


@pytest.mark.parametrize("command", [("status",), ("health",), ("verify",), ("articles", "list"), ("search", "tea")])
def test_a_command_that_needs_none_works(environment, through, command):
    done = run_command(environment | {"DATABASE_URL": through}, *command)

    assert "Traceback" not in done.stderr and "pooler" not in done.stderr
    assert done.returncode in (0, 1, 3), done.stderr


@pytest.mark.parametrize("start", [start_poller, start_celery])
def test_workers_behind_session_pooling_work(environment, by_sessions, client, psql, start):
    client.store.status.set_mode("database" if start is start_poller else "celery", "a test", "test", category="test")
    with start(environment | {"DATABASE_URL": by_sessions}):
        article = client.create("Tea", "green")

        until(lambda: client.get(article.id).embedding_status == "ready")
        assert psql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'") == [(1,)]


def test_a_store_through_the_pool_answers_as_a_direct_one(through, database_url, client):
    client.create("Tea", "green", id="a")
    direct, pooling = Store(Database(database_url)), Store(Database(through))

    assert pooling.articles.get("a") == direct.articles.get("a")
    assert pooling.models.all() == direct.models.all()
    direct.close()
    pooling.close()
