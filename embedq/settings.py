"""Settings: one frozen object, read from the environment once by a door, all problems reported at once.

Written by hand rather than with pydantic-settings: `embedq status` has 0.3 s (docs/why/startup.rst).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .address_kinds import of_http, of_postgres
from .addresses import Address
from .decide.arguments import as_text, headers_of
from .decide.modes import ProcessEnv
from .decide.preparation import prefixes_of
from .decide.prices import cap_of, numbers
from .decide.setting_names import unknown_names
from .errors import ConfigError
from .model import STORAGES, Mode
from .setting_values import MAKE_A_TOKEN, boolean, broker_of, checked, folder, mode_of, one_of, token_of, whole


def _setting(name: str, parse: Callable[[str], Any], default: Any, about: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"env": name, "parse": parse, "about": about, "secret": secret})


def _address(name: str, parse: Callable[[str], Address], default: str, about: str, *, secret: bool = False) -> Any:
    return _setting(name, parse, Address(default), about, secret=secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times are kept as the environment gives them (`_ms`, hours, days); properties ending in `_s` are seconds."""

    database_url: Address = _address("DATABASE_URL", of_postgres, "", "PostgreSQL; empty: the embedded server", secret=True)
    redis_url: Address = _address("REDIS_URL", broker_of, "", "Redis; empty: the embedded server", secret=True)
    broker_url: Address = _address(
        "EMBEDDING_BROKER_URL", broker_of, "", "any Celery broker, or several with ; between; wins over REDIS_URL", secret=True
    )
    home: str = _setting("EMBEDQ_HOME", folder, "", "data folder of the embedded servers; empty: the user's data folder")
    search_enabled: bool = _setting("SEMANTIC_SEARCH_ENABLED", boolean, True, "false: `off` in this process, also in a worker")
    mode: Mode = _setting(
        "EMBEDDING_MODE", mode_of, Mode.CELERY, "first value of the live mode; afterwards `embedq mode` decides"
    )
    queue_enabled: bool = _setting("EMBEDDING_QUEUE_ENABLED", boolean, True, "false: mode `sync` in this process")
    provider: str = _setting(
        "EMBEDDING_PROVIDER",
        as_text,
        "hashing",
        "openai, ollama, local, hashing, sentence-transformers or an entry point's name",
    )
    model: str = _setting("EMBEDDING_MODEL", as_text, "", "model name; empty: the provider's usual one")
    dimensions: int = _setting("EMBEDDING_DIMENSIONS", whole(0, 16000), 0, "length of a vector; 0: the model's usual one")
    storage: str = _setting(
        "EMBEDDING_STORAGE",
        one_of(*STORAGES),
        STORAGES[0],
        "how the vectors of a model are stored that is registered by these settings: vector (4 bytes a number) or halfvec (2 bytes)",
    )
    openai_api_key: str = _setting("OPENAI_API_KEY", as_text, "", "key for the openai provider", secret=True)
    openai_base_url: Address = _address("OPENAI_BASE_URL", of_http, "", "an OpenAI-compatible server")
    ollama_base_url: Address = _address("OLLAMA_BASE_URL", of_http, "http://127.0.0.1:11434", "the Ollama server")
    openai_organization: str = _setting(
        "OPENAI_ORG_ID", as_text, "", "organization that the openai provider's requests count for"
    )
    openai_project: str = _setting("OPENAI_PROJECT_ID", as_text, "", "project that they count for")
    provider_timeout_ms: int = _setting(
        "EMBEDDING_PROVIDER_TIMEOUT",
        whole(0),
        0,
        "ms; bound of one whole request to a provider; 0: a tenth of EMBEDDING_WORKER_TIMEOUT, at most 60000",
    )
    provider_headers: str = _setting(
        "EMBEDDING_PROVIDER_HEADERS",
        checked(headers_of),
        "",
        'further headers of each request to a provider, as a JSON object: {"X-Team": "search"}',
        secret=True,
    )
    max_input_tokens: str = _setting(
        "EMBEDDING_MAX_INPUT_TOKENS",
        checked(numbers),
        "",
        "what a model takes of one text, where its row is missing or its server takes less: 512, or openai/my-model=512",
    )
    prefixes: str = _setting(
        "EMBEDDING_PREFIXES",
        checked(prefixes_of),
        "",
        "what the model wants before texts, as a JSON object; {}: nothing; empty: what is known of it; part of the model:"
        ' {"document": "passage: ", "query": "query: "}; document_parameters and query_parameters are fields of the request',
    )
    chunk_tokens: str = _setting(
        "EMBEDDING_CHUNK_TOKENS",
        checked(numbers),
        "2000",
        "a longer text is embedded in chunks of so many tokens (estimated), at most what the model takes: 2000, or openai/my-model=300;"
        " part of the model from its registration on",
    )
    chunk_overlap: str = _setting(
        "EMBEDDING_CHUNK_OVERLAP",
        checked(numbers),
        "100",
        "so many tokens of a chunk are repeated in the next, at most a quarter of one; by model like the size",
    )
    chunk_headings: bool = _setting(
        "EMBEDDING_CHUNK_HEADINGS",
        boolean,
        False,
        "true: a chunk is embedded with the headings above it; part of the model from its registration on",
    )
    requests_per_minute: str = _setting(
        "EMBEDDING_REQUESTS_PER_MINUTE",
        checked(numbers),
        "",
        "a provider's limit, for all processes together: 500, or openai=500,ollama=60",
    )
    tokens_per_minute: str = _setting("EMBEDDING_TOKENS_PER_MINUTE", checked(numbers), "", "the same in tokens")
    prices: str = _setting(
        "EMBEDDING_PRICES",
        checked(numbers),
        "",
        "price of a million tokens, by model: openai/text-embedding-3-small=0.02,ollama=0",
    )
    daily_cap: str = _setting(
        "EMBEDDING_DAILY_CAP",
        checked(cap_of),
        "",
        "spent in a day (UTC), normal and low wait for the next: 12.50, or 5000000 tokens",
    )
    worker_interval_ms: int = _setting("EMBEDDING_WORKER_INTERVAL", whole(10), 5000, "ms; how often an idle poller looks")
    max_retries: int = _setting("EMBEDDING_MAX_RETRIES", whole(0, 1000), 3, "further runs after a charged failure")
    retry_backoff_base_ms: int = _setting("EMBEDDING_RETRY_BACKOFF_BASE", whole(1), 1000, "ms; bound of the first wait")
    retry_backoff_max_ms: int = _setting("EMBEDDING_RETRY_BACKOFF_MAX", whole(1), 300_000, "ms; bound of every wait")
    batch_size: int = _setting("EMBEDDING_BATCH_SIZE", whole(1, 10_000), 100, "tasks claimed, and texts sent, at once")
    worker_timeout_ms: int = _setting(
        "EMBEDDING_WORKER_TIMEOUT", whole(1000), 300_000, "ms; longest time a worker may hold a task"
    )
    stop_timeout_ms: int = _setting(
        "EMBEDDING_STOP_TIMEOUT", whole(100, 3_600_000), 20_000, "ms; so long a worker that ends lets what is under way settle"
    )
    concurrent_workers: int = _setting(
        "EMBEDDING_CONCURRENT_WORKERS", whole(1, 256), 4, "batches under way at once in one process"
    )
    fallback_after_ms: int = _setting(
        "EMBEDDING_FALLBACK_AFTER", whole(100), 30_000, "ms; hybrid: unclaimed so long, a poller takes it"
    )
    queue_max_depth: int = _setting(
        "EMBEDDING_QUEUE_MAX_DEPTH", whole(1), 10_000, "tasks with the broker at once, per priority"
    )
    tenant_max_pending: int = _setting("EMBEDDING_TENANT_MAX_PENDING", whole(0), 0, "one tenant's share of it; 0: half")
    article_batch_max: int = _setting("ARTICLE_BATCH_MAX", whole(1, 10_000), 200, "articles in one HTTP batch")
    cleanup_interval_h: int = _setting("EMBEDDING_CLEANUP_INTERVAL", whole(1), 24, "hours between clean-ups")
    cleanup_retention_days: int = _setting(
        "EMBEDDING_CLEANUP_RETENTION_DAYS", whole(1), 30, "days that finished tasks, samples and history are kept"
    )
    auth_token: str = _setting(
        "AUTH_TOKEN", token_of, "", "bearer token for articles and search; at least 16 characters", secret=True
    )
    admin_token: str = _setting(
        "ADMIN_TOKEN",
        token_of,
        "",
        "bearer token for /admin, /metrics and the cockpit; at least 16 characters, another than AUTH_TOKEN",
        secret=True,
    )
    mcp_token: str = _setting(
        "EMBEDQ_TOKEN", as_text, "", "whose scope and tenant hold in `embedq mcp`; empty: read and write articles", secret=True
    )
    metrics_port: int = _setting(
        "EMBEDDING_METRICS_PORT",
        whole(0, 65_535),
        0,
        "where a worker or poller shows its metrics (taken: the next free one); 0: nowhere",
    )
    metrics_host: str = _setting("EMBEDDING_METRICS_HOST", as_text, "127.0.0.1", "address of that port")
    contacts: str = _setting(
        "EMBEDDING_CONTACTS", as_text, "", "whom to call and in which order; shown in plans and incident reports"
    )
    log_format: str = _setting("EMBEDDING_LOG_FORMAT", one_of("text", "json"), "text", "text for people, json for programs")
    log_level: str = _setting(
        "EMBEDDING_LOG_LEVEL", one_of("debug", "info", "warning", "error"), "info", "debug: every task that was settled"
    )

    def __post_init__(self) -> None:
        """Turn addresses given as plain strings into `Address`, so that they print without passwords."""
        for each in fields(self):
            if isinstance(each.default, Address):
                object.__setattr__(self, each.name, Address(getattr(self, each.name)))

    @property
    def switches(self) -> ProcessEnv:
        return ProcessEnv(queue_enabled=self.queue_enabled, search_enabled=self.search_enabled)

    @property
    def worker_interval_s(self) -> float:
        return self.worker_interval_ms / 1000

    @property
    def worker_timeout_s(self) -> float:
        return self.worker_timeout_ms / 1000

    @property
    def stop_timeout_s(self) -> float:
        return self.stop_timeout_ms / 1000

    @property
    def fallback_after_s(self) -> float:
        return self.fallback_after_ms / 1000

    @property
    def provider_timeout_s(self) -> float:
        """Time limit of one provider request: a tenth of the time for which a worker may hold tasks, so that a refused batch can be halved
        down to the refused input within that time."""
        return self.provider_timeout_ms / 1000 or min(60.0, self.worker_timeout_s / 10)

    @property
    def tenant_depth(self) -> int:
        """How many of one tenant's tasks may be with the broker at once, per priority."""
        return self.tenant_max_pending or max(1, self.queue_max_depth // 2)

    @property
    def effective_broker_url(self) -> Address:
        return self.broker_url or self.redis_url


def by_env() -> dict[str, Any]:
    """The settings' dataclass fields by their environment name, in the order they are documented."""
    return {f.metadata["env"]: f for f in fields(Settings)}


def from_env(env: Mapping[str, str]) -> Settings:
    """Read and check everything together. Raises ConfigError listing every problem with its remedy."""
    known, found, values = by_env(), unknown_names(env, by_env()), {}
    for name, spec in known.items():
        raw = env.get(name, "").strip()
        if not raw:
            continue
        try:
            values[spec.name] = spec.metadata["parse"](raw)
        except ValueError as wrong:
            hidden = spec.metadata["secret"] or isinstance(spec.default, Address) or "@" in raw or "://" in raw
            shown = "(hidden)" if hidden else repr(raw)
            found.append(f"{name}={shown} {wrong} ({spec.metadata['about']})")
    settings = Settings(**values)
    found += contradictions(settings)
    if found:
        raise ConfigError(
            "the settings are wrong:",
            lines=[f"- {problem}" for problem in found],
            hint="correct them all and run again; `embedq config check` repeats this check",
        )
    return settings


def contradictions(settings: Settings) -> list[str]:
    """Settings that are valid each and contradict each other."""
    found = []
    if settings.retry_backoff_base_ms > settings.retry_backoff_max_ms:
        found.append("EMBEDDING_RETRY_BACKOFF_BASE must not exceed EMBEDDING_RETRY_BACKOFF_MAX")
    if settings.provider_timeout_ms > settings.worker_timeout_ms / 2:
        found.append(
            "EMBEDDING_PROVIDER_TIMEOUT must not exceed half of EMBEDDING_WORKER_TIMEOUT:"
            " a task is held that long, and a request that fails is repeated"
        )
    if settings.tenant_max_pending > settings.queue_max_depth:
        found.append(
            "EMBEDDING_TENANT_MAX_PENDING must not exceed EMBEDDING_QUEUE_MAX_DEPTH: one tenant's share is part of the whole"
        )
    if settings.admin_token and settings.admin_token == settings.auth_token:
        found.append(
            f"ADMIN_TOKEN must not be AUTH_TOKEN: an application that writes articles could stop the queue; make another: {MAKE_A_TOKEN}"
        )
    return found


def home_of(settings: Settings) -> Path | None:
    return Path(settings.home).expanduser() if settings.home else None
