"""Whatever stands in an article: it is embedded, skipped or refused with a reason. Never a crash, never an endless retry."""

from __future__ import annotations

import pytest

from embedq import Client
from embedq.errors import InputError
from embedq.settings import from_env

ONE_LINE = "word " * 50_000
ODD = {
    "one": "x",
    "million": "Sentence of a long article. " * 36_000,
    "emoji": "👩‍👩‍👧‍👦 🎉 🏳️‍🌈 " * 500,
    "emoji-unbroken": "🎉" * 30_000,
    "rtl": "שלום עולם مرحبا بالعالم \u202eabc\u202c",
    "combining": "e" + "\u0301" * 5000,
    "invisible": "\u200b\ufeff\u2060 a",
    "controls": "\x01\x02\x1b[31m\x7f\x85 a",
    "noncharacters": "\ufffe\uffff\U0010ffff",
    "one-line": ONE_LINE,
    "one-word": "a" * 200_000,
    "chinese": "全文検索は難しい。" * 20_000,
    "newlines": "a" + "\n" * 100_000 + "b",
    "quotes": "'); DROP TABLE articles; --\\ \" \u2028",
}
BLANK = {"empty": "", "spaces": "   ", "exotic": "\u00a0\u3000\n\t", "line-ends": "\n" * 1000}


def test_odd_texts_are_embedded_and_blank_ones_are_skipped_with_a_reason(delivery):
    delivery.add(ODD | BLANK)

    assert delivery.until_idle(90) == {"completed": len(ODD), "skipped": len(BLANK)}

    assert delivery.sql("SELECT DISTINCT error_message FROM embedding_tasks WHERE status = 'skipped'") == [
        ("the article has no text",)
    ]
    assert delivery.sql("SELECT count(*) FROM articles WHERE embedding_status = 'ready'") == [(len(ODD),)]
    assert delivery.sql("SELECT max(attempts) FROM embedding_tasks") == [(1,)]
    many = dict(delivery.sql("SELECT article_id, count(*) FROM embedding_vectors GROUP BY 1"))
    assert many["million"] > 100
    assert many["one-line"] > 25
    assert many["one"] == 1


def test_every_character_of_an_odd_text_is_in_a_chunk(delivery):
    delivery.add(ODD)
    delivery.until_idle(90)

    for article, text in ODD.items():
        spans = delivery.sql("SELECT starts_at, ends_at FROM embedding_vectors WHERE article_id = %s ORDER BY chunk", article)
        covered = 0
        for start, end in spans:
            assert not text.strip()[covered:start].strip(), article
            covered = max(covered, end)
        assert covered == len(text.strip()), article


def test_ten_million_characters_are_embedded_and_searched(delivery):
    delivery.add({"ten": "".join(f"Sentence {number} of very many. " for number in range(330_000))[:10_000_000]})

    assert delivery.until_idle(150) == {"completed": 1}

    ((chunks,),) = delivery.sql("SELECT count(*) FROM embedding_vectors")
    assert chunks > 1_000
    with Client(from_env(delivery.environment)) as client:
        hits = client.search("Sentence 7 of very many.", 3)
    assert [hit.article_id for hit in hits] == ["ten"]
    assert len(hits[0].snippet) <= 160


def test_a_blank_text_that_is_edited_is_embedded_after_all(delivery):
    delivery.add({"a": "   "})
    delivery.until_idle()

    delivery.sql("UPDATE articles SET content = 'not blank any more' WHERE id = 'a'")

    assert delivery.until_idle() == {"skipped": 1, "completed": 1}


@pytest.mark.parametrize(
    "odd", ["before\0after", "half of a pair: \ud83c", "\udc00"], ids=["NUL", "high surrogate", "low surrogate"]
)
def test_what_postgresql_cannot_store_is_refused_at_the_door_with_the_field(client, odd):
    with pytest.raises(InputError) as refused:
        client.create("Tea", odd)

    assert refused.value.field == "content"
    assert refused.value.hint


@pytest.mark.parametrize(
    "odd",
    ["before\0after", "\ud83c", "x" * 1_000_000, "🎉" * 2000, "\u202e"],
    ids=["NUL", "surrogate", "long", "emoji", "rtl mark"],
)
@pytest.mark.parametrize("hybrid", [False, True])
def test_an_odd_query_is_answered_or_refused(client, odd, hybrid):
    client.create("Tea", "leaves")

    try:
        found = client.search(odd, 3, hybrid=hybrid)
    except InputError as refused:
        assert refused.hint
    else:
        assert isinstance(found, list)
