"""The circuit breaker of a provider: when it may be called, and how long it is left alone. Values in, values out; its state, which all
processes share, is in `store.providers`.

Closed: no fault is held against it, and it is called. Open: it had a fault and is paused; tasks wait, and none is charged (G6). Half
open: the pause is over; one process asks it for the vector of a harmless text (the canary, docs/why/canary.rst), the others wait for what it
answers. A good answer closes the circuit, a fault opens it again, for longer.

What is counted, each under one name:
`provider_faults`: requests of one process that ended without vectors, by kind (`InputRefused`, `ProviderBusy`): the metric
`embedq_provider_faults_total`.
`provider_pauses`: how often one process opened the circuit: the counter of that name in a worker's heartbeat, and the metric
`embedq_provider_pauses_total`. Calls that were under way when the pause began, and fail in it, belong to it and are not counted again.
`ProviderState.faults`: pauses in a row without a good answer between them, all processes together; it decides how long the next one is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from .retry import LOWEST_SHARE, doubling, jittered

PAUSE_BASE_S = 1.0
PAUSE_CAP_S = 60.0
# A provider that answers "Retry-After: 0" and refuses again is still left alone for longer and longer, from here on.
NAMED_PAUSE_BASE_S = 0.1
# A Retry-After header is honoured up to an hour (providers/waits.py); with the jitter added it is no longer than that either.
LONGEST_HEADER_S = 3_600.0
# A plug-in's own wish is honoured up to a day: a number in milliseconds must not switch embedding off for a month.
LONGEST_NAMED_PAUSE_S = 86_400.0
# How long a prober may take beyond the bound of one request.
PROBE_MARGIN_S = 5.0
# How long tasks wait while another process probes: not all the same, or they would all come back at once.
SHORTEST_LOOK_S, LOOK_SPREAD_S = 0.2, 0.8


@dataclass(frozen=True, slots=True)
class ProviderState:
    """What every process knows of a provider. `why`: the latest fault. `for_s`: since when it has faults. `left_s`: how long its pause still
    lasts, 0 when it is over. `probe_left_s`: how long the process that asks the canary may still take. `faults`: pauses in a row."""

    name: str
    why: str = ""
    for_s: float = 0.0
    left_s: float = 0.0
    probe_left_s: float = 0.0
    faults: int = 0


class Circuit(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


def circuit(state: ProviderState | None) -> Circuit:
    """Without a state nothing is known of the provider, and it is called."""
    if state is None or not state.faults:
        return Circuit.CLOSED
    return Circuit.OPEN if state.left_s > 0 else Circuit.HALF_OPEN


def next_pause_s(state: ProviderState | None, retry_after_s: float | None, dice: float) -> float:
    """Seconds of the pause for a fault that came now. One that came within a pause counts with the fault that began it."""
    before = 0 if state is None else state.faults
    return provider_pause_s(max(1, before if circuit(state) is Circuit.OPEN else before + 1), retry_after_s, dice)


def probe_s(request_timeout_s: float) -> float:
    """How long one process may ask the canary: as long as one request may take, and a little; then another may ask."""
    return request_timeout_s + PROBE_MARGIN_S


def look_again_s(dice: float) -> float:
    """How long tasks wait for the answer to another process's canary."""
    return SHORTEST_LOOK_S + LOOK_SPREAD_S * dice


def provider_pause_s(consecutive_faults: int, retry_after_s: float | None, dice: float) -> float:
    """Seconds a provider is paused after fault number `consecutive_faults` in a row (1 is the first). Count pauses, not
    calls: those that were already under way when a pause began, and fail during it, belong to that pause.

    Retry-After is a floor, with up to a tenth added so that not all processes return at once. Without it (or with one
    that is no number): 10 % to 100 % of 1, 2, 4, … 60 s. None that a header
    named is longer than an hour, and none at all longer than a day.
    """
    if retry_after_s is None or not math.isfinite(retry_after_s):
        return jittered(doubling(PAUSE_BASE_S, consecutive_faults, PAUSE_CAP_S), dice)
    least_s = doubling(NAMED_PAUSE_BASE_S, consecutive_faults, PAUSE_CAP_S)
    named_s = min(max(retry_after_s, least_s), LONGEST_NAMED_PAUSE_S)
    return min(named_s * (1 + LOWEST_SHARE * dice), max(named_s, LONGEST_HEADER_S))
