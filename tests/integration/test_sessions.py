"""What our statements rely on is pinned in each session, whatever role or database have as defaults; and the schema is ours by name."""

from __future__ import annotations

import itertools
import re

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from embedq.model import Delivery, Mode, Priority
from embedq.store import Store, schema
from embedq.store.database import Database
from embedq.store.queries import QUERIES
from tests.support import until

from .conftest import Claimer

_numbers = itertools.count(1)
DEFAULTS = [
    "default_transaction_isolation = 'repeatable read'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "datestyle = 'SQL, DMY'",
    "intervalstyle = 'sql_standard'",
    "timezone = 'Asia/Kathmandu'",
    "client_encoding = 'LATIN1'",
    "standard_conforming_strings = off",
    "bytea_output = 'escape'",
    "statement_timeout = '50ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "extra_float_digits = -15",
]


@pytest.mark.parametrize("default", DEFAULTS)
def test_a_default_of_the_database_changes_nothing(psql, database_url, default):
    name = database_url.rsplit("/", 1)[1]
    psql(f"ALTER DATABASE {name} SET {default}")
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    store = Store(Database(database_url))
    article = {"id": "ç日本", "content": "Ünï日本 €"}
    store.database.execute("INSERT INTO articles (id, content) VALUES (%(id)s, %(content)s)", article)
    poller = Claimer(store, Delivery.POLLER)

    (task,) = poller.claim()
    settled = poller.settle_done(task)

    assert (task.article_id, task.content) == (article["id"], article["content"])
    assert list(settled.states.values()) == ["completed"]
    assert store.care.verify()["problems"] == []
    store.close()


def test_a_claim_that_waited_at_the_fence_obeys_the_new_mode_whatever_isolation_is_the_default(
    psql, database_url, add, session, in_thread
):
    psql(f"ALTER DATABASE {database_url.rsplit('/', 1)[1]} SET default_transaction_isolation = 'repeatable read'")
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    add("x")
    poller, switching = Claimer(Store(Database(database_url)), Delivery.POLLER), session()
    switching.do("UPDATE embedding_worker_status SET mode = 'celery'")
    claiming = in_thread(poller.claim)
    until(
        lambda: (
            psql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'")
            == [(1,)]
        )
    )

    switching.commit()

    assert claiming.result(10) == []
    poller.store.close()


# A role with a schema of its own name ------------------------------------------------------------------------------------------------

GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON articles, article_texts, article_versions, embedding_tasks, embeddings, embedding_vectors TO {role};
GRANT SELECT ON embedding_models, embedding_active_model, embedding_workers TO {role};
GRANT SELECT, UPDATE ON embedding_worker_status TO {role};
"""


@pytest.fixture
def shop(admin_url, database_url):
    """An application's role with a schema of its own name, and in it a table of the same name as one of ours."""
    role = f"shop_{next(_numbers)}"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'of-the-tests'")
        admin.execute(GRANTS.format(role=role))
        admin.execute(f"CREATE SCHEMA {role} AUTHORIZATION {role}")
    with psycopg.connect(database_url, user=role, password="of-the-tests", autocommit=True) as connection:
        connection.execute("CREATE TABLE embeddings (article_id text, model text)")
        yield connection
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_table_of_the_role_s_own_is_never_taken_for_ours(shop, poller, psql):
    shop.execute("INSERT INTO public.articles (id, content) VALUES ('x', 'one'), ('y', 'two')")
    poller.settle_done(*poller.claim())
    shop.execute("INSERT INTO embeddings VALUES ('x', 'own'), ('y', 'own')")

    shop.execute("DELETE FROM public.articles WHERE id = 'x'")

    assert shop.execute("SELECT count(*) FROM embeddings").fetchone() == (2,)
    assert psql("SELECT article_id FROM public.embeddings") == psql("SELECT article_id FROM embedding_vectors") == [("y",)]


def test_a_temporary_table_is_never_taken_for_ours(psql, poller):
    psql("INSERT INTO articles (id, content) VALUES ('x', 'one')")
    poller.settle_done(*poller.claim())
    psql("CREATE TEMPORARY TABLE embeddings (article_id text)")
    psql("CREATE TEMPORARY TABLE embedding_tasks (article_id text)")

    psql("DELETE FROM articles")

    assert psql("SELECT count(*) FROM public.embeddings") == [(0,)]


def test_fence_and_channel_are_the_same_for_every_role(shop, psql, database_url):
    assert shop.execute("SELECT public.embedq_fence_key()").fetchone() == psql("SELECT embedq_fence_key()")[0]

    psql(
        "INSERT INTO embedding_workers (delivery, name, host, pid, alive_until, asleep_until)"
        " VALUES ('poller', 'w', 'h', 1, now() + '1 h', now() + '1 h')"
    )
    with psycopg.connect(database_url, autocommit=True) as listening:
        listening.execute("LISTEN embedq_public")
        shop.execute("INSERT INTO public.articles (id, content) VALUES ('x', 'one')")
        heard = [notice.channel for notice in listening.notifies(timeout=5, stop_after=1)]
    assert heard == ["embedq_public"]


def test_a_session_of_ours_finds_embedq_past_the_role_s_own_schema(shop, psql, database_url):
    role = shop.info.user
    psql(f"GRANT SELECT ON embedq_schema_version TO {role}")
    own = Database(make_conninfo(database_url, user=role, password="of-the-tests"))

    assert schema.current(own) == schema.LATEST
    assert own.one("SELECT current_schemas(true)::text AS path") == {"path": "{pg_catalog,public}"}
    own.close()


def test_every_function_of_ours_that_reads_a_table_pins_the_schema(psql):
    loose = psql(
        "SELECT proname, proconfig FROM pg_proc WHERE proname ~ '^embedq_' AND pronamespace = 'public'::regnamespace"
        " AND prosrc ~ '(FROM|INTO|UPDATE) +(embedding|article)' AND NOT 'search_path=public, pg_temp' = ANY (coalesce(proconfig, '{}'))"
    )
    assert loose == []


# Columns that are added while workers run -----------------------------------------------------------------------------------------------


def test_no_statement_asks_for_all_columns_of_a_table_of_ours():
    all_columns = re.compile(
        r"\*\s+FROM\s+(articles|article_texts|article_versions|embedding\w*|performance_metrics)\b|\b[aemtvw]\.\*"
    )

    assert [name for name in QUERIES.names() if all_columns.search(getattr(QUERIES, name))] == []


def test_a_plan_that_an_added_column_made_useless_is_made_anew(psql, database_url):
    database = Database(database_url)
    statement = "SELECT * FROM embedding_worker_status WHERE id = %(id)s"
    for _ in range(8):
        database.fetch(statement, {"id": 1})

    psql("ALTER TABLE embedding_worker_status ADD COLUMN note text")

    assert database.fetch(statement, {"id": 1})[0]["note"] is None
    database.close()


def test_a_column_that_is_added_beside_workers_stops_nothing(psql, store, poller, add):
    add(*(f"a{n}" for n in range(12)))
    for _ in range(8):
        poller.settle_done(*poller.claim(1))
        store.status.live()
        store.workers.all()

    for table in (
        "embedding_worker_status",
        "embedding_workers",
        "embedding_tasks",
        "article_texts",
        "embeddings",
        "embedding_models",
    ):
        psql(f"ALTER TABLE {table} ADD COLUMN note text")

    assert store.status.live().mode == Mode.DATABASE
    assert len(store.workers.all()) == 1
    add("late")
    assert list(poller.settle_done(*poller.claim(20)).states.values()) == ["completed"] * 5
    assert store.tasks.claim_due(poller.id, Delivery.POLLER, tuple(Priority), 5) == []


# Two-phase commit -----------------------------------------------------------------------------------------------------------------------


def test_a_transaction_that_must_not_notify_can_say_so(psql, database_url):
    psql(
        "INSERT INTO embedding_workers (delivery, name, host, pid, alive_until, asleep_until)"
        " VALUES ('poller', 'w', 'h', 1, now() + '1 h', now() + '1 h')"
    )
    with psycopg.connect(database_url, autocommit=True) as listening, psycopg.connect(database_url) as quiet:
        listening.execute("LISTEN embedq_public")
        quiet.execute("SET embedq.notify = off")
        quiet.execute("INSERT INTO articles (id, content) VALUES ('x', 'one')")
        quiet.commit()

        assert list(listening.notifies(timeout=0.5, stop_after=1)) == []
    assert psql("SELECT status FROM embedding_tasks") == [("pending",)]
