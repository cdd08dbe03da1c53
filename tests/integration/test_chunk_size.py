"""The size of chunks is a setting, by model, wherever an article is embedded."""

from __future__ import annotations

import pytest

from embedq import Client, wiring
from embedq.model import Model
from embedq.settings import from_env
from tests.support import start_poller, until

TEXT = " ".join(f"Sentence number {number} says that tea is steeped in hot water." for number in range(60))


@pytest.mark.parametrize(
    ("environment", "size"),
    [
        pytest.param({}, (2000, 100), id="nothing said"),
        pytest.param({"EMBEDDING_CHUNK_TOKENS": "300"}, (300, 100), id="for all"),
        pytest.param(
            {"EMBEDDING_CHUNK_TOKENS": "openai/m=300", "EMBEDDING_CHUNK_OVERLAP": "openai=0"}, (300, 0), id="for this one"
        ),
        pytest.param(
            {"EMBEDDING_CHUNK_TOKENS": "ollama=300", "EMBEDDING_CHUNK_OVERLAP": "ollama=0"}, (2000, 100), id="for another"
        ),
        pytest.param({"EMBEDDING_CHUNK_TOKENS": "0"}, (2000, 100), id="no size at all"),
    ],
)
def test_the_size_is_a_setting_by_model(environment, size):
    assert wiring.chunk_size(from_env(environment), Model("openai", "m", 8)) == size


@pytest.mark.parametrize("by", ["the writer", "a worker"])
def test_an_article_is_cut_as_the_settings_say(environment, psql, by):
    named = {"EMBEDDING_CHUNK_TOKENS": "hashing=100", "EMBEDDING_CHUNK_OVERLAP": "0"}
    at_once = {"EMBEDDING_QUEUE_ENABLED": "false"} if by == "the writer" else {}
    psql("UPDATE embedding_worker_status SET mode = 'database'")

    with Client(from_env(environment | named | at_once)) as client:
        client.create("", TEXT)
    if by == "a worker":
        with start_poller(environment | named):
            until(lambda: psql("SELECT count(*) FROM embeddings") == [(1,)])

    sizes = [end - start for start, end in psql("SELECT starts_at, ends_at FROM embedding_vectors")]
    assert len(sizes) >= 9
    assert max(sizes) <= 400
