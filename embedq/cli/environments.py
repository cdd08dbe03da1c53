"""The environment of each process of `embedq up`: a process gets a secret only if it uses it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from ..local.environment import of_a_program, without
from ..settings import by_env

TOKENS = ("AUTH_TOKEN", "ADMIN_TOKEN")
FLOWERS = "FLOWER_BASIC_AUTH"
# Flower uses the broker only; celery_app, which it loads, needs PostgreSQL's address but does not connect.
FLOWER_USES = ("EMBEDDING_BROKER_URL", "REDIS_URL")


def of_a_worker(environment: Mapping[str, str]) -> dict[str, str]:
    """A Celery worker or poller calls the provider, and needs no tokens of the HTTP service."""
    return without(environment, (*TOKENS, FLOWERS))


def of_the_service(environment: Mapping[str, str]) -> dict[str, str]:
    """The HTTP service checks tokens, and calls the provider for a search."""
    return without(environment, (FLOWERS,))


def of_flower(environment: Mapping[str, str], user_and_password: str) -> dict[str, str]:
    settings = [name for name, spec in by_env().items() if not spec.metadata["secret"]]
    flowers = [name for name in environment if name.startswith(("FLOWER_", "CELERY_"))]
    found = of_a_program(environment, (*settings, *FLOWER_USES, *flowers))
    return found | {"DATABASE_URL": without_password(environment.get("DATABASE_URL", "")), FLOWERS: user_and_password}


def without_password(url: str) -> str:
    """The address alone: no user, no password, no parameters."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
