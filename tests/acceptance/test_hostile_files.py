"""Files that others may have made, given to `restore`, `import` and `articles import`: refused by name, in little memory, at once (G12)."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedq.errors import InputError
from embedq.operations import backup, backup_file
from embedq.store import Store
from tests.support import ROOT, env

from .operating import answered, invoked

MB = 1_000_000
TAKEN = "2026-01-01T00:00:00+00:00"
TASKS = "SELECT article_id, status, attempts FROM embedding_tasks ORDER BY 1"
MEASURED = """
import sys
from embedq.cli import embedq
try:
    embedq(sys.argv[1:], prog_name="embedq")
finally:
    # Not ru_maxrss, in which the process that started this one counts.
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""


@pytest.fixture
def no_file(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Something that is no file, by its kind."""
    with socket.socket(socket.AF_UNIX) as listening:

        def made(kind: str) -> Path:
            path = tmp_path / "given"
            match kind:
                case "FIFO":
                    os.mkfifo(path)
                case "socket":
                    listening.bind(str(path))
                case "folder":
                    path.mkdir()
                case "device":
                    return Path("/dev/zero")
                case "link to a FIFO":
                    os.mkfifo(tmp_path / "fifo")
                    path.symlink_to("fifo")
                case "link to itself":
                    path.symlink_to("given")
            return path

        yield made


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["FIFO", "socket", "folder", "device", "link to a FIFO", "link to itself", "nothing"])
@pytest.mark.parametrize("command", [("restore",), ("restore", "--dry-run"), ("import",), ("articles", "import")], ids=" ".join)
def test_what_is_no_file_is_refused_by_name_at_once(
    command: tuple[str, ...], kind: str, no_file: Callable[[str], Path], environment: dict[str, str]
) -> None:
    path = no_file(kind)
    if command == ("articles", "import") and kind == "folder":
        return
    yes = () if "--dry-run" in command else ("--yes",)

    refused = invoked(environment, *command, str(path), *yes, code=2)

    assert str(path) in refused.stderr


# Backups


def packed(*lines: bytes) -> bytes:
    return gzip.compress(b"".join(line + b"\n" for line in lines), 1)


HEAD = b"H" + json.dumps({"embedq_backup": 1, "taken_at": TAKEN}).encode()


def table(name: object, columns: object) -> bytes:
    return b"T" + json.dumps({"table": name, "columns": columns}).encode()


def sealed(*lines: bytes, head: bytes = HEAD, rows: object = None) -> bytes:
    """With a checksum that is right, as anybody can make one."""
    body = b"".join(line + b"\n" for line in (head, *lines))
    counted: dict[str, int] = {}
    now = ""
    for line in lines:
        if line[:1] == b"T":
            now = str(json.loads(line[1:]).get("table"))
            counted[now] = 0
        else:
            counted[now] = counted.get(now, 0) + 1
    end = {"sha256": hashlib.sha256(body).hexdigest(), "rows": counted if rows is None else rows}
    return gzip.compress(body + b"Z" + json.dumps(end).encode() + b"\n", 1)


def bomb(first: bytes, repeated: bytes, size: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    block = repeated * (MB // len(repeated))
    return packer.compress(first) + b"".join(packer.compress(block) for _ in range(size // MB)) + packer.flush()


BOMBS = {
    "one endless line": lambda: bomb(b"", b" ", 200 * MB),
    "one endless row": lambda: bomb(HEAD + b"\n" + table("article_texts", ["id"]) + b"\nR", b"x", 200 * MB),
    "an endless header": lambda: bomb(b'H{"embedq_backup": 1, "taken_at": "' + TAKEN.encode() + b'", "a": [', b"[],", 100 * MB),
    "an endless table": lambda: bomb(HEAD + b"\nT{", b'"a":[],', 100 * MB),
    "endless short rows": lambda: bomb(HEAD + b"\n" + table("article_texts", ["id"]) + b"\n", b"R\n", 400 * MB),
    "rows in a thousand members": lambda: packed(HEAD, table("article_texts", ["id"])) + gzip.compress(b"R\n" * 500_000) * 400,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "bomb.backup"
    file.write_bytes(BOMBS[name]())

    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "restore", str(file), "--dry-run"],
        env=env(environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
    )

    said, peak_kb = done.stderr.rsplit("\n", 2)[0], int(done.stderr.split()[-1])
    assert done.returncode == 2, done.stderr
    assert str(file) in said
    assert "Traceback" not in said
    assert peak_kb < 230_000, f"{peak_kb} kB"


NONSENSE = {
    "a header that is a list": lambda: sealed(head=b"H[]"),
    "a header that is nested": lambda: sealed(head=b"H" + b"[" * 100_000),
    "a header without its time": lambda: sealed(head=b'H{"embedq_backup": 1}'),
    "a header whose time is none": lambda: sealed(head=b'H{"embedq_backup": 1, "taken_at": "soon"}'),
    "a header whose time is a number": lambda: sealed(head=b'H{"embedq_backup": 1, "taken_at": 7}'),
    "a version that is true": lambda: sealed(head=b'H{"embedq_backup": true, "taken_at": "2026-01-01"}'),
    "a table that is a list": lambda: packed(HEAD, b"T[]"),
    "a table that is nested": lambda: packed(HEAD, b"T" + b"[" * 100_000),
    "a table without columns": lambda: sealed(table("embedding_tasks", [])),
    "a column twice": lambda: sealed(table("embedding_tasks", ["id", "id"])),
    "a column that is a number": lambda: sealed(table("embedding_tasks", [1])),
    "columns that are a text": lambda: sealed(table("embedding_tasks", "id")),
    "a table of PostgreSQL's": lambda: sealed(table("embedding_tasks", ["id"]), table("pg_authid", ["rolname"]), b"Rroot"),
    "a table that is null": lambda: sealed(table(None, ["id"])),
    "rows before a table": lambda: packed(HEAD, b"R1", b'Z{"sha256": "", "rows": {}}'),
    "a line of an unknown kind": lambda: sealed(table("embedding_tasks", ["id"]), b"X1"),
    "an end that is a list": lambda: packed(HEAD, b"Z[]"),
    "an end that is nested": lambda: packed(HEAD, b"Z" + b"[" * 100_000),
    "bytes after the end": lambda: sealed() + b"garbage",
    "no packed file": lambda: HEAD + b"\n",
    "empty": lambda: b"",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_backup_that_makes_no_sense_is_refused_before_anything_is_touched(
    name: str, environment: dict[str, str], psql: Callable[..., Any], tmp_path: Path
) -> None:
    psql("INSERT INTO articles (id, title) VALUES ('a', 'T')")
    file = tmp_path / "given.backup"
    file.write_bytes(NONSENSE[name]())

    refused = invoked(environment, "restore", str(file), "--yes", code=2)

    assert str(file) in refused.stderr
    assert psql(TASKS) == [("a", "pending", 0)]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((table("embedding_tasks", ["id", "article_id"]), b"Rseven\ta"), id="a number that is none"),
        pytest.param((table("embedding_tasks", ["id", "article_id"]), b"R1"), id="a row with a value less"),
        pytest.param((table("embedding_tasks", ["id", "article_id"]), b"R1\ta\tb"), id="a row with a value more"),
        pytest.param((table("article_texts", ["id", "title"]), b"Ra\t\xff\xfe"), id="bytes that are no text"),
        pytest.param(
            (table("article_texts", ["id", 'nonsense" text); DROP TABLE embedding_tasks; --']), b"Ra\tb"), id="SQL for a column"
        ),
        pytest.param((table("embedding_models", ["id"]), b"R1"), id="columns that are missing"),
        pytest.param(
            (table("embedding_models", ["id", "provider", "name", "dimensions", "kept_in_step"]), b"R1\tp\tn\t-5\tt"),
            id="a size below zero",
        ),
    ],
)
def test_rows_that_do_not_fit_are_told_and_nothing_of_them_is_stored(
    lines: tuple[bytes, ...], environment: dict[str, str], psql: Callable[..., Any], tmp_path: Path
) -> None:
    psql("INSERT INTO articles (id, title) VALUES ('a', 'T')")
    file = tmp_path / "given.backup"
    file.write_bytes(sealed(*lines))

    told = invoked(environment, "restore", str(file), "--yes", code=2)

    assert "next:" in told.stderr
    assert psql(TASKS) == [("a", "pending", 0)]


@pytest.mark.parametrize("when", ["before it is restored", "while it is restored", "in place"])
def test_a_file_that_changes_after_it_was_checked_is_not_restored(
    when: str,
    store: Store,
    environment: dict[str, str],
    psql: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backup, "STEP_ROWS", 500)
    psql(
        "INSERT INTO articles (id, title, content) SELECT 'a' || n, 'T', repeat(md5(n::text), 40) FROM generate_series(1, 3000) n"
    )
    file = tmp_path / "x.backup"
    backup.write(store, file, ["articles"])
    contents = backup.verify(file)
    psql("DELETE FROM articles")
    before = psql("SELECT count(*) FROM articles")

    def change(_: int = 0) -> None:
        raw = bytearray(file.read_bytes())
        raw[-200:-150] = b"\0" * 50
        file.write_bytes(raw)

    if when == "before it is restored":
        change()
    with pytest.raises(InputError, match=str(file)):
        backup.restore(
            store,
            file,
            live_row=False,
            checked=None if when == "in place" else contents,
            show=change if when != "before it is restored" else backup_file.silent,
        )

    if when == "before it is restored":
        assert psql("SELECT count(*) FROM articles") == before


def test_a_backup_is_not_written_through_a_link_that_waits_for_it(environment: dict[str, str], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "x.backup.half").symlink_to(victim)

    answered(environment, "backup", str(tmp_path / "x.backup"))

    assert victim.read_text() == "mine"
    assert (tmp_path / "x.backup").stat().st_mode & 0o077 == 0


def test_a_device_is_not_replaced_by_a_backup(environment: dict[str, str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.backup")

    refused = invoked(environment, "backup", str(tmp_path / "x.backup"), "--force", code=2)

    assert "no regular file" in refused.stderr
    assert (tmp_path / "x.backup").is_fifo()


def test_a_row_that_could_not_be_restored_is_not_said_to_be_kept(
    store: Store, psql: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "LONGEST_ROW", 10_000)
    psql("INSERT INTO articles (id, title, content) VALUES ('long', 'T', repeat('x', 20000))")

    with pytest.raises(InputError, match=r"article_texts.*long"):
        backup.write(store, tmp_path / "x.backup", ["articles"])

    assert list(tmp_path.iterdir()) == []


# Tasks


GOOD = {
    "article_id": "a",
    "tenant_id": "default",
    "provider": "hashing",
    "model": "hashing-v1",
    "dimensions": 64,
    "status": "pending",
}
BAD = {
    "a list": "[]",
    "nested": "[" * 50_000,
    "nested in metadata": json.dumps(GOOD)[:-1] + ', "metadata": ' + '{"a":' * 5_000 + "1" + "}" * 5_001,
    "half of a pair": json.dumps(GOOD | {"article_id": "\ud800"}),
    "half of a pair in metadata": json.dumps(GOOD | {"metadata": {"\udc00": "\ud800"}}),
    "a NUL": json.dumps(GOOD | {"error_message": "\0"}),
    "a NUL in metadata": json.dumps(GOOD | {"metadata": {"a": "\0"}}),
    "an infinite number": json.dumps(GOOD | {"metadata": {"a": 1}}).replace(": 1}", ": 1e999}"),
    "NaN": json.dumps(GOOD | {"metadata": {"a": float("nan")}}),
    "infinite attempts": json.dumps(GOOD | {"attempts": float("inf")}),
    "dimensions without end": json.dumps(GOOD | {"dimensions": 10**30}),
    "a number of many digits": json.dumps(GOOD)[:-1] + ', "attempts": ' + "9" * 5_000 + "}",
    "a status that is a list": json.dumps(GOOD | {"status": []}),
    "a priority that is an object": json.dumps(GOOD | {"priority": {}}),
    "a time that is none": json.dumps(GOOD | {"created_at": "99999-01-01"}),
    "a long line of nothing": '{"a": "' + "x" * 11 * MB + '"}',
    "many lists": '{"a": [' + "[]," * 3 * MB + "0]}",
    "words": "no JSON at all",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_of_tasks_is_refused_and_the_others_are_taken(
    name: str, environment: dict[str, str], psql: Callable[..., Any], tmp_path: Path
) -> None:
    psql("INSERT INTO articles (id, title) VALUES ('a', 'T')")
    psql("DELETE FROM embedding_tasks")
    file = tmp_path / "tasks.jsonl"
    file.write_text(f"{BAD[name]}\n{json.dumps(GOOD | {'attempts': 10**12})}\n")

    answer = answered(environment, "import", str(file), "--yes", code=1)

    assert (answer["refused"], answer["made"]) == (1, 1)
    assert len(json.dumps(answer)) < 2_000
    assert psql("SELECT article_id, status FROM embedding_tasks") == [("a", "pending")]


def test_lines_of_tasks_take_no_more_memory_than_a_step_of_them(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    with file.open("w") as lines:
        for _ in range(15):
            lines.write(json.dumps(GOOD | {"metadata": {"pad": "x" * 9 * MB}}) + "\n")

    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "import", str(file), "--yes"],
        env=env(environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) < 250_000


# Articles


def test_an_import_names_and_counts_what_it_refuses_and_takes_the_rest(
    environment: dict[str, str], psql: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "good.md").write_text("# Good\n\ntext")
    (folder / "inside.md").symlink_to(".data/inside.md")
    (folder / ".data").mkdir()
    (folder / ".data/inside.md").write_text("# Inside\n\ntext")
    (folder / "passwd.md").symlink_to("/etc/passwd")
    (folder / "root").symlink_to("/")
    (folder / "round").symlink_to(".")
    os.mkfifo(folder / "pipe.md")
    (folder / "huge.txt").write_bytes(b"x" * 11 * MB)
    (folder / "sparse.md").touch()
    os.truncate(folder / "sparse.md", 10**12)

    answer = answered(environment, "articles", "import", str(folder), code=1)

    assert (answer["created"], answer["refused_count"]) == (2, 5)
    assert {Path(each["path"]).name for each in answer["refused"]} == {"passwd.md", "root", "pipe.md", "huge.txt", "sparse.md"}
    assert psql("SELECT slug FROM articles ORDER BY 1") == [("good.md",), ("inside.md",)]


def test_many_bad_lines_do_not_pile_up(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"[]\n" * 100_000)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    answer = answered(environment, "articles", "import", str(tmp_path / "bad.jsonl"), code=1)

    assert answer["refused_count"] == 100_000
    assert len(answer["refused"]) == 1_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 60_000
