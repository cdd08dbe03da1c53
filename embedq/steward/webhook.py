"""Tells an address that an operator named what begins and ends: maintenance, and rollback procedures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from ..errors import EmbedqError

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
MOST_BYTES = 100_000


def told(url: str | None, body: Mapping[str, Any]) -> str | None:
    """POST this JSON there, if there is an address. Returns the error, if any, and never raises: a failed notification must not fail the command."""
    from ..providers.exchange import Exchange  # slow to import, and `status` imports the users of this module

    if not url:
        return None
    try:
        with closing(Exchange("webhook", "--webhook", url, timeout_s=TIMEOUT_S, connect_timeout_s=TIMEOUT_S)) as webhook:
            answer = webhook.post("", body, MOST_BYTES)
    except EmbedqError as failed:
        return _untold(str(failed))
    return None if 200 <= answer.status < 300 else _untold(f"HTTP {answer.status}")


def _untold(why: str) -> str:
    log.warning("the webhook was not told: %s", why)
    return f"the webhook was not told ({why})"
