"""The tests that every provider must pass. Needs pytest; no other module imports this one.

To test a provider, subclass `ProviderContract` in a test file and override one fixture::

    class TestMyProvider(ProviderContract):
        @pytest.fixture
        def provider(self):
            provider = MyProvider(...)
            yield provider
            provider.close()
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ..errors import InputRefused
from . import Embedded, Provider, asynchronous

# Tolerance: in a batch, floating-point operations may run in another order than for a single text.
TOLERANCE = 1e-4

TEXTS = ("Green tea is steeped in hot water.", "Trains leave from platform nine.", "The bakery opens at dawn.")


class ProviderContract:
    """Every provider passes these tests, unchanged."""

    @pytest.fixture
    def provider(self) -> Provider:
        """The provider under test, reachable and working."""
        raise NotImplementedError("override this fixture to return the provider under test")

    def test_a_batch_gives_one_vector_per_text_in_order(self, provider: Provider) -> None:
        together = provider.embed(TEXTS).vectors

        alone = np.concatenate([provider.embed([text]).vectors for text in TEXTS])
        np.testing.assert_allclose(together, alone, atol=TOLERANCE)

    def test_an_event_loop_gets_the_same_vectors(self, provider: Provider) -> None:
        async def ask() -> Embedded:
            try:
                return await asynchronous.embed(provider, TEXTS)
            finally:
                await asynchronous.close(provider)

        np.testing.assert_allclose(asyncio.run(ask()).vectors, provider.embed(TEXTS).vectors, atol=TOLERANCE)

    def test_vectors_are_float32_of_the_dimensions_of_the_model(self, provider: Provider) -> None:
        vectors = provider.embed(TEXTS).vectors

        assert vectors.shape == (len(TEXTS), provider.model.dimensions)
        assert vectors.dtype == np.float32

    def test_vectors_are_finite_and_have_a_length(self, provider: Provider) -> None:
        vectors = provider.embed(TEXTS).vectors

        assert np.isfinite(vectors).all()
        assert (np.linalg.norm(vectors, axis=1) > 0).all()

    def test_the_same_text_has_the_same_vector_each_time(self, provider: Provider) -> None:
        first, second = provider.embed(TEXTS).vectors, provider.embed(TEXTS).vectors

        np.testing.assert_allclose(first, second, atol=TOLERANCE)

    def test_the_same_text_twice_in_a_batch_is_answered_twice(self, provider: Provider) -> None:
        vectors = provider.embed([TEXTS[0], TEXTS[1], TEXTS[0]]).vectors

        np.testing.assert_allclose(vectors[0], vectors[2], atol=TOLERANCE)

    def test_different_texts_have_different_vectors(self, provider: Provider) -> None:
        vectors = provider.embed(TEXTS).vectors

        assert len(np.unique(vectors.round(3), axis=0)) == len(TEXTS)

    def test_no_texts_give_no_vectors(self, provider: Provider) -> None:
        embedded = provider.embed([])

        assert embedded.vectors.shape == (0, provider.model.dimensions)
        assert embedded.tokens == 0

    def test_tokens_are_counted(self, provider: Provider) -> None:
        one, three = provider.embed(TEXTS[:1]).tokens, provider.embed(TEXTS).tokens

        assert 0 < one < three

    def test_limits_allow_at_least_one_input(self, provider: Provider) -> None:
        assert provider.limits.max_inputs >= 1
        assert provider.limits.max_tokens >= provider.limits.max_input_tokens >= 1

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("naïve café, Ångström", id="accents"),
            pytest.param("👩‍👩‍👧‍👦 🎉 🏳️‍🌈", id="emoji alone"),
            pytest.param("שלום עולם مرحبا بالعالم", id="right to left"),
            pytest.param("全文検索は難しい 검색", id="no spaces between words"),
            pytest.param("e\u0301 \u202e\u200b\ufeff x", id="combining and invisible characters"),
            pytest.param("before\0after\x01\x1b[31m", id="NUL and control characters"),
            pytest.param("?!... -- //", id="punctuation alone"),
            pytest.param("\n\n  padded \t\r\n", id="blanks around"),
            pytest.param('"quotes" \\ {"json": [1]}', id="what looks like JSON"),
        ],
    )
    def test_any_writing_is_embedded(self, provider: Provider, text: str) -> None:
        vectors = provider.embed([text]).vectors

        assert np.isfinite(vectors).all()
        assert np.linalg.norm(vectors) > 0

    def test_a_text_as_long_as_the_limits_allow_is_embedded(self, provider: Provider) -> None:
        text = "tea time " * (provider.limits.max_input_tokens * 4 // 9)

        vectors = provider.embed([text]).vectors

        assert np.isfinite(vectors).all()

    @pytest.mark.parametrize("text", ["", "   ", "\n\t\u00a0\u3000"], ids=["empty", "spaces", "exotic blanks"])
    def test_a_blank_text_is_refused(self, provider: Provider, text: str) -> None:
        with pytest.raises(InputRefused) as refusal:
            provider.embed([TEXTS[0], text])

        assert refusal.value.hint

    def test_a_lone_surrogate_is_refused_and_not_repaired(self, provider: Provider) -> None:
        with pytest.raises(InputRefused) as refusal:
            provider.embed(["half of a pair: \ud83c"])

        assert refusal.value.hint

    def test_calls_from_several_threads_do_not_mix(self, provider: Provider) -> None:
        batches = [[f"thread {number}, text {position}" for position in range(3)] for number in range(8)]
        expected = [provider.embed(batch).vectors for batch in batches]

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda batch: provider.embed(batch).vectors, batches))

        np.testing.assert_allclose(np.stack(found), np.stack(expected), atol=TOLERANCE)

    def test_closing_twice_is_safe(self, provider: Provider) -> None:
        provider.close()
        provider.close()
