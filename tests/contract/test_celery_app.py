"""Importing the Celery app defines it and does nothing else; what a worker needs is installed when Celery starts one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.support import ROOT, env, start_celery, start_poller, until

PATCHED = """
import os, signal
from celery import _state, signals
from celery.apps import worker
from celery.worker import pidbox
from kombu.transport import pyamqp, redis
from amqp import method_framing

def facts():
    names = [
        "after_setup_logger", "after_setup_task_logger", "celeryd_after_setup", "worker_ready", "worker_shutting_down", "worker_shutdown",
        "worker_process_init", "worker_process_shutdown", "celeryd_init",
    ]
    return {
        "channel": redis.Transport.Channel, "pidbox": pidbox.Pidbox, "say": worker.safe_say, "amqp": pyamqp.Connection.Channel,
        "frames": method_framing.Message, "term": signal.getsignal(signal.SIGTERM),
        "app": _state.default_app, "receivers": {name: len(getattr(signals, name).receivers or ()) for name in names},
        "pipes": len(os.listdir("/proc/self/fd")), "threads": len(__import__("threading").enumerate()),
    }

forks = []
os.register_at_fork = lambda **hooks: forks.append(hooks)
import logging.config, concurrent.futures.thread, random, psycopg, redis as _, embedq.client.client
forks.clear()
before = facts()
"""
BROKEN = {"EMBEDDING_BATCH_SIZE": "many", "DATABASE_URL": "nonsense", "REDIS_URL": "nonsense"}


def python(code: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=env(environment), cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("environment", [pytest.param({}, id="empty"), pytest.param(BROKEN, id="broken")])
def test_importing_it_reads_no_settings_and_patches_nothing(environment: dict[str, str], tmp_path) -> None:
    code = (
        PATCHED
        + """
import embedq.settings
def refuse(*_): raise AssertionError("settings were read")
embedq.settings.from_env = refuse
from embedq.celery_app import app, embed
after = facts()
assert (after, forks) == (before, []), (before, after, forks)
print("imported", app.main)
"""
    )

    done = python(code, environment | {"EMBEDQ_HOME": str(tmp_path)})

    assert done.returncode == 0, done.stderr
    assert done.stdout == "imported embedq\n"


def test_settings_that_are_wrong_are_told_when_celery_asks_for_its_configuration() -> None:
    done = python("from embedq.celery_app import app\nprint('imported', flush=True)\napp.conf.broker_url", BROKEN)

    assert done.stdout == "imported\n"
    assert "ConfigError" in done.stderr
    assert "EMBEDDING_BATCH_SIZE" in done.stderr


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"])
def test_when_a_worker_starts_the_hooks_are_there(url: str) -> None:
    code = (
        PATCHED
        + """
from embedq.celery_app import app
made = app.Worker(pool="solo", quiet=True)
after, on_redis = facts(), app.conf.broker_url.startswith("redis")
same = sorted(name for name in before if before[name] == after[name])
assert "pidbox" not in same and "say" not in same and "receivers" not in same, same
assert ("channel" in same, "amqp" in same) == (not on_redis, on_redis), same
assert made.consumer_cls.__name__ == ("CheckedConsumer" if on_redis else "Keeping"), made.consumer_cls
assert len(forks) >= 1 and app.conf.worker_concurrency == 3, (forks, app.conf.worker_concurrency)
print("a worker")
"""
    )
    environment = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/x",
        "EMBEDDING_BROKER_URL": url,
        "EMBEDDING_CONCURRENT_WORKERS": "3",
    }

    done = python(code, environment)

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("a worker\n")


@pytest.mark.parametrize(
    ("start", "mode"), [pytest.param(start_celery, "celery", id="celery"), pytest.param(start_poller, "database", id="poller")]
)
def test_a_worker_with_search_disabled_claims_nothing_and_takes_no_message(start, mode, environment, psql) -> None:
    psql("UPDATE embedding_worker_status SET mode = %s", mode)
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'text' FROM generate_series(1, 5) n")
    disabled = start(environment | {"SEMANTIC_SEARCH_ENABLED": "false"}, ready=False)
    try:
        disabled.says("SEMANTIC_SEARCH_ENABLED=false: this worker claims nothing")
        disabled.says(" ready." if start is start_celery else "claims nothing (see the log)")
        other = start(environment)
        try:
            until(lambda: psql("SELECT count(*) FROM embeddings") == [(5,)], 30, other.output)
            # More than one worker's share of messages: the disabled one would have taken some of them, and they would wait to be missed.
            psql("INSERT INTO articles (id, title) SELECT 'b' || n, 'text' FROM generate_series(1, 20) n")
            until(lambda: psql("SELECT count(*) FROM embeddings") == [(25,)], 30, other.output)

            assert psql("SELECT count(*) FROM embedding_workers WHERE alive_until > now()") == [(1,)]
            assert psql("SELECT count(*) FROM embedding_audit_logs WHERE category = 'broker'") == [(0,)], "messages were missed"
        finally:
            other.terminate()
        assert disabled.runs
        assert disabled.terminate() == 0
    finally:
        disabled.kill()
