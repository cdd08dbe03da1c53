"""The bytes of a document -> its title and its text."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.pages import MAX_TITLE, READERS, page_from
from embedq.errors import InputError


@pytest.mark.parametrize(
    ("suffix", "source", "title"),
    [
        pytest.param(".txt", "\n\nTea\nis a drink.", "Tea", id="the first line of a text"),
        pytest.param(".txt", "-----\n***\n Tea  time \n", "Tea time", id="that has a word in it"),
        pytest.param(".txt", "-----", "", id="no title where there is no word"),
        pytest.param(
            ".md", "![logo](x.png)\n\n## All about *tea* ##\n", "All about *tea", id="the first heading of a Markdown file"
        ),
        pytest.param(".md", "```sh\n# not this\n```\n# Tea\n", "Tea", id="outside code"),
        pytest.param(".md", "Tea\n===\n\n# Cake\n", "Tea", id="an underlined heading"),
        pytest.param(".md", "---\ntitle: 'All about tea'\n---\n# Tea\n", "All about tea", id="the title of the front matter"),
        pytest.param(".md", "---\ndate: 2024\n---\n# Tea\n", "Tea", id="the heading after a front matter without a title"),
        pytest.param(".md", "---\ndate: 2024\n---\nTea is a drink.", "Tea is a drink.", id="the first line after it"),
        pytest.param(".md", "#hashtag\n\nTea\n", "#hashtag", id="a hash without a space is no heading"),
        pytest.param(
            ".rst", ".. _tea:\n\nAll about tea\n=============\n", "All about tea", id="the first underlined line of rst"
        ),
        pytest.param(".rst", "===\nTea\n===\n", "Tea", id="also when it is overlined"),
        pytest.param(".rst", "Not a heading\n====\n\nTea\n~~~\n", "Tea", id="not when the line is too short"),
        pytest.param(".html", "<title> Tea &amp;\n cake </title><h1>No</h1>", "Tea & cake", id="the <title> of a page"),
        pytest.param(".html", "<title></title><h2>All <b>about</b> tea</h2><h1>No</h1>", "All about tea", id="or its heading"),
        pytest.param(".HTM", "<p>Tea", "Tea", id="or its first line, and the ending may be in capitals"),
        pytest.param(".unknown", "Tea\n", "Tea", id="another ending is plain text"),
    ],
)
def test_the_title(suffix: str, source: str, title: str) -> None:
    assert page_from(source.encode(), suffix).title == title


def test_a_long_first_line_is_shortened_to_a_title() -> None:
    title = page_from(b"tea " * 1000, ".txt").title

    assert len(title) == MAX_TITLE
    assert title.endswith("tea…")


def test_the_text_of_a_page_is_what_its_reader_sees() -> None:
    source = """<!DOCTYPE html><html><head><title>Tea</title><style>p {color: red}</style>
        <script>if (a < b) { say("</p>") }</script></head><body><!-- <p>hidden</p> -->
        <h1>All <b>about</b>   tea</h1><p title="a > b" class='x'>First&nbsp;paragraph,<br>3 &lt; 4 < 5.
        <p don't>Second</p><svg><title>icon</title><text>pixels</text></svg>
        <ul><li>green<li>black</ul><table><tr><td>1</td><td>2</td></tr></table></body></html>"""

    page = page_from(source.encode(), ".html")

    assert page.title == "Tea"
    assert page.text.split("\n\n") == ["All about tea", "First paragraph,\n3 < 4 < 5.", "Second", "green", "black", "1 2"]


def test_preformatted_text_keeps_its_lines_and_indents() -> None:
    page = page_from(b"<p>Like this:<pre>def tea():\n    return 1\n</pre>", ".html")

    assert page.text == "Like this:\n\ndef tea():\n    return 1"


@pytest.mark.parametrize(
    ("raw", "suffix", "text"),
    [
        pytest.param("Thé".encode(), ".txt", "Thé", id="UTF-8"),
        pytest.param(codecs.BOM_UTF8 + "Thé".encode(), ".txt", "Thé", id="UTF-8 with a mark"),
        pytest.param("Thé".encode("utf-16"), ".txt", "Thé", id="UTF-16 with a mark"),
        pytest.param("Thé".encode("latin-1"), ".txt", "Thé", id="Latin-1"),
        pytest.param(b"\r".join((b"one", b"two")), ".txt", "one\ntwo", id="lines of old Macs"),
        pytest.param('<meta charset="koi8-r">чай'.encode("koi8-r"), ".html", "чай", id="unless a page declares its own"),
        pytest.param(b"<meta charset=zlib>Th\xe9", ".html", "Thé", id="and that is an encoding of texts"),
        pytest.param(b"one\r\ntwo", ".txt", "one\ntwo", id="lines end in one way"),
    ],
)
def test_the_encoding(raw: bytes, suffix: str, text: str) -> None:
    assert page_from(raw, suffix).text == text


@given(
    st.binary() | st.text(st.sampled_from("<>/!-'\"= apretilscbd&#\n")).map(str.encode), st.sampled_from([*READERS, ".unknown"])
)
def test_no_bytes_are_too_strange_to_read(raw: bytes, suffix: str) -> None:
    try:
        page = page_from(raw, suffix)
    except InputError as refused:
        assert refused.hint
        return

    assert len(page.title) <= MAX_TITLE
    assert "\n" not in page.title


@pytest.mark.parametrize(
    "repeated",
    ["<!--", "<a ", "<a href='", "<a/", "</", "<?", "<![CDATA[", "<script>", "<", "&", "<pre> ", "<a b=c ", "= '\"<a "],
)
def test_a_page_that_closes_nothing_is_read_to_its_end(repeated: str) -> None:
    """HTMLParser would take hours for these: the suite's time limit notices."""
    page = page_from(b"<p>Tea</p>" + repeated.encode() * 500_000, ".html")

    assert page.text.startswith("Tea")
