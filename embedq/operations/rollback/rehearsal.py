"""Rehearses a whole procedure in this environment, on a temporary schema and temporary queues with generated tasks.

The real tables, queues and provider are not used: schema and queues have temporary names, and the generated texts are embedded by the
built-in provider, without cost.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from psycopg.conninfo import make_conninfo

from ...addresses import secret_of
from ...broker import Broker, broker_at
from ...decide.retry import RetryPolicy
from ...engine.engine import Engine
from ...engine.runs import NextDue
from ...engine.worker import Worker
from ...errors import BrokerUnavailable
from ...model import Mode, Model, Priority
from ...providers import ProviderSettings
from ...providers.registry import make
from ...settings import Settings
from ...steward.dispatcher import Dispatcher
from ...store import Store, schema
from ...store.database import Database
from .procedure import Ended, Scene, perform
from .procedures import UNDO, options_of, procedure

DIMENSIONS = 64
IN_BROKER = 0.8


@dataclass(slots=True)
class Rehearsed:
    """The result: of the procedure and of its undo, numbers of generated tasks, and whether everything was embedded at the end."""

    kind: str
    articles: int
    messages: int
    kept_for_review: int
    procedure_s: float
    undo_s: float
    embedded: int
    problems: list[str]
    broker: str
    steps: list[dict[str, Any]]

    @property
    def well(self) -> bool:
        return not self.problems and self.embedded == self.articles


def rehearse(
    kind: str,
    settings: Settings,
    database_url: str,
    broker_url: str,
    who: str,
    folder: Path,
    *,
    articles: int = 500,
    say: Callable[[str], None] = lambda _: None,
    options: Mapping[str, Any] | None = None,
) -> Rehearsed:
    """Perform `kind` and then `undo` on generated tasks. Everything made for it is removed, also after an error."""
    name = f"embedq_rehearsal_{secrets.token_hex(4)}"
    with _scratch_schema(database_url, name) as store, _scratch_broker(broker_url, f"{name}.") as broker:
        scene = Scene(store, broker, settings, who, f"rehearsal of {kind}", folder / name, say=say)
        said, messages = _made_up(scene, articles)
        ended = perform(procedure(kind), scene, options_of(kind, store, options or {}))
        embedded = _work_off(store)
        back = Scene(store, broker, settings, who, f"rehearsal of undo after {kind}", folder / name, say=say)
        undone = perform(UNDO, back, options_of("undo", store, {}))
        shutil.rmtree(folder / name, ignore_errors=True)
        return _told(kind, store, articles, messages, embedded, said, ended, undone)


def _told(
    kind: str, store: Store, articles: int, messages: int, embedded: int, said: str, ended: Ended, undone: Ended
) -> Rehearsed:
    steps = [{"step": step, "seconds": note["seconds"], "message": note["message"]} for step, note in ended.run.notes.items()]
    return Rehearsed(
        kind,
        articles,
        messages,
        store.rejected.count(),
        round(ended.seconds, 2),
        round(undone.seconds, 2),
        embedded,
        list(store.care.verify()["problems"]),
        said,
        steps,
    )


@contextmanager
def _scratch_schema(database_url: str, name: str) -> Iterator[Store]:
    real = Database(database_url)
    path = (real.one("SELECT current_setting('search_path') AS path") or {"path": "public"})["path"]
    real.execute(f'CREATE SCHEMA "{name}"')
    store = Store(Database(with_search_path(database_url, f'"{name}",{path}'), size=4, name="embedq rehearsal"))
    try:
        schema.upgrade(store.database)
        store.models.agree(Model("hashing", "hashing-v1", DIMENSIONS))
        yield store
    finally:
        store.close()
        real.execute(f'DROP SCHEMA "{name}" CASCADE')
        real.close()


def with_search_path(database_url: str, path: str) -> str:
    """The address with another search path; its other options are kept."""
    escaped = path.replace("\\", "\\\\").replace(" ", "\\ ")
    if "://" not in (pairs := secret_of(database_url)):
        return make_conninfo(pairs, options=f"-csearch_path={escaped}")
    parts = urlsplit(secret_of(database_url))
    query = dict(parse_qsl(parts.query))
    query["options"] = f"{query.get('options', '')} -csearch_path={escaped}".strip()
    return urlunsplit(parts._replace(query="&".join(f"{key}={quote(value)}" for key, value in query.items())))


@contextmanager
def _scratch_broker(broker_url: str, prefix: str) -> Iterator[Broker]:
    broker = broker_at(broker_url, prefix=prefix)
    try:
        yield broker
    finally:
        try:
            broker.circuit.worked()
            broker.empty()
        except Exception:  # queues left in an unreachable broker are harmless: no other program uses their names
            pass
        broker.close()


def _made_up(scene: Scene, articles: int) -> tuple[str, int]:
    """Generate articles with tasks, most of them dispatched, and messages of other programs in the queues."""
    store = scene.store
    store.status.set_mode(Mode.CELERY, "rehearsal", scene.who)
    store.database.execute(
        "INSERT INTO article_texts (id, title, content) SELECT 'made-up-' || n, 'Made up ' || n, 'rehearsal text ' || n"
        " FROM generate_series(1, %(n)s) n",
        {"n": articles},
    )
    bound = max(1, int(articles * IN_BROKER))
    small = replace(scene.settings, queue_max_depth=bound, tenant_max_pending=bound)
    try:
        scene.broker.circuit.check()
        Dispatcher(store, scene.broker, small).dispatch()
        scene.broker.publish_foreign("another.program", [1], Priority.NORMAL)
        scene.broker.publish_foreign("another.embed_document", ["made-up-1"], Priority.NORMAL)
        return "it answers", sum(queue.waiting for queue in scene.broker.look().values())
    except BrokerUnavailable as away:
        store.database.execute("UPDATE embedding_tasks SET dispatched_at = clock_timestamp() WHERE status = 'pending'")
        return f"rehearsed without it: {away}", 0


def _work_off(store: Store) -> int:
    """Embed all open tasks, as pollers would. Returns how many articles have their vectors."""
    worker = Worker(store, "poller", name="rehearsal")
    worker.start()
    policy = RetryPolicy(3, 1.0, 10.0)
    engine = Engine(store, worker, lambda model: make(model, ProviderSettings()), policy)
    try:
        while engine.run(NextDue()).claimed or engine.run_overdue(0.0).claimed:
            pass
    finally:
        worker.stop()
    return int(store.care.verify()["stored"])
