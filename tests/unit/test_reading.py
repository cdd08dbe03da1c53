"""Files and folders -> article drafts, and what is said about the rest."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from embedq.errors import InputError
from embedq.model import ArticleDraft, Priority
from embedq.reading import BadLine, read

GOOD = {"title": "Tea", "content": "A drink."}
Write = Callable[[str, "str | bytes"], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, contents: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
        return path

    return written


def read_all(*paths: Path, max_bytes: int = 10_000) -> tuple[list[ArticleDraft], list[BadLine]]:
    found = list(read(paths, tenant_id="acme", max_bytes=max_bytes))
    return [each for each in found if isinstance(each, ArticleDraft)], [each for each in found if isinstance(each, BadLine)]


def slugs(*paths: Path) -> list[str | None]:
    return [draft.slug for draft in read_all(*paths)[0]]


def lines(*records: object) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


# Documents and folders


def test_a_file_becomes_a_draft(write: Write) -> None:
    path = write("notes/tea.md", "# All about tea\n\nIt is a drink.\n")

    drafts, bad = read_all(path)

    assert drafts == [
        ArticleDraft("All about tea", "# All about tea\n\nIt is a drink.\n", slug="tea.md", tenant_id="acme"),
    ]
    assert bad == []


def test_a_folder_is_read_with_everything_below_in_a_fixed_order(write: Write, tmp_path: Path) -> None:
    for name in ("b/two.rst", "b/a/three.txt", "one.md", "c/four.html", "c/five.HTM"):
        write(name, "Tea")

    assert slugs(tmp_path) == ["one.md", "b/two.rst", "b/a/three.txt", "c/five.HTM", "c/four.html"]


def test_hidden_and_unknown_files_are_passed_over(write: Write, tmp_path: Path) -> None:
    for name in (".hidden.md", ".git/a.md", "picture.png", "README", "tea.md", "folder.md/inner.txt"):
        write(name, "Tea")

    assert slugs(tmp_path) == ["tea.md", "folder.md/inner.txt"]


def test_a_hidden_file_that_is_named_is_read(write: Write) -> None:
    assert slugs(write(".hidden.md", "Tea")) == [".hidden.md"]


def test_a_named_file_without_an_ending_is_plain_text(write: Write) -> None:
    drafts, _ = read_all(write("README", "Tea\n"))

    assert [draft.title for draft in drafts] == ["Tea"]


def test_a_text_without_a_word_is_titled_by_its_file(write: Write) -> None:
    drafts, _ = read_all(write("three-small_stars.txt", "***"))

    assert [draft.title for draft in drafts] == ["three small stars"]


def test_links_in_a_circle_are_not_followed(write: Write, tmp_path: Path) -> None:
    write("here/tea.md", "Tea")
    write("outside.md", "Not asked for")
    (tmp_path / "here/round").symlink_to(tmp_path / "here")
    (tmp_path / "here/up").symlink_to(tmp_path)
    (tmp_path / "here/itself").symlink_to(tmp_path / "here/itself")
    (tmp_path / "here/nowhere.md").symlink_to(tmp_path / "nowhere")

    assert slugs(tmp_path / "here") == ["tea.md"]


def test_a_link_to_another_folder_is_followed_once(write: Write, tmp_path: Path) -> None:
    write("here/tea.md", "Tea")
    write("there/cake.md", "Cake")
    (tmp_path / "there/back").symlink_to(tmp_path / "here")
    (tmp_path / "here/first").symlink_to(tmp_path / "there")
    (tmp_path / "here/second").symlink_to(tmp_path / "there")

    assert slugs(tmp_path / "here") == ["tea.md", "first/cake.md"]


def test_a_file_and_a_link_to_it_are_one_article(write: Write, tmp_path: Path) -> None:
    (tmp_path / "a-link.md").symlink_to(write("docs/tea.md", "Tea"))

    assert slugs(tmp_path) == ["docs/tea.md"]


def test_links_into_a_hidden_folder_are_followed(write: Write, tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: every file is a link into a hidden folder beside it."""
    (tmp_path / "tea.md").symlink_to(write("..data/tea.md", "Tea"))

    assert slugs(tmp_path) == ["tea.md"]


def test_two_files_of_the_same_slug_do_not_overwrite_each_other(write: Write, tmp_path: Path) -> None:
    write("a/tea.md", "Tea")
    write("b/tea.md", "Other tea")

    drafts, bad = read_all(tmp_path / "a", tmp_path / "b")

    assert [draft.content for draft in drafts] == ["Tea"]
    assert [str(line) for line in bad] == [
        f"{tmp_path}/b/tea.md: {tmp_path}/a/tea.md has the slug 'tea.md' too: the second would overwrite the first"
    ]


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        pytest.param(b"", "there is no text in it", id="an empty file"),
        pytest.param(b" \n\n", "there is no text in it", id="a blank file"),
        pytest.param(b"%PDF\x00\xff", "holds a NUL character at position 4", id="a binary file"),
        pytest.param(b"x" * 10_001, "too large: more than 10,000 bytes", id="a large file"),
    ],
)
def test_a_file_that_cannot_be_taken_is_reported_and_the_next_one_read(
    write: Write, tmp_path: Path, contents: bytes, reason: str
) -> None:
    path = write("a.txt", contents)
    write("b.txt", "Tea")

    drafts, bad = read_all(tmp_path)

    assert [draft.slug for draft in drafts] == ["b.txt"]
    assert [(line.path, line.line_number) for line in bad] == [(path, 0)]
    assert reason in str(bad[0])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_reported(write: Write, tmp_path: Path) -> None:
    path = write("closed/tea.md", "Tea").parent
    path.chmod(0)

    _, bad = read_all(tmp_path)
    path.chmod(0o700)

    assert [str(line) for line in bad] == [f"{path}: cannot be read: Permission denied"]


def test_a_file_that_vanishes_meanwhile_is_reported(write: Write) -> None:
    paths = [write("a.txt", "Tea"), write("b.txt", "Tea"), write("c.jsonl", lines(GOOD))]
    reading = read(paths, tenant_id="acme")

    next(reading)
    for path in paths[1:]:
        path.unlink()

    assert [str(line) for line in reading] == [f"{path}: cannot be read: No such file or directory" for path in paths[1:]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("nothing", "there is nothing at", id="a path that does not exist"),
        pytest.param("tea.pdf", r"\.pdf files are not read", id="an ending that no reader knows"),
        pytest.param("pipe", "neither a file nor a folder", id="a pipe"),
    ],
)
def test_a_wrong_path_is_an_error_before_anything_is_read(write: Write, tmp_path: Path, name: str, message: str) -> None:
    write("tea.pdf", "Tea")
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InputError, match=message) as refused:
        read([write("tea.md", "Tea"), tmp_path / name], tenant_id="acme")

    assert (refused.value.field, bool(refused.value.hint)) == ("paths", True)


# JSON lines


def test_every_line_becomes_a_draft(write: Write) -> None:
    path = write("tea.jsonl", lines(GOOD, {**GOOD, "slug": "t", "tenant_id": "other", "priority": "low"}))

    drafts, bad = read_all(path)

    assert drafts == [
        ArticleDraft("Tea", "A drink.", tenant_id="acme"),
        ArticleDraft("Tea", "A drink.", slug="t", tenant_id="other", priority=Priority.LOW),
    ]
    assert bad == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b"{", "not JSON: Expecting property name", id="not JSON"),
        pytest.param(b"[]", "this is a list, not an object", id="not an object"),
        pytest.param(b'{"content": 1}', "content is a number, not a string", id="a wrong type"),
        pytest.param(b'{"content": "x", "priority": "top"}', "the priority 'top' is unknown (one of: urgent", id="a priority"),
        pytest.param(b'{"slug": "x"}', "title and content are both empty", id="nothing to embed"),
        pytest.param(b'{"content": "x", "contents": "y"}', "did you mean 'content'", id="an unknown key"),
        pytest.param(b'{"content": "\\u0000"}', "NUL character", id="a NUL"),
        pytest.param(b'{"content": "\\ud800"}', "half of a surrogate pair", id="a lone surrogate"),
        pytest.param(b'{"content": "\xff"}', "not UTF-8: byte 14 of the line is 0xff", id="not UTF-8"),
        pytest.param(b'{"metadata": {"a": NaN}}', "not JSON: NaN is no JSON number", id="not a number"),
        pytest.param(b'{"title": "x", "metadata": {"a": 1e999}}', "metadata.a is Infinity", id="an infinite number"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", "not JSON: Exceeds the limit", id="an absurdly long number"),
        pytest.param(
            b'{"title": "x", "metadata": {"a": ' + b"[" * 4000 + b"]" * 4000 + b"}}", "nested too deep", id="absurdly deep"
        ),
        pytest.param(b'{"content": "' + b"x" * 10_000 + b'"}', "too large: more than 10,000 bytes", id="a large line"),
    ],
)
def test_a_bad_line_is_reported_where_it_stands_and_stops_nothing(write: Write, line: bytes, reason: str) -> None:
    good = json.dumps(GOOD).encode()
    path = write("tea.jsonl", b"\n".join([good, b"", line, good]))

    drafts, bad = read_all(path)

    assert len(drafts) == 2
    assert [(found.path, found.line_number) for found in bad] == [(path, 3)]
    assert reason in bad[0].reason
    assert str(bad[0]).startswith(f"{path}:3: ")


@pytest.mark.parametrize(
    "contents",
    [
        pytest.param(b"\xef\xbb\xbf%s\n%s\n", id="a byte order mark"),
        pytest.param(b"%s\r\n%s\r\n", id="lines ended as Windows does"),
        pytest.param(b"%s\n\n  \n%s", id="blank lines, and none at the end"),
    ],
)
def test_lines_may_be_written_in_any_usual_way(write: Write, contents: bytes) -> None:
    good = json.dumps(GOOD).encode()

    drafts, bad = read_all(write("tea.ndjson", contents % (good, good)))

    assert (len(drafts), bad) == (2, [])


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_may_be_as_long_as_the_limit_and_no_longer(write: Write, end: bytes) -> None:
    line = json.dumps(GOOD).encode()
    path = write("tea.jsonl", line + end)

    just_fits, too_long = read_all(path, max_bytes=len(line)), read_all(path, max_bytes=len(line) - 1)

    assert (len(just_fits[0]), len(too_long[1])) == (1, 1)


def test_a_huge_file_is_read_line_by_line_in_little_memory(write: Write) -> None:
    path = write("huge.jsonl", lines(GOOD))
    with path.open("r+b") as file:
        file.truncate(100_000_000)

    tracemalloc.start()
    first, second = read([path], tenant_id="acme", max_bytes=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert first == ArticleDraft("Tea", "A drink.", tenant_id="acme")
    assert isinstance(second, BadLine)
    assert peak < 20_000_000
