"""Who pays for a failure (G6): an input's own fault is its task's alone, a provider's fault is nobody's."""

from __future__ import annotations

import pytest

from embedq.engine.requests import Asker
from embedq.model import Model
from embedq.providers import Limits, ProviderSettings
from embedq.providers.registry import make
from tests.support import until

HUNDRED = {f"a{number:02}": f"text {number}" for number in range(100)}


def uncharged(delivery):
    return delivery.sql(
        "SELECT coalesce(sum(attempts), 0), coalesce(max(jsonb_array_length(errors)), 0) FROM embedding_tasks"
    ) == [(0, 0)]


def test_three_refused_texts_of_a_hundred_fail_alone_with_the_providers_own_words(delivery):
    delivery.standin.control(markers={"poison": "refuse"})

    delivery.add(HUNDRED | {name: f"poison {name}" for name in ("a07", "a50", "a93")})

    assert delivery.until_idle() == {"completed": 97, "failed": 3}
    rows = delivery.sql(
        "SELECT article_id, attempts, error_class, error_message FROM embedding_tasks WHERE status = 'failed' ORDER BY 1"
    )
    assert [(article, attempts, kind) for article, attempts, kind, _ in rows] == [
        (name, 1, "InputRefused") for name in ("a07", "a50", "a93")
    ]
    assert all("cannot be embedded" in message for *_, message in rows)
    assert delivery.standin.stats()["requests"] <= 48
    assert delivery.stored().keys() == HUNDRED.keys() - {"a07", "a50", "a93"}


def test_a_text_that_breaks_the_provider_every_time_fails_after_its_retries_and_all_else_is_embedded(delivery):
    delivery.standin.control(markers={"bomb": "break"})

    delivery.add(HUNDRED | {"a42": "a bomb"})

    assert delivery.until_idle() == {"completed": 99, "failed": 1}
    ((article, attempts, errors, message),) = delivery.sql(
        "SELECT article_id, attempts, jsonb_array_length(errors), error_message FROM embedding_tasks WHERE status = 'failed'"
    )
    assert (article, attempts, errors) == ("a42", 4, 4)
    assert "gave up after 4 attempts" in message
    assert delivery.sql("SELECT DISTINCT attempts FROM embedding_tasks WHERE status = 'completed'") == [(1,)]


def test_a_limit_of_requests_is_waited_for_and_charges_nobody(delivery):
    delivery.standin.control(fail_next=1, fail_status=429, fail_headers={"retry-after": "2"})
    delivery.add({"a": "text"})
    until(lambda: delivery.provider()["paused"], why=delivery.story)
    assert "429" in str(delivery.standin.stats()["statuses"])
    assert uncharged(delivery)
    delivery.add({"b": "other text"})

    assert delivery.until_idle() == {"completed": 2}
    assert delivery.sql("SELECT max(attempts) FROM embedding_tasks") == [(1,)]
    assert delivery.provider() == {"faults": 0, "paused": None, "why": None}
    ((waited_s,),) = delivery.sql("SELECT extract(epoch FROM min(completed_at) - min(created_at)) FROM embedding_tasks")
    assert waited_s >= 2.0


@pytest.mark.parametrize(
    ("outage", "cause"),
    [
        pytest.param({"fail_always": True, "fail_status": 503}, "503", id="503"),
        pytest.param({"fail_always": True, "fail_status": 500}, "made to fail", id="500"),
        pytest.param({"require_key": "another"}, "API key", id="401"),
        pytest.param({"twist": "disconnect"}, "openai", id="disconnects"),
    ],
)
def test_an_outage_fails_no_task_and_ends_by_itself(delivery, outage, cause):
    delivery.standin.control(**outage)
    delivery.add({f"a{number}": f"text {number}" for number in range(30)})
    until(lambda: delivery.provider()["faults"] >= 1, why=delivery.story)
    until(lambda: delivery.states() == {"pending": 30}, why=delivery.story)
    assert uncharged(delivery)
    assert cause in delivery.provider()["why"]

    delivery.standin.control(fail_always=False, require_key=None, twist=None)
    # Bad credentials are not tried again before a minute has passed; an operator who corrected them need not wait.
    delivery.sql("UPDATE embedding_providers SET paused_until = now()")
    delivery.sql("UPDATE embedding_tasks SET scheduled_at = now()")

    assert delivery.until_idle() == {"completed": 30}
    assert delivery.sql("SELECT max(attempts) FROM embedding_tasks") == [(1,)]


def test_a_provider_that_cannot_be_reached_fails_no_task(delivery):
    delivery.standin.stop()
    delivery.add({f"a{number}": f"text {number}" for number in range(30)})
    until(lambda: delivery.provider()["faults"] >= 2, why="the second probe never came")
    assert uncharged(delivery)

    delivery.standin.start()

    assert delivery.until_idle() == {"completed": 30}


@pytest.mark.parametrize(
    ("twist", "named"),
    [
        ("one_too_few", "vectors"),
        ("wrong_dimensions", "dimensions"),
        ("nan", "NaN"),
        ("html", "JSON"),
        ("cut_off", "broke off"),
        ("duplicate_index", "indices"),
    ],
)
def test_a_wrong_answer_stores_nothing_fails_nobody_and_is_named(delivery, twist, named):
    delivery.standin.control(twist=twist)
    delivery.add({f"a{number}": f"text {number}" for number in range(3)})
    until(lambda: delivery.provider()["faults"] >= 1, why=delivery.story)
    until(lambda: delivery.states() == {"pending": 3}, why=delivery.story)

    assert delivery.stored() == {}
    assert uncharged(delivery)
    assert named.lower() in delivery.provider()["why"].lower()
    assert delivery.sql("SELECT count(*) FROM embedding_tasks WHERE error_message IS NULL") == [(0,)]


def test_an_answer_that_is_wrong_once_is_asked_for_again(delivery):
    delivery.standin.control(twist="one_too_few", twist_next=1)

    delivery.add({f"a{number}": f"text {number}" for number in range(5)})

    assert delivery.until_idle() == {"completed": 5}
    assert len(delivery.stored()) == 5


def test_a_canary_that_sang_before_the_outage_lets_no_text_pay_for_it(provider_process):
    provider_process.reset()
    provider_process.control(markers={"bomb": "break"})
    settings = ProviderSettings(openai_api_key="sk-of-the-tests", openai_base_url=provider_process.openai_url, timeout_s=5)
    asker = Asker(make(Model("openai", "text-embedding-3-small", 64), settings), 100)
    guilty = asker.ask(["a bomb"], stop=lambda: False)
    provider_process.control(fail_always=True, fail_status=500)

    innocent = asker.ask(["a text"], stop=lambda: False)

    asker.provider.close()
    assert (list(guilty.refused), guilty.busy) == ([0], None)
    assert (innocent.refused, innocent.left) == ({}, [0])
    assert innocent.busy is not None


class Surprising:
    """A plug-in's provider that breaks its promise."""

    model, limits = Model("surprising", "x", 64), Limits(100, 100_000, 8000)

    def embed(self, texts):
        raise KeyError("token=secret-of-the-plug-in")

    def close(self):
        pass


def test_an_exception_that_a_provider_should_not_raise_is_its_own_fault():
    answers = Asker(Surprising(), 100).ask(["a", "b"], stop=lambda: False)

    assert (answers.refused, answers.left) == ({}, [0, 1])
    assert "surprising raised KeyError" in str(answers.busy)
