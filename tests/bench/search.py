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

K, TOPICS = 10, 200
RECALL, TIMES_FASTER = 0.95, 20.0
# How vectors are stored and indexed: the model's storage, and whether the index is of bits.
KINDS = {"": ("vector", False), "halfvec, ": ("halfvec", False), "bits, ": ("vector", True)}
SIZES = {"quick": [(5_000, 384)], "usual": [(100_000, 384)], "huge": [(1_000_000, 384), (200_000, 1536)]}


def run(world: World, *, quick: bool, huge: bool = False, vectors: int | None = None) -> Iterator[Figure]:
    """Vectors in topics, as texts are: uniform noise has no neighbours to find. Queries are near stored vectors.

    `huge`: a million vectors, and long ones; `vectors`: so many of 384.
    """
    sizes = [(vectors, 384)] if vectors else SIZES["quick" if quick else "huge" if huge else "usual"]
    queries, exact = (20, 5) if quick else (300, 30)
    for count, dimensions in sizes:
        dice = np.random.default_rng(0)
        stored = _vectors(count, dimensions, dice)
        noise = dice.normal(0, 0.5 / np.sqrt(dimensions), (queries, dimensions))
        wanted = _unit(stored[dice.integers(0, count, queries)] + noise)
        truth = [_nearest(stored, query) for query in wanted]
        with world.yard(dimensions=dimensions) as yard, yard.store() as store:
            filling.articles(yard, 1, count)
            name, whole = f"{count:,} vectors of {dimensions}", (0, 0)
            for kind, (storage, bits) in KINDS.items():
                model = _model(store, dimensions, storage)
                if not bits:
                    _fill(yard, model, stored)
                scanned, _ = _timed(store, model, wanted[:exact])
                index = Index(store.database, model, bits=bits)
                index.build(memory_mb=1024)
                with yard.store() as fresh:
                    timed, found = _timed(fresh, model, wanted)
                state = index.state()
                sizes_of = state["table_bytes"], state["bytes"]
                whole = whole if kind else sizes_of
                yield from _figures(kind + name, timed, scanned, found, truth)
                yield from _room(kind + name, sizes_of, whole)
                index.drop()


def _model(store: Store, dimensions: int, storage: str) -> Model:
    active = store.models.active()
    assert active is not None
    if storage == active.storage:
        return active
    return store.models.add(Model("hashing", f"hashing-{storage}", dimensions, storage=storage), kept_in_step=False)


def _figures(
    name: str, timed: list[float], scanned: list[float], found: list[list[str]], truth: list[list[str]]
) -> Iterator[Figure]:
    recall = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth, strict=True)]))
    yield Figure(f"recall@{K}, {name}", recall, "", target=f">= {RECALL:g}", met=recall >= RECALL)
    ratio = median(scanned) / median(timed)
    raw = {"ours": timed, "other": scanned}
    speed, slow = 1000 / median(timed), 1000 / median(scanned)
    yield Figure(
        f"searches, {name}", speed, "1/s", "exact scan", slow, ratio, f">= {TIMES_FASTER:g} x", ratio >= TIMES_FASTER, raw
    )
    yield Figure(f"p99, {name}", percentile(timed, 0.99), "ms")


def _room(name: str, bytes_of: tuple[int, int], whole: tuple[int, int]) -> Iterator[Figure]:
    for what, size, full in zip(("table", "index"), bytes_of, whole, strict=True):
        yield Figure(f"{what} of {name}", size / 1e6, "MB", "full precision", full / 1e6, size / full)


def _vectors(count: int, dimensions: int, dice: np.random.Generator) -> np.ndarray:
    """Shape (count, dimensions), float32, unit length; row n is article a{n + 1}."""
    centres = _unit(dice.normal(size=(TOPICS, dimensions)))
    made = np.empty((count, dimensions), dtype=np.float32)
    for start in range(0, count, 50_000):
        part = made[start : start + 50_000]
        part[:] = _unit(centres[dice.integers(0, TOPICS, len(part))] + dice.normal(0, 1 / np.sqrt(dimensions), part.shape))
    return made


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _fill(yard: Yard, model: Model, stored: np.ndarray) -> None:
    copy = f"COPY embedding_vectors_{model.id} (model_id, article_id, chunk, tenant_id, chunk_hash, starts_at, ends_at, embedding) FROM STDIN"
    with yard.connection.cursor().copy(copy) as sink:  # type: ignore[arg-type]
        for number, row in enumerate(stored, start=1):
            literal = "[" + ",".join(f"{x:.6g}" for x in row) + "]"
            sink.write_row((model.id, f"a{number}", 0, "default", "\\x00", 0, 10, literal))
    filling.settle_down(yard)


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
