"""Three roles, given by one command each: what they need, and no more."""

from __future__ import annotations

import itertools

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from embedq import Client
from embedq.model import ArticleDraft, Model
from embedq.settings import from_env
from embedq.store import schema
from embedq.store.database import Database
from embedq.store.grants import Kind, grant, renew
from tests.support import run_command, start_celery, start_poller, until

_numbers = itertools.count(1)


@pytest.fixture
def given(store, admin_url, database_url):
    """Makes a role of this kind; its environment's DATABASE_URL."""
    made = []

    def make(kind):
        role = f"role_{next(_numbers)}"
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'of-the-tests'")
        made.append(role)
        if kind is Kind.OWNER:
            with_rights = Database(admin_url)
            grant(with_rights, kind, role)
            with_rights.close()
        else:
            grant(store.database, kind, role)
        its = conninfo_to_dict(database_url)
        return f"postgresql://{role}:of-the-tests@{its['host']}:{its['port']}/{its['dbname']}"

    yield make
    with psycopg.connect(admin_url, autocommit=True) as admin:
        for role in made:
            admin.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


@pytest.mark.parametrize("mode", ["celery", "database", "hybrid", "sync"])
def test_an_application_writes_and_searches_in_every_mode(environment, given, psql, mode):
    psql("UPDATE embedding_worker_status SET mode = %s", mode)
    ours = environment | {
        "DATABASE_URL": given(Kind.APPLICATION),
        "EMBEDDING_REQUESTS_PER_MINUTE": "60000",
        "EMBEDDING_TOKENS_PER_MINUTE": "9000000",
    }
    with Client(from_env(ours)) as client:
        article = client.create("Tea", "green", priority="urgent")
        client.put([ArticleDraft("Tea", "white", id="b"), ArticleDraft("Coffee", "black", id="c")])
        client.edit(article.id, content="black")
        client.restore(article.id)
        client.delete("c")
        client.restore("c")
        with client.store.database.transaction() as connection, client.within(connection):
            connection.execute("INSERT INTO articles (id, title) VALUES ('d', 'Milk')")

        for hybrid in (False, True):
            client.search("tea", hybrid=hybrid, filter={"a": 1}, min_score=0.1, tenant_id="default")
        assert client.get(article.id).content == "green"
        assert (client.get(article.id).embedding_status == "ready") is (mode == "sync")


@pytest.mark.parametrize("start", [start_poller, start_celery])
def test_a_worker_embeds_and_keeps_house(environment, given, psql, client, start):
    psql("UPDATE embedding_worker_status SET mode = %s", "database" if start is start_poller else "celery")
    with start(environment | {"DATABASE_URL": given(Kind.WORKER)}) as worker:
        client.create("Tea", "green", id="a")
        until(lambda: client.get("a").embedding_status == "ready", why=worker.output)
        until(lambda: psql("SELECT count(*) FROM embedding_workers WHERE steward_since IS NOT NULL") == [(1,)])

    assert "permission denied" not in worker.output()


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("health",),
        ("verify",),
        ("reconcile",),
        ("cleanup", "--yes"),
        ("mode", "database", "--reason", "x"),
        ("pause", "--priority", "low", "--reason", "x"),
    ],
)
def test_a_worker_s_role_is_an_operator_s(environment, given, command):
    done = run_command(environment | {"DATABASE_URL": given(Kind.WORKER)}, *command)

    assert done.returncode in (0, 1, 3) and "right" not in done.stderr, done.stderr


def test_an_owner_changes_the_schema(given):
    database = Database(given(Kind.OWNER))

    schema.downgrade(database, "0004")
    assert schema.upgrade(database) == ("0004", schema.LATEST)
    database.close()


def test_a_new_model_is_searched_by_roles_that_were_there_before(environment, given, client, store, psql):
    url = given(Kind.APPLICATION)
    model = store.models.add(Model("hashing", "other", 32))

    with psycopg.connect(url) as connection:
        assert connection.execute(f"SELECT count(*) FROM embedding_vectors_{model.id}").fetchone() == (0,)


def test_what_a_change_of_the_schema_adds_is_given_to_roles_that_were_there_before(given, store, psql):
    url = given(Kind.WORKER)
    psql("REVOKE ALL ON embedding_rejected_messages FROM " + conninfo_to_dict(url)["user"])

    renew(store.database)

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM embedding_rejected_messages").fetchone() == (0,)


FORBIDDEN = {
    Kind.APPLICATION: [
        "UPDATE embedding_worker_status SET mode = 'off'",
        "DELETE FROM embedding_audit_logs",
        "DROP TABLE embeddings",
        "DELETE FROM embedding_workers",
        "UPDATE embedding_active_model SET model_id = 2",
        "CREATE TABLE x (a int)",
    ],
    Kind.WORKER: [
        "DROP TABLE embeddings",
        "ALTER TABLE article_texts ADD x int",
        "CREATE TABLE x (a int)",
        "UPDATE embedq_schema_version SET version_num = '1'",
    ],
}


@pytest.mark.parametrize(("kind", "statement"), [(kind, each) for kind, all_ in FORBIDDEN.items() for each in all_])
def test_no_role_may_more_than_it_needs(given, kind, statement):
    with psycopg.connect(given(kind)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_the_command_says_what_is_missing(environment, admin_url):
    none = run_command(environment, "db", "grant", "application", "nobody_yet", "--yes")
    made = run_command(
        environment | {"DATABASE_URL": admin_url}, "db", "grant", "application", "nobody_yet", "--create", "--yes"
    )
    owner = run_command(environment, "db", "grant", "owner", "nobody_yet", "--yes")

    assert (none.returncode, "--create" in none.stderr) == (1, True), none.stderr
    assert (made.returncode, "\\password nobody_yet" in made.stdout) == (0, True), made.stderr
    assert "GRANT" in owner.stdout + owner.stderr
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("DROP OWNED BY nobody_yet; DROP ROLE nobody_yet")


def test_every_relation_is_given_to_a_worker_or_known_not_to_be(given, psql):
    """A table that a later version adds must not be forgotten."""
    role = conninfo_to_dict(given(Kind.WORKER))["user"]

    left = psql(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
        f" AND NOT has_table_privilege('{role}', oid, 'SELECT')"
        " AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')"
    )
    assert left == []
