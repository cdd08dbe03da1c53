"""`within`: every kind of connection that is known gets its tasks told, in its own transaction; every other kind is refused."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing, contextmanager

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa

from embedq import AsyncClient
from embedq.errors import InputError

WRITE = "INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'steeped')"
TASKS = "SELECT article_id, priority, metadata->>'reason' FROM embedding_tasks"
URGENT = {"priority": "urgent", "reason": "breaking news"}


def sqlalchemy_url(url, driver):
    return url.replace("postgresql://", f"postgresql+{driver}://", 1)


# Each yields (connection, how it executes SQL), in a transaction that is committed at the end and rolled back by an error.


@contextmanager
def by_psycopg(url):
    with psycopg.connect(url) as connection:
        yield connection, connection.execute


@contextmanager
def by_psycopg_in_autocommit(url):
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        yield connection, connection.execute


@contextmanager
def by_sqlalchemy(url, driver="psycopg"):
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, driver))
    with engine.begin() as connection:
        yield connection, connection.exec_driver_sql
    engine.dispose()


@contextmanager
def by_sqlalchemy_over_psycopg2(url):
    pytest.importorskip("psycopg2", reason="pip install psycopg2-binary")
    with by_sqlalchemy(url, "psycopg2") as opened:
        yield opened


@contextmanager
def by_session(url):
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"))
    with orm.Session(engine) as session, session.begin():
        yield session, lambda sql: session.execute(sqlalchemy.text(sql))
    engine.dispose()


@contextmanager
def by_scoped_session(url):
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"))
    session = orm.scoped_session(orm.sessionmaker(engine))
    with session.begin():
        yield session, lambda sql: session.execute(sqlalchemy.text(sql))
    session.remove()
    engine.dispose()


def django_connection(url):
    db = pytest.importorskip("django.db", reason="pip install 'django>=5'")
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    parts = psycopg.conninfo.conninfo_to_dict(url)
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    address = {name: parts[ours] for name, ours in names.items() if ours in parts}
    db.connections.settings = db.connections.configure_settings(
        {"default": {"ENGINE": "django.db.backends.postgresql"} | address}
    )
    if hasattr(db.connections._connections, "default"):
        del db.connections["default"]
    return db.connection


@contextmanager
def by_django(url):
    connection = django_connection(url)
    from django.db import transaction

    with transaction.atomic(), connection.cursor() as cursor:
        yield connection, cursor.execute
    connection.close()


@asynccontextmanager
async def by_async_psycopg(url):
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection, connection.execute


@asynccontextmanager
async def by_asyncpg(url):
    asyncpg = pytest.importorskip("asyncpg", reason="pip install asyncpg")
    connection = await asyncpg.connect(url)
    async with connection.transaction():
        yield connection, connection.execute
    await connection.close()


@asynccontextmanager
async def by_asyncpg_pool(url):
    asyncpg = pytest.importorskip("asyncpg", reason="pip install asyncpg")
    async with asyncpg.create_pool(url, min_size=1) as pool, pool.acquire() as connection, connection.transaction():
        yield connection, connection.execute


@asynccontextmanager
async def by_async_sqlalchemy(url, driver="psycopg"):
    engine = sa.create_async_engine(sqlalchemy_url(url, driver))
    async with engine.begin() as connection:
        yield connection, connection.exec_driver_sql
    await engine.dispose()


@asynccontextmanager
async def by_async_session(url, driver="psycopg"):
    engine = sa.create_async_engine(sqlalchemy_url(url, driver))
    async with sa.AsyncSession(engine) as session, session.begin():
        yield session, lambda sql: session.execute(sqlalchemy.text(sql))
    await engine.dispose()


@asynccontextmanager
async def by_async_scoped_session(url):
    engine = sa.create_async_engine(sqlalchemy_url(url, "psycopg"))
    session = sa.async_scoped_session(sa.async_sessionmaker(engine), scopefunc=asyncio.current_task)
    async with session.begin():
        yield session, lambda sql: session.execute(sqlalchemy.text(sql))
    await session.remove()
    await engine.dispose()


@asynccontextmanager
async def by_sqlalchemy_over_asyncpg(url):
    pytest.importorskip("asyncpg", reason="pip install asyncpg")
    async with by_async_sqlalchemy(url, "asyncpg") as opened:
        yield opened


@asynccontextmanager
async def by_session_over_asyncpg(url):
    pytest.importorskip("asyncpg", reason="pip install asyncpg")
    async with by_async_session(url, "asyncpg") as opened:
        yield opened


SYNC = [
    by_psycopg,
    by_psycopg_in_autocommit,
    by_sqlalchemy,
    by_sqlalchemy_over_psycopg2,
    by_session,
    by_scoped_session,
    by_django,
]
ASYNC = [
    by_async_psycopg,
    by_asyncpg,
    by_asyncpg_pool,
    by_async_sqlalchemy,
    by_async_session,
    by_async_scoped_session,
    by_sqlalchemy_over_asyncpg,
    by_session_over_asyncpg,
]
named = lambda kind: kind.__name__.removeprefix("by_")  # noqa: E731


class Changed(Exception):
    """The caller's own error, in the middle of its transaction."""


@pytest.fixture
def write(client, settings, database_url):
    """Writes an article within the caller's transaction, by a connection of this kind; raises `fails` before the end."""

    def by_sync(kind, fails, told):
        with kind(database_url) as (connection, execute), client.within(connection, **told):
            execute(WRITE)
            if fails:
                raise fails

    async def by_async(kind, fails, told):
        async with (
            AsyncClient(settings) as embedq,
            kind(database_url) as (connection, execute),
            embedq.within(connection, **told),
        ):
            await execute(WRITE)
            if fails:
                raise fails

    def by_either(kind, fails=None, **told):
        told = URGENT | told
        return by_sync(kind, fails, told) if kind in SYNC else asyncio.run(by_async(kind, fails, told))

    return by_either


@pytest.mark.parametrize("kind", SYNC + ASYNC, ids=named)
def test_an_article_of_the_callers_transaction_gets_the_task_that_was_told(write, psql, kind):
    write(kind)

    assert psql(TASKS) == [("a", "urgent", "breaking news")]


@pytest.mark.parametrize("kind", SYNC + ASYNC, ids=named)
def test_article_and_task_are_rolled_back_with_the_callers_transaction(write, psql, kind):
    with pytest.raises(Changed):
        write(kind, Changed())

    assert psql("SELECT id FROM articles") == []
    assert psql(TASKS) == []


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_client_takes_the_session_that_run_sync_of_an_asynchronous_one_hands_to_its_function(
    client, psql, database_url, driver
):
    pytest.importorskip(driver, reason=f"pip install {driver}")

    def write(session):
        with client.within(session, **URGENT):
            session.execute(sqlalchemy.text(WRITE))

    async def run():
        engine = sa.create_async_engine(sqlalchemy_url(database_url, driver))
        async with sa.AsyncSession(engine) as session, session.begin():
            await session.run_sync(write)
        await engine.dispose()

    asyncio.run(run())

    assert psql(TASKS) == [("a", "urgent", "breaking news")]


# What is refused -----------------------------------------------------------------------------------------------------------------


async def told_by(client, settings, connection, kind):
    if kind == "Client":
        with client.within(connection):
            return
    async with AsyncClient(settings) as embedq, embedq.within(connection):
        return


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
@pytest.mark.parametrize(
    "connection",
    [None, "postgresql://…", object(), type("Connection", (), {"connection": None})(), sqlite3.connect(":memory:")],
    ids=["none", "an address", "an object", "an object with an attribute", "sqlite3"],
)
def test_what_is_no_known_connection_is_refused(client, settings, kind, connection):
    with pytest.raises(InputError, match=rf"{kind}\.within does not know connections of the type") as refused:
        asyncio.run(told_by(client, settings, connection, kind))

    assert "hand in a psycopg" in refused.value.hint


@pytest.mark.parametrize("kind", SYNC, ids=named)
def test_an_async_client_refuses_a_connection_that_blocks_and_names_the_client_that_takes_it(
    settings, client, database_url, kind
):
    with kind(database_url) as (connection, _), pytest.raises(InputError) as refused:
        asyncio.run(told_by(client, settings, connection, "AsyncClient"))

    assert refused.value.hint == "Client.within takes it"


@pytest.mark.parametrize("kind", ASYNC, ids=named)
def test_a_client_refuses_an_asynchronous_connection_and_names_the_client_that_takes_it(settings, client, database_url, kind):
    async def hand_in():
        async with kind(database_url) as (connection, _):
            await told_by(client, settings, connection, "Client")

    with pytest.raises(InputError) as refused:
        asyncio.run(hand_in())

    assert refused.value.hint == "AsyncClient.within takes it"


def psycopg_alone(url):
    return psycopg.connect(url, autocommit=True)


def sqlalchemy_alone(url):
    return sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"), isolation_level="AUTOCOMMIT").connect()


def django_alone(url):
    return django_connection(url)


async def async_psycopg_alone(url):
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


async def async_sqlalchemy_alone(url):
    return await sa.create_async_engine(sqlalchemy_url(url, "psycopg"), isolation_level="AUTOCOMMIT").connect()


async def asyncpg_alone(url):
    return await pytest.importorskip("asyncpg", reason="pip install asyncpg").connect(url)


async def over_asyncpg_alone(url):
    pytest.importorskip("asyncpg", reason="pip install asyncpg")
    return await sa.create_async_engine(sqlalchemy_url(url, "asyncpg"), isolation_level="AUTOCOMMIT").connect()


@pytest.mark.parametrize(
    "alone",
    [
        psycopg_alone,
        sqlalchemy_alone,
        django_alone,
        async_psycopg_alone,
        async_sqlalchemy_alone,
        asyncpg_alone,
        over_asyncpg_alone,
    ],
    ids=lambda alone: alone.__name__.removesuffix("_alone"),
)
def test_a_connection_in_no_transaction_is_refused(client, settings, database_url, alone):
    async def hand_in_async():
        connection = await alone(database_url)
        try:
            await told_by(client, settings, connection, "AsyncClient")
        finally:
            await connection.close()

    def hand_in():
        with closing(alone(database_url)) as connection, client.within(connection):
            pass

    with pytest.raises(InputError, match="in no transaction"):
        asyncio.run(hand_in_async()) if asyncio.iscoroutinefunction(alone) else hand_in()


def test_a_connection_to_another_database_is_refused(client):
    with (
        sqlalchemy.create_engine("sqlite://").connect() as connection,
        pytest.raises(InputError, match="is to sqlite"),
        client.within(connection),
    ):
        pass


@pytest.mark.parametrize("kind", SYNC + ASYNC, ids=named)
def test_a_reason_is_data_on_every_driver(write, psql, kind):
    """Quotes, the drivers' own marks for parameters, and letters of all kinds arrive as they are."""
    reason = """it's "50 %" of :priority, %(priority)s, $1 \\ 名前"""

    write(kind, reason=reason)

    assert psql(TASKS) == [("a", "urgent", reason)]
