"""Files and folders -> article drafts, and what is said about the rest."""

from __future__ import annotations

import json
import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from embedq.client.documents import ORIGIN, BadLine, read
from embedq.errors import InputError
from embedq.local.files import version_of
from embedq.model import ArticleDraft, Priority

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
        ArticleDraft(
            "All about tea",
            "# All about tea\n\nIt is a drink.\n",
            slug="tea.md",
            tenant_id="acme",
            metadata={ORIGIN: str(path)},
        )
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


@pytest.mark.parametrize(
    "link",
    [
        pytest.param(lambda here: (here / "x.md").symlink_to("/etc/passwd"), id="to a file of the system"),
        pytest.param(lambda here: (here / "x.md").symlink_to("../there/cake.md"), id="to a file beside, relative"),
        pytest.param(lambda here: (here / "x").symlink_to(here.parent / "there"), id="to a folder beside"),
        pytest.param(lambda here: (here / "x").symlink_to(here.parent), id="to the folder above"),
        pytest.param(lambda here: (here / "x").symlink_to("/"), id="to everything"),
        pytest.param(lambda here: (here / "x.jsonl").symlink_to(here.parent / "there" / "lines.jsonl"), id="to lines"),
        pytest.param(lambda here: (here / "x.md").symlink_to(here / ".hidden"), id="by a link in a hidden folder"),
        pytest.param(lambda here: (here / "x.md").symlink_to("/proc/self/environ"), id="to this process's environment"),
    ],
)
def test_a_link_that_leads_out_of_the_folder_is_refused_and_counted(
    write: Write, tmp_path: Path, link: Callable[[Path], None]
) -> None:
    write("here/tea.md", "Tea")
    write("there/cake.md", "Cake")
    write("there/lines.jsonl", lines(GOOD))
    (tmp_path / "here/.hidden").symlink_to(tmp_path / "there/cake.md")
    link(tmp_path / "here")

    drafts, bad = read_all(tmp_path / "here")

    assert [draft.slug for draft in drafts] == ["tea.md"]
    assert len(bad) == 1
    assert "leads out of the folder" in str(bad[0])
    assert str(bad[0]).startswith(f"{tmp_path}/here/x")


def test_a_file_that_becomes_a_link_before_it_is_opened_is_refused(write: Write, tmp_path: Path) -> None:
    secret = write("secret.md", "Nobody's")
    write("here/a.md", "Tea")
    write("here/b.md", "Tea")
    write("here/sub/c.md", "Tea")
    reading = read([tmp_path / "here"], tenant_id="acme")

    next(reading)
    (tmp_path / "here/b.md").unlink()
    (tmp_path / "here/b.md").symlink_to(secret)
    second = next(reading)

    assert isinstance(second, BadLine)
    assert "leads out of the folder" in str(second)
    assert [each.slug for each in reading if isinstance(each, ArticleDraft)] == ["sub/c.md"]


@pytest.mark.parametrize("kind", ["FIFO", "socket", "folder"])
def test_what_is_no_file_is_refused_at_once_and_the_next_one_read(write: Write, tmp_path: Path, kind: str) -> None:
    write("b.md", "Tea")
    with socket.socket(socket.AF_UNIX) as listening:
        match kind:
            case "FIFO":
                os.mkfifo(tmp_path / "a.md")
            case "socket":
                listening.bind(str(tmp_path / "a.md"))
            case _:
                (tmp_path / "a.md").mkdir()

        drafts, bad = read_all(tmp_path)

    assert [draft.slug for draft in drafts] == ["b.md"]
    assert [str(line) for line in bad] == ([] if kind == "folder" else [f"{tmp_path}/a.md: it is a {kind}, not a file"])


@pytest.mark.parametrize("name", ["a.md", "a.jsonl"])
def test_a_file_that_becomes_a_fifo_before_it_is_opened_is_refused(write: Write, tmp_path: Path, name: str) -> None:
    write("0.md", "Tea")
    path = write(name, "Tea")
    reading = read([tmp_path / "0.md", path], tenant_id="acme")

    next(reading)
    path.unlink()
    os.mkfifo(path)

    assert [str(line) for line in reading] == [f"{path}: cannot be read: it is a FIFO, not a file"]


def test_a_file_that_is_written_to_while_it_is_read_is_reported(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.md", "Tea" * 100)

    def grown(file: BinaryIO) -> tuple[int, int]:
        with path.open("ab") as more:
            more.write(b"more")
        return version_of(file)

    monkeypatch.setattr("embedq.client.documents.version_of", grown)

    assert [str(line) for line in read_all(path)[1]] == [
        f"{path}: cannot be read: it was written to while it was read: import it again"
    ]


def test_lines_that_are_written_meanwhile_are_not_waited_for(write: Write) -> None:
    """A program that writes faster than we read does not keep us for ever."""
    path = write("a.jsonl", lines(GOOD) * 3)
    found = []
    for each in read([path], tenant_id="acme"):
        found.append(each)
        assert len(found) < 10
        with path.open("ab") as more:
            more.write(lines(GOOD).encode())

    assert [type(each) for each in found] == [ArticleDraft] * 3 + [BadLine]
    assert "written to while it was read" in str(found[-1])


@pytest.mark.parametrize(
    "values",
    [
        pytest.param("[" + "[]," * 3_000_000 + "0]", id="lists"),
        pytest.param("[" + '"a",' * 2_000_000 + "0]", id="strings"),
        pytest.param("[" * 4_000_000, id="nested"),
    ],
)
def test_a_line_takes_no_many_times_of_its_size(write: Write, values: str) -> None:
    path = write("a.jsonl", '{"title": "T", "metadata": {"a": ' + values + "}}\n" + lines(GOOD))

    tracemalloc.start()
    drafts, bad = read_all(path, max_bytes=10_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (len(drafts), len(bad)) == (1, 1)
    assert peak < 60_000_000


@pytest.mark.slow
@pytest.mark.parametrize("charset", ["punycode", "idna", "undefined", "unicode_escape", "zlib", "\u00e9", "x" * 300])
def test_a_page_does_not_choose_a_codec_that_is_none_of_pages(write: Write, charset: str) -> None:
    """Python's punycode takes hours for ten megabytes."""
    page = f"<meta charset={charset}><title>Tea</title><p>".encode() + "Thé glacé ".encode("latin-1") + b"a-" * 2_000_000

    assert [draft.title for draft in read_all(write("a.html", page), max_bytes=10_000_000)[0]] == ["Tea"]


def test_a_file_and_a_link_to_it_are_one_article(write: Write, tmp_path: Path) -> None:
    (tmp_path / "a-link.md").symlink_to(write("docs/tea.md", "Tea"))

    assert slugs(tmp_path) == ["docs/tea.md"]


def test_links_into_a_hidden_folder_are_followed(write: Write, tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: every file is a link into a hidden folder beside it."""
    (tmp_path / "tea.md").symlink_to(write("..data/tea.md", "Tea"))

    assert slugs(tmp_path) == ["tea.md"]


def test_two_files_of_one_name_are_two_drafts_that_say_where_they_come_from(write: Write, tmp_path: Path) -> None:
    paths = [write("a/tea.md", "Tea"), write("b/tea.md", "Other tea")]

    drafts, bad = read_all(tmp_path / "a", tmp_path / "b")

    assert [(draft.content, draft.metadata[ORIGIN]) for draft in drafts] == [
        ("Tea", str(paths[0])),
        ("Other tea", str(paths[1])),
    ]
    assert bad == []


@pytest.mark.parametrize(
    ("ignored", "read"),
    [
        pytest.param(
            {".gitignore": "*.md\n!keep.md\n"},
            ["keep.md", "note.txt", "sub/note.txt", "sub/keep.md"],
            id="patterns and exceptions",
        ),
        pytest.param({".gitignore": "/sub/\n"}, ["keep.md", "note.txt", "tea.md"], id="a folder"),
        pytest.param(
            {".gitignore": "tea.md\n", "sub/.gitignore": "!tea.md\nkeep.md\n"},
            ["keep.md", "note.txt", "sub/note.txt", "sub/tea.md"],
            id="a folder below decides for itself",
        ),
        pytest.param(
            {".gitignore": "# nothing\n\n"},
            ["keep.md", "note.txt", "sub/keep.md", "sub/note.txt", "sub/tea.md", "tea.md"],
            id="nothing",
        ),
    ],
)
def test_what_a_gitignore_names_is_passed_over(write: Write, tmp_path: Path, ignored: dict[str, str], read: list[str]) -> None:
    for folder in ("", "sub/"):
        for name in ("tea.md", "keep.md", "note.txt"):
            write(f"{folder}{name}", "Tea")
    for name, content in ignored.items():
        write(name, content)

    assert sorted(filter(None, slugs(tmp_path))) == sorted(read)


@pytest.mark.parametrize("is_repository", [True, False])
def test_a_gitignore_above_counts_within_a_repository(write: Write, tmp_path: Path, is_repository: bool) -> None:
    write("top/.gitignore", "docs/build/\n")
    write("top/docs/tea.md", "Tea")
    write("top/docs/build/tea.md", "Tea")
    if is_repository:
        (tmp_path / "top" / ".git").mkdir()

    assert slugs(tmp_path / "top" / "docs") == (["tea.md"] if is_repository else ["tea.md", "build/tea.md"])


def test_a_line_without_an_address_is_the_same_article_each_time(write: Write) -> None:
    path = write("a.jsonl", lines(GOOD, {"title": "Cake", "content": "Sweet."}))

    first, second = read_all(path)[0], read_all(path)[0]

    assert [draft.id for draft in first] == [draft.id for draft in second]
    assert len({draft.id for draft in first}) == 2


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        pytest.param(b"", "there is no text in it", id="an empty file"),
        pytest.param(b" \n\n", "there is no text in it", id="a blank file"),
        pytest.param(b"%PDF-1.4\x00\xff", "it is a PDF, not a text", id="a PDF"),
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\xff", "it is a PNG image, not a text", id="an image"),
        pytest.param(b"tea\x00" + b"x" * 500, "holds a NUL character at position 3", id="a NUL"),
        pytest.param(bytes(range(1, 32)) * 9, "full of control characters", id="no text"),
        pytest.param("Чай".encode("cp1251"), "its encoding cannot be told for sure", id="too few letters to tell"),
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
        pytest.param("tea.xls", r"\.xls files are not read", id="an ending that no reader knows"),
        pytest.param("pipe", "neither a file nor a folder", id="a pipe"),
    ],
)
def test_a_wrong_path_is_an_error_before_anything_is_read(write: Write, tmp_path: Path, name: str, message: str) -> None:
    write("tea.xls", "Tea")
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InputError, match=message) as refused:
        read([write("tea.md", "Tea"), tmp_path / name], tenant_id="acme")

    assert (refused.value.field, bool(refused.value.hint)) == ("paths", True)


# JSON lines


def test_every_line_becomes_a_draft(write: Write) -> None:
    path = write("tea.jsonl", lines(GOOD, {**GOOD, "slug": "t", "tenant_id": "other", "priority": "low"}))

    drafts, bad = read_all(path)

    assert drafts == [
        ArticleDraft("Tea", "A drink.", id=drafts[0].id, tenant_id="acme"),
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

    assert first == ArticleDraft("Tea", "A drink.", id=first.id, tenant_id="acme")
    assert isinstance(second, BadLine)
    assert peak < 20_000_000
