"""What a server with OpenAI's embeddings API accepts, learnt from its answers. Pure functions.

OpenAI-compatible servers differ in the parameters and sizes that they accept, and do not announce them. The message of a refusal is matched
against the table `LESSONS`: the parameters that it names are omitted or added, and the same texts are sent again. Sizes named by a refusal
lower the limits. Both are remembered until the process ends. A change of parameters is kept only if a good answer follows, because a
message may quote a text.

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
# A smaller number in a message is not a token limit: no known server has a lower one.
FEWEST_TOKENS: Final = 32


@dataclass(frozen=True, slots=True)
class Dialect:
    """`encoding_format`: the value to send; None: omit it. `dimensions`: whether to send them. `in_order`: its vectors were verified to
    follow the order of the texts, although it sends no indices."""

    encoding_format: str | None = "base64"
    dimensions: bool = False
    in_order: bool = False


class Lesson(NamedTuple):
    """A refusal that matches `words` is about `what`; `then(dialect)`: the dialect to try next; after all values were tried, it returns to
    the first."""

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


# Faults of a server that accepts another form of request, or returns vectors of another size by default.
_TEACHING: Final = (Cause.REFUSED, Cause.MISUSED, Cause.BROKEN, Cause.WRONG_DIMENSIONS)


def learnt(dialect: Dialect, refused: Fault) -> Dialect | None:
    """The dialect to try after this fault; None if it does not concern parameters."""
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
    """Whether an error is about too long texts, or too many tokens in a request."""
    return bool(_TOKENS.search(message) and _TOO_MANY.search(message))


def smaller(limits: Limits, message: str, count: int, tokens: int) -> Limits:
    """The limits after a request with `count` texts of `tokens` estimated tokens was refused with `message`; unchanged if the message is
    not about sizes."""
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
