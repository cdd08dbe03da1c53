"""Configuration: shown without secrets, checked as a whole, kept in versions, compared, restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .operating import answered, invoked

KEY = "sk-a-secret-of-length"


@pytest.fixture
def told(environment: dict[str, str]) -> Callable[..., Any]:
    return lambda *words, code=0, **changes: answered(environment | changes, *words, code=code)


def test_all_problems_are_told_at_once_each_with_its_remedy_and_no_secret(environment):
    wrong = {
        "EMBEDDING_BATCH_SIZE": "many",
        "EMBEDDING_MODE": "fast",
        "EMBEDDING_BACH_SIZE": "5",
        "DATABASE_URL": f"mysql://u:{KEY}@h/d",
        "OPENAI_BASE_URL": f"ftp://u:{KEY}@h",
        "EMBEDDING_RETRY_BACKOFF_BASE": "9000",
        "EMBEDDING_RETRY_BACKOFF_MAX": "10",
    }

    result = invoked(environment | wrong, "config", "check", code=2)

    for name in wrong:
        assert name in result.stderr
    assert "did you mean EMBEDDING_BATCH_SIZE" in result.stderr
    assert KEY not in result.output


def test_a_version_keeps_what_the_environment_names_and_a_secret_only_as_a_digest(told, psql):
    told(
        "config",
        "save",
        "--reason",
        "before",
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=f"http://user:{KEY}@127.0.0.1:1/v1?key={KEY}",
    )

    shown = told("config", "show", "--version", "1")
    stored = psql("SELECT metadata::text FROM embedding_audit_logs WHERE category = 'config'")[0][0]

    assert shown["settings"]["OPENAI_API_KEY"] == "(set, hidden)"
    assert shown["settings"]["OPENAI_BASE_URL"] == "http://127.0.0.1:1/v1"
    assert shown["settings"]["EMBEDDING_DIMENSIONS"] == 64
    assert "EMBEDDING_BATCH_SIZE" not in shown["settings"]
    assert KEY not in stored
    assert KEY not in str(shown)


def test_diff_names_what_changed_also_a_secret_without_showing_it(told):
    told("config", "save", OPENAI_API_KEY=KEY, EMBEDDING_BATCH_SIZE="50")

    same = told("config", "diff", OPENAI_API_KEY=KEY, EMBEDDING_BATCH_SIZE="50")
    other = told("config", "diff", "1", OPENAI_API_KEY=KEY + "x", EMBEDDING_BATCH_SIZE="60", EMBEDDING_MAX_RETRIES="9")

    assert (same["settings"], same["live"]) == ([], [])
    assert {change["name"]: (change["then"], change["now"]) for change in other["settings"]} == {
        "EMBEDDING_BATCH_SIZE": (50, 60),
        "EMBEDDING_MAX_RETRIES": (None, 9),
        "OPENAI_API_KEY": ("(set, hidden)", "(set, hidden)"),
    }
    assert KEY not in str(other)


def test_restore_sets_the_live_part_back_and_prints_lines_for_the_environment(told, psql, environment):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    told("throttle", "--batch", "7")
    told("config", "save", EMBEDDING_BATCH_SIZE="50", EMBEDDING_MODEL="")
    told("throttle", "off")
    told("pause", "--tenant", "acme")
    told("mode", "hybrid", "--reason", "trying")

    refused = invoked(environment, "config", "restore", "1", code=2)
    planned = told("config", "restore", "1", "--dry-run", EMBEDDING_BATCH_SIZE="60", EMBEDDING_MAX_RETRIES="9")
    live_meanwhile = psql("SELECT mode, throttle, paused_tenants FROM embedding_worker_status")
    answer = told("config", "restore", "1", "--yes", EMBEDDING_BATCH_SIZE="60", EMBEDDING_MAX_RETRIES="9", OPENAI_API_KEY=KEY)

    assert "--yes" in refused.stderr
    assert planned["environment"] == ["export EMBEDDING_BATCH_SIZE=50", "unset EMBEDDING_MAX_RETRIES"]
    assert live_meanwhile == [("hybrid", {}, ["acme"])]
    assert answer["environment"] == ["export EMBEDDING_BATCH_SIZE=50", "unset EMBEDDING_MAX_RETRIES", "unset OPENAI_API_KEY"]
    assert psql("SELECT mode, throttle, paused_tenants FROM embedding_worker_status") == [("database", {"batch": 7}, [])]
    assert told("config", "diff", "1", EMBEDDING_BATCH_SIZE="50")["live"] == []


def test_a_saved_version_survives_cleanup(told, psql):
    told("config", "save")
    psql("UPDATE embedding_audit_logs SET timestamp = now() - interval '1 year'")
    psql("INSERT INTO embedding_audit_logs (timestamp, category, message) VALUES (now() - interval '1 year', 'test', 'old')")

    told("cleanup", "--days", "1", "--yes")

    assert [row["version"] for row in told("config", "list")] == [1]
    assert psql("SELECT count(*) FROM embedding_audit_logs WHERE category = 'test'") == [(0,)]


def test_an_unknown_version_is_told_with_the_next_step(environment):
    assert "embedq config save" in invoked(environment, "config", "diff", code=1).stderr
