"""`embedq quickstart` and `embedq up`, as a stranger runs them: no settings but a folder for the data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from embedq.local.servers import running
from tests import forked
from tests.rabbitmq import connected
from tests.support import ROOT, Process, folder_for_servers, until

Program = forked.Forked | subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with folder_for_servers("embedq-home-") as folder:
        yield folder


def embedq(home: Path, *argv: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"EMBEDQ_HOME": str(home), "EMBEDDING_WORKER_INTERVAL": "500", "EMBEDDING_PROVIDER": "hashing"}
    return subprocess.run(
        [*forked.python(environment), "-m", "embedq", *argv],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture
def up(home: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(**settings: str) -> Program:
        with (home / "up.log").open("wb") as log:
            environment = (
                os.environ
                | {"EMBEDQ_HOME": str(home), "EMBEDDING_WORKER_INTERVAL": "500", "EMBEDDING_PROVIDER": "hashing"}
                | settings
            )
            argv = [sys.executable, "-m", "embedq", "up", "--flower-port", "0", "--http-port", "0"]
            process = forked.started(argv, environment, out=log) or subprocess.Popen(
                argv, env=environment, stdout=log, stderr=log
            )
        started.append(process)
        until(lambda: running(home) is not None and both_workers(home), timeout_s=60, why="up did not come up")
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(90)


def both_workers(home: Path) -> bool:
    answer = embedq(home, "status", "--json")
    if answer.returncode != 0:
        return False
    return {worker["delivery"] for worker in json.loads(answer.stdout)["workers"] if worker["alive"]} >= {"celery", "poller"}


def descendants(process: Program) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_quickstart_embeds_the_standard_library_and_its_searches_find_the_right_modules(home: Path):
    done = embedq(home, "quickstart", "--json")

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["articles"] > 2000
    assert answer["ready"] == answer["articles"]
    found = {query: " ".join(hit["title"] for hit in hits) for query, hits in answer["searches"].items()}
    assert "compress" in found["compress a file"]
    assert "argparse" in found["parse command line arguments"] or "getopt" in found["parse command line arguments"]
    assert "threading" in found["wait for several threads"]
    assert running(home) is None


def test_quickstart_run_again_embeds_nothing(home: Path):
    done = embedq(home, "quickstart", "--json")

    assert (done.returncode, json.loads(done.stdout)["embedded"]) == (0, 0)


def test_up_runs_both_deliveries_and_a_second_one_says_where_the_first_runs(home: Path, up):
    process = up()

    added = embedq(home, "articles", "add", "Tea", "--content", "How to brew it", "--slug", "tea")
    assert added.returncode == 0, added.stderr
    until(lambda: status_of(home, "tea") == "ready", timeout_s=20, why="the article was not embedded")
    second = embedq(home, "up")
    assert (second.returncode, f"pid {process.pid}" in second.stderr) == (1, True)


def test_up_starts_again_what_dies_and_says_so(home: Path, up):
    process = up()
    poller = next(child for child in descendants(process) if "poller" in child.cmdline())

    poller.kill()

    until(
        lambda: "poller was ended by SIGKILL; starting it again" in (home / "up.log").read_text(), timeout_s=20, why="not said"
    )
    until(lambda: any("poller" in child.cmdline() for child in descendants(process)), timeout_s=20, why="not started again")


def test_ctrl_c_stops_everything_in_order_and_loses_nothing(home: Path, up):
    process = up()
    children = descendants(process)

    process.send_signal(signal.SIGINT)

    assert process.wait(90) == 0
    assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.rabbitmq
def test_up_with_rabbitmq_starts_no_redis_and_whoever_asks_its_home_finds_rabbitmq(home: Path, up, rabbitmq_url: str):
    process = up(EMBEDDING_BROKER_URL=rabbitmq_url)

    added = embedq(home, "articles", "add", "Mate", "--content", "How to pour it", "--slug", "mate")
    assert added.returncode == 0, added.stderr
    until(lambda: status_of(home, "mate") == "ready", timeout_s=20, why="the article was not embedded")
    asked = json.loads(embedq(home, "broker", "status", "--json").stdout)
    assert asked["broker"] == rabbitmq_url.replace("guest:guest@", "")
    assert not any("redis-server" in word for child in descendants(process) for word in child.cmdline())
    assert "guest:guest" not in embedq(home, "up").stderr + (home / "up.log").read_text()

    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 0
    up(EMBEDDING_BROKER_URL=rabbitmq_url)
    assert embedq(home, "verify").returncode == 0


@pytest.mark.rabbitmq
def test_up_says_what_is_the_matter_with_a_broker_that_workers_would_wait_for(home: Path, rabbitmq_url: str):
    with connected(rabbitmq_url) as connection:
        connection.channel().queue_declare("low", durable=True, auto_delete=False)
    argv = [sys.executable, "-m", "embedq", "up", "--flower-port", "0", "--http-port", "0"]
    environment = os.environ | {"EMBEDQ_HOME": str(home), "EMBEDDING_BROKER_URL": rabbitmq_url}

    with Process("up", argv, environment) as process:
        process.says("low; workers begin after: `embedq broker drain")
        drained = embedq(home, "broker", "drain", "--yes", "--reason", "an old queue")
        assert drained.returncode == 0, drained.stderr
        until(lambda: both_workers(home), timeout_s=60, why=process.output)
        process.terminate(90)


def test_what_up_started_ends_with_it_when_it_is_killed(home: Path, up):
    process = up()
    children = descendants(process)

    process.kill()

    process.wait(10)
    until(lambda: not any(alive(child) for child in children), timeout_s=80, why="children outlived it")
    assert running(home) is None


def alive(child: psutil.Process) -> bool:
    try:
        return child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def status_of(home: Path, slug: str) -> str:
    return json.loads(embedq(home, "articles", "show", slug, "--json").stdout)["embedding_status"]


def test_help_needs_nothing_heavy():
    code = "import sys; from embedq.cli import embedq; embedq(['--help'], standalone_mode=False); print([m for m in HEAVY if m in sys.modules])"
    heavy = "HEAVY = ['psycopg', 'celery', 'kombu', 'numpy', 'sqlalchemy', 'redis', 'fastapi', 'pydantic']; "

    done = subprocess.run([sys.executable, "-c", heavy + code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_status_imports_no_broker_no_orm_and_no_numbers(home: Path, servers, environment):
    code = (
        "import sys; from embedq.cli import embedq\n"
        "try: embedq(['status', '--json'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('celery', 'kombu', 'numpy', 'sqlalchemy', 'fastapi', 'pydantic') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_up_serves_http_and_flower_on_loopback_and_flower_asks_for_a_password(home: Path, tmp_path: Path):
    import re
    import urllib.error
    import urllib.request

    log = tmp_path / "up.log"
    environment = os.environ | {"EMBEDQ_HOME": str(home), "EMBEDDING_WORKER_INTERVAL": "500", "EMBEDDING_PROVIDER": "hashing"}
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", "embedq", "up"], env=environment, stdout=out, stderr=out, text=True)
    try:
        until(lambda: "Flower: http" in log.read_text(), timeout_s=60, why="no address was said")
        http, flower = re.findall(r"http://127\.0\.0\.1:\d+", log.read_text())[:2]

        def answer(url: str) -> int:
            try:
                return int(urllib.request.urlopen(url, timeout=5).status)
            except urllib.error.HTTPError as refused:
                return refused.code
            except OSError:
                return 0

        until(lambda: answer(f"{http}/health") == 200, timeout_s=60, why=lambda: log.read_text()[-2000:])
        until(lambda: answer(f"{flower}/workers") == 401, timeout_s=60, why=lambda: log.read_text()[-2000:])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)
