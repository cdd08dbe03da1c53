"""What strangers have written reaches no terminal and no log as it is: a walk over every command, and the logs of every program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from embedq.cli import embedq
from embedq.cli.voice import confirm
from embedq.errors import InputError
from embedq.local.servers import Servers
from embedq.settings import from_env
from tests.acceptance.operating import embed_due, invoked
from tests.acceptance.service import hashing_at
from tests.acceptance.test_commands import GIVEN, LASTING, WALK, options
from tests.conftest import _with_database, fresh_database
from tests.strangers import HOSTILE, forged, make_hostile, seen
from tests.support import ROOT, Process, env, run_command, until

ARTICLES = ("tea", "cup", "pot")
# They take the database away, or what the others look at.
APART = {"embedq db downgrade", "embedq uninstall", "embedq restore"}
HERE = {
    "embedq rollback plan": ["emergency"],
    "embedq rollback rehearse": ["partial"],
    "embedq broker backup": ["{tmp}/broker.jsonl"],
    "embedq model compare": ["2"],
    "embedq model build": ["2"],
    "embedq model drop": ["2"],
    "embedq model activate": ["2"],
    "embedq model add": ["hashing", "other", "32"],
}
MORE = [
    ["articles", "show", "tea", "--versions"],
    ["export"],
    ["mode"],
    ["failed", "--details"],
    ["articles", "mark-review"],
    ["search", "x", "--hybrid"],
    ["broker", "rejected", "show", "1"],
    ["explain", "1"],
    ["config", "show", "--version", "1"],
    ["throttle"],
    ["audit", "--like", "FORGED"],
]


class World:
    def __init__(self, environment: dict[str, str], folder: Path, task: int) -> None:
        self.environment, self.folder, self.task = environment, folder, task

    def run(self, words: list[str]) -> Result:
        filled = [word + HOSTILE if word in ARTICLES else word.format(tmp=self.folder, task=self.task) for word in words]
        return CliRunner().invoke(embedq, filled, env=self.environment)


@pytest.fixture(scope="module")
def world(servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("walk")
    with fresh_database(servers, template) as url, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        environment = hashing_at(url, servers.redis_url) | {"EMBEDQ_HOME": str(folder / "home"), "COLUMNS": "200"}
        admin_url = _with_database(servers.admin_url, url.rsplit("/", 1)[1])
        task = fill(environment, admin_url, folder)
        make_hostile(admin_url)
        yield World(environment, folder, task)


def fill(environment: dict[str, str], admin_url: str, folder: Path) -> int:
    """A row of every kind in every table; the id of a task that has failed."""
    (folder / "texts").mkdir()
    (folder / "texts" / "one.md").write_text(f"# One\n\ntext{HOSTILE}\n")
    (folder / "empty.jsonl").write_text("")
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(ARTICLES_SQL, {"ids": list(ARTICLES)})
        connection.execute("UPDATE embedding_worker_status SET mode = 'database'")
        assert embed_due(from_env(environment)) == len(ARTICLES)
        connection.execute("UPDATE articles SET content = content || ' newer', slug = id || '2'")
        invoked(environment, "rollback", "emergency", "--yes", "--reason", "walk")
        invoked(
            environment,
            "model",
            "add",
            "hashing",
            f"stranger{HOSTILE}",
            "64",
            "--prefixes",
            '{"document": "of: "}',
            "--reason",
            "walk",
        )
        invoked(environment, "config", "save", "--reason", "walk")
        invoked(environment, "maintenance", "schedule", "--at", "+1h", "--reason", "walk", "--yes")
        connection.execute("SET session_replication_role = replica")
        for statement in ROWS.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO embedding_providers (name, pause_reason, faults) VALUES (%s, 'down', 9)", [HOSTILE])
        connection.execute(
            "INSERT INTO embedding_sources (name, schema_name, table_name, key_columns, key_types, title, content, tenant, condition,"
            " metadata_columns, columns, priority, given, behind_since, behind_reason, behind_statement) VALUES ('posts', 'public', 'posts',"
            " '{id}', '{bigint}', 'title', 'body', $$'default'$$, 'true', '{}', '{id,title,body}', 'normal', '{}', now(), 'why', 'UPDATE posts')"
        )
        connection.execute(
            "INSERT INTO embedding_tokens (name, secret_hash, scope, tenant_id, created_by, revoked_by) VALUES ('bot', sha256('x'), 'read', 'acme',"
            " 'ann', 'bob')"
        )
        connection.execute(
            "UPDATE embedding_rejected_messages SET raw = %s || convert_to(id::text, 'UTF8')", [HOSTILE.encode()]
        )
        return connection.execute("SELECT id FROM embedding_tasks WHERE status = 'failed'").fetchone()[0]


ARTICLES_SQL = """
INSERT INTO articles (id, slug, title, content, metadata)
SELECT i, i, i, 'text of ' || i, '{"language": "en"}' FROM unnest(CAST(%(ids)s AS text[])) i"""
ROWS = """
UPDATE embedding_tasks SET status = 'failed', completed_at = now(), attempts = 3, error_class = 'InputRefused', error_message = 'boom', slug = 'cup',
    errors = '[{"at": "2026-01-01T00:00:00+00:00", "attempt": 1, "error": "InputRefused", "message": "boom", "worker": "w", "delivery": "poller"}]'
WHERE article_id = 'cup' AND status = 'pending';
INSERT INTO embedding_workers (delivery, name, host, pid, queues, alive_until, counters)
SELECT d, d || 'worker', 'host', 1, ARRAY['low'], now() + interval '1 hour', '{"failing steward": 7, "note": "words"}'
FROM unnest(ARRAY['celery', 'poller']) d;
UPDATE embedding_tasks SET status = 'processing', processed_at = now() - interval '1 day', delivery = 'celery',
    lease_holder = (SELECT min(id) FROM embedding_workers) WHERE article_id = 'pot' AND status = 'pending';
INSERT INTO embedding_budgets (provider, requests, tokens) VALUES ('another', 1, 1);
INSERT INTO embedding_usage (day, tenant_id, model, slot, tokens) VALUES (current_date, 'acme', 'hashing/x/64', 0, 7);
UPDATE embedding_providers
SET pause_reason = 'down', cap_reason = 'dear', faults = 9, paused_until = now() + interval '1 hour', faulty_since = now();
INSERT INTO performance_metrics (metric, labels, value) VALUES ('depth', '{"status": "pending", "priority": "low"}', 5);
INSERT INTO embedding_rejected_messages (queue, reason, raw) VALUES ('low', 'not JSON', 'x');
UPDATE embedding_worker_status SET paused_tenants = ARRAY['acme'], throttle = '{"note": "words"}', reason = 'walk'"""


def cases() -> Iterator[list[str]]:
    """Those that look first; then those that would destroy; then those that change."""
    looks = [path for path in WALK if path not in LASTING | APART]
    looks.sort(key=lambda path: ("--yes" in options(WALK[path]), "--dry-run" not in options(WALK[path])))
    for path in looks:
        words = [*path.split()[1:], *(GIVEN | HERE).get(path, [])]
        if "--dry-run" in options(WALK[path]):
            yield [*words, "--dry-run"]
            yield words
        else:
            yield words
            yield [*words, "--json"]
    yield from MORE


def wrong_in(words: list[str], done: Result) -> object:
    """What must not be in its output, or how it failed. The text of an article may have tabs and lines of its own."""
    is_text = words[:2] == ["articles", "show"]
    obeyed = seen(done.output, "\n\t" if is_text else "\n")
    failed = done.exception if not isinstance(done.exception, SystemExit | None) else None
    return obeyed or (not is_text and forged(done.output)) or failed


def test_no_command_writes_what_a_terminal_obeys_nor_lets_a_text_make_a_line(world: World) -> None:
    done = {" ".join(words): (words, world.run(words)) for words in cases()}

    assert {name: wrong for name, (words, result) in done.items() if (wrong := wrong_in(words, result))} == {}
    repeated = {name for name, (_, result) in done.items() if "FORGED" in result.output}
    assert len(repeated) > 60, repeated  # the walk did meet the hostile texts
    assert {"articles list", "articles list --json", "audit", "status", "usage", "metrics", "explain tea", "export"} <= repeated


@pytest.mark.parametrize("path", [path for path in WALK if path not in LASTING])
def test_arguments_that_are_not_understood_are_repeated_visibly(path: str) -> None:
    for more in (HOSTILE, f"--{HOSTILE}", "\udcff"):
        done = CliRunner().invoke(embedq, [*path.split()[1:], more, HOSTILE, HOSTILE], env={})

        assert (seen(done.output, "\n\t"), forged(done.output)) == ([], []), more


def test_a_question_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("n\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)

    with pytest.raises(InputError):
        confirm(f"Delete tea{HOSTILE}?", yes=False)

    said = capsys.readouterr().err
    assert "Delete tea" in said
    assert (seen(said), forged(said)) == ([], [])


def test_real_processes_write_answers_errors_and_watches_visibly(world: World) -> None:
    shown = run_command(world.environment, "articles", "list")
    refused = run_command(world.environment, "articles", "show", f"none{HOSTILE}")
    watched = watch(world.environment, "status", "--watch", "--interval", "0.5")

    for said in (shown.stdout, refused.stderr, watched):
        assert said
        assert (seen(said), forged(said)) == ([], [])
    assert "\\u202e" in shown.stdout and "\\u202e" in refused.stderr and "\\u202e" in watched


def test_what_is_logged_in_a_command_without_logging_is_visible(world: World) -> None:
    code = (
        "import logging\n"
        "from embedq.cli import embedq\n"
        "from embedq.cli.config import check\n"
        "from tests.strangers import HOSTILE\n"
        "check.callback = lambda **_: logging.getLogger('embedq.engine.engine').warning(HOSTILE)\n"
        "embedq(['config', 'check'])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=env(world.environment), cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "WARNING embedq.engine" in done.stderr
    assert (seen(done.stderr), forged(done.stderr)) == ([], [])


def watch(environment: dict[str, str], *words: str) -> str:
    with Process("watch", [sys.executable, "-m", "embedq", *words], environment) as process:
        until(lambda: process.output().count("mode") > 1, 30, process.output)
        return process.output()
