"""What an answer or an exception of a provider means, how long it asks to wait, and what never shows."""

from __future__ import annotations

import builtins
import json
import re
import socket
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.errors import InputRefused, ProviderBusy
from embedq.model import Model
from embedq.providers.answers import answered, checked, in_order, matrix
from embedq.providers.faults import (
    CODES,
    LONG_WAIT_S,
    MAX_DETAIL,
    MAX_READ,
    TABLE,
    Cause,
    Verdict,
    cause_of_exception,
    cause_of_status,
    fault,
)
from embedq.providers.inputs import refuse_unembeddable
from embedq.providers.limits import CAUTIOUS, INPUT_TOKENS, LIMITS, estimate_tokens, limits_for
from embedq.providers.secrets import mask
from embedq.providers.waits import MAX_RETRY_AFTER_S, retry_after_s

DOC = Path(__file__).resolve().parents[2] / "docs" / "reference" / "faults.rst"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = "sk-proj-A1b2C3d4E5f6"
MODEL = Model("openai", "some-model", 4)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, Verdict.REFUSED),
        (413, Verdict.REFUSED),
        (422, Verdict.REFUSED),
        (401, Verdict.CONFIGURE),
        (402, Verdict.CONFIGURE),
        (403, Verdict.CONFIGURE),
        (404, Verdict.CONFIGURE),
        (408, Verdict.WAIT),
        (409, Verdict.WAIT),
        (425, Verdict.WAIT),
        (429, Verdict.WAIT),
        (502, Verdict.WAIT),
        (503, Verdict.WAIT),
        (504, Verdict.WAIT),
        (500, Verdict.SUSPECT),
    ],
)
def test_a_status_has_its_verdict(status, verdict):
    assert TABLE[cause_of_status(status)].verdict is verdict


@given(status=st.integers(300, 999).filter(lambda status: status not in (400, 413, 422)))
def test_no_other_status_charges_an_article(status):
    assert TABLE[cause_of_status(status)].verdict is not Verdict.REFUSED


@pytest.mark.parametrize(
    ("status", "said", "cause"),
    [
        pytest.param(429, {"code": "insufficient_quota"}, Cause.QUOTA, id="an empty account is not a rate"),
        pytest.param(400, {"code": "invalid_api_key"}, Cause.CREDENTIALS, id="a bad key sent as 400"),
        pytest.param(400, {"message": "API key not valid."}, Cause.CREDENTIALS, id="a bad key told in words only"),
        pytest.param(400, {"param": "dimensions"}, Cause.MISUSED, id="our own parameter is a setting's fault"),
        pytest.param(400, {"param": "input"}, Cause.REFUSED, id="the input's own fault"),
        pytest.param(400, {"message": "too long: 'api key not valid'"}, Cause.REFUSED, id="a quoted text proves nothing"),
        pytest.param(500, {"param": "dimensions"}, Cause.BROKEN, id="a 500 is one, whatever it blames"),
    ],
)
def test_what_the_body_says_counts_more_than_the_status(status, said, cause):
    assert cause_of_status(status, **said) is cause


def test_every_exception_of_httpx_has_a_cause():
    def leaves(kind):
        return [leaf for each in kind.__subclasses__() for leaf in leaves(each)] or [kind]

    for kind in leaves(httpx.TransportError):
        assert cause_of_exception(kind("x")) is not None, kind


def test_every_exception_named_in_the_table_exists():
    named = {name for row in TABLE.values() for name in row.exceptions}

    missing = {name for name in named if not any(hasattr(place, name) for place in (httpx, builtins, socket))}

    assert missing == set()


def test_the_cause_of_a_wrapped_exception_is_found():
    wrapped = RuntimeError("Connection error.")
    wrapped.__cause__ = httpx.ReadTimeout("timed out")

    assert cause_of_exception(wrapped) is Cause.NO_ANSWER_IN_TIME


def test_an_exception_of_ours_is_no_fault_of_the_provider():
    assert cause_of_exception(KeyError("a programming error")) is None


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_makes_a_fault_that_names_it_and_says_what_to_do(cause):
    made = fault("openai", cause, "their words")

    assert str(made) == f"openai {cause}: their words"
    assert made.hint


@pytest.mark.parametrize("cause", Cause)
def test_the_verdict_decides_the_kind_of_fault(cause):
    made = fault("openai", cause, retry_after_s=7.0)

    match TABLE[cause].verdict:
        case Verdict.REFUSED:
            assert isinstance(made, InputRefused)
        case Verdict.WAIT:
            assert (made.retry_after_s, made.suspect_input) == (7.0, False)
        case Verdict.SUSPECT:
            assert (made.retry_after_s, made.suspect_input) == (7.0, True)
        case Verdict.CONFIGURE:
            assert (made.retry_after_s, made.suspect_input) == (LONG_WAIT_S, False)


def test_a_wish_longer_than_the_long_wait_is_kept():
    assert fault("openai", Cause.QUOTA, retry_after_s=600.0).retry_after_s == 600.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="no header, no wish"),
        pytest.param({"retry-after": "20"}, 20, id="seconds"),
        pytest.param({"retry-after": "1.5"}, 1.5, id="a fraction"),
        pytest.param({"retry-after": "Fri, 02 Jan 2026 03:04:35 GMT"}, 30, id="a date"),
        pytest.param({"retry-after": "Fri, 02 Jan 2026 03:00:00 GMT"}, 0, id="a date that has passed"),
        pytest.param({"retry-after": "-3"}, 0, id="less than nothing"),
        pytest.param({"retry-after": "999999"}, MAX_RETRY_AFTER_S, id="an hour at most"),
        pytest.param({"retry-after": "soon"}, None, id="words"),
        pytest.param({"retry-after": "nan"}, None, id="not a number"),
        pytest.param({"retry-after-ms": "250", "retry-after": "20"}, 0.25, id="milliseconds come first"),
        pytest.param({"x-ratelimit-reset-requests": "1m0.5s"}, 60.5, id="a span in words"),
        pytest.param({"x-ratelimit-reset-requests": "20ms"}, 0.02, id="a span of milliseconds"),
        pytest.param({"x-ratelimit-reset-tokens": "6m0s", "retry-after": "3"}, 3, id="Retry-After comes before resets"),
        pytest.param({"x-ratelimit-reset-requests": "8s", "x-ratelimit-reset-tokens": "2s"}, 2, id="the sooner reset"),
        pytest.param(
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "9",
                "x-ratelimit-reset-tokens": "40s",
                "x-ratelimit-remaining-tokens": "0",
            },
            40,
            id="the reset of what is used up",
        ),
        pytest.param({"x-ratelimit-reset": str(int(NOW.timestamp()) + 12)}, 12, id="a moment since 1970"),
        pytest.param({"x-ratelimit-reset": "later"}, None, id="a reset in words"),
    ],
)
def test_the_wait_is_read_from_the_headers(headers, seconds):
    assert retry_after_s(headers, NOW) == (None if seconds is None else pytest.approx(seconds))


@given(
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-tokens"]),
        st.one_of(
            st.text(), st.floats().map(str), st.integers().map(str), st.dates().map(str), st.just("Mon, 99 Foo 2026 GMT")
        ),
    )
)
def test_no_header_whatever_makes_a_wait_out_of_bounds(headers):
    wait = retry_after_s(headers, NOW)

    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"Incorrect API key provided: {KEY}.", id="echoed"),
        pytest.param(f"Authorization: Bearer {KEY}", id="as a header"),
        pytest.param(f"Illegal header value b'Bearer {KEY}\\n'", id="as bytes"),
        pytest.param(f'{{"api_key": "{KEY}"}}', id="as JSON"),
        pytest.param(f"http://user:{KEY}@server/v1 refused", id="in an address"),
        pytest.param(f"{KEY}{KEY}", id="twice in a row"),
    ],
)
@pytest.mark.parametrize("secrets", [(KEY,), ()], ids=["known", "unknown"])
def test_a_key_is_masked_wherever_it_stands(text, secrets):
    assert KEY not in mask(text, secrets)


def test_a_key_of_any_form_is_masked_when_it_is_known():
    assert mask("you sent hunter2+/= and hunter2%2B%2F%3D", ["hunter2+/=\n"]) == "you sent *** and ***"


def test_plain_words_are_not_masked():
    words = "this model's maximum context length is 8192 tokens, you requested 9000 tokens (basic usage)"

    assert mask(words, [None, "", "a"]) == words


@given(before=st.text(), after=st.text(), cut=st.integers(0, 600), key=st.sampled_from([KEY, "S3cretWithoutAnyForm"]))
def test_no_part_of_a_key_survives_the_cut(before, after, cut, key):
    made = fault("openai", Cause.REFUSED, f"{before}{'x' * cut} {key} {after}", secrets=[key])

    assert key[:8] not in str(made)


@pytest.mark.parametrize("shown", range(1, 12))
def test_the_cut_never_leaves_the_beginning_of_a_key(shown):
    key = "S3cretWithoutAnyForm"

    made = fault("openai", Cause.REFUSED, "x" * (MAX_DETAIL - shown) + key, secrets=[key])

    assert "S" not in str(made)


@pytest.mark.parametrize("blanks", [MAX_READ - 20, MAX_READ - 5, MAX_READ])
def test_half_a_key_at_the_edge_of_what_is_read_does_not_show(blanks):
    made = fault("openai", Cause.REFUSED, "words" + " " * (blanks - 5) + KEY, secrets=[KEY])

    assert KEY[:4] not in str(made)


def test_an_endless_blank_answer_is_said_in_few_words():
    assert str(fault("openai", Cause.BROKEN, " " * (MAX_READ + 1))) == "openai failed inside"


def test_the_providers_words_are_cut_and_kept_on_one_line():
    made = fault("openai", Cause.BROKEN, "first\nsecond\0third " + "x" * 5_000)

    assert str(made).startswith("openai failed inside: first second third xxx")
    assert len(str(made)) <= MAX_DETAIL + len("openai failed inside: ")


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        pytest.param(200, b"<html>hello</html>", Cause.NOT_JSON, id="a web page"),
        pytest.param(200, b"", Cause.NOT_JSON, id="nothing"),
        pytest.param(200, b'{"data": [', Cause.MALFORMED, id="half of a JSON"),
        pytest.param(200, b"[1]", Cause.MALFORMED, id="JSON, but no object"),
        pytest.param(200, b"[" * 100_000, Cause.MALFORMED, id="JSON too deep to read"),
        pytest.param(200, b'{"error": {"message": "slow down", "code": 429}}', Cause.RATE_LIMITED, id="a 429 within a 200"),
        pytest.param(200, b'{"error": "out of memory"}', Cause.BROKEN, id="an error within a 200"),
        pytest.param(404, b'{"error": "model \\"x\\" not found"}', Cause.NOT_FOUND, id="an error in Ollama's form"),
        pytest.param(422, b'{"detail": [{"msg": "too long"}]}', Cause.REFUSED, id="an error in FastAPI's form"),
        pytest.param(502, b"<h1>Bad Gateway</h1>", Cause.OVERLOADED, id="a web page with a status"),
        pytest.param(500, b"\xff\xfe\x00", Cause.BROKEN, id="bytes that are no text"),
    ],
)
def test_an_answer_that_is_no_answer_raises_its_cause(status, body, cause):
    with pytest.raises((ProviderBusy, InputRefused)) as raised:
        answered("ollama", status, {}, body, ())

    assert str(raised.value).startswith(f"ollama {cause}")


def test_header_names_are_understood_in_any_case():
    with pytest.raises(ProviderBusy) as raised:
        answered("openai", 429, {"Retry-After": "17"}, b"{}", ())

    assert raised.value.retry_after_s == 17


def test_an_error_in_a_list_names_its_wait_in_the_body():
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]
    body = json.dumps([{"error": {"code": 429, "message": "You exceeded your current quota", "details": details}}]).encode()

    with pytest.raises(ProviderBusy, match="exceeded your current quota") as raised:
        answered("openai", 429, {}, body, ())

    assert raised.value.retry_after_s == 34


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        pytest.param(None, Cause.MALFORMED, id="no list"),
        pytest.param([1, 2], Cause.MALFORMED, id="no embeddings in it"),
        pytest.param([{"index": 0, "embedding": []}], Cause.WRONG_COUNT, id="one too few"),
        pytest.param([{"index": i, "embedding": []} for i in range(3)], Cause.WRONG_COUNT, id="one too many"),
        pytest.param([{"index": i, "embedding": []} for i in (1, 1)], Cause.WRONG_ORDER, id="an index twice"),
        pytest.param([{"index": i, "embedding": []} for i in (1, 2)], Cause.WRONG_ORDER, id="counted from one"),
        pytest.param([{"index": 2, "embedding": []}, {"embedding": []}], Cause.WRONG_ORDER, id="an index too high, and none"),
    ],
)
def test_embeddings_that_cannot_be_put_in_order_are_refused(data, cause):
    with pytest.raises(ProviderBusy, match=cause):
        in_order("openai", data, 2)


@given(order=st.permutations(range(5)))
def test_embeddings_are_put_in_the_order_of_their_index(order):
    data = [{"index": i, "embedding": i * 10} for i in order]

    assert in_order("openai", data, 5) == ([0, 10, 20, 30, 40], True)


@pytest.mark.parametrize(
    ("indices", "embeddings", "indexed"),
    [
        pytest.param([None, 1, 2], [0, 10, 20], True, id="an index of 0 is left out"),
        pytest.param([2, None, 1], [10, 20, 0], True, id="also in another order"),
        pytest.param([None, None, None], [0, 10, 20], False, id="none has an index"),
        pytest.param([0, 0, 0], [0, 10, 20], False, id="all have the index 0"),
        pytest.param([True, False, True], [0, 10, 20], False, id="indices that are none"),
    ],
)
def test_embeddings_without_an_index_take_the_places_that_are_left(indices, embeddings, indexed):
    data = [{"index": index, "embedding": place * 10} for place, index in enumerate(indices)]

    assert in_order("openai", data, 3) == (embeddings, indexed)


@pytest.mark.parametrize(
    ("embedding", "cause"),
    [
        pytest.param("not base64!", Cause.MALFORMED, id="no base64"),
        pytest.param("AAAA", Cause.MALFORMED, id="three bytes"),
        pytest.param(None, Cause.MALFORMED, id="null"),
        pytest.param([[1, 2, 3, 4]], Cause.MALFORMED, id="a list in a list"),
        pytest.param(["a", "b", "c", "d"], Cause.MALFORMED, id="words"),
        pytest.param([1, 2, 3], Cause.WRONG_DIMENSIONS, id="too few dimensions"),
        pytest.param([], Cause.WRONG_DIMENSIONS, id="no dimensions"),
    ],
)
def test_an_embedding_that_cannot_be_a_vector_is_refused(embedding, cause):
    with pytest.raises(ProviderBusy, match=cause):
        matrix("openai", [embedding], MODEL)


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        pytest.param([1, 2, 3, float("nan")], Cause.NOT_FINITE, id="NaN"),
        pytest.param([1, 2, 3, float("inf")], Cause.NOT_FINITE, id="infinity"),
        pytest.param([1e300, 0, 0, 0], Cause.NOT_FINITE, id="more than float32 holds"),
        pytest.param([0, 0, 0, 0], Cause.ZERO_VECTOR, id="zero"),
        pytest.param([1e-60, 0, 0, 0], Cause.ZERO_VECTOR, id="less than float32 holds"),
    ],
)
def test_a_vector_that_cannot_be_compared_is_refused(row, cause):
    vectors = matrix("openai", [[1, 0, 0, 0], row], MODEL)

    with pytest.raises(ProviderBusy, match=f"{cause}: vector 1 of 2"):
        checked(vectors, 2, MODEL)


@pytest.mark.parametrize("size", [1e-30, 1e30], ids=["tiny", "huge"])
def test_a_vector_of_any_size_that_float32_holds_is_taken(size):
    vectors = np.full((1, 4), size, dtype=np.float32)

    assert checked(vectors, 1, MODEL) is vectors


def test_wrong_dimensions_do_not_blame_the_input():
    with pytest.raises(ProviderBusy, match="returned 3, 4 are expected") as raised:
        matrix("openai", [[1, 2, 3]], MODEL)

    assert raised.value.suspect_input is False
    assert "EMBEDDING_DIMENSIONS" in raised.value.hint


def test_control_characters_pass_and_blanks_do_not():
    refuse_unembeddable(["\0", "\x01", "a"])

    with pytest.raises(InputRefused, match="input 1 is empty"):
        refuse_unembeddable(["a", " \u3000"])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 1), ("abcd", 1), ("abcde", 2), ("é" * 4, 3), ("🎉", 2), ("\ud800", 2), ("a" * 4_000_000, 1_000_000)],
    ids=["nothing", "four bytes", "five bytes", "bytes, not characters", "an emoji", "a lone surrogate", "a long text"],
)
def test_a_token_is_estimated_per_four_bytes(text, tokens):
    assert estimate_tokens(text) == tokens


def test_the_limits_are_those_of_the_longest_fitting_prefix():
    assert limits_for(Model("ollama", "mxbai-embed-large:latest", 1024)).max_input_tokens == 256
    assert limits_for(Model("ollama", "anything", 8)).max_input_tokens == 1_024
    assert limits_for(Model("openai", "text-embedding-3-small", 8)).max_inputs == 2_048
    assert limits_for(Model("openai", "text-embedding-3-small", 8)).max_tokens == 300_000
    assert limits_for(Model("elsewhere", "x", 8)).max_inputs == CAUTIOUS.max_inputs


def test_an_input_that_is_estimated_too_low_by_half_still_fits():
    for row in INPUT_TOKENS:
        assert limits_for(Model("openai", row.prefix, 8)).max_input_tokens * 2 <= row.max_tokens


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("nomic-embed-text:latest", 2_048),
        ("nomic-embed-text-v2-moe", 512),
        ("nomic-ai/nomic-embed-text-v2-moe", 512),
        ("bge-large", 512),
        ("BAAI/bge-large-en-v1.5", 512),
        ("BAAI/bge-m3", 8_192),
        ("intfloat/multilingual-e5-large", 512),
        ("snowflake-arctic-embed:137m", 512),
        ("snowflake-arctic-embed2", 8_192),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "ollama"])
def test_what_a_model_takes_is_known_whoever_serves_it(provider, name, tokens):
    assert limits_for(Model(provider, name, 8)).max_input_tokens == tokens // 2


def test_what_the_operator_says_of_a_model_comes_first():
    assert limits_for(Model("openai", "bge-large", 8), 4_000).max_input_tokens == 2_000


def test_every_limit_names_its_source():
    assert all(row.source for row in (*LIMITS, *INPUT_TOKENS))


def test_the_reference_shows_the_table_of_the_code():
    shown = _list_tables(DOC.read_text())

    in_code = [
        [
            cause.value,
            ", ".join(map(str, row.statuses)) or "—",
            ", ".join(f"``{name}``" for name in row.exceptions) or "—",
            row.verdict.value,
            re.sub(r"`([^`]+)`", r"``\1``", row.hint),
        ]
        for cause, row in TABLE.items()
    ]
    assert shown[0][1:] == in_code
    assert shown[1][1:] == [[f"``{code}``", cause.value] for code, cause in CODES.items()]


def _list_tables(text):
    tables = []
    for block in text.split(".. list-table::")[1:]:
        rows = re.findall(r"^   \* - (.*)((?:\n     - .*)*)", block, re.MULTILINE)
        tables.append([[first, *re.findall(r"^     - (.*)", rest, re.MULTILINE)] for first, rest in rows])
    return tables


def test_a_body_of_errors_is_masked_too():
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}).encode()

    with pytest.raises(ProviderBusy) as raised:
        answered("openai", 401, {}, body, [KEY])

    assert KEY not in str(raised.value)
    assert "***" in str(raised.value)


def test_what_postgresql_cannot_store_is_not_in_a_message():
    from embedq.providers.faults import _tidy

    assert _tidy("half a pair \ud800, and\0NUL", []) == "half a pair ?, and NUL"
