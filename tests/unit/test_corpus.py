"""The documentation of Python's standard library as articles."""

from __future__ import annotations

import sys
import types
from collections import Counter
from collections.abc import Callable

import pytest

from embedq.errors import EmbedqError
from embedq.local import sample_corpus
from embedq.local.sample_corpus import Documented, documented, standard_library
from embedq.model import ArticleDraft, Priority


@pytest.fixture(scope="module")
def drafts() -> dict[str, ArticleDraft]:
    return {draft.slug or "": draft for draft in standard_library()}


def module(name: str, **contents: object) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(contents)
    return made


def function(home: str, name: str, doc: str | None) -> Callable[[], None]:
    def made() -> None:
        pass

    made.__module__, made.__name__, made.__doc__ = home, name, doc
    return made


def names(*modules: tuple[str, types.ModuleType]) -> list[str]:
    return [thing.name for thing in documented(modules)]


@pytest.mark.parametrize(
    ("name", "kind", "found_in", "priority"),
    [
        pytest.param("zlib", "module", "zlib", Priority.URGENT, id="a module"),
        pytest.param("zlib.compress", "function", "zlib", Priority.NORMAL, id="a function written in C"),
        pytest.param("json.loads", "function", "json", Priority.NORMAL, id="a function written in Python"),
        pytest.param("collections.deque", "class", "collections", Priority.HIGH, id="a class"),
        pytest.param("threading.Thread.join", "method", "threading", Priority.LOW, id="a method"),
        pytest.param("str.split", "method", "builtins", Priority.LOW, id="a method of a built-in, without the module builtins"),
        pytest.param("threading.Thread.daemon", "property", "threading", Priority.LOW, id="a property"),
        pytest.param("os.getcwd", "function", "os", Priority.NORMAL, id="not posix.getcwd"),
        pytest.param("os.path.join", "function", "os.path", Priority.NORMAL, id="not posixpath.join"),
        pytest.param("io.BytesIO", "class", "io", Priority.HIGH, id="not _io.BytesIO"),
        pytest.param("asyncio.run", "function", "asyncio", Priority.NORMAL, id="not asyncio.runners.run"),
        pytest.param("unittest.TestCase", "class", "unittest", Priority.HIGH, id="not unittest.case.TestCase"),
        pytest.param("types.FunctionType", "class", "types", Priority.HIGH, id="a type whose own name is found nowhere"),
        pytest.param("open", "function", "builtins", Priority.NORMAL, id="not io.open"),
    ],
)
def test_everything_is_found_under_the_name_people_write(
    drafts: dict[str, ArticleDraft], name: str, kind: str, found_in: str, priority: Priority
) -> None:
    draft = drafts[name]

    assert (draft.title, draft.metadata["kind"], draft.priority) == (name, kind, priority)
    assert draft.metadata["module"] == found_in


def test_there_are_thousands_of_articles_of_every_priority(drafts: dict[str, ArticleDraft]) -> None:
    counts = Counter(draft.priority for draft in drafts.values())

    assert 4000 <= len(drafts) <= 9000
    assert min(counts[priority] for priority in Priority) >= 200


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        pytest.param("zlib.compress", "Returns a bytes object containing compressed data.\n\n", id="of a function"),
        pytest.param("str.maketrans", "Return a translation table", id="of a static method, not of staticmethod"),
        pytest.param("staticmethod", "staticmethod(function) -> method", id="of staticmethod"),
    ],
)
def test_the_content_is_the_cleaned_docstring(drafts: dict[str, ArticleDraft], name: str, beginning: str) -> None:
    assert drafts[name].content.startswith(beginning)


def test_the_same_interpreter_tells_the_same_articles_in_the_same_order(drafts: dict[str, ArticleDraft]) -> None:
    again = list(standard_library())

    assert again == list(drafts.values())


def test_no_article_says_what_differs_from_run_to_run(drafts: dict[str, ArticleDraft]) -> None:
    assert [slug for slug, draft in drafts.items() if " at 0x" in draft.content] == []


def test_nothing_is_imported_into_this_process() -> None:
    before = set(sys.modules)

    drafts = list(standard_library())

    assert drafts
    assert set(sys.modules) == before


def test_what_has_no_docstring_is_no_article() -> None:
    here = ("shop", module("shop", buy=function("shop", "buy", None), sell=function("shop", "sell", "Sell it.")))

    assert documented([here]) == [Documented("shop.sell", "function", "shop", "Sell it.")]


def test_a_thing_offered_twice_is_one_article() -> None:
    sell = function("shop.till", "sell", "Sell it.")
    above = ("shop", module("shop", sell=sell, also_sell=sell))
    below = ("shop.till", module("shop.till", sell=sell))

    assert names(above, below) == ["shop.sell"]


def test_a_thing_somebody_merely_imported_stays_at_home() -> None:
    sell = function("shop", "sell", "Sell it.")

    assert names(("bank", module("bank", sell=sell)), ("shop", module("shop", sell=sell))) == ["shop.sell"]


def test_a_thing_from_behind_the_scenes_goes_to_the_module_that_promises_it() -> None:
    sell = function("_shop", "sell", "Sell it.")
    incidental = ("bank", module("bank", sell=sell))
    promising = ("shop", module("shop", sell=sell, __all__=["sell"]))

    assert names(incidental, promising) == ["shop.sell"]


def test_a_class_counts_only_its_own_docstrings() -> None:
    class Till:
        """Holds money."""

        limit = "a string has a docstring too: that of str"

        def open(self) -> None:
            """Open it."""

        def _count(self) -> None:
            """Nobody's business."""

        @staticmethod
        def make() -> None:
            """Make one."""

    class Safe(Till):
        pass

    Till.__module__ = Safe.__module__ = "shop"

    assert names(("shop", module("shop", Till=Till, Safe=Safe))) == ["shop.Till", "shop.Till.make", "shop.Till.open"]


def test_an_interpreter_that_cannot_be_asked_is_an_error_with_a_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_corpus, "CHILD", "raise SystemExit('no such thing')")

    with pytest.raises(EmbedqError, match="no such thing") as raised:
        list(standard_library())

    assert "import articles of your own" in raised.value.hint
