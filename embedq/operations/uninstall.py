"""Removes embedq: backup, stop, cancel, empty the broker, downgrade, then check that nothing of embedq is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..broker import Broker
from ..errors import BrokerUnavailable, NotWell
from ..model import OPEN
from ..store import Store, schema
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
    done = Uninstalled()
    if schema.current(store.database) is not None:
        refuse_while_workers_live(store)
        refuse_while_held(dependents(store.database))
        if to is not None:
            parts = () if keep_articles else ("articles", "vectors")
            backup.write(store, to, parts)
            backup.verify(to)
            done.backup = str(to)
            say(f"backup written and checked: {to}")
        store.status.set_running(False, why or "uninstall", who)
        say("stopped: no worker can claim")
        words = {"words": f"uninstalled by {who}"}
        for name in store.sources.names():
            removed = sources.detach(store, name, who, why or "uninstall")
            say(f"source {name}: detached, {removed:,} of its rows are kept no longer")
        done.cancelled = store.operate.sweep(Picked(OPEN), Act("cancel_tasks", "uninstall", who, why, words)).total
        say(f"{done.cancelled:,} open tasks cancelled")
    done.left.append("the extension pgvector: other tables may use it (DROP EXTENSION vector)")
    done.messages = _empty_broker(broker, done, say)
    if schema.current(store.database) is not None:
        schema.downgrade(store.database, keep_articles=keep_articles)
        say("schema: taken down to nothing" + ("; the articles stay as a plain table" if keep_articles else ""))
    done.remains += remains(store.database, schema.RELATIONS, keep_articles=keep_articles)
    done.drops = drops(store.database, schema.RELATIONS) if done.remains else []
    return done


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
