"""All operations: importing this fills the register."""

from __future__ import annotations

from . import operators, workers, writers
from .operation import APPLICATION, HAND, OPERATIONS, OPERATOR, STEWARD, WORKER, Operation

__all__ = ["APPLICATION", "HAND", "OPERATIONS", "OPERATOR", "STEWARD", "WORKER", "Operation", "operators", "workers", "writers"]
