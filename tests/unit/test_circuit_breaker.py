"""When a provider may be called, and how long it is left alone after a fault."""

from __future__ import annotations

import pytest

from embedq.decide.circuit_breaker import Circuit, ProviderState, circuit, look_again_s, next_pause_s, probe_s

ALMOST_ONE = 1 - 1e-9


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        pytest.param(None, Circuit.CLOSED, id="nothing is known"),
        pytest.param(ProviderState("p"), Circuit.CLOSED, id="no faults"),
        pytest.param(ProviderState("p", faults=2, left_s=3.0), Circuit.OPEN, id="paused"),
        pytest.param(ProviderState("p", faults=2, left_s=0.0), Circuit.HALF_OPEN, id="the pause is over"),
        pytest.param(ProviderState("p", faults=2, probe_left_s=9.0), Circuit.HALF_OPEN, id="another process probes"),
    ],
)
def test_the_state_says_whether_the_circuit_is_closed(state: ProviderState | None, wanted: Circuit) -> None:
    assert circuit(state) is wanted


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        pytest.param(None, 1, id="the first fault"),
        pytest.param(ProviderState("p", faults=1), 2, id="a probe that failed"),
        pytest.param(ProviderState("p", faults=3), 8, id="one more"),
        pytest.param(ProviderState("p", faults=3, left_s=2.0), 4, id="a call that was under way when the pause began"),
    ],
)
def test_each_pause_in_a_row_is_longer_and_faults_within_one_are_of_it(state: ProviderState | None, seconds: float) -> None:
    assert next_pause_s(state, None, ALMOST_ONE) == pytest.approx(seconds)


def test_another_process_may_probe_when_the_request_of_the_first_must_have_ended() -> None:
    assert 30.0 < probe_s(30.0) < 40.0
    assert 0 < look_again_s(0.0) < look_again_s(ALMOST_ONE) <= 1.0
