"""A fork is, but for its imports, the process that Python would have started."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import forked
from tests.support import ROOT, Process, env, start_poller, until

SEES = ("-m", "tests.forked.told")
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo", "TMPDIR": "/var/tmp", "EMPTY": "", "UNICODE": "é\n="}


def seen(program: list[str], whole: Mapping[str, str], folder: Path, *words: str, **options: Any) -> dict[str, Any]:
    told = subprocess.run(
        [*program, *SEES, *words], env=whole, cwd=folder, capture_output=True, text=True, input="given\n", timeout=60, **options
    )
    found: dict[str, Any] = json.loads(told.stdout)
    return found | {"code": told.returncode, "error": told.stderr, "pid": None}


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_it_sees_what_python_started_anew_sees(unbuffered: str, tmp_path: Path) -> None:
    whole = env(ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered})
    program = forked.python(whole, tmp_path)
    assert program != [sys.executable]

    ours = seen(program, whole, tmp_path, "7", "é", umask=0o27)

    assert ours == seen([sys.executable], whole, tmp_path, "7", "é", umask=0o27)
    assert (ours["code"], ours["environment"]["TZ"], ours["stdin"], ours["umask"]) == (7, "Asia/Tokyo", "given\n", 0o27)


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_closed_streams_are_closed(closed: str) -> None:
    whole = env({})
    both = [
        json.loads(
            subprocess.run(
                ["bash", "-c", f'"$@" {closed}', "-", *program, *SEES], env=whole, cwd=ROOT, capture_output=True, check=True
            ).stdout
        )["streams"]
        for program in (forked.python(whole), [sys.executable])
    ]

    assert both[0] == both[1]
    assert None in both[0]


@pytest.mark.parametrize(
    "changes",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C.ISO"}, {"PYTHONPATH": "/elsewhere"}, {"LD_LIBRARY_PATH": "/x"}],
    ids=str,
)
def test_where_python_would_start_otherwise_it_is_started(changes: dict[str, str]) -> None:
    assert forked.python(env(changes)) == [sys.executable]
    assert forked.started([sys.executable, "-m", "embedq"], env(changes)) is None


def test_beside_another_copy_of_the_package_that_is_started(tmp_path: Path) -> None:
    (tmp_path / "embedq").mkdir()

    assert forked.python(env({}), tmp_path) == [sys.executable]


def test_an_end_by_a_signal_is_told(environment: dict[str, str]) -> None:
    with start_poller(environment) as poller:
        assert poller.exit_code is None
        poller.signal(signal.SIGTERM)
        until(lambda: not poller.runs)
        assert poller.exit_code == 0
    with start_poller(environment) as poller:
        poller.kill()
        assert poller.exit_code == -signal.SIGKILL


def test_whoever_asked_and_dies_takes_the_fork_along(environment: dict[str, str]) -> None:
    whole = env(environment)
    asking = subprocess.Popen(
        [*forked.python(whole), "-m", "embedq", "poller"],
        env=whole,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert asking.stdout is not None
    while b"is ready" not in asking.stdout.readline():
        continue
    asking.kill()
    asking.wait()

    assert asking.stdout.read() is not None  # it ends when no fork holds the other end


def test_no_fork_outlives_the_test_run() -> None:
    """The run is killed, not ended."""
    code = "import time; from tests import forked; from tests.support import Process; import sys\n"
    code += "forked.in_use = True\n"
    code += "process = Process('wait', [sys.executable, '-m', 'embedq', 'poller'], {'DATABASE_URL': 'postgresql://127.0.0.1:1/x', 'REDIS_URL': 'redis://127.0.0.1:1'})\n"
    code += "print(process.pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], env=env({}), cwd=ROOT, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        fork = psutil.Process(int(run.stdout.readline()))
        run.kill()

    until(lambda: not fork.is_running() or fork.status() == psutil.STATUS_ZOMBIE)


def test_its_output_can_be_read_while_it_runs(environment: dict[str, str]) -> None:
    argv = [sys.executable, "-m", "embedq", "poller"]
    with Process("poller", argv, environment) as process:
        process.says("is ready")
        assert process.runs
