"""Vectors in half precision, and indexes of one bit a number: the same answers from less."""

from __future__ import annotations

import json

import numpy as np
import psycopg
import pytest

from embedq.errors import InputError, StoreUnavailable
from embedq.model import Model
from embedq.operations import sources as attaching
from embedq.operations.metrics import OfHouse, page
from embedq.store import recall, schema
from embedq.store.copy import COLUMNS
from embedq.store.index import Index
from embedq.store.storage import Storages
from embedq.store.vectors import TextKey
from tests.support import run_command

DIMENSIONS, VECTORS, K = 128, 4000, 10


@pytest.fixture
def half(store):
    """A model whose vectors are stored in half precision."""
    return store.models.add(Model("hashing", "half", DIMENSIONS, storage="halfvec"), kept_in_step=False)


@pytest.fixture
def full(store):
    return store.models.add(Model("hashing", "full", DIMENSIONS), kept_in_step=False)


@pytest.fixture
def vectors():
    """In clusters, as those of texts are, shape (VECTORS, DIMENSIONS)."""
    dice = np.random.default_rng(3)
    centres = dice.standard_normal((40, DIMENSIONS))
    return (centres[dice.integers(0, 40, VECTORS)] + 0.7 * dice.standard_normal((VECTORS, DIMENSIONS))).astype(np.float32)


@pytest.fixture
def fill(store, psql, vectors):
    psql(
        "INSERT INTO article_texts (id, title, content) SELECT 'v' || n, 'title', 'words' FROM generate_series(0, %s) n",
        VECTORS - 1,
    )
    psql("DELETE FROM embedding_tasks")

    def insert(*models):
        for model in models:
            with (
                store.database.transaction() as connection,
                connection.cursor().copy(f"COPY embedding_vectors_{model.id} ({COLUMNS}) FROM STDIN") as sink,
            ):
                for number, vector in enumerate(vectors):
                    told = "[" + ",".join(f"{x:.6g}" for x in vector) + "]"
                    sink.write_row((model.id, f"v{number}", 0, "default", b"h%d" % number, 0, 5, told))
            psql(f"VACUUM ANALYZE embedding_vectors_{model.id}")

    return insert


def found(store, model, query, k=K):
    return [row["article_id"] for row in store.search.nearest(model, query, k)]


def share(store, model, vectors, queries=60):
    """Recall@K against the exact answer over the numbers as they came."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    shares = []
    for query in vectors[:queries] + 0.05:
        exact = {f"v{n}" for n in np.argsort(-(unit @ query))[:K]}
        shares.append(len(exact & set(found(store, model, query))) / K)
    return float(np.mean(shares))


def test_half_precision_takes_half_the_room_and_finds_the_same(store, half, full, fill, vectors):
    fill(half, full)
    bytes_of = {}
    for model in (half, full):
        Index(store.database, model).build()
        state = Index(store.database, model).state()
        bytes_of[model.name] = state["table_bytes"], state["bytes"]

    assert share(store, half, vectors) >= 0.99 * share(store, full, vectors)
    table, index = (bytes_of["half"][at] / bytes_of["full"][at] for at in (0, 1))
    assert (table < 0.7, index < 0.8) == (True, True), bytes_of


def test_what_is_embedded_with_such_a_model_is_stored_found_and_reused(client, store, psql):
    half = store.models.add(Model("hashing", "hashing-v1", 128, storage="halfvec"))
    store.models.activate(half, who="test", force=True)
    psql("UPDATE embedding_worker_status SET mode = 'sync'")

    tea = client.create("Tea", "Steep the leaves in hot water")

    assert client.search("Steep the leaves in hot water", 1)[0].article_id == tea.id
    assert psql(f"SELECT embedding IS NULL, vector_dims(half) FROM embedding_vectors_{half.id}") == [(True, 128)]
    digest = psql(f"SELECT chunk_hash FROM embedding_vectors_{half.id}")[0][0]
    known = store.vectors.known(half.id, [TextKey("default", bytes(digest))])
    assert [vector.shape for vector in known.values()] == [(128,)]


def test_a_vector_of_another_length_is_refused_and_so_is_none(psql, half):
    row = "(model_id, article_id, chunk, tenant_id, chunk_hash, starts_at, ends_at, embedding) VALUES (%s, 'x', 0, 't', '', 0, 1, %s)"
    for wrong in ("[1,2,3]", None):
        with pytest.raises(Exception, match="violates"):
            psql(f"INSERT INTO embedding_vectors {row}", half.id, wrong)


def test_an_index_of_bits_is_used_and_what_it_finds_is_compared_exactly(store, full, fill, vectors, psql):
    fill(full)
    exact = store.search.nearest(full, vectors[5], K)
    index = Index(store.database, full, bits=True)

    index.build()

    store.search._storages = Storages(store.database)
    assert store.search._storages.of(full).bits
    psql("ALTER DATABASE " + psql("SELECT current_database()")[0][0] + " SET enable_seqscan = off")
    store.database.close()
    before = index.state()["scans"]
    assert share(store, full, vectors) >= 0.95
    rows = store.search.nearest(full, vectors[5], K)
    assert rows[0]["score"] == pytest.approx(exact[0]["score"])
    store.database.close()
    assert index.state()["scans"] - before >= 61
    assert Index(store.database, full).recall(samples=30)["recall"] >= 0.95


def test_a_model_has_one_index_of_either_kind(store, full, fill):
    fill(full)
    Index(store.database, full, bits=True).build()
    with pytest.raises(InputError, match="_bits is built already"):
        Index(store.database, full).build()

    assert Index(store.database, full).drop()
    Index(store.database, full, bits=False).build()

    assert Index(store.database, full).state()["kind"] == "vector"


def test_bits_are_far_smaller_than_numbers(store, full, fill):
    fill(full)
    Index(store.database, full, bits=False).build()
    whole = Index(store.database, full).state()["bytes"]
    Index(store.database, full).drop()

    Index(store.database, full, bits=True).build()

    assert Index(store.database, full).state()["bytes"] < whole / 2


def test_half_precision_survives_going_back_to_an_older_schema(store, half, fill, vectors, psql):
    fill(half)

    schema.downgrade(store.database, "0009")
    kept = psql(f"SELECT count(*), min(vector_dims(embedding)) FROM embedding_vectors_{half.id}")
    schema.upgrade(store.database)

    assert kept == [(VECTORS, DIMENSIONS)]
    assert found(store, half, vectors[7], 1) == ["v7"]


def test_a_schema_without_half_precision_refuses_rows_without_a_vector_and_of_other_lengths(store, half, fill, psql):
    fill(half)

    schema.downgrade(store.database, "0009")

    for wrong in ("NULL", "'[1,2]'"):
        with pytest.raises(psycopg.errors.IntegrityError):
            psql(f"UPDATE embedding_vectors_{half.id} SET embedding = {wrong}")
    unread = psql(
        f"SELECT conname FROM pg_constraint WHERE conrelid = 'embedding_vectors_{half.id}'::regclass AND NOT convalidated"
    )
    assert unread == []


def test_the_commands_register_and_build_and_say_why(environment, store):
    added = run_command(environment, "model", "add", "hashing", "hashing-v1", "96", "--storage", "halfvec", "--json")
    again = run_command(environment, "model", "add", "hashing", "hashing-v1", "96")
    built = run_command(environment, "index", "build", "--bits")
    status = run_command(environment, "index", "status")

    assert json.loads(added.stdout)["storage"] == "halfvec", added.stderr
    assert "stays stored as halfvec" in again.stdout
    assert "m 16, ef_construction 64" in built.stderr, built.stdout
    assert "built (bits)" in status.stdout


def test_recall_is_sampled_in_service_and_shown_by_status_and_metrics(environment, client, store, fill, full):
    fill(full)
    store.models.activate(full, who="test", force=True)
    without = recall.sample(store.database), recall.lately(store.database)
    Index(store.database, full).build()
    before = recall.lately(store.database)

    sampled = [recall.sample(store.database) for _ in range(3)]

    assert without == (False, None)
    assert (before.recall, before.samples) == (None, 0)
    assert sampled == [True] * 3
    found = recall.lately(store.database)
    assert (found.model, found.kind, found.samples) == (str(full), "vector", 3)
    assert found.recall >= 0.9
    assert "recall@10 " in run_command(environment, "status").stdout
    assert json.loads(run_command(environment, "status", "--json").stdout)["index"]["samples"] == 3
    assert f'embedq_index_recall{{kind="vector",model="{full}"}}' in page(OfHouse(store, client.broker)).decode()


def test_recall_of_an_index_of_another_kind_is_not_shown_for_this_one(store, fill, full):
    fill(full)
    store.models.activate(full, who="test", force=True)
    Index(store.database, full).build()
    recall.sample(store.database)
    Index(store.database, full).drop()
    Index(store.database, full, bits=True).build()

    assert recall.lately(store.database)[1:] == ("bits", None, 0)


@pytest.fixture
def active_half(store, half):
    store.models.activate(half, who="test", force=True)
    return half


def kept(psql, model):
    """Article, how many vectors are full, and the first number of its half."""
    rows = psql(f"SELECT article_id, embedding, (half::vector::real[])[1] FROM embedding_vectors_{model.id} ORDER BY 1")
    return [(key, full, round(first, 2)) for key, full, first in rows]


def test_vectors_that_a_table_has_are_halved_found_in_sql_and_replaced(client, store, psql, active_half):
    psql(f"CREATE TABLE posts (id int PRIMARY KEY, title text, embedding vector({DIMENSIONS}))")
    psql(f"INSERT INTO posts VALUES (1, 'Tea', array_fill(0.5::real, ARRAY[{DIMENSIONS}])::vector)")
    client.attach("posts", title="title")
    attaching.import_vectors(store, "posts", "embedding", active_half, "test", "test")
    first = kept(psql, active_half)
    near = psql(
        f"SELECT article_id, round(score::numeric, 3) FROM embedq_nearest('posts', array_fill(1::real, ARRAY[{DIMENSIONS}])::vector)"
    )
    seen = psql("SELECT vector_dims(vector) FROM embedq_posts")

    psql(f"UPDATE posts SET title = 'Green tea', embedding = array_fill(0.25::real, ARRAY[{DIMENSIONS}])::vector")
    attaching.import_vectors(store, "posts", "embedding", active_half, "test", "test")

    assert first == [("posts:1", None, 0.5)]
    assert near == [("posts:1", 1)]
    assert seen == [(DIMENSIONS,)]
    assert kept(psql, active_half) == [("posts:1", None, 0.25)]


def test_a_backup_brings_them_back_as_they_were_stored(client, environment, store, psql, active_half, tmp_path):
    psql("UPDATE embedding_worker_status SET mode = 'sync'")
    client.create("Tea", "Steep the leaves", id="tea")
    before = kept(psql, active_half)

    saved = run_command(environment, "backup", str(tmp_path / "all"), "--with", "articles,vectors", "--yes")
    psql("DELETE FROM article_texts")
    brought = run_command(environment, "restore", str(tmp_path / "all"), "--yes")

    assert (saved.returncode, brought.returncode) == (0, 0), saved.stderr + brought.stderr
    assert before[0][:2] == ("tea", None)
    assert kept(psql, active_half) == before


def test_a_view_of_a_source_keeps_the_rights_on_it_when_it_is_made_anew(client, psql):
    psql("CREATE TABLE posts (id int PRIMARY KEY, title text)")
    client.attach("posts", title="title")
    psql("GRANT SELECT ON embedq_posts TO PUBLIC")

    client.attach("posts", title="upper(title)")

    assert psql("SELECT relacl::text LIKE '%=r/%' FROM pg_class WHERE relname = 'embedq_posts'") == [(True,)]


def test_an_older_pgvector_is_refused_with_what_updates_it(store, admin_url):
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("UPDATE pg_extension SET extversion = '0.6.2' WHERE extname = 'vector'")

    with pytest.raises(StoreUnavailable, match=r"older than 0\.7") as told:
        schema.check_server(store.database)

    assert "ALTER EXTENSION vector UPDATE" in told.value.hint
