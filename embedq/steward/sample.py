"""Samples for `embedq metrics` and `embedq health`: depth and throughput of the queue, recall of the vector index."""

from __future__ import annotations

from ..store import Store, recall

RECALL_EVERY_S = 360.0


def sample(store: Store) -> None:
    """Record the depth of the queue, and what was done since the last sample."""
    store.care.sample()


def sample_recall(store: Store) -> None:
    """Compare answers of the index with exact ones. Slow: the exact answer reads every vector."""
    recall.sample(store.database)
