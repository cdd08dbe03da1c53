"""Settings are checked together, and wrong ones are named with their remedy."""

from __future__ import annotations

import pytest

from embedq.errors import ConfigError
from embedq.model import Mode
from embedq.settings import from_env


def test_an_empty_environment_gives_the_documented_defaults():
    settings = from_env({})

    assert (settings.mode, settings.batch_size, settings.max_retries, settings.worker_interval_s) == (Mode.CELERY, 100, 3, 5.0)


def test_all_problems_are_reported_at_once():
    with pytest.raises(ConfigError) as wrong:
        from_env({"EMBEDDING_MODE": "fast", "EMBEDDING_MAX_RETRIES": "many", "EMBEDDING_BATCHSIZE": "3"})

    assert [
        name in str(wrong.value) for name in ("EMBEDDING_MODE", "EMBEDDING_MAX_RETRIES", "did you mean EMBEDDING_BATCH_SIZE")
    ] == [True] * 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("EMBEDDING_BATCH_SIZE", "0", id="too small"),
        pytest.param("EMBEDDING_BATCH_SIZE", "1e3", id="no whole number"),
        pytest.param("EMBEDDING_QUEUE_ENABLED", "perhaps", id="neither true nor false"),
        pytest.param("DATABASE_URL", "mysql://somewhere/x", id="another database"),
        pytest.param("REDIS_URL", "http://somewhere", id="no broker"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str):
    with pytest.raises(ConfigError, match=name):
        from_env({name: value})


def test_a_wrong_secret_is_not_repeated():
    with pytest.raises(ConfigError) as wrong:
        from_env({"DATABASE_URL": "mysql://user:geheim@somewhere/x"})

    assert "geheim" not in str(wrong.value) + wrong.value.hint


def test_secrets_are_not_in_the_repr():
    settings = from_env(
        {"OPENAI_API_KEY": "sk-geheim", "DATABASE_URL": "postgresql://u:geheim@h/d", "ADMIN_TOKEN": "geheim-und-lang-genug"}
    )

    assert "geheim" not in repr(settings)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="RETRY_BACKOFF_BASE"):
        from_env({"EMBEDDING_RETRY_BACKOFF_BASE": "5000", "EMBEDDING_RETRY_BACKOFF_MAX": "1000"})


def test_a_provider_request_ends_well_before_the_worker_loses_its_tasks():
    settings = from_env({"EMBEDDING_WORKER_TIMEOUT": "20000"})

    assert settings.provider_timeout_s == 2.0
