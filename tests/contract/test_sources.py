"""A table of the user's as a source: which keys, names and expressions it may have, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
import pytest

from embedq.errors import InputError
from embedq.operations import sources
from tests.support import until


@pytest.fixture
def articles(psql):
    """Of one source: the articles by id."""

    def read(name: str) -> dict[str, str]:
        rows = psql("SELECT id, title || '|' || content FROM article_texts WHERE source = %s", name)
        return {str(row[0]): str(row[1]) for row in rows}

    return read


@dataclass(frozen=True)
class Key:
    """A table's key: its declaration, two values of it as SQL, and the same as the article's id has them."""

    columns: str
    one: str
    other: str
    ids: tuple[str, str]


KEYS = [
    pytest.param(Key("id bigint PRIMARY KEY", "1", "9007199254740993", ("1", "9007199254740993")), id="bigint"),
    pytest.param(Key("id smallint PRIMARY KEY", "-1", "7", ("-1", "7")), id="smallint"),
    pytest.param(
        Key(
            "id uuid PRIMARY KEY",
            "'00000000-0000-0000-0000-000000000001'",
            "'ffffffff-0000-0000-0000-000000000001'",
            ("00000000-0000-0000-0000-000000000001", "ffffffff-0000-0000-0000-000000000001"),
        ),
        id="uuid",
    ),
    pytest.param(Key("id text PRIMARY KEY", "'a:b'", "'Ä \" '' %s {} \\'", ("a:b", "Ä \" ' %s {} \\")), id="text"),
    pytest.param(Key("id varchar(9) PRIMARY KEY", "'a'", "'b'", ("a", "b")), id="varchar"),
    pytest.param(Key("id char(4) PRIMARY KEY", "'ab'", "'cd'", ("ab", "cd")), id="char"),
    pytest.param(Key("id date PRIMARY KEY", "'2024-02-29'", "'1999-12-31'", ("2024-02-29", "1999-12-31")), id="date"),
    pytest.param(
        Key(
            "id timestamptz PRIMARY KEY",
            "'2024-01-01 12:00+02'",
            "'2024-01-02 00:00+00'",
            ("2024-01-01 10:00:00+00", "2024-01-02 00:00:00+00"),
        ),
        id="timestamptz",
    ),
    pytest.param(Key("id numeric PRIMARY KEY", "1.50", "-3", ("1.50", "-3")), id="numeric"),
    pytest.param(Key("id bytea PRIMARY KEY", "'\\x00ff'", "'\\x'", ("\\x00ff", "\\x")), id="bytea"),
    pytest.param(Key("id mood PRIMARY KEY", "'glad'", "'sad'", ("glad", "sad")), id="enum"),
    pytest.param(
        Key("a bigint, b text, PRIMARY KEY (a, b)", "1, 'x'", "1, 'y \"'", ('["1", "x"]', '["1", "y \\""]')), id="composite"
    ),
    pytest.param(
        Key(
            "a date, b uuid, c int, PRIMARY KEY (c, a, b)",
            "'2024-01-01', '00000000-0000-0000-0000-000000000001', 3",
            "'2024-01-01', '00000000-0000-0000-0000-000000000001', 4",
            (
                '["3", "2024-01-01", "00000000-0000-0000-0000-000000000001"]',
                '["4", "2024-01-01", "00000000-0000-0000-0000-000000000001"]',
            ),
        ),
        id="composite of three, in the index's order",
    ),
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_any_type_names_its_article_and_comes_back_with_its_type(client, psql, articles, key):
    psql("CREATE TYPE mood AS ENUM ('glad', 'sad')")
    psql(f"CREATE TABLE posts ({key.columns}, title text)")
    psql(f"INSERT INTO posts VALUES ({key.one}, 'there before')")

    client.attach("posts", title="title")
    psql(f"INSERT INTO posts VALUES ({key.other}, 'written after')")

    assert articles("posts") == {f"posts:{key.ids[0]}": "there before|", f"posts:{key.ids[1]}": "written after|"}
    columns = ", ".join(client.sources()[0].key)
    assert sorted(psql(f"SELECT {columns} FROM embedq_posts"), key=str) == sorted(psql(f"SELECT {columns} FROM posts"), key=str)
    assert client.store.sources.differences("posts") == {"missing": 0, "changed": 0, "extra": 0}
    psql("DELETE FROM posts")
    assert articles("posts") == {}


NAMES = [
    pytest.param("Posts", "Title", id="capitals"),
    pytest.param("my posts", "the title", id="blanks"),
    pytest.param('say "hi"', 'a "title"', id="quotes"),
    pytest.param("order", "select", id="reserved words"),
    pytest.param("größe", "überschrift", id="letters of others"),
    pytest.param("100% {of} 'it'", "50% {of} 'it' :x", id="what programs take for parameters"),
]


@pytest.mark.parametrize(("table", "column"), NAMES)
def test_a_table_and_a_column_of_any_name(client, psql, articles, table, column):
    quoted, title = '"' + table.replace('"', '""') + '"', '"' + column.replace('"', '""') + '"'
    psql(f'CREATE TABLE {quoted} ("The Id" int PRIMARY KEY, {title} text)')
    psql(f"INSERT INTO {quoted} VALUES (1, 'there before')")

    client.attach(table, title=column, name="them")
    psql(f"INSERT INTO {quoted} VALUES (2, 'written after')")
    psql(f"UPDATE {quoted} SET {title} = 'changed' WHERE \"The Id\" = 1")

    assert articles("them") == {"them:1": "changed|", "them:2": "written after|"}
    assert [row[0] for row in psql('SELECT "The Id" FROM embedq_them ORDER BY 1')] == [1, 2]


@pytest.mark.parametrize(("table", "column"), NAMES)
def test_hundreds_of_rows_at_once_in_a_table_of_any_name_with_a_key_of_two(client, psql, articles, table, column):
    """Such a statement's rows are read in the table, whose name may have changed since."""
    quoted, title = '"' + table.replace('"', '""') + '"', '"' + column.replace('"', '""') + '"'
    psql(f'CREATE TABLE old ("The Id" int, b text, {title} text, PRIMARY KEY ("The Id", b))')
    client.attach("old", title=column, name="them")
    psql(f"ALTER TABLE old RENAME TO {quoted}")

    psql(f"INSERT INTO {quoted} SELECT n, 'k', 'Text ' || n FROM generate_series(1, 150) n")

    assert articles("them") == {f'them:["{n}", "k"]': f"Text {n}|" for n in range(1, 151)}
    assert [source.problem for source in client.sources()] == [None]


@pytest.mark.parametrize("given", ["blog.posts", '"blog"."posts"', "posts"])
def test_a_table_of_another_schema(client, psql, articles, given):
    psql("CREATE SCHEMA blog")
    psql("CREATE TABLE blog.posts (id int PRIMARY KEY, title text)")

    client.attach(given, title="title")
    psql("INSERT INTO blog.posts VALUES (1, 'Tea')")

    assert articles("posts") == {"posts:1": "Tea|"}


EXPRESSIONS = [
    pytest.param({"title": "title"}, "Tea|", id="a column"),
    pytest.param({"content": "title,body"}, "|Tea\n\nSteep it", id="columns"),
    pytest.param({"content": "title, nothing, body"}, "|Tea\n\nSteep it", id="a NULL among columns leaves no gap"),
    pytest.param({"title": "nothing", "content": "body"}, "|Steep it", id="NULL"),
    pytest.param({"title": "title || ': ' || body"}, "Tea: Steep it|", id="an expression"),
    pytest.param({"title": "posts.title"}, "Tea|", id="a qualified column"),
    pytest.param({"title": "kind"}, "green|", id="an enum"),
    pytest.param({"title": "data->>'name'"}, "Sencha|", id="in jsonb"),
    pytest.param({"title": "data"}, '{"name": "Sencha"}|', id="jsonb"),
    pytest.param({"title": "array_to_string(tags, ', ')"}, "hot, cold|", id="an array"),
    pytest.param({"title": "price"}, "1.50|", id="a number"),
    pytest.param({"title": "on_day"}, "2024-02-29|", id="a date"),
    pytest.param({"title": "at"}, "2024-02-29 10:00:00+00|", id="a moment, in UTC"),
    pytest.param({"title": "doubled"}, "TeaTea|", id="a generated column"),
    pytest.param({"title": "CASE WHEN price > 1 THEN 'dear' ELSE 'cheap' END"}, "dear|", id="CASE"),
    pytest.param({"title": "shout(title)"}, "TEA!|", id="a function of the table's schema"),
    pytest.param({"title": "title", "where": "price > 1 AND kind = 'green'"}, "Tea|", id="where"),
    pytest.param({"title": "title", "where": "at <= now()"}, "Tea|", id="where, by the clock"),
    pytest.param({"title": "format('%s 100%% ; --', title)"}, "Tea 100% ; --|", id="signs that mean something elsewhere"),
]


@pytest.mark.parametrize(("words", "text"), EXPRESSIONS)
def test_what_is_embedded_may_be_any_expression_over_the_row(client, psql, articles, words, text):
    psql("CREATE SCHEMA shop")
    psql("CREATE TYPE shop.kinds AS ENUM ('green', 'black')")
    psql("CREATE FUNCTION shop.shout(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT upper($1) || '!' $$")
    psql("""CREATE TABLE shop.posts (id int PRIMARY KEY, title text, body text, nothing text, kind shop.kinds, data jsonb, tags text[],
            price numeric(6, 2), on_day date, at timestamptz, doubled text GENERATED ALWAYS AS (title || title) STORED)""")
    row = "'Tea', 'Steep it', NULL, 'green', '{\"name\": \"Sencha\"}', '{hot,cold}', 1.5, '2024-02-29', '2024-02-29 12:00+02'"
    psql(f"INSERT INTO shop.posts VALUES (1, {row})")

    client.attach("shop.posts", **words)
    psql("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'")
    psql(f"INSERT INTO shop.posts VALUES (2, {row})")

    assert articles("posts") == {"posts:1": text, "posts:2": text}
    assert client.store.sources.differences("posts") == {"missing": 0, "changed": 0, "extra": 0}


REFUSED = [
    pytest.param("v", {"title": "title"}, "is a view", id="a view"),
    pytest.param("m", {"title": "title"}, "is a view", id="a materialized view"),
    pytest.param("keyless", {"title": "title"}, "has no primary key", id="no key"),
    pytest.param("part_1", {"title": "title"}, "is a partition", id="a partition"),
    pytest.param("parent", {"title": "title"}, "inherits", id="inheritance"),
    pytest.param("nowhere", {"title": "title"}, "there is no table", id="no such table"),
    pytest.param("twice", {"title": "title"}, "may be any of", id="a name of two schemas"),
    pytest.param("article_texts", {"title": "title"}, "embedq's own", id="a table of embedq's"),
    pytest.param("posts", {}, "nothing is named", id="nothing to embed"),
    pytest.param("posts", {"title": "(SELECT max(title) FROM posts)"}, "cannot be used: cannot use subquery", id="a subquery"),
    pytest.param("posts", {"title": "max(title)"}, "cannot be used", id="an aggregate"),
    pytest.param("posts", {"title": "row_number() OVER ()"}, "cannot be used", id="a window"),
    pytest.param("posts", {"title": "unnest(ARRAY[title])"}, "cannot be used", id="rows for a row"),
    pytest.param("posts", {"title": "title || random()"}, "volatile", id="a volatile function"),
    pytest.param("posts", {"title": "guess(title)"}, "volatile", id="a volatile function of the user's"),
    pytest.param("posts", {"title": "title || clock_timestamp()"}, "volatile", id="the clock"),
    pytest.param("posts", {"title": "current_user"}, "depends on who asks", id="who asks"),
    pytest.param("posts", {"title": "body"}, 'column "body" does not exist', id="no such column"),
    pytest.param("posts", {"title": "title title"}, "cannot be used: syntax error", id="no SQL"),
    pytest.param("posts", {"title": "title); DROP TABLE posts; --"}, "cannot be used", id="more than an expression"),
    pytest.param(
        "posts", {"title": "title FROM posts; DELETE FROM posts; SELECT (1"}, "cannot be used", id="several statements"
    ),
    pytest.param("posts", {"title": "title", "where": "title"}, "cannot be used", id="a condition that is none"),
    pytest.param("posts", {"title": "1 / (id - 1)"}, "division by zero", id="a row that cannot be read"),
    pytest.param("posts", {"title": "title", "key": ["title"]}, "is no key", id="a key that is none"),
    pytest.param("posts", {"title": "title", "key": ["nope"]}, "has no column nope", id="a key of no column"),
    pytest.param("posts", {"title": "title", "metadata": ["nope"]}, "has no column nope", id="metadata of no column"),
    pytest.param("posts", {"title": "title", "name": "Big Name"}, "is no name", id="no name"),
    pytest.param("posts", {"title": "title", "name": "articles"}, "there is a relation", id="a name that is taken"),
    pytest.param("posts", {"title": "title", "name": "wiki"}, "there are articles whose ids begin", id="articles of such ids"),
    pytest.param("hidden", {"title": "title"}, "row-level security hides rows", id="row-level security that hides rows"),
]


@pytest.mark.parametrize(("table", "words", "why"), REFUSED)
def test_what_cannot_be_is_refused_with_the_reason_and_nothing_is_left(client, psql, table, words, why):
    client.create("Wiki", "one", id="wiki:1")
    psql("CREATE TABLE posts (id int PRIMARY KEY, title text)")
    psql("INSERT INTO posts VALUES (1, 'Tea')")
    psql("CREATE VIEW v AS SELECT * FROM posts")
    psql("CREATE MATERIALIZED VIEW m AS SELECT * FROM posts")
    psql("CREATE TABLE keyless (title text)")
    psql("CREATE TABLE part (id int PRIMARY KEY, title text) PARTITION BY RANGE (id)")
    psql("CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (9)")
    psql("CREATE TABLE parent (id int PRIMARY KEY, title text)")
    psql("CREATE TABLE child () INHERITS (parent)")
    psql("CREATE SCHEMA a")
    psql("CREATE SCHEMA b")
    psql("CREATE TABLE a.twice (id int PRIMARY KEY, title text)")
    psql("CREATE TABLE b.twice (id int PRIMARY KEY, title text)")
    psql("CREATE FUNCTION guess(text) RETURNS text LANGUAGE sql AS $$ SELECT $1 $$")
    psql("CREATE TABLE hidden (id int PRIMARY KEY, title text)")
    psql("ALTER TABLE hidden ENABLE ROW LEVEL SECURITY")
    psql("ALTER TABLE hidden FORCE ROW LEVEL SECURITY")

    with pytest.raises(InputError) as refused:
        client.attach(table, **words)

    assert why in str(refused.value)
    assert refused.value.hint
    assert client.sources() == []
    assert psql("SELECT count(*) FROM posts") == [(1,)]
    assert psql("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'embedq_posts%'") == []


def test_a_foreign_table_is_refused(client, psql, admin_url):
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("CREATE FOREIGN DATA WRAPPER nowhere")
        admin.execute("CREATE SERVER far FOREIGN DATA WRAPPER nowhere")
        admin.execute("CREATE FOREIGN TABLE abroad (id int, title text) SERVER far")

    with pytest.raises(InputError, match="is a foreign table"):
        client.attach("abroad", title="title")


def test_a_virtual_column_is_refused(client, psql, database_url):
    with psycopg.connect(database_url) as connection:
        if connection.info.server_version < 180000:
            pytest.skip("virtual generated columns came with PostgreSQL 18")
    psql("CREATE TABLE posts (id int PRIMARY KEY, title text, twice text GENERATED ALWAYS AS (title || title) VIRTUAL)")

    with pytest.raises(InputError, match="virtual generated column"):
        client.attach("posts", title="twice")


def test_rows_that_cease_to_satisfy_where_by_the_clock_are_found_by_comparison(client, psql, articles):
    psql("CREATE TABLE posts (id int PRIMARY KEY, title text, expires timestamptz)")
    client.attach("posts", title="title", where="expires > now()")
    psql("INSERT INTO posts VALUES (1, 'Tea', now() + interval '1 s'), (2, 'Milk', now() + interval '1 day')")
    assert sorted(articles("posts")) == ["posts:1", "posts:2"]

    until(lambda: psql("SELECT expires < now() FROM posts WHERE id = 1") == [(True,)])
    sources.compare(client.store, "posts")

    assert sorted(articles("posts")) == ["posts:2"]


def test_a_unique_key_that_is_named_takes_the_place_of_the_primary_key(client, psql, articles):
    psql("CREATE TABLE products (id bigint PRIMARY KEY, sku text NOT NULL UNIQUE, name text)")
    psql("INSERT INTO products VALUES (1, 'tea-1', 'Tea')")

    client.attach("products", title="name", key=["sku"])

    assert articles("products") == {"products:tea-1": "Tea|"}


def test_rows_are_hidden_from_others_and_not_from_the_source(client, psql, articles, database_url):
    """Row-level security that does not bind the role of embedq, here the table's owner."""
    psql("CREATE TABLE posts (id int PRIMARY KEY, title text)")
    psql("ALTER TABLE posts ENABLE ROW LEVEL SECURITY")
    psql("INSERT INTO posts VALUES (1, 'Tea')")

    client.attach("posts", title="title")
    psql("INSERT INTO posts VALUES (2, 'Coffee')")

    assert articles("posts") == {"posts:1": "Tea|", "posts:2": "Coffee|"}


def test_attached_again_a_source_embeds_what_is_said_now(client, psql, articles):
    psql("CREATE TABLE posts (id int PRIMARY KEY, title text, body text)")
    psql("INSERT INTO posts VALUES (1, 'Tea', 'Steep it')")
    client.attach("posts", title="title")

    client.attach("posts", title="title", content="body")
    psql("INSERT INTO posts VALUES (2, 'Coffee', 'Grind it')")

    assert articles("posts") == {"posts:1": "Tea|Steep it", "posts:2": "Coffee|Grind it"}


def test_the_same_by_sql_alone(psql, articles):
    psql("CREATE TABLE posts (id int PRIMARY KEY, title text, body text, draft boolean)")

    assert psql("SELECT embedq_attach('posts', title => 'title', content => 'body', condition => 'NOT draft')") == [("posts",)]
    psql("INSERT INTO posts VALUES (1, 'Tea', 'Steep it', false), (2, 'Milk', 'No', true)")

    assert articles("posts") == {"posts:1": "Tea|Steep it"}
    assert psql("SELECT embedq_detach('posts')") == [(1,)]
    assert articles("posts") == {}
