"""The circuit breaker of a provider: when requests may be sent, and how long they pause. Pure functions; the state, shared by all
processes, is in `store.providers`.

Closed: requests are sent. Open: after a fault requests pause; tasks wait, and none is charged (G6). Half open: the pause is over; one
process sends a harmless text (the canary, docs/why/canary.rst), and the others wait for the result. A good answer closes the circuit; a
fault opens it again, for longer.

Counters:
`provider_faults`: requests of one process that ended without vectors, by kind (`InputRefused`, `ProviderBusy`): the metric
`embedq_provider_faults_total`.
`provider_pauses`: how often one process opened the circuit: the counter of that name in a worker's heartbeat, and the metric
`embedq_provider_pauses_total`. Requests that were under way when the pause began and fail during it are not counted again.
`ProviderState.faults`: consecutive pauses without a good answer between them, of all processes; it determines the length of the next pause.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from .retry import LOWEST_SHARE, doubling, jittered

PAUSE_BASE_S = 1.0
PAUSE_CAP_S = 60.0
# Seconds of the shortest pause for a named Retry-After, doubled with each fault in a row, so that pauses grow also for a provider that
# keeps answering 0.
NAMED_PAUSE_BASE_S = 0.1
# Longest pause for a Retry-After header, which is honoured up to an hour (providers/waits.py), jitter included.
LONGEST_HEADER_S = 3_600.0
# Longest pause that a plug-in can ask for: a value in milliseconds by mistake must not pause embedding for a month.
LONGEST_NAMED_PAUSE_S = 86_400.0
# Extra time for a probe beyond the time limit of one request.
PROBE_MARGIN_S = 5.0
# Seconds that tasks wait while another process probes; jittered, so that they do not all return at once.
SHORTEST_LOOK_S, LOOK_SPREAD_S = 0.2, 0.8


@dataclass(frozen=True, slots=True)
class ProviderState:
    """The shared state of a provider. `why`: the latest fault. `for_s`: seconds since the first fault. `left_s`: seconds left of the pause,
    0 when it is over. `probe_left_s`: seconds that the probing process may still take. `faults`: consecutive pauses."""

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
    """The state of the circuit; closed if nothing is known of the provider."""
    if state is None or not state.faults:
        return Circuit.CLOSED
    return Circuit.OPEN if state.left_s > 0 else Circuit.HALF_OPEN


def next_pause_s(state: ProviderState | None, retry_after_s: float | None, dice: float) -> float:
    """Seconds of the pause for a fault now. A fault during a pause counts as the one that began it."""
    before = 0 if state is None else state.faults
    return provider_pause_s(max(1, before if circuit(state) is Circuit.OPEN else before + 1), retry_after_s, dice)


def probe_s(request_timeout_s: float) -> float:
    """Seconds for which one process may probe: the time limit of a request and a margin; then another process may probe."""
    return request_timeout_s + PROBE_MARGIN_S


def look_again_s(dice: float) -> float:
    """Seconds that tasks wait for another process's probe."""
    return SHORTEST_LOOK_S + LOOK_SPREAD_S * dice


def provider_pause_s(consecutive_faults: int, retry_after_s: float | None, dice: float) -> float:
    """Seconds a provider is paused after fault number `consecutive_faults` in a row (1 is the first). Count pauses, not requests: requests
    under way when a pause began that fail during it belong to that pause.

    Retry-After is a floor, with up to a tenth added so that not all processes return at once. Without it (or if it is not a number): 10 %
    to 100 % of 1, 2, 4, … 60 s. A pause named by a header is an hour at most, any other a day.
    """
    if retry_after_s is None or not math.isfinite(retry_after_s):
        return jittered(doubling(PAUSE_BASE_S, consecutive_faults, PAUSE_CAP_S), dice)
    least_s = doubling(NAMED_PAUSE_BASE_S, consecutive_faults, PAUSE_CAP_S)
    named_s = min(max(retry_after_s, least_s), LONGEST_NAMED_PAUSE_S)
    return min(named_s * (1 + LOWEST_SHARE * dice), max(named_s, LONGEST_HEADER_S))
