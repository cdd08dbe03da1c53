"""What a search may be asked for, as the overloads of `Client.search` and `AsyncClient.search` share it; their docstring says what each means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class Narrow(TypedDict, total=False):
    """Which articles can be results."""

    tenant_id: str | None
    min_score: float | None
    filter: Mapping[str, Any] | None
    source: str | Sequence[str] | None


class SearchWishes(Narrow, total=False):
    """`decide.answers.Wanted` holds the further fields."""

    hybrid: bool
    offset: int | None
    fold: bool
    diversity: float
    rerank: str | None
