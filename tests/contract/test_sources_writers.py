"""Every way in which a table is written is followed, by any role, and saving never breaks whatever happens to embedq's part of it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest

from embedq.decide.sources import SourceState
from embedq.model import SourceDraft
from embedq.operations import sources
from embedq.steward import sources as following
from tests.support import until

TENANTED = {"title": "title", "content": "body", "where": "NOT draft", "tenant": "owner", "metadata": ["kind"]}


@pytest.fixture
def psql(database_url):
    """Raw SQL; several statements at once are one transaction."""
    with psycopg.connect(database_url, autocommit=True) as connection:

        def run(statement: str, *parameters: object) -> list[tuple[object, ...]]:
            cursor = connection.execute(statement, parameters or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

        run.connection = connection  # type: ignore[attr-defined]
        yield run


@pytest.fixture
def articles(psql):
    """Of the source `posts`: text and tenant by key."""

    def read() -> dict[str, str]:
        rows = psql(
            "SELECT substr(id, 7), title || '|' || content || '|' || tenant_id FROM article_texts WHERE source = 'posts'"
        )
        return {str(row[0]): str(row[1]) for row in rows}

    return read


@pytest.fixture
def open_tasks(psql):
    def read() -> dict[str, str]:
        rows = psql("SELECT substr(article_id, 7), priority FROM embedding_tasks WHERE status = 'pending' ORDER BY article_id")
        return {str(row[0]): str(row[1]) for row in rows}

    return read


PLAIN = "CREATE TABLE posts (id int PRIMARY KEY, title text, body text, draft boolean DEFAULT false, owner text, kind text, views int DEFAULT 0)"
PARTITIONED = (
    PLAIN + " PARTITION BY RANGE (id); CREATE TABLE posts_low PARTITION OF posts FOR VALUES FROM (0) TO (10);"
    " CREATE TABLE posts_high (views int DEFAULT 0, kind text, owner text, draft boolean DEFAULT false, body text, title text, id int NOT NULL);"
    " ALTER TABLE posts ATTACH PARTITION posts_high FOR VALUES FROM (10) TO (1000000)"
)


@pytest.fixture(params=[pytest.param(PLAIN, id="plain"), pytest.param(PARTITIONED, id="partitioned")])
def posts(request, client, psql):
    """Three rows, one of them a draft, attached and embedded as far as tasks go."""
    psql(request.param)
    psql(
        "INSERT INTO posts VALUES (1, 'Tea', 'Steep it', false, 'ann', 'green'), (2, 'Coffee', 'Grind it', false, 'bob', 'arabica'),"
        " (3, 'Milk', 'No', true, NULL, NULL)"
    )
    client.attach("posts", **TENANTED)
    psql("DELETE FROM embedding_tasks")


BEFORE = {"1": "Tea|Steep it|ann", "2": "Coffee|Grind it|bob"}


@dataclass(frozen=True)
class Write:
    """What a program does, what there is to be embedded afterwards, and for which keys a task is made."""

    statements: str
    after: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()

    def expected(self) -> dict[str, str]:
        return {key: text for key, text in (BEFORE | self.after).items() if key not in self.without}


WRITES = [
    pytest.param(
        Write("INSERT INTO posts VALUES (4, 'Water', 'Boil it', false, 'ann')", {"4": "Water|Boil it|ann"}, tasks=("4",)),
        id="INSERT",
    ),
    pytest.param(Write("INSERT INTO posts VALUES (4, 'Water', 'Boil it', true)"), id="INSERT of a row that where leaves out"),
    pytest.param(Write("INSERT INTO posts VALUES (4, NULL, NULL, NULL, NULL)"), id="where is NULL"),
    pytest.param(
        Write("INSERT INTO posts VALUES (4, NULL, 'x', false, NULL)", {"4": "|x|default"}, tasks=("4",)), id="INSERT of NULLs"
    ),
    pytest.param(
        Write(
            "INSERT INTO posts SELECT n, 'Many', 'x', false, 'ann' FROM generate_series(4, 12) n",
            {str(n): "Many|x|ann" for n in range(4, 13)},
            tasks=tuple(map(str, range(4, 13))),
        ),
        id="INSERT of many",
    ),
    pytest.param(
        Write(
            "INSERT INTO posts SELECT n, 'Many', 'x', n > 290, 'ann' FROM generate_series(4, 300) n",
            {str(n): "Many|x|ann" for n in range(4, 291)},
            tasks=tuple(map(str, range(4, 291))),
        ),
        id="INSERT of hundreds",
    ),
    pytest.param(
        Write("UPDATE posts SET title = 'Green tea' WHERE id = 1", {"1": "Green tea|Steep it|ann"}, tasks=("1",)), id="UPDATE"
    ),
    pytest.param(Write("UPDATE posts SET title = title, body = body"), id="UPDATE to the same"),
    pytest.param(Write("UPDATE posts SET views = views + 1"), id="UPDATE of what is not embedded"),
    pytest.param(Write("UPDATE posts SET id = 7 WHERE id = 1", {"7": "Tea|Steep it|ann"}, ("1",), ("7",)), id="a changed key"),
    pytest.param(
        Write("UPDATE posts SET id = 70 WHERE id = 1", {"70": "Tea|Steep it|ann"}, ("1",), ("70",)),
        id="a key that moves the row",
    ),
    pytest.param(
        Write(
            "DELETE FROM posts WHERE id = 3; UPDATE posts SET id = 3 WHERE id = 2; UPDATE posts SET id = 2 WHERE id = 1",
            {"2": "Tea|Steep it|ann", "3": "Coffee|Grind it|bob"},
            ("1",),
            ("2", "3"),
        ),
        id="keys that follow each other",
    ),
    pytest.param(
        Write("UPDATE posts SET draft = false WHERE id = 3", {"3": "Milk|No|default"}, tasks=("3",)), id="where begins to hold"
    ),
    pytest.param(Write("UPDATE posts SET draft = true WHERE id = 1", without=("1",)), id="where ends to hold"),
    pytest.param(Write("UPDATE posts SET draft = NULL WHERE id = 1", without=("1",)), id="where becomes NULL"),
    pytest.param(Write("UPDATE posts SET owner = 'eve' WHERE id = 1", {"1": "Tea|Steep it|eve"}), id="a changed tenant"),
    pytest.param(Write("UPDATE posts SET owner = NULL WHERE id = 1", {"1": "Tea|Steep it|default"}), id="no tenant any more"),
    pytest.param(Write("DELETE FROM posts WHERE id = 1", without=("1",)), id="DELETE"),
    pytest.param(Write("DELETE FROM posts", without=("1", "2")), id="DELETE of all"),
    pytest.param(
        Write("DELETE FROM posts WHERE id = 1; INSERT INTO posts VALUES (1, 'Tea', 'Steep it', false, 'ann')", tasks=("1",)),
        id="deleted and written again",
    ),
    pytest.param(Write("TRUNCATE posts", without=("1", "2")), id="TRUNCATE"),
    pytest.param(
        Write("TRUNCATE posts; INSERT INTO posts VALUES (9, 'New', '', false, 'ann')", {"9": "New||ann"}, ("1", "2"), ("9",)),
        id="TRUNCATE and INSERT",
    ),
    pytest.param(
        Write(
            "INSERT INTO posts VALUES (1, 'Chai', 'x', false, 'ann'), (5, 'Mate', 'y', false, 'bob')"
            " ON CONFLICT (id) DO UPDATE SET title = excluded.title",
            {"1": "Chai|Steep it|ann", "5": "Mate|y|bob"},
            tasks=("1", "5"),
        ),
        id="ON CONFLICT DO UPDATE",
    ),
    pytest.param(Write("INSERT INTO posts VALUES (1, 'Chai') ON CONFLICT DO NOTHING"), id="ON CONFLICT DO NOTHING"),
    pytest.param(
        Write("INSERT INTO posts VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET views = posts.views + 1"),
        id="ON CONFLICT of what is not embedded",
    ),
    pytest.param(
        Write(
            "MERGE INTO posts p USING (VALUES (1, 'Chai'), (2, NULL), (6, 'Mate')) AS v (id, title) ON p.id = v.id"
            " WHEN MATCHED AND v.title IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET title = v.title"
            " WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.title, '', false, 'ann')",
            {"1": "Chai|Steep it|ann", "6": "Mate||ann"},
            ("2",),
            ("1", "6"),
        ),
        id="MERGE",
    ),
    pytest.param(
        Write(
            "WITH gone AS (DELETE FROM posts WHERE id = 1 RETURNING *) INSERT INTO posts SELECT 8, title, body, draft, owner FROM gone",
            {"8": "Tea|Steep it|ann"},
            ("1",),
            ("8",),
        ),
        id="one statement that deletes and inserts",
    ),
    pytest.param(
        Write(
            "DO $$ BEGIN FOR n IN 4..6 LOOP INSERT INTO posts VALUES (n, 'Loop', '', false, 'ann'); END LOOP; END $$",
            {str(n): "Loop||ann" for n in range(4, 7)},
            tasks=("4", "5", "6"),
        ),
        id="PL/pgSQL",
    ),
    pytest.param(
        Write("BEGIN; UPDATE posts SET title = 'x'; SAVEPOINT s; DELETE FROM posts; ROLLBACK TO s; ROLLBACK"), id="rolled back"
    ),
    pytest.param(
        Write(
            "BEGIN; SAVEPOINT s; UPDATE posts SET title = 'x'; ROLLBACK TO s; UPDATE posts SET title = 'Chai' WHERE id = 1; COMMIT",
            {"1": "Chai|Steep it|ann"},
            tasks=("1",),
        ),
        id="a savepoint that is rolled back, and the same again",
    ),
    pytest.param(Write("PREPARE p(int) AS DELETE FROM posts WHERE id = $1; EXECUTE p(1)", without=("1",)), id="prepared"),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_write_is_followed(posts, psql, articles, open_tasks, write):
    if "MERGE" in write.statements and psql.connection.info.server_version < 150000:
        pytest.skip("MERGE came with PostgreSQL 15")

    psql(write.statements)

    assert articles() == write.expected()
    assert sorted(open_tasks()) == sorted(write.tasks)
    assert psql("SELECT behind_reason FROM embedding_sources WHERE behind_since IS NOT NULL") == []


def test_copy_is_followed(posts, psql, articles, open_tasks):
    with psql.connection.cursor().copy("COPY posts (id, title, body, owner) FROM STDIN") as copy:
        copy.write_row((4, "Water", "Boil it", "ann"))
        copy.write_row((50, "Juice", "Press it", "bob"))

    assert articles() == BEFORE | {"4": "Water|Boil it|ann", "50": "Juice|Press it|bob"}
    assert sorted(open_tasks()) == ["4", "50"]


def test_a_row_that_a_foreign_key_deletes_is_followed(posts, client, psql):
    psql("CREATE TABLE notes (id int PRIMARY KEY, post int REFERENCES posts ON DELETE CASCADE ON UPDATE CASCADE, text text)")
    client.attach("notes", title="text || post")
    psql("INSERT INTO notes VALUES (1, 1, 'on tea '), (2, 2, 'on coffee ')")

    psql("DELETE FROM posts WHERE id = 1; UPDATE posts SET id = 5 WHERE id = 2")

    assert psql("SELECT id, title FROM article_texts WHERE source = 'notes'") == [("notes:2", "on coffee 5")]


def test_a_write_to_a_partition_is_followed(client, psql, articles):
    psql(PARTITIONED)
    client.attach("posts", **TENANTED)

    psql("INSERT INTO posts_low VALUES (1, 'Tea', 'x', false, 'ann'), (2, 'Coffee', 'x', false, 'bob')")
    psql("INSERT INTO posts_high (id, title, owner, body) VALUES (10, 'Milk', 'ann', 'x')")
    psql("UPDATE posts_low SET title = 'Chai' WHERE id = 1; DELETE FROM posts_low WHERE id = 2")

    assert articles() == {"1": "Chai|x|ann", "10": "Milk|x|ann"}


def test_a_truncated_partition_and_one_that_comes_with_rows_are_found(client, psql, articles):
    psql(PARTITIONED)
    psql("INSERT INTO posts VALUES (1, 'Tea', 'x', false, 'ann'), (10, 'Milk', 'x', false, 'ann')")
    client.attach("posts", **TENANTED)
    psql("CREATE TABLE posts_top (LIKE posts)")
    psql("INSERT INTO posts_top VALUES (2000000, 'Gin', 'x', false, 'eve')")

    psql("TRUNCATE posts_low")
    psql("ALTER TABLE posts ATTACH PARTITION posts_top FOR VALUES FROM (1000000) TO (9000000)")
    sources.compare(client.store, "posts")
    psql("INSERT INTO posts_top VALUES (2000001, 'Rum', 'x', false, 'eve')")

    assert articles() == {"10": "Milk|x|ann", "2000000": "Gin|x|eve", "2000001": "Rum|x|eve"}


def test_what_a_trigger_of_the_users_changes_is_followed(client, psql, articles):
    psql(PLAIN)
    psql("""CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := 'seen ' || NEW.views; RETURN NEW; END $$;
            CREATE TRIGGER tell BEFORE INSERT OR UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION tell()""")
    client.attach("posts", **TENANTED)
    psql("INSERT INTO posts VALUES (1, 'Tea', '', false, 'ann')")

    psql("UPDATE posts SET views = 7")

    assert articles() == {"1": "Tea|seen 7|ann"}


def test_the_role_that_writes_needs_no_right_on_anything_of_embedqs(posts, client, psql, admin_url, articles, open_tasks):
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS writer; CREATE ROLE writer")
        admin.execute(
            "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON posts TO writer; GRANT USAGE ON SCHEMA public TO writer"
        )
        admin.execute("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
        admin.execute("SET ROLE writer; SET search_path = pg_catalog")

        admin.execute("INSERT INTO public.posts VALUES (4, 'Water', 'Boil it', false, 'ann')")
        admin.execute("UPDATE public.posts SET title = 'Chai' WHERE id = 1; DELETE FROM public.posts WHERE id = 2")

        assert articles() == {"1": "Chai|Steep it|ann", "4": "Water|Boil it|ann"}
        assert sorted(open_tasks()) == ["1", "4"]
        admin.execute("TRUNCATE public.posts")
        assert articles() == {}
        admin.execute("RESET ROLE; DROP OWNED BY writer; DROP ROLE writer")


def test_the_role_that_writes_articles_needs_no_right_beside_them(psql, admin_url):
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS author; CREATE ROLE author")
        admin.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON articles TO author; GRANT USAGE ON SCHEMA public TO author")
        admin.execute("SET ROLE author")

        admin.execute("INSERT INTO articles (id, title) VALUES ('tea', 'Tea'), ('milk', 'Milk')")
        admin.execute("UPDATE articles SET title = 'Chai', tenant_id = 'ann' WHERE id = 'tea'")
        admin.execute("DELETE FROM articles WHERE id = 'milk'")

        assert psql("SELECT article_id, tenant_id FROM embedding_tasks WHERE status = 'pending'") == [("tea", "ann")]
        assert psql("SELECT article_id, title FROM article_versions ORDER BY 1") == [("milk", "Milk"), ("tea", "Tea")]
        admin.execute("RESET ROLE; DROP OWNED BY author; DROP ROLE author")


def test_no_other_table_can_feign_a_source(posts, psql, admin_url):
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(
            "DROP ROLE IF EXISTS stranger; CREATE ROLE stranger; CREATE SCHEMA own AUTHORIZATION stranger; SET ROLE stranger"
        )
        admin.execute("CREATE TABLE own.posts (id int, title text, body text, draft boolean, owner text, kind text)")

        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            admin.execute(
                "CREATE TRIGGER feigned AFTER INSERT ON own.posts REFERENCING NEW TABLE AS new_rows"
                " FOR EACH STATEMENT EXECUTE FUNCTION public.embedq_source_posts()"
            )

        admin.execute("RESET ROLE; DROP OWNED BY stranger; DROP ROLE stranger")


# Saving never breaks ------------------------------------------------------------------------------------------------------------------

BROKEN = [
    pytest.param("ALTER TABLE posts RENAME COLUMN body TO content", "content", id="a column is renamed"),
    pytest.param("ALTER TABLE posts DROP COLUMN body", "title", id="a column is dropped"),
    pytest.param("ALTER TABLE posts ALTER COLUMN draft TYPE text", "body", id="a type is changed so that the condition fails"),
    pytest.param("DROP FUNCTION embedq_want", None, id="half of embedq is gone"),
    pytest.param("ALTER TABLE embedding_tasks RENAME TO elsewhere", None, id="a table of embedq's is gone"),
    pytest.param("ALTER TABLE article_texts RENAME COLUMN source TO elsewhere", None, id="half migrated"),
    pytest.param("REVOKE ALL ON embedding_tasks FROM CURRENT_USER", None, id="embedq's role has lost a right"),
    pytest.param("ALTER TABLE article_texts ADD CHECK (title <> 'Chai') NOT VALID", None, id="a constraint on embedq's table"),
]
STATEMENTS = [
    "INSERT INTO posts (id, title) VALUES (4, 'Chai')",
    "UPDATE posts SET title = 'Chai'",
    "DELETE FROM posts",
    "TRUNCATE posts",
]


@pytest.mark.parametrize(("damage", "mended_by"), BROKEN)
@pytest.mark.parametrize("statement", STATEMENTS[:2])
def test_a_write_succeeds_whatever_is_broken(client, psql, damage, mended_by, statement):
    psql(PLAIN)
    psql("INSERT INTO posts VALUES (1, 'Tea', 'Steep it', false, 'ann'), (2, 'Coffee', 'Grind it', false, 'bob')")
    client.attach("posts", **TENANTED)
    psql(statement.replace("4,", "5,").replace("Chai", "Mate"))  # this session has its plans
    psql(damage)

    psql(statement)

    assert ("Chai",) in psql("SELECT title FROM posts")
    if mended_by is not None:
        assert client.sources()[0].state == SourceState.BEHIND
        assert "embedq attach" in client.sources()[0].next
        assert "on public.posts" in client.sources()[0].problem
        client.attach("posts", title="title", content=mended_by, tenant="owner")
        assert client.sources()[0].state == SourceState.FOLLOWING
        assert client.store.sources.differences("posts") == {"missing": 0, "changed": 0, "extra": 0}


@contextmanager
def locked(url: str, table: str):
    with psycopg.connect(url) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


@pytest.mark.parametrize(
    "table", ["article_texts", "embedding_tasks", "embedding_worker_status", "embeddings", "embedding_sources"]
)
def test_a_write_succeeds_while_a_table_of_embedqs_is_locked_and_is_found_afterwards(
    posts, client, psql, database_url, articles, table
):
    with locked(database_url, table):
        for statement in (
            "INSERT INTO posts VALUES (4, 'Water', '', false, 'ann')",
            "UPDATE posts SET title = 'Chai' WHERE id = 1",
            "DELETE FROM posts WHERE id = 2",
        ):
            psql(f"SET statement_timeout = '10s'; {statement}")

    assert [row[0] for row in psql("SELECT title FROM posts ORDER BY id")] == ["Chai", "Milk", "Water"]
    if table not in ("embeddings", "embedding_sources"):
        assert client.sources()[0].state == SourceState.BEHIND
        assert "lock timeout" in str(client.sources()[0].problem)

    sources.compare(client.store, "posts")

    assert articles() == {"1": "Chai|Steep it|ann", "4": "Water||ann"}
    assert client.sources()[0].state == SourceState.FOLLOWING


def test_a_row_that_cannot_be_read_breaks_neither_the_write_nor_the_others(client, psql, articles):
    psql("CREATE TABLE posts (id int PRIMARY KEY, parts int)")
    client.attach("posts", title="(100 / parts)::text")

    psql("INSERT INTO posts SELECT n, n FROM generate_series(-5, 5) n")
    assert client.sources()[0].state == SourceState.BEHIND
    outcome = sources.compare(client.store, "posts")

    assert sorted(articles()) == sorted(str(n) for n in range(-5, 6) if n)
    assert (outcome["unreadable"], outcome["example"]) == (1, "the row 0: division by zero")
    assert "1 rows of public.posts cannot be embedded" in str(client.sources()[0].problem)
    psql("UPDATE posts SET parts = 4 WHERE id = 0")
    sources.compare(client.store, "posts")
    assert client.sources()[0].problem is None
    assert articles()["0"] == "25||default"


def test_two_writers_that_fail_at_once_do_not_wait_for_each_other(client, psql, database_url):
    psql(PLAIN)
    client.attach("posts", **TENANTED)
    psql("ALTER TABLE posts DROP COLUMN body")

    with psycopg.connect(database_url) as first, psycopg.connect(database_url) as second:
        first.execute("INSERT INTO posts (id, title) VALUES (1, 'Tea')")
        second.execute("SET statement_timeout = '5s'; INSERT INTO posts (id, title) VALUES (2, 'Milk')")
        second.commit()
        assert client.sources()[0].state == SourceState.BEHIND
        first.rollback()

    assert client.sources()[0].state == SourceState.BEHIND
    assert [row["name"] for row in client.store.sources.behind()] == ["posts"]


# What no trigger saw --------------------------------------------------------------------------------------------------------------------

UNSEEN = [
    pytest.param("ALTER TABLE posts DISABLE TRIGGER USER; {}; ALTER TABLE posts ENABLE TRIGGER USER", id="disabled triggers"),
    pytest.param("SET session_replication_role = replica; {}; SET session_replication_role = origin", id="a replica's apply"),
]


@pytest.mark.parametrize("around", UNSEEN)
def test_what_no_trigger_saw_is_found_by_comparison(posts, client, admin_url, articles, around):
    unseen = "INSERT INTO posts VALUES (4, 'Water', '', false, 'ann'); DELETE FROM posts WHERE id = 2"
    unseen += "; UPDATE posts SET title = 'Chai', owner = 'eve' WHERE id = 1"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(around.format(unseen))
    assert articles() == BEFORE
    assert client.store.sources.differences("posts") == {"missing": 1, "changed": 1, "extra": 1}
    assert client.store.care.verify()["problems"]

    outcome = sources.compare(client.store, "posts")

    assert articles() == {"1": "Chai|Steep it|eve", "4": "Water||ann"}
    assert (outcome["written"], outcome["removed"]) == (2, 1)
    assert sources.compare(client.store, "posts")["written"] == 0


def test_the_steward_mends_a_source_by_itself(posts, client, psql, database_url, articles):
    """What `tend` does in each of its turns, without a command: a table that was locked, and a partition or a row that no trigger saw."""
    with locked(database_url, "article_texts"):
        psql("INSERT INTO posts VALUES (4, 'Water', '', false, 'ann')")
    assert client.sources()[0].state == SourceState.BEHIND

    until(lambda: following.tend(client.store) or client.sources()[0].state == SourceState.FOLLOWING)

    assert articles() == BEFORE | {"4": "Water||ann"}
    (due,) = psql("SELECT next_at - compared_at BETWEEN interval '10 s' AND interval '60 s' FROM embedding_sources")
    assert due == (True,), "once more soon, because something was mended"
    psql("UPDATE article_texts SET content = 'spoilt' WHERE source = 'posts'; UPDATE embedding_sources SET next_at = now()")
    until(lambda: following.tend(client.store) or articles() == BEFORE | {"4": "Water||ann"})


def test_a_new_source_is_taken_in_without_pauses_until_workers_have_enough(client, psql, monkeypatch):
    psql("CREATE TABLE posts (id int PRIMARY KEY, title text)")
    psql("INSERT INTO posts SELECT n, 'Post ' || n FROM generate_series(1, 4000) n")
    name = sources.attach(client.store, SourceDraft("posts", title="title"), "a test", "")
    following.step(client.store, name)
    monkeypatch.setattr(following, "HURRIED_S", 0.0)
    monkeypatch.setattr(following, "FILLING_S", 60.0)

    following.tend(client.store)

    assert client.sources()[0].seen == following.AHEAD
    assert client.store.sources.open_tasks(10_000) == following.AHEAD
    psql("DELETE FROM embedding_tasks")
    following.tend(client.store)
    assert client.sources()[0].seen == following.AHEAD, "no task is open: writes may make none"


def test_a_comparison_is_taken_up_where_it_was_interrupted(client, psql):
    psql("CREATE TABLE posts (id int PRIMARY KEY, title text)")
    psql("INSERT INTO posts SELECT n, 'Post ' || n FROM generate_series(1, 1700) n")
    name = sources.attach(client.store, SourceDraft("posts", title="title"), "a test", "")
    following.step(client.store, name)
    following.step(client.store, name)
    (source,) = client.sources()
    assert (source.state, source.seen) == (SourceState.FILLING, 1000)

    outcome = sources.compare(client.store, name, anew=False)

    assert (outcome["seen"], outcome["written"]) == (1700, 1700)
    assert psql("SELECT DISTINCT priority, metadata->>'reason' FROM embedding_tasks") == [("low", "attach")]
    psql("INSERT INTO posts VALUES (5000, 'new')")
    assert psql("SELECT priority FROM embedding_tasks WHERE article_id = 'posts:5000'") == [("normal",)]


@pytest.mark.parametrize("priority", ["urgent", "high", "normal", "low"])
def test_writes_make_tasks_of_the_sources_priority_unless_the_transaction_has_its_own(client, psql, open_tasks, priority):
    psql(PLAIN)
    client.attach("posts", **TENANTED, priority=priority)

    psql("INSERT INTO posts VALUES (1, 'Tea', '', false, 'ann')")
    psql("BEGIN; SET LOCAL embedq.priority = 'high'; INSERT INTO posts VALUES (2, 'Milk', '', false, 'ann'); COMMIT")
    psql("INSERT INTO articles (id, title) VALUES ('other!', 'not of the source')")

    assert open_tasks() == {"1": priority, "2": "high", "": "normal"}


def test_a_comparison_never_puts_an_older_text_over_a_writers(posts, client, psql, database_url, articles):
    """The writer's statement has changed the row, is not committed, and holds its article or not: in both cases its text stays."""
    psql("UPDATE article_texts SET content = 'spoilt' WHERE source = 'posts'")
    with psycopg.connect(database_url) as writer:
        writer.execute("UPDATE posts SET title = 'Chai' WHERE id = 1")
        writer.execute("DELETE FROM posts WHERE id = 2")
        writer.execute("INSERT INTO posts VALUES (4, 'Water', '', false, 'ann')")

        sources.compare(client.store, "posts")
        writer.commit()

    assert articles() == {"1": "Chai|Steep it|ann", "4": "Water||ann"}


def test_rows_are_taken_in_while_others_write(client, psql, database_url):
    """Attach to a living table: writers go on, and in the end every row is embedded once with its newest text."""
    import threading

    psql("CREATE TABLE posts (a int, b text, title text, PRIMARY KEY (a, b))")
    psql("INSERT INTO posts SELECT n % 50, 'k' || n, 'text ' || n FROM generate_series(1, 3000) n")
    stop, failed = threading.Event(), []

    def write(seed: int) -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    connection.execute(
                        "UPDATE posts SET title = %s WHERE a = %s", (f"new {seed} {number}", (number * 7 + seed) % 50)
                    )
                    connection.execute("INSERT INTO posts VALUES (%s, %s, 'added')", (seed, f"w{seed}-{number}"))
                    connection.execute("DELETE FROM posts WHERE a = %s AND b = %s", (seed, f"w{seed}-{number - 3}"))
                except psycopg.errors.DeadlockDetected:
                    continue
                except psycopg.Error as error:
                    failed.append(error)
                    return

    threads = [threading.Thread(target=write, args=(seed,)) for seed in (100, 200)]
    for thread in threads:
        thread.start()
    try:
        client.attach("posts", title="title")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    until(lambda: sources.compare(client.store, "posts")["written"] == 0)

    assert failed == []
    assert client.store.sources.differences("posts") == {"missing": 0, "changed": 0, "extra": 0}
    assert psql(
        "SELECT count(*) FROM (SELECT article_id FROM embedding_tasks WHERE status = 'pending' GROUP BY 1 HAVING count(*) > 1) twice"
    ) == [(0,)]
