"""Removes embedq: backup, stop, cancel, empty the broker, downgrade, then check that nothing of embedq is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..broker import Broker
from ..errors import BrokerUnavailable, NotWell
from ..model import OPEN
from ..store import Store, half_removed, schema
from ..store.bulk import Act, Picked
from ..store.dependents import dependents, refuse_while_held
from ..store.remains import drops, remains
from . import backup, sources

Say = Callable[[str], None]


@dataclass(slots=True)
class Uninstalled:
    """What was done, and what the final check found. `remains`: must be empty. `left`: shared objects that stay intentionally. `drops`:
    statements that would remove the remaining database objects."""

    backup: str | None = None
    cancelled: int = 0
    messages: int | None = None
    remains: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    drops: list[str] = field(default_factory=list)


def refuse_while_workers_live(store: Store) -> None:
    """Raises NotWell if living workers are registered."""
    if {"embedding_workers", "embedding_tasks"}.intersection(half_removed.gone(store.database)):
        return  # without these tables a worker can do nothing, and none is registered
    alive = [worker["name"] for worker in store.workers.all() if worker["alive"]]
    if alive:
        raise NotWell(
            f"{len(alive)} worker(s) are alive and would work on tables that are gone: {', '.join(alive[:5])}",
            hint="end them first (systemctl stop embedq.target, docker compose stop, or Ctrl-C), then run it again; nothing was done",
        )


def uninstall(
    store: Store, broker: Broker, who: str, why: str, *, to: Path | None, keep_articles: bool, say: Say
) -> Uninstalled:
    """Remove everything. `to`: path of the backup, None for none. Can be run again after an interruption."""
    done, gone = Uninstalled(), half_removed.gone(store.database)
    if schema.current(store.database) is not None:
        refuse_while_workers_live(store)
        refuse_while_held(dependents(store.database))
    if gone and to is not None:
        half_removed.refuse(store.database, "no backup can be written")
    if schema.current(store.database) is not None and not gone:
        _keep(store, to, keep_articles, done, say)
        _end(store, who, why, done, say)
    done.left.append("the extension pgvector: other tables may use it (DROP EXTENSION vector)")
    done.messages = _empty_broker(broker, done, say)
    if schema.current(store.database) is not None:
        take_down = half_removed.remove if gone else schema.downgrade
        take_down(store.database, keep_articles=keep_articles)
        say("schema: taken down to nothing" + ("; the articles stay as a plain table" if keep_articles else ""))
    done.remains += remains(store.database, schema.RELATIONS, keep_articles=keep_articles)
    done.drops = drops(store.database, schema.RELATIONS) if done.remains else []
    return done


def _keep(store: Store, to: Path | None, keep_articles: bool, done: Uninstalled, say: Say) -> None:
    if to is not None:
        backup.write(store, to, () if keep_articles else ("articles", "vectors"))
        backup.verify(to)
        done.backup = str(to)
        say(f"backup written and checked: {to}")


def _end(store: Store, who: str, why: str, done: Uninstalled, say: Say) -> None:
    store.status.set_running(False, why or "uninstall", who)
    say("stopped: no worker can claim")
    for name in store.sources.names():
        removed = sources.detach(store, name, who, why or "uninstall")
        say(f"source {name}: detached, {removed:,} of its rows are kept no longer")
    act = Act("cancel_tasks", "uninstall", who, why, {"words": f"uninstalled by {who}"})
    done.cancelled = store.operate.sweep(Picked(OPEN), act).total
    say(f"{done.cancelled:,} open tasks cancelled")


def _empty_broker(broker: Broker, done: Uninstalled, say: Say) -> int | None:
    """Delete the queues with their messages, whose tasks are cancelled."""
    try:
        number = broker.remove()
        done.remains += [f"broker: {name}" for name in broker.remains()]
    except BrokerUnavailable as away:
        done.left.append(f"the broker was not looked at: {away}")
        say(f"broker: {away}")
        return None
    say(f"broker: {number:,} messages and our queues removed")
    done.left += broker.not_removed
    return number
