"""Nothing is bought twice, never across tenants, and what was bought is in the ledger."""

from __future__ import annotations

import pytest

from tests.standin import tokens_of

LONG = "\n\n".join(f"Paragraph {number}. " + f"Sentence about subject {number} and nothing else. " * 90 for number in range(12))


@pytest.fixture
def write(delivery):
    def insert(texts, tenant="default"):
        delivery.sql(
            "INSERT INTO articles (id, tenant_id, content) SELECT id, %s, content FROM unnest(%s::text[], %s::text[]) AS u (id, content)",
            tenant,
            list(texts),
            list(texts.values()),
        )
        assert delivery.until_idle().keys() == {"completed"}

    return insert


@pytest.fixture
def ledger(delivery):
    delivery.sql("DELETE FROM embedding_usage")
    return lambda tenant="default": delivery.sql(
        "SELECT round(sum(requests))::int, sum(inputs)::int, sum(reused)::int, sum(tokens)::int FROM embedding_usage WHERE tenant_id = %s",
        tenant,
    )[0]


def test_the_same_text_twice_in_one_batch_is_asked_for_once(delivery, write):
    write({"a": "Green tea", "b": "Green tea", "c": "Black tea", "d": "Green tea"})

    assert delivery.standin.paid() == {"Green tea": 1, "Black tea": 1}
    stored = delivery.stored()
    assert stored["a"] == stored["b"] == stored["d"] == pytest.approx(delivery.standin.vector("Green tea"))


def test_a_text_that_another_article_of_the_tenant_has_is_not_asked_for(delivery, write, ledger):
    write({"a": "Green tea"})
    before = delivery.standin.stats()["requests"]

    write({"b": "Green tea"})

    assert delivery.standin.stats()["requests"] == before
    assert delivery.stored()["b"] == pytest.approx(delivery.standin.vector("Green tea"))
    assert ledger() == (1, 1, 1, tokens_of("Green tea"))


def test_two_tenants_with_the_same_text_both_pay(delivery, write, ledger):
    write({"a": "Green tea"}, tenant="acme")
    write({"b": "Green tea"}, tenant="other")

    assert delivery.standin.paid() == {"Green tea": 2}
    assert ledger("acme") == ledger("other") == (1, 1, 0, tokens_of("Green tea"))


def test_an_edit_that_touches_one_chunk_buys_no_more_than_it_and_its_neighbours(delivery, write):
    write({"a": LONG})
    first = delivery.standin.paid()
    assert len(first) > 5

    delivery.sql("UPDATE articles SET content = replace(content, 'Paragraph 11.', 'Paragraph eleven.') WHERE id = 'a'")
    delivery.until_idle()

    bought = {text for text, times in delivery.standin.paid().items() if text not in first}
    assert 1 <= len(bought) <= 2
    assert all("Paragraph eleven." in text or "subject 11" in text for text in bought)
    assert delivery.standin.stats()["paid_twice"] == 0
    assert delivery.sql("SELECT count(*) FROM embedding_vectors") == [(len(first),)]


def test_an_edit_that_does_not_change_the_text_costs_nothing(delivery, write):
    write({"a": "Green tea"})
    before = delivery.standin.stats()["requests"]

    delivery.sql("""UPDATE articles SET metadata = '{"shelf": 3}', slug = 'tea', content = content || '' WHERE id = 'a'""")
    delivery.until_idle()

    assert delivery.standin.stats()["requests"] == before


def test_the_vectors_of_a_deleted_article_are_not_brought_back(delivery, write):
    write({"a": "Green tea"})
    delivery.sql("DELETE FROM articles WHERE id = 'a'")

    write({"b": "Green tea"})

    assert delivery.standin.paid() == {"Green tea": 2}


def test_an_article_that_is_embedded_anew_by_wish_trusts_no_stored_vector(delivery, write):
    write({"a": "Green tea"})
    delivery.sql("UPDATE embedding_vectors SET embedding = embedding + embedding + array_fill(1, ARRAY[64])::vector")

    delivery.sql("""UPDATE embedding_tasks SET status = 'pending', metadata = '{"force": true}' WHERE article_id = 'a'""")
    delivery.until_idle()

    assert delivery.stored()["a"] == pytest.approx(delivery.standin.vector("Green tea"))


def test_a_refused_text_is_not_billed_and_its_twin_is_refused_with_it(delivery, ledger):
    delivery.standin.control(markers={"poison": "refuse"})
    delivery.add({"a": "poison", "b": "poison", "c": "fine"})

    assert delivery.until_idle() == {"failed": 2, "completed": 1}
    assert ledger()[1:] == (1, 0, tokens_of("fine"))


def test_the_ledger_and_the_provider_agree(delivery, write, ledger):
    delivery.standin.reset()

    write({f"a{number}": f"text number {number % 40}" for number in range(60)})

    requests, inputs, reused, tokens = ledger()
    seen = delivery.standin.stats()
    assert (inputs, tokens) == (seen["paid_inputs"], seen["tokens"])
    assert inputs + reused == 60
    assert requests == seen["statuses"]["200"]
