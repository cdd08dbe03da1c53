"""What must hold after every schedule: at once, and after the steward's care and a worker that works until nothing is left."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedq.engine.outcomes import without_asking
from embedq.model import Delivery, Mode, Priority
from embedq.operations.mode_switch import switch
from embedq.store import Store

from .stage import Book, embedded, text_hash, vector_of
from .world import World

ROUNDS = 8
FACTS = """SELECT jsonb_build_object(
    'articles', (SELECT jsonb_agg(jsonb_build_array(a.id, a.tenant_id, a.title, a.content, a.version, a.embedding_status) ORDER BY a.id) FROM articles a),
    'tasks', (SELECT jsonb_agg(jsonb_build_array(t.id, t.article_id, t.model_id, t.status, t.version, t.tenant_id, t.priority, t.lease_holder,
        t.dispatched_at IS NOT NULL, t.scheduled_at <= clock_timestamp(), t.claims, t.attempts, t.lost_leases, t.metadata)
        ORDER BY t.id) FROM embedding_tasks t),
    'embeddings', (SELECT jsonb_agg(jsonb_build_array(e.article_id, e.model_id, e.version, encode(e.text_hash, 'hex'), e.chunks)
        ORDER BY e.article_id, e.model_id) FROM embeddings e),
    'vectors', (SELECT jsonb_agg(jsonb_build_array(v.article_id, v.model_id, v.chunk, v.tenant_id, v.embedding::text)
        ORDER BY v.article_id, v.model_id, v.chunk) FROM embedding_vectors v),
    'versions', (SELECT jsonb_agg(jsonb_build_array(h.article_id, h.version_number, h.content, h.deleted)
        ORDER BY h.article_id, h.version_number) FROM article_versions h WHERE h.purged_at IS NULL),
    'models', (SELECT jsonb_agg(jsonb_build_array(m.id, m.kept_in_step, m.dimensions) ORDER BY m.id) FROM embedding_models m),
    'active', (SELECT model_id FROM embedding_active_model),
    'live', (SELECT jsonb_build_array(s.mode, s.is_running, s.submissions_accepted) FROM embedding_worker_status s),
    'workers', (SELECT jsonb_agg(jsonb_build_array(w.id, w.alive_until > clock_timestamp()) ORDER BY w.id) FROM embedding_workers w))::text"""


@dataclass(slots=True)
class Facts:
    """The tables, as one look sees them."""

    raw: str
    data: dict[str, list[list[Any]]]
    active: int

    @classmethod
    def of(cls, world: World) -> Facts:
        raw = world.sql(FACTS)[0][0]
        data = json.loads(raw)
        return cls(raw, {name: rows or [] for name, rows in data.items() if isinstance(rows, list | None)}, data["active"])

    def hashes(self) -> dict[tuple[str, int], str]:
        return {(row[0], row[1]): row[3] for row in self.data["embeddings"]}

    def tasks_of(self, article: str, model: int) -> list[list[Any]]:
        return [row for row in self.data["tasks"] if row[1] == article and row[2] == model]


# At once ---------------------------------------------------------------------------------------------------------------------------


def at_once(facts: Facts, start: Facts | None = None, *, old_snapshot: bool = False) -> Iterator[str]:
    """`start`: what was there when the schedule began, of which no number may come to mean something else. `old_snapshot`: a writer above
    READ COMMITTED may have missed vectors of a model that was built meanwhile: what fits no article is judged after reconcile only."""
    hashes = facts.hashes()
    for article in facts.data["articles"]:
        yield from _promise(facts, article, hashes)
    yield from _vectors(facts, hashes)
    if not old_snapshot:
        yield from _fits(facts, hashes)
    waiting = Counter((row[1], row[2]) for row in facts.data["tasks"] if row[3] == "pending")
    yield from (f"G3: {times} tasks wait for article {article}" for (article, _), times in waiting.items() if times > 1)
    yield from _meanings(facts, start or facts)


def _meanings(facts: Facts, start: Facts) -> Iterator[str]:
    meant: dict[tuple[str, int], str] = {}
    for each in (start, facts):
        said = [(row[0], row[1], row[2]) for row in each.data["versions"]] + [
            (row[0], row[4], row[3]) for row in each.data["articles"]
        ]
        for article, version, content in said:
            if meant.setdefault((article, version), content) != content:
                yield f"version {version} of article {article} means two texts: {meant[(article, version)]!r} and {content!r}"


def _promise(facts: Facts, article: list[Any], hashes: dict[tuple[str, int], str]) -> Iterator[str]:
    id, _, title, content, version, status = article
    digest = text_hash(title, content).hex()
    # A waiting task takes the newest text when it is claimed; one that is being processed has the text that it was claimed with.
    tasks = [row for row in facts.tasks_of(id, facts.active) if row[4] >= version or row[3] == "pending"]
    ready = hashes.get((id, facts.active)) == digest
    if status == "ready" and not ready:
        yield f"G4: article {id} says ready and its newest text is not embedded"
    if not ready and tasks:
        if any(row[3] in ("pending", "processing") for row in tasks) and status in ("failed", "skipped"):
            yield f"article {id} says {status} while a task for its newest text is open"
        if max(tasks)[3] == "completed" and not any(row[3] in ("pending", "processing") for row in tasks):
            yield f"G4: the task of article {id}'s newest text is completed, and the stored vector is of another text"


def _vectors(facts: Facts, hashes: dict[tuple[str, int], str]) -> Iterator[str]:
    dims = {row[0]: row[2] for row in facts.data["models"]}
    for article, model, _, _, vector in facts.data["vectors"]:
        digest = hashes.get((article, model))
        if digest is None:
            yield f"article {article} has a vector of model {model} that no embedding vouches for"
        elif _shown(bytes.fromhex(digest), dims.get(model, 0)) != vector:
            yield f"G4: the vector of article {article}, model {model}, is not of the text whose hash is stored with it"


def _fits(facts: Facts, hashes: dict[tuple[str, int], str]) -> Iterator[str]:
    tenants = {row[0]: row[1] for row in facts.data["articles"]}
    for article, model, _, tenant, _ in facts.data["vectors"]:
        if tenants.get(article, tenant) != tenant:
            yield f"G4: article {article} is {tenants[article]}'s and its vector (model {model}) is {tenant}'s"
    yield from (f"orphan: model {m} has an embedding of {a}, which is no article" for a, m in hashes if a not in tenants)


def _shown(digest: bytes, dimensions: int) -> str:
    return "[" + ",".join(f"{number:g}" for number in vector_of(digest, dimensions)) + "]"


def fences(book: Book) -> Iterator[str]:
    for switched, off in book.fences:
        for claimed, delivery in book.claims:
            if delivery in off and claimed > switched:
                yield f"G5: a {delivery} claimed after the switch that ended its delivery had returned"


# After care ------------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Care:
    """Rescue, the mode in which all is worked off, reconcile once, and a worker until it finds nothing."""

    world: World
    bought: Counter[tuple[str, int, bytes]] = field(default_factory=Counter)
    late: int = 0

    def take(self) -> list[str]:
        store = Store(self.world.store.database)
        self.world.sql("UPDATE embedding_workers SET alive_until = '2000-01-01'")
        self.world.sql("UPDATE embedding_worker_status SET is_running = true WHERE NOT is_running")
        self._rescue(store)
        switch(store, Mode.DATABASE, "explorer", "explorer")
        store.care.reconcile()
        worker = store.workers.register(Delivery.POLLER, "explorer", [], 1e8)
        for _ in range(ROUNDS):
            tasks = store.tasks.claim_due(worker, Delivery.POLLER, tuple(Priority), 100)
            if not tasks:
                return []
            outcomes = [without_asking(task) or self._buy(task) for task in tasks]
            self.late += store.tasks.settle(worker, "explorer", outcomes).late
        return [f"no end: after {ROUNDS} rounds of work there still are tasks to claim"]

    @staticmethod
    def _rescue(store: Store) -> None:
        """The steward does so every second; of two lost tasks of one article it takes one at a time."""
        for _ in range(ROUNDS):
            if not store.tasks.rescue(300.0):
                return

    def _buy(self, task: Any) -> Any:
        self.bought[(task.article_id, task.model_id, text_hash(task.title or "", task.content or ""))] += 1
        dimensions = self.world.sql("SELECT dimensions FROM embedding_models WHERE id = %s", task.model_id)
        return embedded(task, dimensions[0][0] if dimensions else 64)


@dataclass(frozen=True, slots=True)
class Cared:
    """What care found, what it left, and what it bought. It depends on nothing but the tables that it began with."""

    problems: list[str]
    facts: Facts
    bought: Counter[tuple[str, int, bytes]]

    def problems_of(self, excuses: Sequence[str], start: Facts) -> list[str]:
        return [*self.problems, *at_once(self.facts, start), *_everything_embedded(self.facts, excuses)]


def after_care(world: World) -> Cared:
    care = Care(world)
    found = care.take()
    facts = Facts.of(world)
    problems = Store(world.store.database).care.verify()["problems"]
    return Cared(found + [f"verify: {problem}" for problem in problems], facts, care.bought)


def _everything_embedded(facts: Facts, excuses: Sequence[str]) -> Iterator[str]:
    hashes = facts.hashes()
    kept = [row[0] for row in facts.data["models"] if row[1]]
    chunks = Counter((row[0], row[1]) for row in facts.data["vectors"])
    promised = {(row[0], row[1]): row[4] for row in facts.data["embeddings"]}
    for id, _, title, content, version, _ in facts.data["articles"]:
        for model in kept:
            if hashes.get((id, model)) != text_hash(title, content).hex():
                last = max((row for row in facts.tasks_of(id, model) if row[4] >= version), default=None)
                if last is None or last[3] not in excuses:
                    yield f"G1: after care, article {id} is not embedded by model {model} (its last task is {last and last[3]})"
            elif chunks[(id, model)] != promised[(id, model)]:
                yield f"article {id} has {chunks[(id, model)]} vectors of model {model} instead of {promised[(id, model)]}"
    for row in facts.data["tasks"]:
        if row[3] in ("pending", "processing"):
            yield f"after care, task {row[0]} of article {row[1]} is {row[3]}"


def fingerprint(facts: Facts, more: str) -> str:
    return hashlib.sha256(f"{facts.raw}{more}".encode()).hexdigest()
