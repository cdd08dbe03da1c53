"""Who uses this Redis: each installation's steward leaves its name there, so that two on one are noticed.

They would take each other's messages. Nothing is lost by that, and each task waits until its message is missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

INSTALLATIONS: Final = "embedq:installations"
# Read by `status` and `health`: the names, while there are several.
SHARED: Final = "embedq:shared"
FRESH_S: Final = 60


def announce(client: Any, prefix: str, identity: str, name: str) -> list[str]:
    """Leave the name of this installation; the names of the others that did so lately. None are known where Redis answers and refuses (a
    user without the right, a replica). Raises what redis-py raises when it does not answer."""
    from redis.exceptions import ResponseError

    try:
        return _announced(client, prefix, identity, name)
    except ResponseError:
        return []


def _announced(client: Any, prefix: str, identity: str, name: str) -> list[str]:
    now = int(client.time()[0])
    pipe = client.pipeline(transaction=False)
    pipe.hset(prefix + INSTALLATIONS, identity, f"{now} {name}")
    pipe.hgetall(prefix + INSTALLATIONS)
    _, found = pipe.execute()
    others = _others(found, identity, now - FRESH_S)
    if others:
        client.set(prefix + SHARED, "; ".join(sorted([name, *others])), ex=FRESH_S)
    return others


def _others(found: Mapping[bytes, bytes], identity: str, since: int) -> list[str]:
    told = [value.decode(errors="replace").partition(" ") for key, value in found.items() if key.decode() != identity]
    return sorted(name for at, _, name in told if at.isdigit() and int(at) >= since)
