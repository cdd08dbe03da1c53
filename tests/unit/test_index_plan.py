"""How an index is built, from counts."""

from __future__ import annotations

import pytest

from embedq.decide.index_plan import LEAST_MB, index_plan


@pytest.mark.parametrize(
    ("vectors", "m", "ef"), [(0, 16, 64), (99_999, 16, 64), (100_000, 16, 128), (999_999, 16, 128), (1_000_000, 24, 200)]
)
def test_the_graph_is_wider_and_made_with_more_care_where_there_is_more(vectors, m, ef):
    plan = index_plan(vectors, 1536, 4096)

    assert (plan.m, plan.ef_construction) == (m, ef)
    assert f"m {m}, ef_construction {ef}" in plan.why[0]


@pytest.mark.parametrize(
    ("vectors", "cache_mb", "given", "memory_mb", "words"),
    [
        pytest.param(10, 4096, None, LEAST_MB, "built in memory", id="a few vectors"),
        pytest.param(100_000, 4096, None, 259, "built in memory", id="as much as the graph needs"),
        pytest.param(10_000_000, 4096, None, 1024, "a quarter of effective_cache_size", id="at most a quarter of the cache"),
        pytest.param(10_000_000, 4096, 3000, 3000, "(given)", id="what the operator gives"),
        pytest.param(10, 4096, 3000, 3000, "built in memory", id="also more than needed"),
    ],
)
def test_memory_is_for_the_whole_graph_where_there_is_as_much(vectors, cache_mb, given, memory_mb, words):
    plan = index_plan(vectors, 1536, cache_mb, given)

    assert plan.memory_mb == memory_mb
    assert words in plan.why[1]
