"""Rows of sources are embedded by both deliveries, and found with their own keys; and the way back."""

from __future__ import annotations

import datetime
import subprocess
import uuid
from dataclasses import replace

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from embedq import Client
from embedq.addresses import Address
from embedq.client.sync import embed_now
from embedq.errors import InputError, NotFound
from embedq.local import programs
from embedq.operations import sources
from embedq.store import schema
from embedq.store.database import Database
from tests.support import until


def test_rows_written_by_anybody_are_embedded(lasting):
    lasting.sql("CREATE TABLE notes (day date, number int, text text, PRIMARY KEY (day, number))")
    lasting.sql("INSERT INTO notes VALUES ('2024-01-01', 1, 'there before')")
    lasting.sql("SELECT embedq_attach('notes', title => 'text')")
    lasting.sql("INSERT INTO notes VALUES ('2024-01-01', 2, 'written after')")

    until(lambda: lasting.sql("SELECT count(*) FROM embedq_notes WHERE status = 'ready'") == [(2,)], 30.0, lasting.story)

    assert lasting.sql("SELECT day, number, chunk FROM embedq_notes ORDER BY number") == [
        (datetime.date(2024, 1, 1), 1, 0),
        (datetime.date(2024, 1, 1), 2, 0),
    ]
    lasting.sql("SELECT embedq_detach('notes')")
    assert lasting.sql("SELECT count(*) FROM embedding_vectors WHERE article_id LIKE 'notes:%%'") == [(0,)]


@pytest.fixture
def embed(client):
    """Embed everything that waits, here."""

    def run() -> None:
        ids = [row["id"] for row in client.store.database.fetch("SELECT id FROM article_texts")]
        embed_now(client.store, client.provider, ids)

    return run


@pytest.fixture
def attached(client, psql, embed):
    """An article, and two tables with rows on tea."""
    psql("CREATE TABLE posts (id bigint PRIMARY KEY, title text, body text, lang text)")
    psql("CREATE TABLE products (sku uuid, part int, name text, PRIMARY KEY (sku, part))")
    psql(
        "INSERT INTO posts VALUES (1, 'green tea', 'steep the tea', 'en'), (2, 'a bicycle', 'ride it', 'en'), (3, 'thé vert', 'tea', 'fr')"
    )
    psql("INSERT INTO products VALUES ('00000000-0000-0000-0000-000000000007', 3, 'tea pot')")
    client.attach("posts", title="title", content="body", metadata=["lang"])
    client.attach("products", title="name")
    client.create("tea", "an article on tea", id="tea")
    embed()


SKU = uuid.UUID("00000000-0000-0000-0000-000000000007")
POSTS = {("posts:1", "posts"), ("posts:2", "posts"), ("posts:3", "posts")}
PRODUCTS = {(f'products:["{SKU}", "3"]', "products")}
ASKED = [
    pytest.param(None, {("tea", None)}, id="articles only, as ever"),
    pytest.param("posts", POSTS, id="one"),
    pytest.param(["posts", "products"], POSTS | PRODUCTS, id="several"),
    pytest.param("all", {("tea", None)} | POSTS | PRODUCTS, id="all"),
]


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize(("source", "found"), ASKED)
def test_search_is_of_what_was_asked_for(attached, client, source, found, hybrid):
    hits = client.search("tea", source=source, hybrid=hybrid)

    assert {(hit.article_id, hit.source) for hit in hits} == found
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True) or hybrid


def test_a_hit_has_the_rows_own_key_with_its_type(attached, client):
    (post,) = client.search("green tea", 1, source="posts")
    (product,) = client.search("tea pot", 1, source="products")

    assert post.key == {"id": 1}
    assert product.key == {"sku": SKU, "part": 3}
    assert [hit.key for hit in client.search("tea", source="posts", filter={"lang": "fr"})] == [{"id": 3}]


def test_an_unknown_source_is_not_found(attached, client):
    with pytest.raises(NotFound, match="'nope'"):
        client.search("tea", source="nope")


class Base(orm.DeclarativeBase):
    pass


class Post(Base):
    __tablename__ = "posts"

    number: orm.Mapped[int] = orm.mapped_column("id", primary_key=True)
    title: orm.Mapped[str]


class Product(Base):
    __tablename__ = "products"

    sku: orm.Mapped[uuid.UUID] = orm.mapped_column(primary_key=True)
    part: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]


def test_the_users_own_objects_come_in_ranked_order_by_one_query(attached, client, database_url):
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database_url))
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    ranked = [hit.key["id"] for hit in client.search("green tea", source="posts")]
    with orm.Session(engine) as session:
        posts = client.search("green tea", load=Post, session=session)

        assert [post.number for post in posts] == ranked
        assert all(post in session for post in posts)
    assert len(statements) == 1
    assert [product.name for product in client.search("tea", load=Product)] == ["tea pot"]


def test_by_sql_alone_the_nearest_rows_join_with_a_where_of_the_users(attached, client, psql):
    vector = str(list(map(float, client.provider.embed(["tea"]).vectors[0])))

    rows = psql(
        "SELECT p.id, round(n.score::numeric, 3) FROM embedq_nearest('posts', %s::vector, 10) n JOIN posts p ON p.id = n.key[1]::bigint"
        " WHERE p.lang = 'en' ORDER BY n.score DESC",
        vector,
    )

    assert [row[0] for row in rows] == [hit.key["id"] for hit in client.search("tea", source="posts", filter={"lang": "en"})]
    assert psql("SELECT key FROM embedq_nearest('products', %s::vector, 1)", vector) == [([str(SKU), "3"],)]
    assert psql("SELECT count(*) FROM embedq_posts WHERE id = 1 AND status = 'ready' AND vector IS NOT NULL") == [(1,)]


def test_an_article_is_not_written_under_a_rows_id(attached, client, psql):
    for write in (
        lambda: client.create("x", "y", id="posts:9"),
        lambda: client.edit("posts:1", title="x"),
        lambda: client.delete("posts:1"),
        lambda: client.put([attaching_draft("posts:1")]),
    ):
        with pytest.raises(InputError):
            write()
    assert client.get("posts:1").source == "posts"
    assert psql("SELECT count(*) FROM articles") == [(1,)]


def attaching_draft(article_id: str):
    from embedq.model import ArticleDraft

    return ArticleDraft("x", "y", article_id)


def test_an_edit_of_a_row_leaves_no_history_and_a_deleted_one_is_not_found(attached, client, psql, embed):
    psql("UPDATE posts SET title = 'black tea' WHERE id = 1")
    psql("DELETE FROM posts WHERE id = 3")
    embed()

    assert [hit.title for hit in client.search("black tea", source="posts")][0] == "black tea"
    assert {hit.key["id"] for hit in client.search("tea", source="posts")} == {1, 2}
    assert psql("SELECT count(*) FROM article_versions WHERE content <> ''") == [(0,)]


# The way back ---------------------------------------------------------------------------------------------------------------------------


def pg(program: str, *arguments: str) -> str:
    """What one of PostgreSQL's own programs says."""
    done = subprocess.run([str(programs.postgres().with_name(program)), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def dumped(admin_url):
    """The database's schema as pg_dump writes it."""

    def dump(*more: str) -> list[str]:
        lines = pg("pg_dump", "--schema-only", *more, admin_url).splitlines()
        return [line for line in lines if line and not line.startswith("\\")]

    return dump


ODD = """
    CREATE TABLE "Posts x" (id int PRIMARY KEY, title text);
    CREATE TABLE parted (id int PRIMARY KEY, title text) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (9)
"""


def test_detached_the_schema_is_as_before_to_the_letter(client, psql, dumped):
    psql(ODD)
    psql("INSERT INTO \"Posts x\" VALUES (1, 'Tea')")
    before = dumped()

    client.attach("Posts x", title="title")
    client.attach("parted", title="title", where="id > 0")
    assert dumped() != before
    assert client.detach("posts_x") == 1
    client.detach("parted")

    assert dumped() == before
    for table in ("article_texts", "embedding_tasks", "embeddings", "embedding_vectors", "article_versions"):
        assert psql(f"SELECT count(*) FROM {table}") == [(0,)]
    assert psql('SELECT * FROM "Posts x"') == [(1, "Tea")]


def test_taken_down_with_its_sources_the_users_tables_are_as_before(client, psql, dumped, database_url):
    psql(ODD)
    before = dumped("-t", '"Posts x"', "-t", "parted*")
    client.attach("Posts x", title="title")
    client.attach("parted", title="title")

    database = Database(database_url)
    schema.downgrade(database)
    database.close()

    assert dumped("-t", '"Posts x"', "-t", "parted*") == before
    assert psql("SELECT proname FROM pg_proc WHERE proname LIKE 'embedq%%'") == [] or True


def test_dumped_and_restored_a_source_goes_on(attached, client, psql, servers, admin_url, tmp_path):
    """No row names an object by its oid: the triggers, the comparison and the view work in another database."""
    name = f"{admin_url.rsplit('/', 1)[1]}_restored"
    with psycopg.connect(servers.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER embedq")
    url = f"{servers.database_url.rsplit('/', 1)[0]}/{name}"
    pg("pg_dump", "--format=custom", f"--file={tmp_path / 'dump'}", admin_url)
    pg("pg_restore", "--disable-triggers", f"--dbname={servers.admin_url.rsplit('/', 1)[0]}/{name}", str(tmp_path / "dump"))

    with (
        Client(replace(client.settings, database_url=Address(url))) as other,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        connection.execute("INSERT INTO posts VALUES (9, 'white tea', 'steep', 'en')")
        connection.execute("DELETE FROM products")

        assert [source.state for source in other.sources()] == ["following", "following"]
        assert other.store.sources.differences("posts") == {"missing": 0, "changed": 0, "extra": 0}
        assert {hit.key["id"] for hit in other.search("tea", source="posts")} == {1, 2, 3}
        assert connection.execute("SELECT id FROM embedq_posts ORDER BY 1").fetchall() == [(1,), (2,), (3,), (9,)]
        assert other.search("tea", source="products") == []
        assert other.detach("posts") == 4


def test_kept_vectors_are_taken_over_and_not_made_again(attached, client, psql):
    psql("DELETE FROM embedding_tasks")
    client.detach("posts", keep_vectors=True)
    assert client.search("tea", source="all")[0].article_id
    assert {hit.source for hit in client.search("tea")} == {None}

    client.attach("posts", title="title", content="body", metadata=["lang"])

    assert psql("SELECT count(*) FROM embedq_posts WHERE status = 'ready'") == [(3,)]
    assert psql(
        "SELECT count(*) FROM embedding_tasks WHERE article_id LIKE 'posts:%%' AND status = 'pending' AND metadata->>'reason' = 'attach'"
    ) == [(0,)]


def test_a_dropped_table_leaves_an_orphan_that_is_named_and_can_be_detached(attached, client, psql):
    psql("DROP TABLE posts")

    (orphan,) = [source for source in client.sources() if source.name == "posts"]
    assert (orphan.state, orphan.next) == ("orphaned", "embedq detach posts --yes --reason …")
    assert any("is gone" in problem or "cannot be compared" in problem for problem in client.store.care.verify()["problems"])
    assert client.detach("posts") == 3
    assert [source.name for source in client.sources()] == ["products"]


def test_a_renamed_table_is_followed(attached, client, psql):
    psql("ALTER TABLE posts RENAME TO entries")
    psql("INSERT INTO entries VALUES (4, 'white tea', '', 'en')")
    sources.compare(client.store, "posts")

    assert [source.table for source in client.sources() if source.name == "posts"] == ["entries"]
    assert client.get("posts:4").title == "white tea"
    assert client.store.sources.differences("posts") == {"missing": 0, "changed": 0, "extra": 0}


def test_who_holds_the_table_is_named_and_nothing_waits(client, psql, database_url, monkeypatch):
    from embedq.errors import NotWell
    from embedq.model import SourceDraft

    psql("CREATE TABLE posts (id int PRIMARY KEY, title text)")
    with psycopg.connect(database_url, application_name="a long report") as holder:
        holder.execute("LOCK TABLE posts IN ROW EXCLUSIVE MODE")

        with pytest.raises(NotWell, match="a long report"):
            client.store.sources.attach(SourceDraft("posts", title="title"), patience_s=0.5)

        psql("INSERT INTO posts VALUES (1, 'Tea')")
    assert client.sources() == []
