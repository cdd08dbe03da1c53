"""What a message may hold that the SDK's parser would drop."""

from __future__ import annotations

import json

import pytest

from embedq.mcp.wire import id_of, instead_of, readable


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param(r'"a\ud83d\ude00b"', r'"a\ud83d\ude00b"', id="a whole pair stays"),
        pytest.param(r'"a\ud83db"', r'"a\u0000b"', id="the first half"),
        pytest.param(r'"\uDE00"', r'"\u0000"', id="the second half"),
        pytest.param(r'"\ude00\ud83d"', r'"\u0000\u0000"', id="the wrong way round"),
        pytest.param(r'"\\ud83d"', r'"\\ud83d"', id="an escaped backslash is none"),
        pytest.param(r'"\\\ud83d"', r'"\\\u0000"', id="after an escaped backslash"),
    ],
)
def test_half_of_a_pair_becomes_a_nul(text: str, wanted: str) -> None:
    assert readable(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"jsonrpc":"2.0","id":7,"method":"x"', "7"),
        ('{"method":"tools/call","params":{"arguments":{"id":"no"}},"id" : "a\\"b"}', '"a\\"b"'),
        ('{"method":"id","params":{},"id":-3}', "-3"),
        ('{"method":"id"}', None),
        ('{"id":{"a":1}}', None),
        ("[" * 500, None),
        ("nonsense", None),
    ],
)
def test_an_answer_finds_its_request(text: str, wanted: str | None) -> None:
    assert id_of(text) == wanted


def test_what_has_no_id_or_a_long_one_is_not_answered() -> None:
    assert instead_of('{"method":"x"') is None
    assert instead_of('{"id":"' + "x" * 1000 + '"') is None
    assert json.loads(instead_of('{"id":7,') or "")["id"] == 7
