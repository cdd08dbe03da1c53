"""What the world does to a real process: full disks, closed streams, users without a home, locales without letters, roles without rights.

As root no permission is refused: those processes run as another user. A file system that can only be written in part, or not at all, is
mounted for one process alone; where that is not allowed, the test is skipped.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from embedq.local.servers import Servers
from tests.conftest import fresh_database
from tests.forked import WHOLE_END, python
from tests.support import ROOT, env, free_port, run_command, start_poller

from .service import serving

NOBODY = 54_321  # no entry in the passwd file
EMBEDQ = "$PYTHON -m embedq"
# Python started anew, where limits and file systems of its own process are the point.
ANEW = f"{sys.executable} -m embedq"
TRACEBACK = "Traceback (most recent call last)"
# What only looks, what changes, what writes to a path, what needs no server.
COMMANDS = ("status", "articles list", "stop --reason x", "export -", "verify --json", "config show", "db health", "--help")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def may_mount() -> bool:
    try:
        return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


can_mount = pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")


@pytest.fixture
def here(environment: dict[str, str], tmp_path: Path, psql: Callable[..., object]) -> dict[str, str]:
    psql(
        "INSERT INTO articles (id, title, content) SELECT 'a' || i, 'Té ' || i, repeat('x', 100) FROM generate_series(1, 300) i"
    )
    (tmp_path / "home").mkdir()
    return environment | {"HOME": str(tmp_path / "home"), "XDG_STATE_HOME": str(tmp_path / "state"), "TMPDIR": str(tmp_path)}


@pytest.fixture
def crash_files(tmp_path: Path) -> Iterator[None]:
    """None is left: what happened was foreseen."""
    yield
    assert [file.read_text() for file in tmp_path.rglob("crash-*.txt")] == []


def shell(line: str, environment: Mapping[str, str], folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """By bash, whose exit code is that of the first program of a pipe that failed. $PYTHON in the line is
    Python by way of a fork, which ends as Python ends."""
    whole = {**env(environment), "PYTHONPATH": str(ROOT), WHOLE_END: "1"}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line.replace('$PYTHON', shlex.join(python(whole, folder)))}"],
        env=whole,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        errors="surrogateescape",
        **options,
    )


def refused(ended: subprocess.CompletedProcess[str], *codes: int, words: str = "") -> None:
    assert ended.returncode in (codes or (1, 2)), ended
    assert TRACEBACK not in ended.stdout + ended.stderr
    assert "Exception ignored" not in ended.stderr
    assert "next:" in ended.stderr, ended
    assert words in ended.stderr, ended


# Streams ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_behind_standard_output(command: str, here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    refused(shell(f"{EMBEDQ} {command} > /dev/full", here, tmp_path), 1, words="No space left on device")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_standard_output_that_is_closed(command: str, here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    refused(shell(f"{EMBEDQ} {command} >&-", here, tmp_path), 1, words="standard output")


def test_what_was_done_is_said_to_be_done_though_its_answer_is_lost(
    here: dict[str, str], tmp_path: Path, psql: Callable[..., Any]
) -> None:
    ended = shell(f"{EMBEDQ} stop --reason x > /dev/full", here, tmp_path)

    assert "was carried out" in ended.stderr
    assert psql("SELECT is_running FROM embedding_worker_status") == [(False,)]


@pytest.mark.parametrize("command", ["export -", "articles list", "articles list --json", "recent", "--help"])
def test_a_reader_that_goes_early(command: str, here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    """The pipe is closed before anything is written: every write finds no reader."""
    ended = shell(f"(sleep 0.2; exec {EMBEDQ} {command}) | true", here, tmp_path)

    assert ended.returncode == 141, ended
    assert ended.stderr == ""


def test_head_gets_its_line(here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    ended = shell(f"{EMBEDQ} export - | head -1", here, tmp_path)

    assert ended.returncode in (0, 141)
    assert json.loads(ended.stdout)["article_id"]
    assert ended.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >/dev/null 2>&-", "2>/dev/full"])
@pytest.mark.parametrize("command", ["status", "articles list", "export -"])
def test_other_streams_that_are_closed_hinder_nothing(
    closed: str, command: str, here: dict[str, str], tmp_path: Path, crash_files: None
) -> None:
    ended = shell(f"{EMBEDQ} {command} {closed}", here, tmp_path)

    assert ended.returncode == 0, ended
    assert TRACEBACK not in ended.stdout + ended.stderr


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", ">&- 2>&-"])
def test_a_refusal_that_cannot_be_told_has_its_exit_code_all_the_same(
    closed: str, here: dict[str, str], tmp_path: Path
) -> None:
    ended = shell(f"{EMBEDQ} articles show nothing {closed}", here, tmp_path)

    assert ended.returncode == 1
    assert ended.stdout == ended.stderr == ""


def test_a_question_without_standard_input_is_refused(here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    refused(shell(f"{EMBEDQ} clear --all <&-", here, tmp_path), 2, words="--yes")


@pytest.mark.parametrize("content", [r"\xff\xfe", r"a\0b"])
def test_standard_input_that_is_no_text(content: str, here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    refused(shell(f"printf '{content}' | {EMBEDQ} articles add Tea", here, tmp_path), 2)


# Locales ----------------------------------------------------------------------------------------------------------------------------

ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("command", ["articles list", "articles list --json", "articles show a1", "export -", "explain a1"])
def test_a_locale_without_letters(command: str, here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    ended = shell(f"{EMBEDQ} {command}", here | ASCII, tmp_path)

    assert ended.returncode in (0, 3), ended
    assert TRACEBACK not in ended.stderr
    assert ended.stdout.isascii()
    if "--json" in command:
        assert "Té 1" in {row["title"] for row in json.loads(ended.stdout)}


def test_arguments_are_utf8_in_a_locale_without_letters(
    here: dict[str, str], tmp_path: Path, psql: Callable[..., Any], crash_files: None
) -> None:
    ended = shell(
        f"{EMBEDQ} articles add 'Thé' --content 'à boire' --id t && {EMBEDQ} export 'tâches.jsonl'", here | ASCII, tmp_path
    )

    assert ended.returncode == 0, ended
    assert psql("SELECT title FROM articles WHERE id = 't'") == [("Thé",)]
    assert (tmp_path / "tâches.jsonl").exists()


def test_an_argument_that_is_no_text(here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    refused(shell(f"{EMBEDQ} articles add $'\\xff\\xfe' --content x", here, tmp_path), 2, words="UTF-8")


# Users ------------------------------------------------------------------------------------------------------------------------------


def as_nobody(
    line: str, environment: Mapping[str, str], folder: Path, home: str = "homely"
) -> subprocess.CompletedProcess[str]:
    """A fork: the interpreter may lie in a folder that only root may use."""
    whole = {**env(environment), "PYTHONPATH": str(ROOT)}
    if home == "homeless":
        del whole["HOME"]
    return subprocess.run(
        [*python(whole, folder, NOBODY), "-m", "embedq", *shlex.split(line)],
        env=whole,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


@as_root
@pytest.mark.parametrize("command", COMMANDS)
def test_a_user_without_a_home_and_without_a_name(
    command: str, here: dict[str, str], tmp_path: Path, crash_files: None
) -> None:
    del here["XDG_STATE_HOME"]
    ended = as_nobody(command, here | {"TMPDIR": "/tmp"}, Path("/"), "homeless")

    assert ended.returncode in (0, 3), ended
    assert TRACEBACK not in ended.stdout + ended.stderr


@as_root
@pytest.mark.parametrize("command", ["up", "quickstart", "status", "rollback plan emergency"])
def test_what_needs_a_home_says_how_to_name_one(command: str, here: dict[str, str], tmp_path: Path) -> None:
    without = {name: value for name, value in here.items() if name not in ("DATABASE_URL", "REDIS_URL", "XDG_STATE_HOME")}
    ended = as_nobody(command, without, Path("/"), "homeless")

    refused(ended, 2)
    assert not Path("/~").exists()


@as_root
@pytest.mark.parametrize(
    "command",
    [
        "export closed/x",
        "verify --snapshot closed/x",
        "verify --compare closed/there",
        "backup closed/x",
        "restore closed/there",
        "import closed/there",
        "articles import closed/there",
        "broker backup closed/x",
        "uninstall --backup closed/x --yes --reason x",
        "rollback plan emergency --folder closed/x",
    ],
)
def test_a_folder_that_this_user_may_not_use(command: str, here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "there").write_text("{}")
    (tmp_path / "closed").chmod(0o700)

    ended = as_nobody(command, here, tmp_path)

    assert TRACEBACK not in ended.stdout + ended.stderr
    if "plan" in command:
        assert ended.returncode == 0, ended
    else:
        refused(ended)


@as_root
def test_a_home_of_the_servers_that_this_user_may_not_use(here: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    without = {name: value for name, value in here.items() if name not in ("DATABASE_URL", "REDIS_URL")}

    refused(as_nobody("up", without | {"EMBEDQ_HOME": str(tmp_path / "closed" / "home")}, tmp_path), words="right")


# Disks ------------------------------------------------------------------------------------------------------------------------------

WRITERS = ("export disk/x", "backup disk/x --with articles", "broker backup disk/x", "verify --snapshot disk/x")


@pytest.mark.parametrize("command", ["export x", "backup x --with articles", "export - | cat"])
def test_a_file_that_may_not_grow(command: str, here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    refused(shell(f"ulimit -f 2; PYTHONDONTWRITEBYTECODE=1 {ANEW} {command}", here, tmp_path), words="File too large")


def on(options: str, command: str) -> str:
    return f"unshare -m sh -c 'mount -t tmpfs -o {options} none disk && exec {ANEW} {command}'"


@as_root
@can_mount
@pytest.mark.parametrize("command", ["export disk/x", "backup disk/x --with articles"])
def test_a_disk_without_room(command: str, here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    (tmp_path / "disk").mkdir()

    refused(shell(on("size=4k", command), here, tmp_path), 2, words="No space left on device")


@as_root
@can_mount
@pytest.mark.parametrize("command", WRITERS)
def test_a_file_system_that_can_only_be_read(command: str, here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    (tmp_path / "disk").mkdir()

    refused(shell(on("ro", command), here, tmp_path), 2, words="Read-only file system")


@as_root
@can_mount
@pytest.mark.parametrize("command", ["up", "quickstart"])
def test_servers_on_a_file_system_that_can_only_be_read(
    command: str, here: dict[str, str], tmp_path: Path, crash_files: None
) -> None:
    (tmp_path / "disk").mkdir()
    without = {name: value for name, value in here.items() if name not in ("DATABASE_URL", "REDIS_URL")}

    refused(
        shell(on("ro", command), without | {"EMBEDQ_HOME": str(tmp_path / "disk" / "home")}, tmp_path),
        1,
        words="Read-only file system",
    )


# Databases --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_rights(admin_url: str, database_url: str) -> Iterator[str]:
    role = f"embedq_nothing_{os.getpid()}"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'password-of-nothing'")  # type: ignore[arg-type]
        yield f"postgresql://{role}:password-of-nothing@{database_url.rpartition('@')[2]}"
        admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "command", ["status", "articles list", "stop --reason x", "export x", "backup x", "search tea", "db upgrade"]
)
def test_a_role_without_rights(command: str, here: dict[str, str], no_rights: str, tmp_path: Path, crash_files: None) -> None:
    refused(shell(f"{EMBEDQ} {command}", here | {"DATABASE_URL": no_rights}, tmp_path), 1, words="permission denied")


def test_the_service_says_what_a_role_lacks_and_its_log_too(here: dict[str, str], no_rights: str, crash_files: None) -> None:
    with serving(here | {"DATABASE_URL": no_rights}) as served:
        answer = served.articles.get("/api/articles/a1")
        served.process.says("GRANT")
        told = served.process.output()

    assert (answer.status_code, answer.json()["type"]) == (503, "urn:embedq:database-refuses")
    assert "GRANT" in answer.json()["next_step"]
    assert "permission denied" in told
    assert TRACEBACK not in answer.text + told


def test_a_worker_says_what_its_role_lacks(here: dict[str, str], no_rights: str, crash_files: None) -> None:
    with start_poller(here | {"DATABASE_URL": no_rights}, ready=False) as poller:
        poller.says("permission denied")
        told = poller.output()

    assert "GRANT" in told
    assert TRACEBACK not in told


def test_another_applications_table_of_the_same_name(
    servers: Servers, here: dict[str, str], tmp_path: Path, crash_files: None
) -> None:
    with fresh_database(servers, "template1") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE articles (what integer)")

        named = {"DATABASE_URL": f"{url}?options=-csearch_path%3Dpublic"}
        refused(shell(f"{EMBEDQ} db upgrade", here | named, tmp_path), 1, words="search_path")


@pytest.mark.parametrize(
    ("hidden", "command"),
    [("alembic", "db upgrade"), ("rich", "status"), ("redis", "broker status"), ("uvicorn", "serve --port 0")],
)
def test_a_package_that_is_missing(hidden: str, command: str, here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nclass Hidden:\n    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {hidden!r}: raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "embedq", *command.split()],
        env=env(here) | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    refused(ended, 1, words=hidden)


# Workers ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"EMBEDDING_MODE": "nonsense"}, {"EMBEDDING_TYPO": "1"}, {"DATABASE_URL": ""}],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["celery", "-A", "embedq", "worker", "--pool", "threads"], id="celery"),
        pytest.param(["embedq", "poller"], id="poller"),
        pytest.param(["embedq", "serve", "--port", "0"], id="serve"),
        pytest.param(["embedq", "up"], id="up"),
    ],
)
def test_a_worker_whose_settings_are_wrong_says_so_and_ends(
    argv: Sequence[str], changes: dict[str, str], here: dict[str, str], tmp_path: Path, crash_files: None
) -> None:
    if argv[1] == "up" and "DATABASE_URL" in changes:
        return  # it starts a server of its own
    environment = here | {"EMBEDQ_HOME": str(tmp_path / "none")} | changes
    refused(shell(f"$PYTHON -m {' '.join(argv)}", environment, tmp_path), 2)


def test_a_port_that_is_taken(here: dict[str, str], tmp_path: Path, crash_files: None) -> None:
    with serving(here) as served:
        port = served.url.rpartition(":")[2]
        refused(shell(f"{EMBEDQ} serve --port {port}", here, tmp_path), 1, words="--port")


def test_a_broker_and_a_database_that_are_away(here: dict[str, str], crash_files: None) -> None:
    away = here | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    refused(run_command(away, "broker", "status"), 1, words="cannot be reached")
    refused(
        run_command(here | {"DATABASE_URL": f"postgresql://127.0.0.1:{free_port()}/x"}, "status"), 1, words="cannot be reached"
    )
