"""What nothing has foreseen: one message, a file that only its owner can read, without a secret, and an exit code of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedq.errors import Unexpected
from embedq.operations import crash_file
from tests.support import ROOT, env

DOOR = """
import sys
from embedq.operations import crash
from embedq.cli.voice import complain
def act():
    {}
crash.run(act, complain)
"""
PASSWORD, TOKEN = "secret-of-the-database", "token-for-the-operators"
SECRETS = {"DATABASE_URL": f"postgresql://user-of-mine:{PASSWORD}@127.0.0.1:1/x", "ADMIN_TOKEN": TOKEN}
MISTAKE = f"raise KeyError('boom postgresql://user-of-mine:{PASSWORD}@127.0.0.1:1/x {TOKEN}')"


def run(act: str, tmp_path: Path, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = env({"XDG_STATE_HOME": str(tmp_path), "TMPDIR": str(tmp_path), **SECRETS, **changes})
    return subprocess.run(
        [sys.executable, "-c", DOOR.format(act), *words], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_a_mistake_ends_with_one_message_and_a_file(tmp_path: Path) -> None:
    ended = run(MISTAKE, tmp_path, "--url", f"redis://:{PASSWORD}@127.0.0.1/0")

    assert ended.returncode == Unexpected.exit_code == 70
    assert "Traceback" not in ended.stdout + ended.stderr
    found = re.search(r"embedq: unexpected: KeyError: .*; it is written to (\S+); report it\n  next: ", ended.stderr)
    assert found is not None, ended.stderr
    file = Path(found[1])
    assert file.parent == tmp_path / "embedq" / "crashes"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    text = file.read_text()
    for words in (
        "Traceback (most recent call last)",
        "KeyError",
        "psycopg ",
        "python: ",
        "command: -c --url redis://127.0.0.1/0",
    ):
        assert words in text
    for secret in (PASSWORD, TOKEN):
        assert secret not in text + ended.stderr
    assert "DATABASE_URL" in text


def test_a_mistake_in_a_thread_is_told_and_written_too(tmp_path: Path) -> None:
    ended = run("import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", tmp_path)

    assert "Traceback" not in ended.stderr
    assert "unexpected: ZeroDivisionError" in ended.stderr
    assert len(list(tmp_path.rglob("crash-*.txt"))) == 1


def test_where_the_first_folder_cannot_be_written_the_one_for_temporary_files_is_taken(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()

    ended = run("1 / 0", tmp_path, XDG_STATE_HOME=str(tmp_path / "taken"))

    assert f"is written to {tmp_path}/embedq-crashes-{os.geteuid()}/crash-" in ended.stderr


def test_where_no_folder_can_be_written_it_says_so_and_where_the_mistake_is(tmp_path: Path) -> None:
    (tmp_path / f"embedq-crashes-{os.geteuid()}").touch()
    (tmp_path / "taken").touch()

    ended = run("1 / 0", tmp_path, XDG_STATE_HOME=str(tmp_path / "taken"))

    assert ended.returncode == 70
    assert "could not be written to a file" in ended.stderr
    assert "ZeroDivisionError: division by zero" in ended.stderr
    assert re.search(r"line \d+, in act", ended.stderr)


def test_a_folder_that_others_could_write_to_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "embedq" / "crashes").mkdir(parents=True)
    (tmp_path / "embedq" / "crashes").chmod(0o777)

    run("1 / 0", tmp_path)

    assert list((tmp_path / "embedq" / "crashes").iterdir()) == []


def test_the_number_of_files_is_bounded_and_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    written = [crash_file.keep(ValueError(str(number))) for number in range(crash_file.KEPT + 5)]

    assert sorted((tmp_path / "embedq" / "crashes").iterdir()) == written[5:]


def test_a_long_traceback_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    file = crash_file.keep(ValueError("x" * 10_000_000))

    assert file is not None
    assert file.stat().st_size < crash_file.LONGEST + 10_000


def test_an_error_that_cannot_say_what_it_is_is_told_by_its_class(tmp_path: Path) -> None:
    ended = run("raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()", tmp_path)

    assert ended.returncode == 70
    assert "unexpected: Mute;" in ended.stderr


@pytest.mark.parametrize(
    ("act", "code"),
    [
        pytest.param("return None", 0, id="nothing"),
        pytest.param("return 3", 3, id="a code"),
        pytest.param("sys.exit(2)", 2, id="its own exit"),
        pytest.param("raise KeyboardInterrupt", 130, id="Ctrl-C"),
        pytest.param("import click; raise click.Abort() from KeyboardInterrupt()", 130, id="Ctrl-C at a question"),
        pytest.param("raise OSError(28, 'No space left on device', '/x')", 1, id="a full disk"),
        pytest.param("import nothing_of_that_name", 1, id="a missing package"),
        pytest.param("raise MemoryError", 1, id="no memory"),
        pytest.param("1 / 0", 70, id="a mistake"),
    ],
)
def test_every_end_has_its_code(act: str, code: int, tmp_path: Path) -> None:
    ended = run(act, tmp_path)

    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert bool(list(tmp_path.rglob("crash-*.txt"))) == (code == 70)


def test_ctrl_c_ends_a_command_quietly(environment: dict[str, str], psql: Callable[..., object], tmp_path: Path) -> None:
    psql("INSERT INTO articles (id, title) VALUES ('a', 'T')")
    waiting = subprocess.Popen(
        [sys.executable, "-m", "embedq", "wait", "--timeout", "60"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env(environment | {"XDG_STATE_HOME": str(tmp_path)}),
    )
    try:
        # Once it waits. While modules are imported, Python itself may drop a KeyboardInterrupt (about one of 130 within 30 ms).
        assert waiting.stderr is not None
        assert "0 of 1" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=30)
    finally:
        waiting.kill()

    assert waiting.returncode == 130, err
    assert "Traceback" not in out + err
    assert "unexpected" not in err
