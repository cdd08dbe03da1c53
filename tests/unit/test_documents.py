"""Front matter, notebooks, and documents of other programs: their text and title, or why not."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from embedq.client.extraction import PACKAGES, page_of
from embedq.decide.frontmatter import front_matter
from embedq.decide.pages import page_from
from embedq.errors import InputError


@pytest.mark.parametrize(
    ("head", "title", "data"),
    [
        pytest.param("---\ntitle: Tea\n---\n", "Tea", {}, id="YAML"),
        pytest.param("--- \ntitle: Tea # a comment\n--- \n", "Tea", {}, id="blanks behind the lines, and a comment"),
        pytest.param("---\r\ntitle: 'Tea'\r\n---\r\n".replace("\r\n", "\n"), "Tea", {}, id="quotes"),
        pytest.param(
            "---\ntitle: >\n  Folded\n  title\nauthor: x\n---\n", "Folded title", {"author": "x"}, id="a folded title"
        ),
        pytest.param(
            "---\ntags: [a, b]\ndate: 2024-05-01 10:00:00\n---\n",
            "",
            {"tags": ["a", "b"], "date": "2024-05-01T10:00:00"},
            id="lists and dates",
        ),
        pytest.param('+++\ntitle = "Tea"\ndraft = true\n+++\n', "Tea", {"draft": True}, id="TOML"),
        pytest.param("---\n---\n", "", {}, id="nothing in it"),
        pytest.param("---\n1: .nan\n2: .inf\n---\n", "", {"1": "nan", "2": "inf"}, id="what JSON has not"),
    ],
)
def test_front_matter_is_data_and_no_text(head: str, title: str, data: dict[str, object]) -> None:
    found = front_matter(f"{head}\nIt is a drink.")

    assert (found.title, dict(found.data), found.rest) == (title, data, "\nIt is a drink.")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("---\nTea is a drink.\n---\nhot", id="a rule and no data"),
        pytest.param("--- no head\n---\n", id="more than a rule"),
        pytest.param("---\ntitle: [\n---\n", id="YAML that is broken"),
        pytest.param(
            "---\n" + "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n---\n", id="aliases, which stand for millions of values"
        ),
        pytest.param("---\nx: " + "[" * 2000 + "\n---\n", id="nested without end"),
        pytest.param("---\n!!python/object/apply:os.system ['true']\n---\n", id="YAML that would run a program"),
        pytest.param("---\n" + "a: 1\n" * 20_000 + "---\n", id="longer than any head"),
    ],
)
def test_what_only_looks_like_front_matter_is_text(text: str) -> None:
    found = front_matter(text)

    assert (dict(found.data), found.rest) == ({}, text)


@pytest.mark.parametrize(
    ("source", "title"),
    [
        pytest.param(
            '<h1 align="center">\n  <img src="logo.png"> TeaPot\n</h1>\n\nBrews tea.\n', "TeaPot", id="a heading in HTML"
        ),
        pytest.param("<!-- SPDX-License-Identifier: MIT -->\n\n# Real heading\n", "Real heading", id="a comment before it"),
        pytest.param("---\ntitle: [\n---\n# Tea\n", "[", id="a broken front matter names the title all the same"),
    ],
)
def test_titles_of_markdown(source: str, title: str) -> None:
    assert page_from(source.encode(), ".markdown").title == title


def test_pictures_and_programs_in_markdown_are_no_text_and_examples_are() -> None:
    picture = f"![logo](data:image/png;base64,{'iVBORw0KGgo' * 500})"
    source = f"# Tea\n\n{picture}\n\n<script>\nevil()\n</script>\n\n```html\n<script>shown()</script>\n```\n"

    text = page_from(source.encode(), ".md").text

    assert text == "# Tea\n\n![logo]()\n\n\n\n```html\n<script>shown()</script>\n```\n"


def test_statements_of_mdx_are_left_out() -> None:
    page = page_from(
        b"---\ntitle: Tea\n---\nimport Pot from './pot'\nexport const x = 1\n\n# Heading\n\n```js\nimport y\n```\n", ".mdx"
    )

    assert (page.title, page.text) == ("Tea", "\n# Heading\n\n```js\nimport y\n```\n")


def test_a_notebook_is_its_texts_and_programs() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Tea\n", "It is a drink."]},
        {"cell_type": "code", "source": "brew()", "outputs": [{"data": {"image/png": "iVBOR"}}]},
    ]

    page = page_from(json.dumps({"cells": cells, "nbformat": 4}).encode(), ".ipynb")

    assert (page.title, page.text) == ("Tea", "# Tea\nIt is a drink.\n\n```\nbrew()\n```")


@pytest.mark.parametrize("source", ["[]", "{}", "no json", '{"cells": [1]}', "[" * 100_000])
def test_what_is_no_notebook_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="no notebook"):
        page_from(source.encode(), ".ipynb")


def docx_of(title: str, *blocks: tuple[str, str]) -> bytes:
    docx = pytest.importorskip("docx", reason="pip install 'embedq[documents]'")
    document, file = docx.Document(), io.BytesIO()
    document.core_properties.title = title
    for style, text in blocks:
        document.add_paragraph(text, style=style)
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "green", "hot"
    document.save(file)
    return file.getvalue()


def pdf_of(text: str) -> bytes:
    stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 5 0 R>>>>/Contents 4 0 R>>",
        b"<</Length %d>>stream\n%b\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj%b\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 6\n0000000000 65535 f \n%btrailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (table, len(out))


def epub_of(*chapters: str, package: str = "", padding: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="OPS/x.opf"/></rootfiles></container>',
        )
        items = "".join(f'<item id="c{n}" href="c{n}.xhtml"/>' for n in range(len(chapters)))
        order = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
        archive.writestr(
            "OPS/x.opf",
            package
            or '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The book of tea'
            f"</dc:title></metadata><manifest>{items}</manifest><spine>{order}</spine></package>",
        )
        for number, chapter in enumerate(chapters):
            archive.writestr(f"OPS/c{number}.xhtml", f"<html><body><h1>{number}</h1><p>{chapter}</p></body></html>")
        archive.writestr("OPS/padding", b" " * padding)
    return file.getvalue()


def test_a_word_file_is_its_paragraphs_headings_and_tables() -> None:
    page = page_of(docx_of("All about tea", ("Heading 1", "Tea"), ("Normal", "It is a drink.")), ".DOCX")

    assert (page.title, page.text) == ("All about tea", "# Tea\n\nIt is a drink.\n\ngreen | hot")


def test_a_pdf_is_its_text() -> None:
    pytest.importorskip("pypdf", reason="pip install 'embedq[documents]'")

    page = page_of(pdf_of("Tea is a drink"), ".pdf")

    assert (page.title, page.text) == ("Tea is a drink", "Tea is a drink")


def test_an_epub_is_its_chapters_in_order() -> None:
    page = page_of(epub_of("Green tea.", "Black tea."), ".epub")

    assert (page.title, page.text) == ("The book of tea", "0\n\nGreen tea.\n\n1\n\nBlack tea.")


@pytest.mark.parametrize("suffix", PACKAGES)
@pytest.mark.parametrize("raw", [b"", b"no document", b"PK\x03\x04broken", b"%PDF-1.4\nbroken"])
def test_a_broken_document_is_refused(suffix: str, raw: bytes) -> None:
    if PACKAGES[suffix]:
        pytest.importorskip(PACKAGES[suffix], reason="pip install 'embedq[documents]'")

    with pytest.raises(InputError, match="broken, or no"):
        page_of(raw, suffix)


@pytest.mark.parametrize("suffix", [suffix for suffix, package in PACKAGES.items() if package])
def test_a_library_that_is_missing_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr("embedq.client.extraction.find_spec", lambda name: None)

    with pytest.raises(InputError) as refused:
        page_of(b"", suffix)

    assert "embedq[documents]" in refused.value.hint


def test_an_archive_that_is_a_bomb_is_refused() -> None:
    with pytest.raises(InputError, match="more than 100,000,000 bytes"):
        page_of(epub_of("Tea", padding=101_000_000), ".epub")


def test_entities_of_a_package_are_refused() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><package>&b;</package>'

    with pytest.raises(InputError, match="DOCTYPE"):
        page_of(epub_of("Tea", package=bomb), ".epub")
