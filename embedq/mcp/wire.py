"""Messages that the SDK's parser takes, or that are answered all the same: it drops what it cannot read without a word, and the client waits."""

from __future__ import annotations

import json
import re
from typing import Final

ESCAPES: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")
TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|-?\d+', re.DOTALL)
# A request of this method is answered with an error that says why.
UNREADABLE: Final = "embedq/unreadable"
MAX_ID: Final = 200


def readable(text: str) -> str:
    """The message with a NUL in place of each half of a surrogate pair: a tool refuses it as it refuses a NUL."""
    return ESCAPES.sub(lambda found: "\\u0000" if found[1] else found[0], text) if HALF.search(text) else text


def instead_of(text: str) -> str | None:
    """For a message that cannot be read (no JSON-RPC, nested too deep, a number too long): a request with its id. None where it has none."""
    found = id_of(text)
    if found is None or len(found) > MAX_ID:
        return None
    return f'{{"jsonrpc":"2.0","id":{found},"method":{json.dumps(UNREADABLE)},"params":{{}}}}\n'


def id_of(text: str) -> str | None:
    """The value of the outermost object's `id`, as it is written; None where there is none."""
    depth, is_id = 0, False
    for found in TOKENS.finditer(text):
        token = found[0]
        if is_id:
            return token if token not in "{[" else None
        depth += (token in "{[") - (token in "}]")
        is_id = depth == 1 and token == '"id"' and text[found.end() : found.end() + 20].lstrip().startswith(":")
    return None
