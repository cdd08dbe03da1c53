"""Backup and restore: round trips, files that were cut off or altered, interruptions, a state that went on."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from embedq.errors import InputError
from embedq.model import Model
from embedq.operations import backup
from embedq.store import Store, schema
from embedq.store.database import Database
from tests.support import env

from .operating import answered, embed_due, invoked

QUEUE = "SELECT article_id, status, priority, attempts, metadata, created_at FROM embedding_tasks ORDER BY article_id, created_at, status"
TEXTS = "SELECT id, tenant_id, slug, title, content, metadata, created_at, version FROM article_texts ORDER BY id"
VECTORS = "SELECT article_id, chunk, tenant_id, embedding::text, chunk_hash FROM embedding_vectors ORDER BY article_id, chunk"


@pytest.fixture
def told(environment: dict[str, str]) -> Callable[..., Any]:
    return lambda *words, code=0: answered(environment, *words, code=code)


@pytest.fixture
def lived_in(psql, settings, told) -> None:
    """Articles of two tenants with history and vectors, tasks in every status, a paused tenant, an audit log."""
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql(
        "INSERT INTO articles (id, slug, tenant_id, title, content, metadata) SELECT 'a' || n, 's' || n,"
        " CASE WHEN n % 2 = 0 THEN 'acme' ELSE 'default' END, E'Tab\\there \\\\ ' || n, E'line\\nline ' || n, '{\"n\": 1}'"
        " FROM generate_series(1, 40) n"
    )
    embed_due(settings)
    psql("UPDATE articles SET content = content || ' edited' WHERE id IN ('a1', 'a2', 'a3')")
    psql("UPDATE embedding_tasks SET status = 'failed' WHERE article_id = 'a1' AND status = 'pending'")
    psql("UPDATE embedding_tasks SET priority = 'urgent' WHERE article_id = 'a2' AND status = 'pending'")
    told("pause", "--tenant", "acme", "--reason", "to be kept")


@pytest.fixture
def elsewhere(servers, psql) -> Iterator[tuple[str, Callable[..., list[Any]]]]:
    """Another database, set up and empty, whose model ids are others."""
    url = servers.database_url.rsplit("/", 1)[0] + "/elsewhere"
    with psycopg.connect(servers.database_url, autocommit=True) as root:
        root.execute("CREATE DATABASE elsewhere")
        try:
            store = Store(Database(url))
            schema.upgrade(store.database)
            store.models.add(Model("ollama", "another", 8))
            store.database.execute("UPDATE embedding_models SET kept_in_step = false")
            store.models.agree(Model("hashing", "hashing-v1", 64))
            store.close()
            with psycopg.connect(url, autocommit=True) as there:
                yield url, lambda sql: there.execute(sql).fetchall()
        finally:
            root.execute("DROP DATABASE elsewhere WITH (FORCE)")


def test_everything_comes_back_in_an_empty_database(told, lived_in, psql, elsewhere, environment, tmp_path: Path):
    url, there = elsewhere
    file = tmp_path / "all.backup"

    told("backup", str(file), "--with", "articles,vectors")
    answer = answered(environment | {"DATABASE_URL": url}, "restore", str(file), "--yes")

    for what in (QUEUE, TEXTS, VECTORS, "SELECT article_id, version_number, content FROM article_versions ORDER BY 1, 2"):
        assert there(what) == psql(what)
    assert there("SELECT timestamp, message FROM embedding_audit_logs WHERE category = 'pause'") == psql(
        "SELECT timestamp, message FROM embedding_audit_logs WHERE category = 'pause'"
    )
    assert there("SELECT mode, paused_tenants FROM embedding_worker_status") == [("database", ["acme"])]
    assert answer["made"] == 0, "nothing needs to be promised anew"
    assert answered(environment | {"DATABASE_URL": url}, "verify")["problems"] == []


def test_restoring_twice_is_restoring_once(told, lived_in, elsewhere, environment, tmp_path: Path):
    url, there = elsewhere
    file, env_there = tmp_path / "all.backup", environment | {"DATABASE_URL": url}
    told("backup", str(file), "--with", "articles,vectors")
    answered(env_there, "restore", str(file), "--yes")
    once = [
        there(what) for what in (QUEUE, TEXTS, VECTORS, "SELECT count(*) FROM embedding_audit_logs WHERE category <> 'restore'")
    ]

    again = answered(env_there, "restore", str(file), "--yes")

    assert [
        there(what) for what in (QUEUE, TEXTS, VECTORS, "SELECT count(*) FROM embedding_audit_logs WHERE category <> 'restore'")
    ] == once
    assert again["loaded"]["embedding_tasks"] == {"made": 0, "revived": 0}
    assert again["loaded"]["embedding_vectors"] == {"made": 0}


@pytest.mark.parametrize("killed_at", [1, 2, 4, 6, 7])
def test_a_restore_that_dies_half_way_and_is_run_again_ends_the_same(
    told, lived_in, psql, elsewhere, environment, tmp_path: Path, monkeypatch, killed_at: int
):
    url, there = elsewhere
    file = tmp_path / "all.backup"
    told("backup", str(file), "--with", "articles,vectors")
    monkeypatch.setattr(backup, "STEP_ROWS", 15)

    class Killed(BaseException):
        pass

    steps = []

    def killed(done: int) -> None:
        steps.append(done)
        if len(steps) == killed_at:
            raise Killed

    store = Store(Database(url))
    with pytest.raises(Killed):
        backup.restore(store, file, live_row=True, show=killed)
    backup.restore(store, file, live_row=True)
    store.close()

    for what in (QUEUE, TEXTS, VECTORS):
        assert there(what) == psql(what)
    assert answered(environment | {"DATABASE_URL": url}, "verify")["problems"] == []


def test_a_cleared_queue_comes_back_and_what_was_done_meanwhile_stays(
    told, lived_in, psql, settings, environment, tmp_path: Path
):
    psql("INSERT INTO articles (id, title, content) SELECT 'w' || n, 'T', 'waits ' || n FROM generate_series(1, 6) n")
    file = tmp_path / "queue.backup"
    told("backup", str(file))
    told("resume")
    psql(
        "UPDATE embedding_tasks SET scheduled_at = now() + interval '1 hour' WHERE article_id IN ('w1', 'w2', 'w3', 'w4') AND status = 'pending'"
    )
    embed_due(settings)
    told("clear", "--all", "--yes")
    psql("DELETE FROM embedding_tasks WHERE article_id = 'w4'")
    psql("INSERT INTO articles (id, title, content) VALUES ('later', 'T', 'written since')")

    refused = invoked(environment, "restore", str(file), code=2)
    answer = told("restore", str(file), "--yes", "--reason", "cleared by mistake")

    assert "--yes" in refused.stderr
    assert answer["loaded"]["embedding_tasks"] == {"made": 1, "revived": 3}
    waiting = {row[0] for row in psql("SELECT article_id FROM embedding_tasks WHERE status = 'pending'")}
    assert waiting == {"w1", "w2", "w3", "w4", "later"}
    assert psql("SELECT DISTINCT status FROM embedding_tasks WHERE article_id IN ('w5', 'w6')") == [("completed",)]
    assert psql("SELECT paused_tenants FROM embedding_worker_status") == [([],)], "the live row stays without --live-row"


def test_a_text_that_was_edited_since_is_put_back_and_the_newer_one_is_in_the_history(
    told, lived_in, psql, settings, tmp_path: Path
):
    file = tmp_path / "articles.backup"
    told("backup", str(file), "--with", "articles,vectors")
    psql("UPDATE articles SET content = 'garbled' WHERE id = 'a10'")
    psql("DELETE FROM articles WHERE id = 'a11'")
    told("resume")
    embed_due(settings)

    told("restore", str(file), "--yes")

    assert psql("SELECT content, embedding_status FROM articles WHERE id = 'a10'") == [("line\nline 10", "ready")]
    assert ("garbled",) in psql("SELECT content FROM article_versions WHERE article_id = 'a10'")
    assert psql("SELECT embedding_status FROM articles WHERE id = 'a11'") == [("ready",)]
    assert told("verify")["problems"] == []


def altered(raw: bytes, how: str) -> bytes:
    lines = gzip.decompress(raw).splitlines(keepends=True)
    match how:
        case "cut off":
            return raw[: len(raw) // 2]
        case "cut off at a line":
            return gzip.compress(b"".join(lines[:-1]))
        case "one letter":
            return gzip.compress(b"".join(lines).replace(b"normal", b"urgent", 1))
        case "one byte of the file":
            return raw[:-20] + bytes([raw[-20] ^ 1]) + raw[-19:]
        case "a row more behind the end":
            return gzip.compress(b"".join([*lines, b"Rx\n"]))
        case "a row less":
            return gzip.compress(b"".join(line for number, line in enumerate(lines) if number != len(lines) - 4))
        case "another program's":
            return gzip.compress(b"CREATE TABLE x;\n")
        case "a later version's":
            return gzip.compress(b'H{"embedq_backup": 99}\n')
    return b"not even packed"


@pytest.mark.parametrize(
    "how",
    [
        "cut off",
        "cut off at a line",
        "one letter",
        "one byte of the file",
        "a row more behind the end",
        "a row less",
        "another program's",
        "a later version's",
        "nothing of the kind",
    ],
)
def test_a_file_that_is_not_whole_is_refused_before_anything_is_touched(how: str, told, psql, environment, tmp_path: Path):
    psql("INSERT INTO articles (id, title, content) SELECT 'a' || n, 'T', 'text ' || n FROM generate_series(1, 5) n")
    file = tmp_path / "queue.backup"
    told("backup", str(file))
    file.write_bytes(altered(file.read_bytes(), how))
    psql("UPDATE embedding_tasks SET status = 'cancelled'")
    before = psql(QUEUE), psql("SELECT count(*) FROM embedding_audit_logs")

    result = invoked(environment, "restore", str(file), "--yes", code=2)

    assert str(file) in result.stderr
    assert "next:" in result.stderr
    assert (psql(QUEUE), psql("SELECT count(*) FROM embedding_audit_logs")) == before


def test_a_backup_that_cannot_be_finished_leaves_no_file(store, psql, tmp_path: Path):
    psql("INSERT INTO articles (title, content) SELECT 'T', 'text ' || n FROM generate_series(1, 2000) n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        backup.write(store, tmp_path / "x.backup", show=full)

    assert list(tmp_path.iterdir()) == []


def test_a_backup_is_its_owners_alone_and_is_not_written_over(told, environment, tmp_path: Path):
    file = tmp_path / "x.backup"
    told("backup", str(file))

    refused = invoked(environment, "backup", str(file), code=2)

    assert file.stat().st_mode & 0o077 == 0
    assert "--force" in refused.stderr


MEASURED = """
import resource, sys
from embedq.cli import embedq
try:
    embedq(sys.argv[1:], prog_name="embedq")
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def test_memory_does_not_grow_with_the_number_of_tasks(environment, psql, elsewhere, tmp_path: Path):
    url, _ = elsewhere
    peaks = {}
    for number in (100, 60_000):
        psql("TRUNCATE embedding_tasks")
        psql(
            "INSERT INTO embedding_tasks (article_id, model_id, metadata)"
            " SELECT 'x' || n, 1, jsonb_build_object('pad', repeat(md5(n::text), 20)) FROM generate_series(1, %s) n",
            number,
        )
        file = tmp_path / f"{number}.backup"
        for where, words in ((environment["DATABASE_URL"], ("backup", str(file))), (url, ("restore", str(file), "--yes"))):
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, *words, "--json"],
                env=env(environment | {"DATABASE_URL": where}),
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr
            peaks[words[0], number] = int(done.stderr.split()[-1])

    assert json.loads(done.stdout)["loaded"]["embedding_tasks"]["made"] >= 59_900
    for word in ("backup", "restore"):
        grown_kb = peaks[word, 60_000] - peaks[word, 100]
        assert grown_kb < 30_000, f"{word}: {grown_kb} kB for 40 MB of tasks"


def test_rows_of_sources_come_back_with_their_vectors_for_the_table_to_be_attached(
    told, psql, settings, elsewhere, environment, tmp_path: Path
):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql("CREATE TABLE posts (id int PRIMARY KEY, title text)")
    psql("INSERT INTO posts VALUES (1, 'Tea'), (2, 'Milk')")
    told("attach", "posts", "--title", "title", "--where", "id > 0", "--yes")
    embed_due(settings)
    told("backup", str(tmp_path / "all.backup"), "--with", "articles,vectors")
    url, there = elsewhere

    restored = answered(environment | {"DATABASE_URL": url}, "restore", str(tmp_path / "all.backup"), "--yes")

    assert any("embedq attach posts --title title --where 'id > 0'" in warning for warning in restored["warnings"])
    assert there("SELECT id FROM articles") == []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE posts (id int PRIMARY KEY, title text)")
        connection.execute("INSERT INTO posts VALUES (1, 'Tea'), (2, 'Other')")
    answered(environment | {"DATABASE_URL": url}, "attach", "posts", "--title", "title", "--yes")
    assert there("SELECT id, status FROM embedq_posts ORDER BY 1") == [(1, "ready"), (2, "queued")]
