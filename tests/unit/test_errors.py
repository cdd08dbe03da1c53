"""Every error says what to do next, and survives the way between processes."""

from __future__ import annotations

import inspect
import pickle

import pytest

from embedq import errors
from embedq.errors import EmbedqError, ProviderBusy

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, EmbedqError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_cannot_be_raised_without_a_next_step(kind: type[EmbedqError]):
    with pytest.raises(TypeError):
        kind("something went wrong")  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_its_hint_when_it_is_pickled(kind: type[EmbedqError]):
    error = pickle.loads(pickle.dumps(kind("something went wrong", hint="mend it")))

    assert (type(error), str(error), error.hint) == (kind, "something went wrong", "mend it")


def test_a_busy_provider_keeps_its_wish_when_it_is_pickled():
    busy = pickle.loads(pickle.dumps(ProviderBusy("later", hint="wait", retry_after_s=7.0, suspect_input=True)))

    assert (busy.retry_after_s, busy.suspect_input) == (7.0, True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_in_the_docstring_names_every_error(kind: type[EmbedqError]):
    assert kind.__name__ in (errors.__doc__ or "")
