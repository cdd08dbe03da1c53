"""How an index of vectors is built: the width of its graph, the care taken, and the memory for it, from what it is to hold.

Source: pgvector's README ("Index Options", "Index Build Time"); Malkov and Yashunin, "Efficient and robust approximate nearest neighbor
search using HNSW graphs", section 4.1, for M and efConstruction.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MANY: Final = 100_000
VERY_MANY: Final = 1_000_000
LEAST_MB: Final = 64
# Of a node besides its vector: head, and each neighbour with its distance, of which the lowest layer has 2 m and the others about m in all.
NODE_BYTES, NEIGHBOUR_BYTES = 160, 16
SLACK: Final = 1.1


class IndexPlan(NamedTuple):
    """`m`: neighbours of a node in each layer; `ef_construction`: candidates that are looked at for them; `why`: a sentence for each choice."""

    m: int
    ef_construction: int
    memory_mb: int
    why: tuple[str, ...]


def index_plan(vectors: int, vector_bytes: int, cache_mb: int, memory_mb: int | None = None) -> IndexPlan:
    """`cache_mb`: what the server says that it has for caching (effective_cache_size); `memory_mb`: what the operator gives, if anything."""
    m, ef, shape = _shape(vectors)
    needed_mb = int(SLACK * vectors * (vector_bytes + NODE_BYTES + 3 * m * NEIGHBOUR_BYTES) / 2**20) + 1
    memory, given = _memory(needed_mb, cache_mb, memory_mb)
    return IndexPlan(m, ef, memory, (shape, given))


def _shape(vectors: int) -> tuple[int, int, str]:
    if vectors < MANY:
        return 16, 64, f"m 16, ef_construction 64: pgvector's defaults suffice for {vectors:,} vectors"
    if vectors < VERY_MANY:
        return 16, 128, f"m 16, ef_construction 128: among {vectors:,} vectors twice as many candidates keep recall"
    return 24, 200, f"m 24, ef_construction 200: {vectors:,} vectors need a wider graph, or recall falls"


def _memory(needed_mb: int, cache_mb: int, given_mb: int | None) -> tuple[int, str]:
    most = given_mb or max(LEAST_MB, cache_mb // 4)
    memory = max(LEAST_MB, min(needed_mb, most)) if given_mb is None else given_mb
    if needed_mb > memory:
        bound = "given" if given_mb else "a quarter of effective_cache_size"
        return memory, f"memory {memory:,} MB ({bound}): the graph needs about {needed_mb:,}; what does not fit is built slower"
    return memory, f"memory {memory:,} MB: the whole graph, about {needed_mb:,} MB, is built in memory"
