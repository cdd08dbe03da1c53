"""Search by the index and without: recall against the exact answer, filters, tenants, ranking by words."""

from __future__ import annotations

import threading

import numpy as np
import psycopg
import pytest

from embedq.errors import InputError, NotFound
from embedq.model import Model
from embedq.store.copy import COLUMNS
from embedq.store.index import Index, build_words
from embedq.store.search import version_of
from embedq.store.storage import Storage
from embedq.store.vectors import TextKey
from tests.support import run_command

DIMENSIONS = 64


@pytest.fixture
def model(store):
    return store.models.active()


@pytest.fixture
def fill(store, psql):
    """Articles with one vector each, by COPY; their clusters make the nearest ones worth finding."""

    def insert(model, count, prefix="v", tenant="default", seed=0):
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((50, model.dimensions))
        vectors = centres[rng.integers(0, 50, count)] + 0.6 * rng.standard_normal((count, model.dimensions))
        psql(
            "INSERT INTO article_texts (id, tenant_id, title, content, metadata) SELECT %s || n, %s, 'title ' || n, 'words of ' || n,"
            " jsonb_build_object('parity', n %% 2, 'hundredth', n %% 100 = 0) FROM generate_series(0, %s) n",
            prefix,
            tenant,
            count - 1,
        )
        with (
            store.database.transaction() as connection,
            connection.cursor().copy(f"COPY embedding_vectors_{model.id} ({COLUMNS}) FROM STDIN") as sink,
        ):
            for number, vector in enumerate(vectors):
                told = "[" + ",".join(f"{x:.5f}" for x in vector) + "]"
                sink.write_row((model.id, f"{prefix}{number}", 0, tenant, b"h%d" % number, 0, 5, told))
        psql("DELETE FROM embedding_tasks")
        psql(f"ANALYZE embedding_vectors_{model.id}")
        return vectors

    return insert


@pytest.fixture
def explained(store, psql):
    """The plan of a statement that Search sends."""

    def explain(act):
        plans = []
        fetch = store.search._look

        def look(statement, asked, candidates):
            with store.database.transaction() as connection:
                rows = connection.execute("EXPLAIN " + statement, asked).fetchall()
            plans.append("\n".join(row["QUERY PLAN"] for row in rows))
            return fetch(statement, asked, candidates)

        store.search._look = look
        try:
            return act(), plans[0]
        finally:
            del store.search._look

    return explain


def test_the_index_finds_nearly_all_of_the_exact_ten_nearest(store, model, fill):
    fill(model, 5000)
    index = Index(store.database, model)

    index.build()

    found = index.recall(k=10, samples=50)
    assert found["recall"] >= 0.95
    assert index.state()["state"] == "built"


def test_a_search_uses_the_index_once_there_is_one(store, model, fill, explained):
    vectors = fill(model, 5000)
    exact, before = explained(lambda: store.search.nearest(model, vectors[7], 5))

    Index(store.database, model).build()

    found, after = explained(lambda: store.search.nearest(model, vectors[7], 5))
    assert "hnsw" not in before
    assert f"embedding_vectors_{model.id}_hnsw" in after
    assert found[0]["article_id"] == exact[0]["article_id"] == "v7"
    assert found[0]["score"] == pytest.approx(1.0, abs=1e-4)


def test_the_same_search_asked_often_still_uses_the_index(store, model, fill):
    vectors = fill(model, 5000)
    index = Index(store.database, model)
    index.build()
    before = index.state()["scans"]

    for number in range(12):
        store.search.nearest(model, vectors[number], 5)
    store.database.close()

    assert index.state()["scans"] - before >= 12


def test_a_filter_that_few_pass_still_finds_as_many_as_wanted(store, model, fill):
    vectors = fill(model, 5000)
    Index(store.database, model).build()

    found = store.search.nearest(model, vectors[1], 10, metadata={"hundredth": "true"})

    assert len(found) == 10
    exact = np.argsort(-(vectors[::100] @ vectors[1]) / np.linalg.norm(vectors[::100], axis=1))[:10]
    assert len({f"v{100 * n}" for n in exact} & {row["article_id"] for row in found}) >= 9


def test_a_small_tenant_beside_a_large_one_finds_its_own(store, model, fill):
    vectors = fill(model, 4000)
    fill(model, 5, prefix="mine", tenant="small", seed=9)
    Index(store.database, model).build()

    found = store.search.nearest(model, vectors[0], 5, tenant_id="small")

    assert {row["tenant_id"] for row in found} == {"small"}
    assert len(found) == 5


def test_results_below_the_least_score_are_left_out(store, model, fill):
    vectors = fill(model, 200)
    every = store.search.nearest(model, vectors[3], 50)
    least = every[10]["score"]

    found = store.search.nearest(model, vectors[3], 50, min_score=least)

    assert [row["article_id"] for row in found] == [row["article_id"] for row in every[:11]]


def test_one_article_with_very_many_near_chunks_does_not_crowd_out_the_others(store, model, fill, psql):
    vectors = fill(model, 50)
    psql(
        f"INSERT INTO embedding_vectors_{model.id} SELECT model_id, article_id, n, tenant_id, chunk_hash, 0, 5, embedding"
        f" FROM embedding_vectors_{model.id}, generate_series(1, 3000) n WHERE article_id = 'v0'"
    )

    found = store.search.nearest(model, vectors[0], 20)

    assert len({row["article_id"] for row in found}) == 20


@pytest.mark.parametrize(("dimensions", "cast"), [(2000, "vector"), (2001, "halfvec"), (4000, "halfvec"), (4001, "vector")])
def test_half_precision_is_taken_where_full_precision_is_too_long_for_an_index(dimensions, cast):
    assert Storage().cast(dimensions) == cast


def test_more_than_two_thousand_dimensions_are_indexed_in_half_precision_and_scored_in_full(store, fill, explained, psql):
    wide = store.models.add(Model("hashing", "wide", 2500), kept_in_step=False)
    vectors = fill(wide, 300)
    index = Index(store.database, wide)
    index.build()
    psql("ALTER DATABASE " + psql("SELECT current_database()")[0][0] + " SET enable_seqscan = off")
    store.database.close()

    found, plan = explained(lambda: store.search.nearest(wide, vectors[4], 3))

    assert "hnsw" in plan
    assert found[0]["article_id"] == "v4"
    assert found[0]["score"] == pytest.approx(1.0, abs=1e-5)


def test_what_pgvector_cannot_index_is_refused_and_searched_exactly(store, fill):
    huge = store.models.add(Model("hashing", "huge", 4100), kept_in_step=False)
    vectors = fill(huge, 20)

    with pytest.raises(InputError, match="at most 4000 dimensions"):
        Index(store.database, huge).build()
    assert store.search.nearest(huge, vectors[2], 1)[0]["article_id"] == "v2"


def test_an_index_is_built_while_somebody_writes(store, model, fill, psql, database_url):
    fill(model, 3000)
    written, stop = [], threading.Event()

    def write():
        with psycopg.connect(database_url, autocommit=True) as connection:
            while not stop.is_set():
                connection.execute("UPDATE articles SET content = content || '.' WHERE id = 'v1'")
                written.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    phases = []
    try:
        Index(store.database, model).build(tell=lambda progress: phases.append(progress["phase"]))
        during = len(written)
    finally:
        stop.set()
        writer.join()

    assert during > 0
    assert Index(store.database, model).state()["state"] == "built"


def test_what_an_interrupted_build_left_is_built_anew(store, model, fill, admin_url):
    fill(model, 100)
    index = Index(store.database, model)
    index.build()
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [index.name])
    assert index.state()["state"] == "broken"

    index.build()

    assert index.state()["state"] == "built"


def test_an_index_is_not_built_twice_nor_measured_when_it_is_not_there(store, model, fill):
    fill(model, 50)
    index = Index(store.database, model)
    with pytest.raises(NotFound, match="has no index"):
        index.recall()
    index.build()

    with pytest.raises(InputError, match="built already"):
        index.build()
    assert index.drop()
    assert not index.drop()


@pytest.fixture
def library(store, client, psql):
    """Articles whose words and meanings (of the hashing provider) differ."""
    from embedq.client.sync import embed_now

    psql("UPDATE embedding_worker_status SET mode = 'sync'")
    texts = {
        "zip": ("Compression", "How to compress a file with gzip and read it again."),
        "tea": ("Green tea", "Steep the leaves in hot water for three minutes."),
        "part": ("Part XK-4711", "A spare part for the pump in the cellar."),
        "pump": ("The pump", "The pump in the cellar moves water to the roof."),
    }
    ids = [client.create(title, content, id=key, metadata={"kind": key[:1]}).id for key, (title, content) in texts.items()]
    assert psql("SELECT DISTINCT embedding_status FROM articles") == [("ready",)], embed_now(store, client.provider, ids)
    return client


@pytest.mark.parametrize("indexed", [False, True])
def test_a_hybrid_search_finds_a_rare_word_and_keeps_the_cosine_as_score(library, store, indexed):
    if indexed:
        build_words(store.database)

    hits = library.search("XK-4711", 4, hybrid=True)

    assert hits[0].article_id == "part"
    assert all(-1 <= hit.score <= 1 for hit in hits)


@pytest.mark.parametrize("query", ["!!!", "the and of", "'; DROP TABLE articles; --", "a & | ! ( b", "naïve 茶 \u202e", "-"])
def test_a_hybrid_search_takes_any_query(library, query):
    assert len(library.search(query, 4, hybrid=True)) == 4


def test_a_hybrid_search_keeps_tenant_filter_and_score(library):
    assert library.search("pump", 4, hybrid=True, tenant_id="other") == []
    assert [hit.article_id for hit in library.search("pump", 4, hybrid=True, filter={"kind": "t"})] == ["tea"]
    assert library.search("pump", 4, hybrid=True, min_score=0.999) == []


def test_an_edited_article_is_ranked_by_its_new_words(library, store):
    build_words(store.database)
    library.edit("tea", content="Now it is about zeppelins.")

    assert library.search("zeppelins", 1, hybrid=True)[0].article_id == "tea"


def test_a_very_long_text_is_saved_although_the_index_of_words_exists(library, store):
    build_words(store.database)

    saved = library.create("Long", " ".join(f"w{number}é" for number in range(300_000)))

    assert saved.version == 1


def test_filter_values_are_compared_as_text(library, psql):
    psql("""UPDATE articles SET metadata = '{"n": 3, "ok": true, "none": null}' WHERE id = 'zip'""")

    for wish in ({"n": "3"}, {"n": 3}, {"ok": True}, {"ok": "true"}, {"n": 3, "ok": True}):
        assert [hit.article_id for hit in library.search("file", 4, filter=wish)] == ["zip"]
    assert library.search("file", 4, filter={"n": 4}) == []


def test_a_vector_is_found_again_by_its_text_with_the_index_for_it(store, model, fill, psql):
    fill(model, 20_000)
    psql("ANALYZE")

    plan = psql(
        f"EXPLAIN SELECT embedding FROM embedding_vectors_{model.id} WHERE tenant_id = 'default'"
        " AND substring(chunk_hash FROM 1 FOR 8) = substring('\\x6837'::bytea FROM 1 FOR 8) AND chunk_hash = '\\x6837'"
    )

    assert "Index" in str(plan)
    found = store.vectors.known(model.id, [TextKey("default", b"h7"), TextKey("other", b"h7"), TextKey("default", b"none")])
    assert list(found) == [TextKey("default", b"h7")]
    assert found[TextKey("default", b"h7")].shape == (DIMENSIONS,)


def test_versions_are_compared_as_numbers():
    assert version_of("0.10.1") > version_of("0.8.5")


def test_the_commands_build_check_and_drop(environment, store, model, fill):
    fill(model, 2000)

    built = run_command(environment, "index", "build")
    check = run_command(environment, "index", "check", "--samples", "20", "--json")
    status = run_command(environment, "index", "status")
    dropped = run_command(environment, "index", "drop", "--yes")
    without = run_command(environment, "index", "check")

    assert built.returncode == 0, built.stderr
    assert check.returncode == 0, check.stdout + check.stderr
    assert "built" in status.stdout
    assert "is dropped" in dropped.stdout
    assert without.returncode == 1
    assert "embedq index build" in without.stderr
