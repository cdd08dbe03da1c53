"""Builds the parts of a process from its settings. The only room that combines concrete classes of several rooms.

May be imported by client and above; uses operations and everything below.
"""

from __future__ import annotations

from .connections import async_store, broker, set_up, store
from .models import agreed_model, chunk_size, known_preparation_of, model_named, prepared_model, trial_model, wanted_model
from .providers import asks, budget, provider_factory, server_of
from .workers import WorkerParts, policy, worker_parts

__all__ = [
    "WorkerParts",
    "agreed_model",
    "asks",
    "async_store",
    "broker",
    "budget",
    "chunk_size",
    "known_preparation_of",
    "model_named",
    "policy",
    "prepared_model",
    "provider_factory",
    "server_of",
    "set_up",
    "store",
    "trial_model",
    "wanted_model",
    "worker_parts",
]
