"""Folders as people have them, imported: what is one article, what is gone, what is refused; and counts that add up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from embedq.cli import embedq


@pytest.fixture
def run(environment, monkeypatch: pytest.MonkeyPatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def call(*argv: str, code: int = 0):
        done = CliRunner().invoke(embedq, ["articles", "import", *map(str, argv), "--json"])
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    return call


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


COUNTS = ("created", "changed", "unchanged", "repeated", "refused_count")


def counts(answer) -> tuple[int, ...]:
    return tuple(answer[name] for name in COUNTS)


@pytest.mark.parametrize("together", [True, False], ids=["one command", "two commands"])
def test_files_of_one_name_in_two_folders_are_two_articles(run, psql, tmp_path, together):
    write(tmp_path / "a" / "README.md", "# Tea\n\nGreen.")
    write(tmp_path / "b" / "README.md", "# Cake\n\nSweet.")
    commands = [(tmp_path / "a", tmp_path / "b")] if together else [(tmp_path / "a",), (tmp_path / "b",)]

    for paths in commands:
        run(*paths)

    assert psql("SELECT slug, title FROM articles ORDER BY 1") == [("README.md", "Tea"), ("b/README.md", "Cake")]
    for paths in commands[::-1]:
        assert counts(run(*paths)) == (0, 0, len(paths), 0, 0)


def test_three_folders_of_one_name_are_told_apart_by_as_much_of_the_path_as_it_takes(run, psql, tmp_path):
    for project in ("one", "two", "three"):
        write(tmp_path / project / "docs" / "index.md", f"# {project}")
        run(tmp_path / project / "docs")

    assert dict(psql("SELECT title, slug FROM articles")) == {
        "one": "index.md",
        "two": "docs/index.md",
        "three": "three/docs/index.md",
    }


def test_a_folder_that_was_moved_is_the_same_folder(run, psql, tmp_path):
    write(tmp_path / "build-1" / "tea.md", "# Tea")
    run(tmp_path / "build-1")
    shutil.move(tmp_path / "build-1", tmp_path / "build-2")

    answer = run(tmp_path / "build-2")

    assert (answer["created"], answer["changed"]) == (0, 1)
    assert psql("SELECT slug, metadata->>'imported_from' FROM articles") == [("tea.md", str(tmp_path / "build-2" / "tea.md"))]
    assert psql("SELECT version FROM article_texts") == [(1,)]


def test_an_article_of_before_is_taken_over_by_the_file_of_its_name(run, psql, tmp_path):
    psql("INSERT INTO articles (id, slug, title, content) VALUES ('x', 'tea.md', 'Tea', 'old')")
    write(tmp_path / "tea.md", "# Tea")

    assert run(tmp_path)["changed"] == 1

    assert psql("SELECT id, content FROM articles") == [("x", "# Tea")]


def test_articles_of_files_that_are_gone_are_pruned_and_no_others(run, psql, tmp_path):
    psql("INSERT INTO articles (id, slug, title) VALUES ('mine', 'mine', 'By hand')")
    for name in ("a.md", "b.md", "sub/c.md"):
        write(tmp_path / "docs" / name, f"# {name}")
    write(tmp_path / "docs-2" / "d.md", "# d")
    run(tmp_path / "docs", tmp_path / "docs-2")
    (tmp_path / "docs" / "b.md").unlink()
    shutil.rmtree(tmp_path / "docs" / "sub")
    (tmp_path / "docs-2" / "d.md").unlink()
    every = sorted(psql("SELECT id FROM articles"))

    planned = run(tmp_path / "docs", "--prune", "--dry-run")
    assert sorted(psql("SELECT id FROM articles")) == every
    assert len(planned["would_delete"]) == 2
    refused = CliRunner().invoke(embedq, ["articles", "import", str(tmp_path / "docs"), "--prune"])
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    assert sorted(psql("SELECT id FROM articles")) == every

    assert run(tmp_path / "docs", "--prune", "--yes")["deleted"] == 2
    assert psql("SELECT title FROM articles ORDER BY 1") == [("By hand",), ("a.md",), ("d",)]


def test_the_lines_of_a_file_add_up_and_the_same_lines_again_change_nothing(run, psql, tmp_path):
    lines = [
        {"slug": "a", "content": "one"},
        {"slug": "b", "content": "two"},
        {"slug": "a", "content": "one"},
        {"content": "no address"},
        {"content": "no address"},
        {"slug": "b", "content": "another two"},
        {"id": "c", "content": "three"},
    ]
    path = write(tmp_path / "a.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))

    first = run(path, "--batch", "2", code=1)
    assert counts(first) == (4, 0, 0, 2, 1)
    assert sum(counts(first)) == len(lines)
    before = psql("SELECT id, version, updated_at FROM article_texts ORDER BY 1")

    assert counts(run(path, "--batch", "3", code=1)) == (0, 0, 4, 2, 1)
    assert psql("SELECT id, version, updated_at FROM article_texts ORDER BY 1") == before


def test_front_matter_becomes_metadata(run, psql, tmp_path):
    head = "---\ntitle: >\n  All about\n  tea\ntags: [green, hot]\ndate: 2024-05-01\ndraft: false\n---\n"
    write(tmp_path / "tea.md", f"{head}\n# Tea\n\nIt is a drink.")

    run(tmp_path)

    ((title, content, metadata),) = psql("SELECT title, content, metadata FROM articles")
    assert (title, content) == ("All about tea", "\n# Tea\n\nIt is a drink.")
    assert metadata == {
        "tags": ["green", "hot"],
        "date": "2024-05-01",
        "draft": False,
        "imported_from": str(tmp_path / "tea.md"),
    }


def test_an_encoding_is_found_named_or_refused(run, psql, tmp_path):
    (tmp_path / "tea.txt").write_bytes("Как заваривать зелёный чай\nЧайник наполняют водой.".encode("cp1251"))
    (tmp_path / "short.txt").write_bytes("Чай".encode("cp1251"))

    refused = run(tmp_path, code=1)
    assert [Path(bad["path"]).name for bad in refused["refused"]] == ["short.txt"]
    assert "--encoding" in refused["refused"][0]["reason"]
    run(tmp_path / "short.txt", "--encoding", "windows-1251")

    assert psql("SELECT title FROM articles ORDER BY 1") == [("Как заваривать зелёный чай",), ("Чай",)]


def test_a_name_that_is_no_encoding_is_refused_before_anything_is_read(environment, monkeypatch, tmp_path):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    done = CliRunner().invoke(embedq, ["articles", "import", str(tmp_path), "--encoding", "base64"])

    assert done.exit_code == 2
    assert "no encoding of texts" in done.stderr
