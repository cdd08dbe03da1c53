"""The state of a provider's circuit breaker, which all processes share."""

from __future__ import annotations

from embedq.decide.circuit_breaker import Circuit, circuit
from embedq.errors import ProviderBusy
from embedq.settings import Settings
from embedq.store import Store
from embedq.wiring import worker_parts


def test_faults_within_a_pause_belong_to_it_and_the_longer_pause_wins(store: Store):
    first, within = store.providers.pause("hashing", 60.0, "HTTP 503"), store.providers.pause("hashing", 5.0, "HTTP 429")

    assert first is not None
    assert within is not None
    assert (first.faults, first.began, within.faults, within.began) == (1, True, 1, False)
    assert within.pause_s > 50
    (state,) = store.providers.troubled()
    assert circuit(state) is circuit(store.providers.state("hashing")) is Circuit.OPEN
    assert (state.name, state.why, state.faults) == ("hashing", "HTTP 429", 1)


def test_a_pause_that_was_over_is_followed_by_another(store: Store, psql):
    store.providers.pause("hashing", 60.0, "HTTP 503")
    psql("UPDATE embedding_providers SET paused_until = now() - interval '1 s'")
    state = store.providers.state("hashing")
    again = store.providers.pause("hashing", 2.0, "HTTP 503")

    assert circuit(state) is Circuit.HALF_OPEN
    assert again is not None
    assert (again.faults, again.began) == (2, True)


def test_a_good_answer_closes_the_circuit(store: Store):
    store.providers.pause("hashing", 0.0, "HTTP 503")

    assert store.providers.well("hashing")
    assert not store.providers.well("hashing")
    assert (store.providers.troubled(), circuit(store.providers.state("hashing"))) == ([], Circuit.CLOSED)


def test_a_provider_without_a_model_has_no_state(store: Store):
    assert store.providers.state("nowhere") is None
    assert store.providers.pause("nowhere", 1.0, "HTTP 503") is None


def test_a_worker_counts_the_pauses_that_it_began_and_no_call_that_fails_within_one(store: Store, settings: Settings):
    parts = worker_parts(settings, "poller")
    busy = ProviderBusy("HTTP 503", hint="wait", retry_after_s=60.0)

    for _ in range(3):
        parts.engine.circuit.pause("hashing", busy)

    assert parts.worker.counters["provider_pauses"] == 1
    assert len([line for line in store.audit.recent() if line["category"] == "provider"]) == 1
