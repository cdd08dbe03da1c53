"""Settings: one frozen object, read from the environment once by a door, all problems reported at once.

Written by hand rather than with pydantic-settings: `embedq status` has 0.3 s (docs/why/startup.rst).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .decide.prices import cap_of, numbers
from .errors import ConfigError
from .model import Mode

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _text(raw: str) -> str:
    return raw


def _bool(raw: str) -> bool:
    if raw.lower() in TRUE + FALSE:
        return raw.lower() in TRUE
    raise ValueError("must be true or false")


def _whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        try:
            number = int(raw)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not least <= number <= most:
            raise ValueError(f"must be between {least} and {most}")
        return number

    return parse


def _mode(raw: str) -> Mode:
    try:
        return Mode(raw.lower())
    except ValueError:
        raise ValueError(f"must be one of: {', '.join(Mode)}") from None


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw.lower() not in words:
            raise ValueError(f"must be one of: {', '.join(words)}")
        return raw.lower()

    return parse


def _checked(check: Callable[[str], Any]) -> Callable[[str], str]:
    """Text that must be understood, and is kept as it was written."""

    def parse(raw: str) -> str:
        check(raw)
        return raw

    return parse


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        scheme = urlsplit(raw).scheme.split("+")[0]
        if scheme not in schemes:
            raise ValueError(f"must be a URL that begins with {' or '.join(s + '://' for s in schemes)}")
        return raw

    return parse


def _setting(name: str, parse: Callable[[str], Any], default: Any, about: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"env": name, "parse": parse, "about": about, "secret": secret})


POSTGRES = ("postgresql", "postgres")
BROKERS = ("redis", "rediss", "unix", "sentinel", "amqp", "amqps", "pyamqp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times are kept as the environment gives them (`_ms`, hours, days); properties ending in `_s` are seconds."""

    database_url: str = _setting("DATABASE_URL", _url(*POSTGRES), "", "PostgreSQL; empty: the embedded server", secret=True)
    redis_url: str = _setting("REDIS_URL", _url(*BROKERS), "", "Redis; empty: the embedded server", secret=True)
    broker_url: str = _setting(
        "EMBEDDING_BROKER_URL", _url(*BROKERS), "", "any Celery broker; wins over REDIS_URL", secret=True
    )
    home: str = _setting("EMBEDQ_HOME", _text, "", "data folder of the embedded servers; empty: the user's data folder")
    search_enabled: bool = _setting("SEMANTIC_SEARCH_ENABLED", _bool, True, "false: mode `off` in this process")
    mode: Mode = _setting(
        "EMBEDDING_MODE", _mode, Mode.CELERY, "first value of the live mode; afterwards `embedq mode` decides"
    )
    queue_enabled: bool = _setting("EMBEDDING_QUEUE_ENABLED", _bool, True, "false: mode `sync` in this process")
    provider: str = _setting(
        "EMBEDDING_PROVIDER", _text, "hashing", "openai, ollama, hashing, sentence-transformers or an entry point's name"
    )
    model: str = _setting("EMBEDDING_MODEL", _text, "", "model name; empty: the provider's usual one")
    dimensions: int = _setting("EMBEDDING_DIMENSIONS", _whole(0, 16000), 0, "length of a vector; 0: the model's usual one")
    openai_api_key: str = _setting("OPENAI_API_KEY", _text, "", "key for the openai provider", secret=True)
    openai_base_url: str = _setting("OPENAI_BASE_URL", _url("http", "https"), "", "an OpenAI-compatible server")
    ollama_base_url: str = _setting("OLLAMA_BASE_URL", _url("http", "https"), "http://127.0.0.1:11434", "the Ollama server")
    requests_per_minute: str = _setting(
        "EMBEDDING_REQUESTS_PER_MINUTE",
        _checked(numbers),
        "",
        "a provider's limit, for all processes together: 500, or openai=500,ollama=60",
    )
    tokens_per_minute: str = _setting("EMBEDDING_TOKENS_PER_MINUTE", _checked(numbers), "", "the same in tokens")
    prices: str = _setting(
        "EMBEDDING_PRICES",
        _checked(numbers),
        "",
        "price of a million tokens, by model: openai/text-embedding-3-small=0.02,ollama=0",
    )
    daily_cap: str = _setting(
        "EMBEDDING_DAILY_CAP",
        _checked(cap_of),
        "",
        "spent in a day (UTC), normal and low wait for the next: 12.50, or 5000000 tokens",
    )
    worker_interval_ms: int = _setting("EMBEDDING_WORKER_INTERVAL", _whole(10), 5000, "ms; how often an idle poller looks")
    max_retries: int = _setting("EMBEDDING_MAX_RETRIES", _whole(0, 1000), 3, "further runs after a charged failure")
    retry_backoff_base_ms: int = _setting("EMBEDDING_RETRY_BACKOFF_BASE", _whole(1), 1000, "ms; bound of the first wait")
    retry_backoff_max_ms: int = _setting("EMBEDDING_RETRY_BACKOFF_MAX", _whole(1), 300_000, "ms; bound of every wait")
    batch_size: int = _setting("EMBEDDING_BATCH_SIZE", _whole(1, 10_000), 100, "tasks claimed, and texts sent, at once")
    worker_timeout_ms: int = _setting(
        "EMBEDDING_WORKER_TIMEOUT", _whole(1000), 300_000, "ms; longest time a worker may hold a task"
    )
    concurrent_workers: int = _setting(
        "EMBEDDING_CONCURRENT_WORKERS", _whole(1, 256), 4, "batches under way at once in one process"
    )
    fallback_after_ms: int = _setting(
        "EMBEDDING_FALLBACK_AFTER", _whole(100), 30_000, "ms; hybrid: unclaimed so long, a poller takes it"
    )
    queue_max_depth: int = _setting(
        "EMBEDDING_QUEUE_MAX_DEPTH", _whole(1), 10_000, "tasks with the broker at once, per priority"
    )
    tenant_max_pending: int = _setting("EMBEDDING_TENANT_MAX_PENDING", _whole(0), 0, "one tenant's share of it; 0: half")
    article_batch_max: int = _setting("ARTICLE_BATCH_MAX", _whole(1, 10_000), 200, "articles in one HTTP batch")
    cleanup_interval_h: int = _setting("EMBEDDING_CLEANUP_INTERVAL", _whole(1), 24, "hours between clean-ups")
    cleanup_retention_days: int = _setting(
        "EMBEDDING_CLEANUP_RETENTION_DAYS", _whole(1), 30, "days that finished tasks, samples and history are kept"
    )
    auth_token: str = _setting("AUTH_TOKEN", _text, "", "bearer token for articles and search", secret=True)
    admin_token: str = _setting("ADMIN_TOKEN", _text, "", "bearer token for /admin, /metrics and the cockpit", secret=True)
    metrics_port: int = _setting(
        "EMBEDDING_METRICS_PORT",
        _whole(0, 65_535),
        0,
        "where a worker or poller shows its metrics (taken: the next free one); 0: nowhere",
    )
    metrics_host: str = _setting("EMBEDDING_METRICS_HOST", _text, "127.0.0.1", "address of that port")
    log_format: str = _setting("EMBEDDING_LOG_FORMAT", _one_of("text", "json"), "text", "text for people, json for programs")
    log_level: str = _setting(
        "EMBEDDING_LOG_LEVEL", _one_of("debug", "info", "warning", "error"), "info", "debug: every task that was settled"
    )

    @property
    def worker_interval_s(self) -> float:
        return self.worker_interval_ms / 1000

    @property
    def worker_timeout_s(self) -> float:
        return self.worker_timeout_ms / 1000

    @property
    def fallback_after_s(self) -> float:
        return self.fallback_after_ms / 1000

    @property
    def provider_timeout_s(self) -> float:
        """Bound of one provider request: a tenth of the hold on the tasks, so that a batch can be halved down to its culprit within it."""
        return min(60.0, self.worker_timeout_s / 10)

    @property
    def tenant_depth(self) -> int:
        """How many of one tenant's tasks may be with the broker at once, per priority."""
        return self.tenant_max_pending or max(1, self.queue_max_depth // 2)

    @property
    def effective_broker_url(self) -> str:
        return self.broker_url or self.redis_url


def by_env() -> dict[str, Any]:
    """The settings' dataclass fields by their environment name, in the order they are documented."""
    return {f.metadata["env"]: f for f in fields(Settings)}


def from_env(env: Mapping[str, str]) -> Settings:
    """Read and check everything together. Raises ConfigError listing every problem with its remedy."""
    known, found, values = by_env(), unknown_names(env), {}
    for name, spec in known.items():
        raw = env.get(name, "").strip()
        if not raw:
            continue
        try:
            values[spec.name] = spec.metadata["parse"](raw)
        except ValueError as wrong:
            shown = "(hidden)" if spec.metadata["secret"] or "@" in raw else repr(raw)
            found.append(f"{name}={shown} {wrong} ({spec.metadata['about']})")
    settings = Settings(**values)
    found += contradictions(settings)
    if found:
        raise ConfigError(
            "the settings are wrong:\n" + "\n".join(f"  - {problem}" for problem in found),
            hint="correct them all and run again; `embedq config check` repeats this check",
        )
    return settings


def unknown_names(env: Mapping[str, str]) -> list[str]:
    """EMBEDDING_* and EMBEDQ_* names that mean nothing, each with the nearest name that does."""
    known, found = list(by_env()), []
    for name in sorted(env):
        if name.startswith(("EMBEDDING_", "EMBEDQ_")) and name not in known and not name.startswith("EMBEDQ_TEST_"):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            found.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return found


def contradictions(settings: Settings) -> list[str]:
    """Settings that are each fine and together are not."""
    found = []
    if settings.retry_backoff_base_ms > settings.retry_backoff_max_ms:
        found.append("EMBEDDING_RETRY_BACKOFF_BASE must not exceed EMBEDDING_RETRY_BACKOFF_MAX")
    if settings.tenant_max_pending > settings.queue_max_depth:
        found.append(
            "EMBEDDING_TENANT_MAX_PENDING must not exceed EMBEDDING_QUEUE_MAX_DEPTH: one tenant's share is part of the whole"
        )
    return found


def home_of(settings: Settings) -> Path | None:
    return Path(settings.home).expanduser() if settings.home else None
