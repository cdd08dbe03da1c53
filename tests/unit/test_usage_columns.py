"""A bill whose texts were all reused counts 0 requests beside one that counts a share of a request."""

from __future__ import annotations

from embedq.model import Usage
from embedq.store.usage import _columns


def test_shares_of_requests_and_costs_are_floats_also_where_nothing_was_bought() -> None:
    columns = _columns({("acme", 1): Usage(0, 0, 2, 0, 0), ("other", 1): Usage(0.5, 1, 0, 7, 0.1)})

    assert [type(value) for name in ("requests", "costs") for value in columns[name]] == [float] * 4
