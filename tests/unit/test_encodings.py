"""The encoding of a text is found, or it is refused: never is one taken for another."""

from __future__ import annotations

import codecs

import pytest

from embedq.decide.encodings import SIGNATURES, known, text_of
from embedq.errors import InputError

TEXTS = {
    "cp1252": [
        "“Smart quotes” – a dash, 5 € and an ellipsis…\nIt’s the café’s menu.",
        "Das Wasser für grünen Tee wird gekocht, und dann überbrüht man ihn.",
        "El niño toma té por la mañana después de España",
        "Le thé vert est préparé à l'eau chaude, où l'on ajoute les feuilles séchées.",
        "Grønn te lages av tørkede blader på en kjøkkenbenk, etter å ha vært varm",
        "Resumé",
    ],
    "cp1250": [
        "Zelený čaj se zalévá horkou vodou a nechá se tři minuty louhovat.",
        "Zieloną herbatę zaparza się gorącą wodą przez trzy minuty.",
    ],
    "cp1251": [
        "Как заваривать зелёный чай\nЧайник наполняют свежей водой.",
        "Зелений чай заварюють гарячою водою протягом трьох хвилин, потім п’ють.",
    ],
    "koi8_r": ["Как заваривать зелёный чай\nЧайник наполняют свежей водой."],
    "cp1253": ["Πώς να φτιάξετε πράσινο τσάι\nΒράστε το νερό."],
    "cp1254": ["Yeşil çay nasıl demlenir\nSuyu kaynatın, üç dakika bekleyin."],
    "cp1255": ["איך מכינים תה ירוק\nמרתיחים את המים."],
    "cp1256": ["كيفية تحضير الشاي الأخضر\nاغلي الماء."],
    "cp874": ["วิธีชงชาเขียว\nต้มน้ำให้เดือด"],
    "gbk": ["如何泡绿茶\n将水烧开，然后放入茶叶。", "中国的茶文化历史悠久，种类繁多，包括绿茶、红茶和乌龙茶。"],
    "big5": ["如何泡綠茶\n將水燒開，然後放入茶葉。"],
    "shift_jis": ["緑茶の入れ方\nお湯を沸かします。", "カタカナとひらがなと漢字が混ざった文章です。"],
    "euc_jp": ["緑茶の入れ方\nお湯を沸かします。"],
    "euc_kr": ["녹차 끓이는 법\n물을 끓입니다.", "대한민국의 차 문화는 오래되었다 - 한국어 문서 2024년"],
}
ALL = [
    pytest.param(encoding, text, id=f"{encoding} {number}")
    for encoding, texts in TEXTS.items()
    for number, text in enumerate(texts)
]


@pytest.mark.parametrize(("encoding", "text"), ALL)
def test_the_encoding_of_a_text_is_found(encoding: str, text: str) -> None:
    assert text_of(text.encode(encoding)) == text


@pytest.mark.parametrize(("encoding", "text"), ALL)
@pytest.mark.parametrize("part", [1, 2, 3, 5, 8, 13])
def test_a_word_of_it_is_read_rightly_or_refused(encoding: str, text: str, part: int) -> None:
    word = text.split()[part % len(text.split())]

    try:
        found = text_of(word.encode(encoding))
    except InputError as refused:
        assert "--encoding" in refused.hint
    else:
        assert found == word


@pytest.mark.parametrize(("encoding", "text"), ALL)
def test_an_encoding_that_is_named_is_final(encoding: str, text: str) -> None:
    assert text_of(text.encode(encoding), named=encoding) == text
    with pytest.raises(InputError, match="not written in utf-8"):
        text_of(text.encode(encoding), named="utf-8")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(
    "text", ["Green tea in Unicode\nBoil the water.", "Чай 茶 çay 🍵 is tea in several languages and scripts"]
)
def test_unicode_is_found_with_a_mark_and_without(encoding: str, text: str) -> None:
    assert text_of(text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("declared", "raw", "text"),
    [
        ("windows-1251", "Заварка".encode("cp1251"), "Заварка"),
        ("iso-8859-1", "“Quoted” – it’s 5 €".encode("cp1252"), "“Quoted” – it’s 5 €"),
        ("gb2312", "镕基".encode("gbk"), "镕基"),
        ("utf-8", "Menü".encode("cp1252"), "Menü"),
        ("latin-1", "Чай".encode(), "Чай"),
        ("zlib", "Menü".encode("cp1252"), "Menü"),
        ("nonsense", "Menü".encode("cp1252"), "Menü"),
    ],
)
def test_what_a_document_declares_is_heard_as_browsers_hear_it(declared: str, raw: bytes, text: str) -> None:
    assert text_of(raw, declared=declared) == text


@pytest.mark.parametrize(("signature", "kind"), SIGNATURES)
def test_the_files_of_other_programs_are_refused_by_what_they_begin_with(signature: bytes, kind: str) -> None:
    with pytest.raises(InputError, match=f"it is {kind}, not a text"):
        text_of(signature + b"whatever follows")


@pytest.mark.parametrize("name", ["zlib", "base64", "punycode", "nonsense", "utf-8\0", "undefined"])
def test_what_is_no_encoding_of_texts_cannot_be_named(name: str) -> None:
    with pytest.raises(ValueError, match="no encoding"):
        known(name)


def test_marks_are_no_part_of_the_text() -> None:
    assert text_of(codecs.BOM_UTF8 + b"Tea") == "Tea"
