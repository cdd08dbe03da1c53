"""Articles by the command line: import, edit, refusals. Nothing is half written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from embedq.cli import embedq


@pytest.fixture
def run(environment, monkeypatch: pytest.MonkeyPatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def call(*argv: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(embedq, list(argv), input=stdin)

    return call


def test_an_article_is_added_shown_edited_deleted_and_restored(run, psql):
    added = json.loads(run("articles", "add", "Tea", "--content", "Brew it", "--slug", "tea", "--json").stdout)
    run("articles", "edit", "tea", "--content", "Steep it", "--reason", "better")
    run("articles", "delete", added["id"], "--yes")
    restored = run("articles", "restore", added["id"], "--json")

    assert json.loads(restored.stdout)["content"] == "Steep it"
    assert psql("SELECT id, content, embedding_status FROM articles") == [(added["id"], "Steep it", "queued")]


def test_delete_without_yes_and_without_a_terminal_refuses(run, psql):
    run("articles", "add", "Tea", "--content", "Brew it", "--slug", "tea")

    refused = run("articles", "delete", "tea")

    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    assert psql("SELECT count(*) FROM articles") == [(1,)]


def test_a_bad_line_of_an_import_is_named_and_the_others_are_imported(run, psql, tmp_path: Path):
    lines = [
        '{"slug": "a", "title": "A", "content": "one", "priority": "urgent"}',
        "not json at all",
        '{"slug": "b", "title": "B", "content": "nul \\u0000 inside"}',
        '{"slug": "c", "title": "C", "content": "three", "priority": "soon"}',
        '{"slug": "d", "titel": "D", "content": "four"}',
        '{"slug": "e", "title": "E", "content": "five"}',
    ]
    (tmp_path / "some.jsonl").write_text("\n".join(lines))

    done = run("articles", "import", str(tmp_path), "--json")

    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert [bad["line"] for bad in answer["refused"]] == [2, 3, 4, 5]
    assert psql("SELECT slug, priority FROM embedding_tasks ORDER BY slug") == [("a", "urgent"), ("e", "normal")]


def test_an_import_run_again_changes_only_what_has_changed(run, psql, tmp_path: Path):
    for name in ("one.md", "two.md", "three.rst"):
        (tmp_path / name).write_text(f"# {name}\n\nSome text.\n")
    run("articles", "import", str(tmp_path))
    (tmp_path / "two.md").write_text("# two\n\nAnother text.\n")

    again = json.loads(run("articles", "import", str(tmp_path), "--json").stdout)

    assert (again["created"], again["changed"], again["unchanged"]) == (0, 1, 2)


def test_a_million_characters_are_taken(run, psql):
    done = run("articles", "add", "Long", "--content", "-", stdin="word " * 200_000)

    assert done.exit_code == 0, done.stderr
    assert psql("SELECT length(content) FROM articles") == [(1_000_000,)]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        pytest.param(("articles", "add", " ", "--content", " "), "empty", id="no text"),
        pytest.param(("articles", "add", "Tea", "--content", "nul \0 inside"), "NUL", id="a NUL character"),
        pytest.param(("articles", "add", "Tea", "--content", "x", "--id", "a b"), "id", id="an id with a space"),
        pytest.param(("articles", "show", "nobody"), "nobody", id="an article that is not there"),
        pytest.param(("search", "  "), "empty", id="an empty query"),
    ],
)
def test_bad_input_is_refused_with_a_next_step_and_nothing_is_written(run, psql, argv: tuple[str, ...], named: str):
    refused = run(*argv)

    assert refused.exit_code in (1, 2)
    assert named in refused.stderr
    assert "next:" in refused.stderr
    assert psql("SELECT count(*) FROM articles") == [(0,)]


def test_two_tenants_may_use_the_same_slug_and_do_not_see_each_other(run):
    run("articles", "add", "Red", "--content", "one", "--slug", "it", "--tenant", "red")
    run("articles", "add", "Blue", "--content", "two", "--slug", "it", "--tenant", "blue")

    shown = json.loads(run("articles", "show", "it", "--tenant", "blue", "--json").stdout)

    assert (shown["title"], shown["tenant_id"]) == ("Blue", "blue")
    assert run("articles", "show", shown["id"], "--tenant", "red").exit_code == 1
