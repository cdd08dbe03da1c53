"""Search: speed and recall of the index, against an exact scan of the same vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from time import perf_counter

import numpy as np

from embedq.model import Model
from embedq.store import Store
from embedq.store.index import Index

from . import filling
from .figures import Figure, percentile
from .world import World, Yard

DIMENSIONS, K, TOPICS = 384, 10, 200
RECALL, TIMES_FASTER = 0.95, 20.0


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """Vectors in topics, as texts are: uniform noise has no neighbours to find. Queries are near stored vectors."""
    vectors, queries, exact = (5_000, 20, 5) if quick else (100_000, 300, 30)
    dice = np.random.default_rng(0)
    with world.yard(dimensions=DIMENSIONS) as yard, yard.store() as store:
        stored = _fill(yard, vectors, dice)
        wanted = _unit(
            stored[dice.integers(0, vectors, queries)] + dice.normal(0, 0.5 / np.sqrt(DIMENSIONS), (queries, DIMENSIONS))
        )
        truth = [_nearest(stored, query) for query in wanted]
        model = store.models.active()
        assert model is not None
        scanned, _ = _timed(store, model, wanted[:exact])
        Index(store.database, model).build(memory_mb=1024)
        timed, found = _timed(store, model, wanted)
    recall = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth, strict=True)]))
    name = f"{vectors:,} vectors of {DIMENSIONS}"
    yield Figure(f"recall@{K}, {name}", recall, "", target=f">= {RECALL:g}", met=recall >= RECALL)
    ratio = median(scanned) / median(timed)
    raw = {"ours": timed, "other": scanned}
    speed, slow = 1000 / median(timed), 1000 / median(scanned)
    yield Figure(
        f"searches, {name}", speed, "1/s", "exact scan", slow, ratio, f">= {TIMES_FASTER:g} x", ratio >= TIMES_FASTER, raw
    )
    yield Figure(f"p99, {name}", percentile(timed, 0.99), "ms")


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _fill(yard: Yard, vectors: int, dice: np.random.Generator) -> np.ndarray:
    """Shape (vectors, DIMENSIONS), float32, unit length; row n is article a{n + 1}."""
    centres = _unit(dice.normal(size=(TOPICS, DIMENSIONS)))
    stored = _unit(centres[dice.integers(0, TOPICS, vectors)] + dice.normal(0, 1 / np.sqrt(DIMENSIONS), (vectors, DIMENSIONS)))
    filling.articles(yard, 1, vectors)
    (model,) = yard.sql("SELECT model_id FROM embedding_active_model")[0]
    copy = f"COPY embedding_vectors_{model} (model_id, article_id, chunk, tenant_id, chunk_hash, starts_at, ends_at, embedding) FROM STDIN"
    with yard.connection.cursor().copy(copy) as sink:  # type: ignore[arg-type]
        for number, row in enumerate(stored, start=1):
            literal = "[" + ",".join(f"{x:.6g}" for x in row) + "]"
            sink.write_row((model, f"a{number}", 0, "default", "\\x00", 0, 10, literal))
    filling.settle_down(yard)
    return stored


def _nearest(stored: np.ndarray, query: np.ndarray) -> list[str]:
    return [f"a{number + 1}" for number in np.argsort(-(stored @ query))[:K]]


def _timed(store: Store, model: Model, queries: Sequence[np.ndarray] | np.ndarray) -> tuple[list[float], list[list[str]]]:
    """Milliseconds and answers of each search, after one that warms the cache."""
    store.search.nearest(model, queries[0], K)
    took, found = [], []
    for query in queries:
        start = perf_counter()
        rows = store.search.nearest(model, query, K)
        took.append(1000 * (perf_counter() - start))
        found.append([row["article_id"] for row in rows])
    return took, found
