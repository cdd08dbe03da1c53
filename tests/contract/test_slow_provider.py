"""A server on one processor, which goes on with what its caller has given up, is asked for less until it answers in time."""

from __future__ import annotations

from tests.dialects import dialects, tokens_of

TOKENS_PER_S = 1_500.0
TIMEOUT_MS = 1_000
TEXT = "Steep the leaves in hot water, and wait for three minutes; then pour the tea into a cup. " * 3


def test_a_slow_server_is_asked_for_less_until_everything_is_embedded(fresh):
    with dialects() as server:
        server.tokens_per_s = TOKENS_PER_S
        articles = {f"a{number:02}": f"{number}. {TEXT}" for number in range(80)}
        assert sum(map(tokens_of, articles.values())) / TOKENS_PER_S > 3 * TIMEOUT_MS / 1000
        fresh.add(articles)

        fresh.start(OPENAI_BASE_URL=server.url("plain"), EMBEDDING_PROVIDER_TIMEOUT=str(TIMEOUT_MS))

        assert fresh.until_idle(timeout_s=120) == {"completed": 80}
        assert fresh.sql("SELECT max(attempts) FROM embedding_tasks") == [(1,)]
        assert sum(count for _, count in server.log) <= 3 * 80
