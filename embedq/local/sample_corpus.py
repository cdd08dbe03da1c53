"""Sample articles that need no download: the documentation of Python's standard library, a few thousand docstrings.

Reading it imports some four hundred modules, which is done in a separate process, so that their side effects (handlers, warnings, output,
crashes) do not affect this one.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import io
import json
import pkgutil
import subprocess
import sys
import types
import warnings
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import EmbedqError
from ..model import ArticleDraft, Priority

# The likeliest meaning of a searched name comes first.
PRIORITIES: Final = {
    "module": Priority.URGENT,
    "class": Priority.HIGH,
    "function": Priority.NORMAL,
    "method": Priority.LOW,
    "property": Priority.LOW,
}

TIMEOUT_S: Final = 120.0

# The first two open a browser and print a poem when they are imported; the rest need a screen, are tests, or are not
# there in every installation of the same version.
LEFT_OUT: Final = frozenset(
    (
        "antigravity",
        "this",
        "idlelib",
        "tkinter",
        "turtle",
        "turtledemo",
        "test",
        "tests",
        "ensurepip",
        "venv",
        "lib2to3",
        "distutils",
        "pydoc_data",
        "encodings",
    )
)

# Internal modules that implement public ones.
BEHIND_THE_SCENES: Final = frozenset(
    ("posix", "nt", "posixpath", "ntpath", "genericpath", "sre_compile", "sre_constants", "sre_parse")
)

# The package's root comes last on the path, so that no file beside embedq shadows a module of the standard library.
CHILD: Final = (
    "import sys; sys.path.append(sys.argv[1]); from embedq.local.sample_corpus import print_documented; print_documented()"
)


@dataclass(frozen=True, slots=True)
class Documented:
    """An object with a docstring. `kind`: a key of PRIORITIES; `module`: where it is found under `name`."""

    name: str
    kind: str
    module: str
    text: str


def standard_library() -> Iterator[ArticleDraft]:
    """Modules, classes, functions and public methods that have a docstring: about five thousand drafts, each slug once,
    in the same order every time on the same interpreter.

    The slug and the title are the dotted name people write (`zlib.compress`, `asyncio.run`, `str.split`), the content is
    the cleaned docstring, the metadata say `kind` and `module`. Modules are urgent, classes high, functions normal, methods low. Raises
    EmbedqError if the separate process fails.
    """
    for line in _ask_interpreter().splitlines():
        thing = Documented(**json.loads(line))
        yield ArticleDraft(
            title=thing.name,
            content=thing.text,
            slug=thing.name,
            metadata={"kind": thing.kind, "module": thing.module},
            priority=PRIORITIES[thing.kind],
        )


def _ask_interpreter() -> str:
    command = [sys.executable, "-I", "-W", "ignore", "-c", CHILD, str(Path(__file__).resolve().parents[2])]
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="ascii", check=True, timeout=TIMEOUT_S
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip().splitlines()
        raise EmbedqError(
            f"the interpreter did not tell its documentation: {said[-1]}",
            hint=f"see what `{sys.executable} -I -c 'help(\"modules\")'` says, or import articles of your own",
        ) from error


def print_documented() -> None:
    """Print one JSON object per line on stdout, in ASCII. Runs in the separate process."""
    warnings.simplefilter("ignore")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        found = documented(_modules())
    for thing in found:
        print(json.dumps({"name": thing.name, "kind": thing.kind, "module": thing.module, "text": thing.text}))  # noqa: T201 - for the process that started this


def documented(modules: Iterable[tuple[str, types.ModuleType]]) -> list[Documented]:
    """All objects with a docstring in these (name, module) pairs, each once under its best name, sorted by name."""
    named = list(modules)
    found = {name: Documented(name, "module", name, text) for name, module in named if (text := _text(module))}
    for name, thing in _best_names(named):
        for described in _described(name, thing):
            found.setdefault(described.name, described)
    return [found[name] for name in sorted(found)]


def _modules() -> Iterator[tuple[str, types.ModuleType]]:
    for name in sorted(sys.stdlib_module_names - BEHIND_THE_SCENES):
        yield from _module_and_below(name)
    yield "os.path", importlib.import_module("os.path")


def _module_and_below(name: str) -> Iterator[tuple[str, types.ModuleType]]:
    last = name.rpartition(".")[2]
    if last.startswith("_") or last in LEFT_OUT:
        return
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit):
        return  # not built on this machine, or made for another system
    yield name, module
    for below in sorted(found.name for found in pkgutil.iter_modules(getattr(module, "__path__", ()))):
        yield from _module_and_below(f"{name}.{below}")


def _best_names(modules: list[tuple[str, types.ModuleType]]) -> list[tuple[str, Any]]:
    """Classes and functions under the name people write, in no special order.

    The best name is in its `__module__`, or in a package above that exports it too (`asyncio.run`, not `asyncio.runners.run`), or, for
    internal modules (`_io`, `posix`), in the first module that exports it.
    """
    homes = dict(modules)
    best: dict[int, tuple[tuple[bool, bool, int, str], Any]] = {}
    for module_name, module in modules:
        for name, thing, is_promised in _offered(module):
            if _may_be_named_here(module_name, name, thing, homes):
                full = name if module_name == "builtins" else f"{module_name}.{name}"
                rank = (getattr(thing, "__name__", name) != name, not is_promised, full.count("."), full)
                best[id(thing)] = min(best.get(id(thing), (rank, thing)), (rank, thing), key=lambda candidate: candidate[0])
    return [(rank[3], thing) for rank, thing in best.values()]


def _offered(module: types.ModuleType) -> Iterator[tuple[str, Any, bool]]:
    """(name, object, whether it is in the module's __all__) of public classes and functions."""
    promised = getattr(module, "__all__", None)
    for name in sorted(promised if promised is not None else vars(module)):
        thing = getattr(module, name, None)
        if not name.startswith("_") and (inspect.isclass(thing) or inspect.isroutine(thing)):
            yield name, thing, promised is not None or module.__name__ == "builtins"


def _may_be_named_here(module_name: str, name: str, thing: Any, homes: dict[str, types.ModuleType]) -> bool:
    home = getattr(thing, "__module__", None) or ""
    if module_name in ("builtins", home) or home.startswith(f"{module_name}."):
        return True
    return getattr(homes.get(home), getattr(thing, "__name__", name), None) is not thing


def _described(name: str, thing: Any) -> Iterator[Documented]:
    """The object, then the public methods and properties that a class defines itself."""
    module = name.rpartition(".")[0] or "builtins"
    if text := _text(thing):
        yield Documented(name, "class" if inspect.isclass(thing) else "function", module, text)
    for member_name, member in sorted(vars(thing).items()) if inspect.isclass(thing) else ():
        kind = _member_kind(member)
        if kind and not member_name.startswith("_") and (text := _text(member)):
            yield Documented(f"{name}.{member_name}", kind, module, text)


def _member_kind(member: Any) -> str | None:
    if inspect.isroutine(member) or isinstance(member, (staticmethod, classmethod)):
        return "method"
    is_property = isinstance(member, (property, functools.cached_property)) or inspect.isgetsetdescriptor(member)
    return "property" if is_property else None


def _text(thing: Any) -> str:
    """The object's own docstring, cleaned; empty if it has none (inherited docstrings do not count)."""
    # A staticmethod around a function written in C has the docstring of `staticmethod`.
    wrapped = thing.__func__ if isinstance(thing, (staticmethod, classmethod)) else thing
    doc = getattr(wrapped, "__doc__", None)
    return inspect.cleandoc(doc).strip() if isinstance(doc, str) else ""
