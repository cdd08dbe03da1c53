"""`embedq quality`: judged questions in a file, asked of real rankings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from embedq.cli import embedq
from embedq.model import Model
from embedq.providers import local
from embedq.settings import from_env
from embedq.store.index import build_words
from embedq.wiring import trial_model


@pytest.fixture
def run(environment, client, psql, tmp_path, monkeypatch):
    """The command line in a folder of its own; two articles are embedded."""
    psql("UPDATE embedding_worker_status SET mode = 'sync'")
    client.create("Tea", "Steep the leaves in hot water", slug="tea")
    client.create("Compression", "Make a file smaller with gzip", slug="zip")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(embedq, arguments, env=environment)
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_questions_are_added_and_run_by_each_ranking(run, store):
    build_words(store.database)
    run("quality", "add", "hot leaves in water", "tea")
    assert "2 judged questions" in run("quality", "add", "a smaller file", "zip")

    answer = run("quality", "run", "--hybrid", "--json")

    runs = json.loads(answer[answer.index("{") :])["runs"]
    assert [(each["hit_1"], each["mrr"]) for each in runs] == [(1.0, 1.0)] * 3
    assert [each["ranking"].rsplit(" ", 1)[-1] for each in runs] == ["meaning", "words", "hybrid"]


def test_an_article_that_does_not_exist_is_no_answer(run):
    assert "nowhere" in run("quality", "add", "anything", "nowhere", code=1)
    assert not Path("questions.jsonl").exists()


def test_without_questions_the_command_that_adds_one_is_named(run):
    assert "embedq quality add" in run("quality", "run", code=1)


def test_activating_a_model_that_answers_worse_warns_and_one_that_answers_as_well_does_not(run, store, psql):
    run("quality", "add", "hot leaves in water", "tea")
    empty = store.models.add(Model("hashing", "hashing-v1", 96))

    compared = run("model", "compare", str(empty.id), "--file", "questions.jsonl")
    assert "0 won, 1 lost" in compared
    assert "worse: MRR 0.000" in run("model", "activate", str(empty.id), "--force", "--file", "questions.jsonl", code=3)
    assert "worse" not in run("model", "activate", "1", "--force", "--file", "questions.jsonl")


@pytest.mark.parametrize(
    ("settings", "there", "provider"),
    [
        pytest.param({}, True, "local", id="nothing is set, and the extra is installed"),
        pytest.param({}, False, "hashing", id="nothing is set, and it is not"),
        pytest.param({"EMBEDDING_PROVIDER": "openai"}, True, "openai", id="a provider is set"),
        pytest.param({"EMBEDDING_DIMENSIONS": "96"}, True, "hashing", id="dimensions are set"),
    ],
)
def test_for_trying_out_a_real_model_is_taken_where_nothing_else_is_said(monkeypatch, settings, there, provider):
    monkeypatch.setattr(local, "installed", lambda: there)

    assert trial_model(from_env(settings)).provider == provider
