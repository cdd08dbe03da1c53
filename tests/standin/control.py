"""How the stand-in is to behave, and what it has seen. `POST /_control` changes the first, `GET /_stats` shows the second."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass, field, fields
from random import Random
from typing import Any

TWISTS = (
    "one_too_few",
    "one_too_many",
    "shuffled",  # right indices in another order: valid
    "duplicate_index",
    "wrong_dimensions",
    "nan",
    "zero",
    "html",
    "malformed",
    "cut_off",
    "error_in_200",
    "float_lists",  # base64 ignored: valid
    "no_usage",  # valid
    "hang",
    "disconnect",
)
MARKED = ("refuse", "break", "hang", "disconnect", "nan")


# What a worker asks for to see whether the provider is well (`embedq.engine.requests.CANARY`).
PROBE = "embedq asks whether this provider is well"


def without_probes(texts: list[str]) -> list[str]:
    return [text for text in texts if text != PROBE]


@dataclass
class Control:
    """Everything that can be changed while it runs. Times in milliseconds, windows in seconds.

    `twist` spoils answers (all of them, or the next `twist_next`). `markers` maps a piece of text to what a request
    with it meets: refuse (400), break (500), hang, disconnect, nan. `fail_next` counts down, `fail_always` does not;
    `fail_probability` throws dice seeded with `seed`; all three answer `fail_status`.
    `model`: another word is another model under the same name. `noise`: the length of what is added to each vector, whose own is 1.
    """

    dimensions: int = 64
    latency_ms: float = 0.0
    latency_per_input_ms: float = 0.0
    hold: bool = False
    fail_next: int = 0
    fail_always: bool = False
    fail_probability: float = 0.0
    fail_status: int = 503
    fail_code: str | None = None
    fail_message: str = "made to fail"
    fail_headers: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    markers: dict[str, str] = field(default_factory=dict)
    twist: str | None = None
    twist_next: int | None = None
    requests_per_minute: int = 0
    rate_window_s: float = 60.0
    require_key: str | None = None
    echo_authorization: bool = False
    max_inputs: int = 2_048
    max_input_tokens: int = 8_191
    max_tokens: int = 300_000
    model: str = ""
    noise: float = 0.0

    def change(self, wishes: dict[str, Any]) -> None:
        """Raises ValueError for a name, twist or marker that does not exist: a test must not misspell in silence."""
        unknown = wishes.keys() - {each.name for each in fields(self)}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        if wishes.get("twist") not in (None, *TWISTS):
            raise ValueError(f"twist is one of {', '.join(TWISTS)}")
        if not set(wishes.get("markers", {}).values()) <= set(MARKED):
            raise ValueError(f"a marker does one of {', '.join(MARKED)}")
        for name, value in wishes.items():
            setattr(self, name, value)


@dataclass
class Seen:
    """What has arrived; among the texts are no probes. A text is paid when an answer with its vector was sent whole, so paid twice is more than once."""

    requests: int = 0
    inputs: int = 0
    tokens: int = 0
    concurrent: int = 0
    max_concurrent: int = 0
    held: int = 0
    abandoned: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    paid: Counter[str] = field(default_factory=Counter)

    def stats(self) -> dict[str, Any]:
        numbers = {name: value for name, value in asdict(self).items() if isinstance(value, int)}
        return numbers | {
            "statuses": dict(self.statuses),
            "paid_inputs": self.paid.total(),
            "distinct_texts": len(self.texts),
            "paid_twice": sum(times - 1 for times in self.paid.values()),
        }


class State:
    """One stand-in: its control, what it saw, its dice and its memory of recent requests."""

    def __init__(self, dimensions: int) -> None:
        self.born_with = dimensions
        self.reset()

    def reset(self) -> None:
        self.control = Control(dimensions=self.born_with)
        self.seen = Seen()
        self.dice = Random(0)
        self.recent: deque[float] = deque()

    def change(self, wishes: dict[str, Any]) -> None:
        self.control.change(wishes)
        if "seed" in wishes:
            self.dice = Random(wishes["seed"])

    def must_fail(self) -> bool:
        """Throws the dice and counts down: ask once per request."""
        if self.control.fail_next > 0:
            self.control.fail_next -= 1
            return True
        return self.control.fail_always or self.dice.random() < self.control.fail_probability

    def next_twist(self) -> str | None:
        """Counts down: ask once per answer."""
        twist, left = self.control.twist, self.control.twist_next
        if left is None or twist is None:
            return twist
        self.control.twist_next = max(0, left - 1)
        return twist if left > 0 else None

    def over_rate_s(self, now: float) -> float | None:
        """Seconds until a place is free when the rate is used up; None when this request has one, which it then takes."""
        limit, window_s = self.control.requests_per_minute, self.control.rate_window_s
        while self.recent and self.recent[0] <= now - window_s:
            self.recent.popleft()
        if limit and len(self.recent) >= limit:
            return self.recent[0] + window_s - now
        self.recent.append(now)
        return None
