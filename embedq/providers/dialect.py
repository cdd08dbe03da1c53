"""What one server takes that speaks OpenAI's embeddings API, as its answers have taught. Values in, values out.

Servers that call themselves OpenAI-compatible differ in which parameters they know and in how much they take at once. Nothing
says so beforehand. A request that is refused is read by the table `LESSONS`: the parameters that it names are left out or added,
and the same texts are sent again. What a refusal says of sizes makes the limits smaller. Both are remembered for as long as the
process runs. Beside sizes, only what a following good answer has confirmed is kept: a message may quote a text.

Sources: OpenAI API reference; Text Embeddings Inference, vLLM, llama.cpp, Mistral and DashScope, as their servers answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ..errors import Fault
from . import Limits
from .faults import Cause
from .limits import INPUT_MARGIN

FORMATS: Final = ("base64", "float", None)
# No server is known that takes fewer tokens; a smaller number in a message means something else.
FEWEST_TOKENS: Final = 32


@dataclass(frozen=True, slots=True)
class Dialect:
    """`encoding_format`: what is sent under this name; None: it is left out. `dimensions`: whether they are sent. `in_order`: its
    vectors were seen to follow the order of the texts, although no index says so."""

    encoding_format: str | None = "base64"
    dimensions: bool = False
    in_order: bool = False


class Lesson(NamedTuple):
    """A refusal that matches `words` is about `what`; `then` is what to send instead. When all was tried, that is what was sent before."""

    what: str
    words: re.Pattern[str]
    then: Callable[[Dialect], Dialect]


def _next_format(dialect: Dialect) -> Dialect:
    place = FORMATS.index(dialect.encoding_format) + 1
    return replace(dialect, encoding_format=FORMATS[place % len(FORMATS)])


LESSONS: Final[tuple[Lesson, ...]] = (
    Lesson("encoding_format", re.compile(r"(?i)encoding.?format|base64"), _next_format),
    Lesson(
        "dimensions",
        re.compile(r"(?i)\bdimensions?\b|matryoshka"),
        lambda known: replace(known, dimensions=not known.dimensions),
    ),
)


# Faults of a server that takes requests of another form, or makes vectors of another size unless it is told.
_TEACHING: Final = (Cause.REFUSED, Cause.MISUSED, Cause.BROKEN, Cause.WRONG_DIMENSIONS)


def learnt(dialect: Dialect, refused: Fault) -> Dialect | None:
    """What to send after this fault; None: it teaches nothing about parameters."""
    words = str(refused)
    lesson = next((each for each in LESSONS if each.words.search(words)), None) if refused.cause in _TEACHING else None
    return lesson.then(dialect) if lesson else None


# Sizes

_TOKENS: Final = re.compile(
    r"(?i)\btokens?\b|context (?:length|size|window)|physical batch|(?:input|sequence|prompt|string|text)s? (?:length|(?:is |are )?too l)"
)
_WHOLE: Final = re.compile(r"(?i)per request|in (?:the |one |a )?batch|in total|total (?:number of )?tokens|max_batch_tokens")
_INPUTS: Final = re.compile(r"(?i)batch|inputs?\b|items?\b|array|texts?\b|documents?\b|contents?\b|instances?\b|requests?\b")
_BOUND: Final = re.compile(
    r"(?i)(?:max(?:imum)?|less than|limit(?:ed)?|at most|up to|(?:longer|larger|greater|more) than|exceed(?:s|ed)?|size)\b[^0-9]{0,60}([0-9][0-9,]*)"
)
_RANGE: Final = re.compile(r"\[\s*[0-9]+\s*,\s*([0-9]+)\s*\]")
_TOO_MANY: Final = re.compile(
    r"(?i)too (?:many|large|long|big)|max(?:imum)?|at most|up to|(?:longer|larger|greater|more) than|exceed|> ?[a-z]|limit|less than"
)


def about_length(message: str) -> bool:
    """Whether an error is about texts that are too long, or about too many tokens at once."""
    return bool(_TOKENS.search(message) and _TOO_MANY.search(message))


def smaller(limits: Limits, message: str, count: int, tokens: int) -> Limits:
    """The limits after a request with `count` texts of `tokens` estimated tokens was refused with `message`; the same when it is about no size."""
    bounds = [int(found.replace(",", "")) for found in (*_BOUND.findall(message), *_RANGE.findall(message))]
    if about_length(message):
        return _fewer_tokens(limits, message, [bound for bound in bounds if bound >= FEWEST_TOKENS], count, tokens)
    if count > 1 and _INPUTS.search(message) and _TOO_MANY.search(message):
        most = min((bound for bound in bounds if 1 <= bound < count), default=max(1, count // 2))
        return replace(limits, max_inputs=min(limits.max_inputs, most))
    return limits


def _fewer_tokens(limits: Limits, message: str, bounds: list[int], count: int, tokens: int) -> Limits:
    most = int(min(bounds, default=tokens) * INPUT_MARGIN)
    if _WHOLE.search(message) and count > 1:
        whole = max(FEWEST_TOKENS, min(limits.max_tokens, most))
        return replace(limits, max_tokens=whole, max_input_tokens=min(limits.max_input_tokens, whole))
    if not bounds:
        return limits
    return replace(limits, max_input_tokens=min(limits.max_input_tokens, most))
