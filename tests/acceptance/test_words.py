"""What is printed is true and can be used: verdicts, names, ids, refusals."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from embedq.cli import COMMANDS, GROUPS, embedq
from embedq.cli.asked import nearest
from embedq.cli.overview import status_answer
from embedq.settings import from_env
from embedq.store import Store
from tests.forked import python
from tests.standin import StandIn
from tests.support import ROOT, env, run_command

from .operating import answered, embed_due, invoked
from .service import serving
from .underload import use_standin

Psql = Callable[..., list[tuple[Any, ...]]]


def put(psql: Psql, number: int, prefix: str = "a", text: str = "text") -> None:
    psql(
        "INSERT INTO articles (id, title, content) SELECT %s || i, 'Tea ' || i, %s || ' ' || i FROM generate_series(1, %s) i",
        prefix,
        text,
        number,
    )


COMMANDS_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'embedq'"


# Verdicts -----------------------------------------------------------------------------------------------------------------------------


def test_wait_ends_with_3_and_tells_how_many_failed(environment: dict[str, str], standin: StandIn, psql: Psql) -> None:
    known = use_standin(environment, standin, EMBEDDING_MAX_RETRIES="0")
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    standin.control(markers={"poison": "refuse"}, latency_ms=0.0)
    standin.hold()
    put(psql, 4)
    put(psql, 3, "p", "poison")
    waiting = subprocess.Popen(
        [*python(env(known)), "-m", "embedq", "wait", "--timeout", "60", "--json"],
        env=env(known),
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        from tests.support import start_poller, until

        until(lambda: psql(COMMANDS_SESSIONS) != [(0,)], why="`embedq wait` never connected")
        with start_poller(known):
            standin.wait_until_held(1)
            standin.release()
            out, _ = waiting.communicate(timeout=60)
    finally:
        waiting.kill()

    told = json.loads(out)
    assert waiting.returncode == 3
    assert (told["completed"], told["failed"]) == (4, 3)


def test_wait_where_all_went_well_ends_with_0(environment: dict[str, str]) -> None:
    assert answered(environment, "wait", "--timeout", "5")["failed"] == 0


def test_a_wait_that_is_too_long_says_what_is_in_the_way(environment: dict[str, str], psql: Psql) -> None:
    put(psql, 1)

    result = invoked(environment, "wait", "--timeout", "0.1", code=3)

    assert "no Celery worker is alive" in result.stderr
    assert "celery -A embedq worker" in result.stderr


def test_verify_says_what_search_does_not_find(environment: dict[str, str], psql: Psql) -> None:
    put(psql, 3)
    psql("UPDATE embedding_tasks SET status = 'failed' WHERE article_id = 'a1'")
    invoked(environment, "cancel", "a2")

    said = invoked(environment, "verify").stdout

    assert "nothing is lost; search does not find the newest text of 3 articles" in said
    assert all(words in said for words in ("1 were cancelled", "1 failed", "1 wait"))


@pytest.mark.parametrize(
    ("fault", "eta"),
    [
        pytest.param("SELECT 1", True, id="it moves"),
        pytest.param("UPDATE embedding_worker_status SET is_running = false", False, id="stopped"),
        pytest.param("UPDATE embedding_workers SET alive_until = clock_timestamp()", False, id="no worker"),
        pytest.param("UPDATE embedding_worker_status SET paused_priorities = '{normal}'", False, id="their priority is paused"),
        pytest.param("UPDATE embedding_worker_status SET paused_priorities = '{low}'", True, id="another priority is paused"),
        pytest.param(
            "UPDATE embedding_providers SET faults = 1, paused_until = now() + interval '1 h'", False, id="paused provider"
        ),
    ],
)
def test_no_time_is_told_while_nothing_can_move(fault: str, eta: bool, environment: dict[str, str], psql: Psql) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    put(psql, 3)
    embed_due(from_env(environment), batches=1, batch_size=1)
    psql(
        "INSERT INTO embedding_workers (delivery, name, host, pid, queues, alive_until, steward_since)"
        " VALUES ('poller', 'p', 'h', 1, '{}', clock_timestamp() + interval '1 h', clock_timestamp())"
    )

    psql(fault)
    told = answered(environment, "status")

    assert (told["eta_s"] is not None) == eta, told
    assert told["open"] == 2


def test_a_model_without_a_price_costs_an_unknown_amount(environment: dict[str, str], psql: Psql) -> None:
    put(psql, 2)
    invoked(environment, "model", "add", "openai", "text-embedding-3-large", "256")

    assert answered(environment, "model", "build", "2", "--dry-run")["cost"] is None
    assert "cost unknown" in invoked(environment, "model", "build", "2", "--dry-run").stdout
    assert answered(environment | {"EMBEDDING_PRICES": "openai=0"}, "model", "build", "2", "--dry-run")["cost"] == 0


@pytest.mark.parametrize(
    ("revision", "told", "not_told"),
    [
        pytest.param(
            "0003",
            (
                "undone: 0004",
                "tables that go, with all that is in them: embedding_canaries, embedding_tokens, embedding_sources",
                "articles stay",
            ),
            "embedding_tasks,",
            id="a step",
        ),
        pytest.param("base", ("undone: 0001", "embedding_tasks", "the articles go too"), "none;", id="all of it"),
    ],
)
def test_a_downgrade_says_what_it_will_do(
    revision: str, told: tuple[str, ...], not_told: str, environment: dict[str, str]
) -> None:
    said = invoked(environment, "db", "downgrade", revision, "--dry-run").stdout

    assert all(words in said for words in told), said
    assert not_told not in said


@pytest.mark.parametrize("revision", ["", "nonsense", "9999", "-99", "+1", "0002:0003"])
@pytest.mark.parametrize("words", ["downgrade --yes", "downgrade --dry-run", "upgrade", "upgrade --plan", "upgrade --sql"])
def test_what_is_no_revision_is_refused_with_those_there_are(words: str, revision: str, environment: dict[str, str]) -> None:
    refused = invoked(environment, "db", *words.split(), "--", revision, code=2)

    assert "next: name head, base or one of" in refused.stderr


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        pytest.param({"EMBEDDING_PROVIDER": "opnai"}, "openai", id="a provider that does not exist"),
        pytest.param({"EMBEDDING_PROVIDER": "openai", "EMBEDDING_DIMENSIONS": "0"}, "OPENAI_API_KEY", id="no key"),
        pytest.param({"EMBEDDING_DIMENSIONS": "32"}, "the active model", id="another model than the database's"),
        pytest.param({"DATABASE_URL": ""}, "DATABASE_URL", id="no database"),
        pytest.param({"EMBEDDING_ASYNC": "true"}, "EMBEDDING_MODE", id="a name that is not a setting"),
    ],
)
def test_config_check_refuses_what_a_worker_refuses(
    changes: dict[str, str], word: str, environment: dict[str, str], tmp_path: Path
) -> None:
    known = environment | {"EMBEDQ_HOME": str(tmp_path / "none")} | changes

    checked = run_command(known, "config", "check")
    worker = run_command(known, "poller")

    assert (checked.returncode, worker.returncode) == (2, 2), (checked, worker)
    assert word in checked.stderr


def test_the_service_tells_the_mode_of_its_own_process(environment: dict[str, str]) -> None:
    with serving(environment | {"EMBEDDING_QUEUE_ENABLED": "false"}) as served:
        assert served.stranger.get("/health").json()["mode"] == "sync"


def test_search_names_the_setting_that_disables_it(environment: dict[str, str]) -> None:
    result = invoked(environment | {"SEMANTIC_SEARCH_ENABLED": "false"}, "search", "tea", code=3)

    assert "unset SEMANTIC_SEARCH_ENABLED" in result.stderr


# Reasons ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["pause --priority low", "resume", "stop", "start", "emergency-stop --yes"])
def test_the_modes_reason_stays_whatever_else_is_ordered(act: str, environment: dict[str, str]) -> None:
    invoked(environment, "mode", "hybrid", "--reason", "the broker is in doubt")
    before = answered(environment, "mode")

    invoked(environment, *act.split(), "--reason", "something else")

    told = answered(environment, "status")
    assert told["reason"] == "the broker is in doubt"
    assert [answered(environment, "mode")[key] for key in ("reason", "by", "since")] == [
        before[key] for key in ("reason", "by", "since")
    ]
    assert told["since"] == before["since"]
    if "stop" in act:
        assert told["stopped_by"]["reason"] == "something else"


@pytest.mark.parametrize(
    ("mode", "who"), [("celery", "0 Celery workers on queue normal"), ("database", "1 pollers"), ("off", "none in mode off")]
)
def test_explain_counts_only_who_may_take_it(mode: str, who: str, environment: dict[str, str], psql: Psql) -> None:
    put(psql, 1)
    psql("UPDATE embedding_worker_status SET mode = %s", mode)
    psql(
        "INSERT INTO embedding_workers (delivery, name, host, pid, queues, alive_until)"
        " VALUES ('poller', 'p', 'h', 1, '{}', clock_timestamp() + interval '1 h')"
    )

    said = invoked(environment, "explain", "a1").stdout

    (line,) = [line for line in said.splitlines() if "who may take it" in line]
    assert line.split("it", 1)[1].strip() == who


# What is printed ------------------------------------------------------------------------------------------------------------------------


def test_ids_are_printed_as_they_are_typed(environment: dict[str, str], psql: Psql) -> None:
    psql("SELECT setval(pg_get_serial_sequence('embedding_tasks', 'id'), 4962)")
    put(psql, 1)
    psql("UPDATE embedding_tasks SET status = 'failed', error_message = 'x'")

    for command in (["failed"], ["recent"], ["dead-letter", "show", "4963"]):
        assert "4963" in invoked(environment, *command).stdout
    invoked(environment, "explain", "4963")


@pytest.mark.parametrize("columns", ["60", "80", "160"])
@pytest.mark.parametrize("command", [["failed"], ["recent"], ["articles", "list"], ["status"]])
def test_ids_and_commands_are_never_broken(command: list[str], columns: str, environment: dict[str, str], psql: Psql) -> None:
    article = "0b7c5b1e-6f0e-4f0a-9d7f-0123456789ab"
    psql("INSERT INTO articles (id, title, content) VALUES (%s, 'Tea', 'how to brew it')", article)
    psql(
        "UPDATE embedding_tasks SET status = 'failed', error_message = 'a long message of the provider, twice as long as a line'"
    )

    said = invoked(environment | {"COLUMNS": columns}, *command).stdout

    if command == ["status"]:
        assert any(line.strip() == "next: celery -A embedq worker -Q urgent,high,normal,low" for line in said.splitlines()), (
            said
        )
    else:
        assert article in said


def test_a_list_says_that_there_is_more(environment: dict[str, str], psql: Psql) -> None:
    put(psql, 12)
    psql("UPDATE embedding_tasks SET status = 'failed', error_message = 'x'")

    assert "10 of 12; --limit N shows more" in invoked(environment, "failed", "--limit", "10").stdout
    assert "--limit N" not in invoked(environment, "failed").stdout
    assert answered(environment, "failed", "--by-error")[0]["tasks"] == 12


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(["explain", "nothing"], 1, id="not found"),
        pytest.param(["retry"], 2, id="misused"),
        pytest.param(["wait", "--timeout", "0.01"], 3, id="not well"),
        pytest.param(["recent", "--limit", "many"], 2, id="an option's value"),
        pytest.param(["statsu"], 2, id="no such command"),
    ],
)
def test_with_json_a_refusal_is_json_on_standard_output(
    words: list[str], code: int, environment: dict[str, str], psql: Psql
) -> None:
    put(psql, 1)

    ended = run_command(environment, *words, "--json")

    told = json.loads(ended.stdout)["error"]
    assert ended.returncode == code == told["exit_code"]
    assert told["message"]
    assert told["hint"]
    assert ended.stderr


def test_every_command_stands_in_one_group_of_the_help() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)
    said = CliRunner().invoke(embedq, ["--help"]).stdout
    assert all(f"{title}:" in said for title in GROUPS)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("statsu", "status"),
        ("stauts", "status"),
        ("saerch", "search"),
        ("helth", "health"),
        ("recnet", "recent"),
        ("vrify", "verify"),
    ],
)
def test_a_near_miss_is_the_command_that_was_meant(typed: str, meant: str) -> None:
    assert nearest(typed, COMMANDS) == meant
    assert f"Did you mean '{meant}'?" in CliRunner().invoke(embedq, [typed]).stderr


def test_a_text_is_not_waited_for_in_silence_on_a_terminal(environment: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    try:
        ended = subprocess.run(
            [*python(env(environment)), "-m", "embedq", "articles", "add", "Tea"],
            env=env(environment),
            cwd=ROOT,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=30,
        )
    finally:
        os.close(ours)
        os.close(theirs)

    assert ended.returncode == 2
    assert "--content" in ended.stderr


@pytest.mark.parametrize("name", ["embedq/__init__.py", "embedq.py"])
def test_up_beside_another_embedq_says_so(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    program = f"import sys; sys.path.pop(0); sys.path.append({str(ROOT)!r}); from embedq.__main__ import main; main(['up'])"

    ended = subprocess.run(
        [sys.executable, "-c", program], env=env(environment), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == 2, ended
    assert str(tmp_path.resolve() / "embedq") in ended.stderr


def commands_of(said: str) -> list[str]:
    return re.findall(r"^  (\S*embedq|\S+ -m embedq) \w", said, re.MULTILINE)


@pytest.mark.parametrize("path", ["/usr/bin:/bin", str(Path(sys.executable).parent)])
def test_the_last_lines_of_quickstart_run_as_they_are_printed(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedq.cli.trying import program

    monkeypatch.setenv("PATH", path)

    ended = subprocess.run(f"{program()} --version", shell=True, capture_output=True, text=True, env={"PATH": path}, cwd=ROOT)

    assert ended.returncode == 0, ended


def test_a_provider_that_is_away_is_named_with_host_and_port(environment: dict[str, str], standin: StandIn) -> None:
    known = use_standin(environment, standin)
    standin.kill()

    ended = run_command(known, "provider", "check")

    assert standin.openai_url.split("/")[2] in ended.stdout + ended.stderr


@pytest.mark.parametrize("limit", ["DATABASE {name}", "ROLE {role}"])
def test_no_connection_left_is_not_told_as_a_wrong_address(
    limit: str, environment: dict[str, str], admin_url: str, tmp_path: Path
) -> None:
    role = f"embedq_few_{os.getpid()}"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'password-of-few'")  # type: ignore[arg-type]
        what = limit.format(name=admin_url.rsplit("/", 1)[1], role=role)
        admin.execute(f"ALTER {what} CONNECTION LIMIT 0")  # type: ignore[arg-type]
        address = f"postgresql://{role}:password-of-few@{admin_url.rpartition('@')[2]}"

        ended = run_command(environment | {"DATABASE_URL": address}, "status")
        admin.execute(f"DROP ROLE {role}")  # type: ignore[arg-type]

    assert ended.returncode == 1
    assert "has no connection left" in ended.stderr
    assert "is DATABASE_URL right" not in ended.stderr


def test_what_is_watched_begins_with_what_is_wrong(
    store: Store, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    first, second, *_ = status_answer(store, watched=True).said

    assert str(first).startswith("mode celery")
    assert str(second).startswith("problem: no Celery worker is alive")


def test_articles_that_only_wait_are_not_missing(environment: dict[str, str], psql: Psql) -> None:
    put(psql, 2)

    assert "nothing is missing; 2 articles are still to be embedded" in invoked(environment, "verify").stdout
