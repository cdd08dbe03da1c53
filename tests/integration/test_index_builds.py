"""Building an index where people build it: several at once, and in a container with little shared memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedq import wiring
from embedq.errors import InputError, NotWell
from embedq.model import Model
from embedq.settings import from_env
from embedq.store import Store
from embedq.store.database import Database
from embedq.store.index import Index, build_words, words_state
from tests.failover import Node


def fill(database, model_id, articles, dimensions):
    database.execute(f"""INSERT INTO article_texts (id) SELECT 'v' || n FROM generate_series(1, {articles}) n""")
    database.execute(
        f"""INSERT INTO embedding_vectors (model_id, article_id, chunk, tenant_id, chunk_hash, starts_at, ends_at, embedding)
        SELECT {model_id}, 'v' || n, 0, 'default', '', 0, 0,
               (SELECT array_agg(sin(n * 7919 + d)) FROM generate_series(1, {dimensions}) d)::vector FROM generate_series(1, {articles}) n"""
    )


def test_of_several_builds_at_once_one_builds_and_the_others_say_so(store, database_url):
    """Of all kinds, and of two models: they would meet in the same snapshots."""
    other = store.models.add(Model("hashing", "other", 64))
    active = store.models.active()
    fill(store.database, active.id, 3000, 64)

    def build(number):
        database = Database(database_url)
        try:
            build_words(database) if number == 3 else Index(database, other if number == 2 else active).build()
            return "built"
        except (NotWell, InputError) as refused:
            return refused.hint
        finally:
            database.close()

    with ThreadPoolExecutor(5) as threads:
        said = list(threads.map(build, range(5)))

    assert "built" in said and all(each == "built" or "index" in each for each in said), said
    states = [Index(store.database, active).state(), Index(store.database, other).state(), words_state(store.database)]
    assert {each["state"] for each in states} <= {"built", None}, states


@pytest.fixture
def in_a_container():
    """A server whose /dev/shm has 64 MB, as Docker gives it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"]).returncode:
        pytest.skip("needs a mount namespace of its own, which only root can make here")
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="embedq-shm-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)
        node = Node(Path(folder) / "primary")
        assert node.owner is not None
        os.chown(folder, *node.owner)
        node.initialise()
        node.start(
            within=["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm && exec "$@"', "sh"]
        )
        node.sql("CREATE DATABASE app", "postgres")
        yield node
        node.die()


def test_where_dev_shm_is_small_the_index_is_built_all_the_same_and_told_what_to_set(in_a_container, environment, caplog):
    in_a_container.sql("ALTER SYSTEM SET min_parallel_table_scan_size = 0", "postgres")
    in_a_container.sql("SELECT pg_reload_conf()", "postgres")
    store = Store(Database(in_a_container.url()))
    wiring.set_up(from_env(environment | {"DATABASE_URL": in_a_container.url()}), store)
    model = store.models.active()
    fill(store.database, model.id, 500, 64)
    store.database.execute("ANALYZE embedding_vectors")

    Index(store.database, model).build(memory_mb=256)

    assert Index(store.database, model).state()["state"] == "built"
    assert "--shm-size" in caplog.text
    store.close()
