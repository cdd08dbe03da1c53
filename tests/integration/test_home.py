"""Where a new installation goes in a database that has other tables, and what it needs from whom."""

from __future__ import annotations

import itertools
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from embedq import Client
from embedq.errors import StoreRefused, StoreUnavailable
from embedq.settings import from_env
from embedq.store import Store, schema
from embedq.store.database import Database
from tests.support import run_command, start_poller, until

_numbers = itertools.count(1)
OTHERS = [
    "CREATE TABLE embeddings (id serial, vec float8[])",
    "CREATE TABLE performance_metrics (at timestamptz, name text)",
    "CREATE TABLE articles (id serial, body text)",
    "CREATE VIEW articles AS SELECT 1 AS one",
    "CREATE TABLE customers (id int)",
    "CREATE SEQUENCE embedding_tasks",
    "CREATE MATERIALIZED VIEW embedding_models AS SELECT 1 AS one",
]
EVERYTHING = (
    "SELECT n.nspname || '.' || c.relname || ' ' || c.relkind::text AS what FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname !~ '^(pg_|information_schema)' UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1"
)


@contextmanager
def made(servers, options=""):
    """The URL of a new database of the application's role."""
    name = f"home_{next(_numbers)}"
    with psycopg.connect(servers.admin_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER embedq {options}")
        with psycopg.connect(make_conninfo(servers.admin_url, dbname=name), autocommit=True) as there:
            there.execute("CREATE EXTENSION IF NOT EXISTS vector")
        try:
            yield servers.database_url.rsplit("/", 1)[0] + "/" + name
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def theirs(servers):
    """The URL of an application's database, with pgvector."""
    with made(servers) as url:
        yield url


@pytest.fixture
def admin(servers, theirs):
    """The superuser there. pgvector is gone."""
    with psycopg.connect(make_conninfo(servers.admin_url, dbname=theirs.rsplit("/", 1)[1]), autocommit=True) as connection:
        connection.execute("DROP EXTENSION vector")
        yield connection


@pytest.fixture
def stranger(servers, theirs, admin):
    """The URL of a role that owns nothing there, as itself."""
    role = f"stranger_{next(_numbers)}"
    admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'of-the-tests'")
    yield make_conninfo(theirs, user=role, password="of-the-tests")
    admin.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def upgraded(url):
    database = Database(url)
    try:
        return schema.upgrade(database)
    finally:
        database.close()


def where(url):
    with Client(from_env({"DATABASE_URL": url})) as client:
        article = client.create("Tea", "green")
        row = client.store.database.one(
            "SELECT current_schema() AS here, (SELECT count(*) FROM articles WHERE id = %(id)s) AS n", {"id": article.id}
        )
    assert row["n"] == 1
    return row["here"]


def everything(url):
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute(EVERYTHING)]


@pytest.mark.parametrize("others", OTHERS)
def test_a_new_installation_beside_other_tables_has_a_schema_of_its_own(theirs, others):
    with psycopg.connect(theirs, autocommit=True) as connection:
        connection.execute(others)
    before = everything(theirs)

    assert upgraded(theirs) == (None, schema.LATEST)

    assert where(theirs) == "embedq"
    assert upgraded(theirs) == (schema.LATEST, schema.LATEST)
    database = Database(theirs)
    assert schema.missing(database) == []
    schema.downgrade(database)
    assert schema.current(database) is None
    database.close()
    assert everything(theirs) == before


def test_an_empty_database_is_used_as_it_is(theirs):
    upgraded(theirs)

    assert where(theirs) == "public"


def test_an_installation_stays_where_it_is_whatever_comes_beside_it(theirs):
    upgraded(theirs)
    with psycopg.connect(theirs, autocommit=True) as connection:
        connection.execute("CREATE TABLE customers (id int)")

    assert upgraded(theirs) == (schema.LATEST, schema.LATEST)

    assert where(theirs) == "public"


def test_articles_that_were_kept_are_taken_in_where_they_are(theirs):
    upgraded(theirs)
    database = Database(theirs)
    database.execute("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
    database.execute("CREATE TABLE customers (id int)")
    schema.downgrade(database, keep_articles=True)

    schema.upgrade(database)

    assert database.one("SELECT current_schema() AS here, title FROM articles") == {"here": "public", "title": "Tea"}
    database.close()


def test_articles_that_were_kept_in_its_own_schema_are_taken_in_there(theirs):
    with psycopg.connect(theirs, autocommit=True) as connection:
        connection.execute("CREATE TABLE customers (id int)")
    upgraded(theirs)
    database = Database(theirs)
    database.execute("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
    schema.downgrade(database, keep_articles=True)

    schema.upgrade(database)

    assert database.one("SELECT current_schema() AS here, title FROM articles") == {"here": "embedq", "title": "Tea"}
    database.close()


def test_a_search_path_of_role_or_database_leads_to_no_collision(theirs):
    name = theirs.rsplit("/", 1)[1]
    with psycopg.connect(theirs, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA app; CREATE TABLE app.embeddings (id int)")
        connection.execute(f"ALTER DATABASE {name} SET search_path = app, public")

    upgraded(theirs)

    assert where(theirs) == "embedq"


def test_a_search_path_that_the_address_names_is_obeyed(theirs):
    with psycopg.connect(theirs, autocommit=True) as connection:
        connection.execute("CREATE TABLE customers (id int); CREATE SCHEMA mine")
    upgraded(theirs)
    for path in ("public", "mine,public"):
        url = f"{theirs}?options=-csearch_path%3D{path}"

        assert upgraded(url) == (None, schema.LATEST)

        assert where(url) == path.partition(",")[0]


def test_two_first_upgrades_at_once_make_one_installation(theirs, in_thread):
    with psycopg.connect(theirs, autocommit=True) as connection:
        connection.execute("CREATE TABLE embeddings (id int)")

    both = [in_thread(upgraded, theirs) for _ in range(2)]

    assert sorted(str(each.result(60)[1]) for each in both) == [schema.LATEST] * 2
    assert where(theirs) == "embedq"


# Rights --------------------------------------------------------------------------------------------------------------------------------


def test_a_role_that_may_not_make_a_schema_says_what_a_superuser_must_run_once(stranger, admin):
    with pytest.raises(StoreRefused) as refused:
        upgraded(stranger)

    for statement in refused.value.hint.partition(": ")[2].rpartition("; then")[0].split("; "):
        admin.execute(statement)
    assert upgraded(stranger) == (None, schema.LATEST)
    assert where(stranger) == "embedq"


@pytest.mark.parametrize("others", ["", *OTHERS[:2]])
def test_a_prepared_schema_is_used_by_a_role_without_other_rights(stranger, admin, others):
    admin.execute("CREATE EXTENSION vector; " + others)
    admin.execute(f"CREATE SCHEMA embedq AUTHORIZATION {conninfo_to_dict(stranger)['user']}")

    upgraded(stranger)

    assert where(stranger) == "embedq"


def test_a_role_that_may_not_install_pgvector_says_what_a_superuser_must_run_once(stranger, admin):
    admin.execute(f"CREATE SCHEMA embedq AUTHORIZATION {conninfo_to_dict(stranger)['user']}")

    with pytest.raises(StoreRefused, match="pgvector") as refused:
        upgraded(stranger)

    assert "CREATE EXTENSION vector" in refused.value.hint
    admin.execute("CREATE EXTENSION vector")
    assert upgraded(stranger) == (None, schema.LATEST)


@pytest.mark.parametrize("others", ["", *OTHERS[:2]])
def test_pgvector_may_be_in_a_schema_that_is_not_on_the_path(theirs, admin, others):
    admin.execute(
        "CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO PUBLIC; "
        + others
    )

    upgraded(theirs)

    assert where(theirs) == ("embedq" if others else "public")
    with Client(from_env({"DATABASE_URL": theirs})) as client:
        assert client.search("tea") == []


def test_pgvector_goes_where_other_applications_find_it(servers, theirs, admin):
    admin.execute("CREATE TABLE embeddings (id int)")

    upgraded(make_conninfo(servers.admin_url, dbname=theirs.rsplit("/", 1)[1]))

    assert admin.execute("SELECT '[1,2]'::vector::text").fetchone() == ("[1,2]",)


def test_commands_and_workers_find_the_schema_without_being_told(theirs, environment):
    ours = environment | {"DATABASE_URL": theirs, "EMBEDDING_MODE": "database"}
    with psycopg.connect(theirs, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE embeddings (id int); CREATE TABLE performance_metrics (id int); CREATE TABLE articles (id int)"
        )

        done = run_command(ours, "db", "upgrade")

        assert (done.returncode, "schema embedq" in done.stdout) == (0, True), done
        with start_poller(ours):
            connection.execute("INSERT INTO embedq.articles (id, title, content) VALUES ('a', 'Tea', 'green')")
            until(lambda: connection.execute("SELECT embedding_status FROM embedq.articles").fetchone() == ("ready",))
        for command in (("db", "verify"), ("verify",), ("search", "tea"), ("status",), ("index", "status")):
            assert run_command(ours, *command).returncode == 0, command


# Encodings ------------------------------------------------------------------------------------------------------------------------------


def test_a_database_of_bytes_is_refused_with_the_reason(servers):
    with made(servers, "ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0") as url:
        before = everything(url)
        with pytest.raises(StoreUnavailable, match="SQL_ASCII") as refused:
            upgraded(url)
        assert "ENCODING 'UTF8'" in refused.value.hint
        assert everything(url) == before


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "EUC_JP", "UTF8"])
def test_a_database_of_any_known_encoding_works(servers, environment, encoding):
    text = {"EUC_JP": "日本"}.get(encoding, "Ünï é")
    with made(servers, f"ENCODING '{encoding}' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0") as url:
        upgraded(url)
        settings = from_env(environment | {"DATABASE_URL": url, "EMBEDDING_MODE": "sync"})
        store = Store(Database(url))
        from embedq import wiring

        wiring.set_up(settings, store)
        with Client(settings) as client:
            article = client.create(text, text)
            client.store.database.execute("UPDATE embedding_worker_status SET mode = 'sync'")
            client.edit(article.id, content=text + text)

            assert client.get(article.id).content == text + text
            assert client.search(text)[0].article_id == article.id
        assert store.care.verify()["problems"] == []
        store.close()


def test_a_text_that_the_database_s_encoding_does_not_have_is_refused_as_input(servers, environment):
    with made(servers, "ENCODING 'LATIN1' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0") as url:
        ours = environment | {"DATABASE_URL": url}
        assert run_command(ours, "db", "upgrade").returncode == 0

        done = run_command(ours, "articles", "add", "日本", "--content", "x")

        assert done.returncode in (1, 2)
        assert "LATIN1" in done.stderr and "Traceback" not in done.stderr and "next:" in done.stderr, done.stderr
