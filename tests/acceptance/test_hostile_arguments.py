"""Whatever a command is given, and wherever it runs: it is done, or refused in one message with the next step. Never a traceback, and nothing
is left that nobody had foreseen.

HOSTILE_ARGUMENTS=5000: so many random calls in place of 400.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from embedq.addresses import Address
from embedq.local.servers import Servers
from tests.support import folder_for_servers

from .strange import (
    LASTING,
    WALK,
    Ended,
    call,
    check,
    crash_files,
    for_command,
    harmless,
    parameters,
    settings,
    strange_paths,
    worlds,
)
from .test_commands import GIVEN

CALLS = int(os.environ.get("HOSTILE_ARGUMENTS", "400"))
# An address on another machine is not among them: nothing may be asked there. Nor is a NUL: no process can be given one.
VALUES = (
    "",
    " ",
    "x",
    "-1",
    "0",
    "1",
    "1.5",
    "9" * 19,
    "9" * 400,
    "1e999",
    "nan",
    "-inf",
    "true",
    "[]",
    "{",
    "a,b",
    "a=b",
    "é",
    "\u202e",
    "\x1b[31m",
    "a\nb",
    "\udcff\udcfe",
    "x" * 100_000,
    "%",
    "%s",
    "'; --",
    "--",
    "-",
    "~nobody-is-called-that/x",
    "postgresql://",
    "redis://127.0.0.1:1/0",
    "http://127.0.0.1:1/",
    "+1h",
    "2026-01-01",
    "99999-01-01T00:00:00",
)
INPUTS = (b"", b"text", b"\xff\xfe", b"a\0b", b"[" * 10_000, b"{}\n")
# Flags that ask for waiting, and what is measured in minutes.
LASTS = ("--watch", "--wait", "--canary")
WORLDS = (
    "good",
    "no database",
    "closed port",
    "no PostgreSQL",
    "wrong password",
    "no such database",
    "no tables",
    "another's tables",
    "read only",
    "no rights",
    "closed broker",
    "closed RabbitMQ",
    "no Redis",
)


class Place:
    def __init__(self, folder: Path, environments: dict[str, dict[str, str]]) -> None:
        self.folder, self.environments = folder, environments
        (folder / "files").mkdir()
        self.paths = strange_paths(folder / "files")

    def call(self, path: str, words: list[str], world: str, stdin: bytes = b"", **changes: str) -> Ended:
        """Checked, and without a file that tells of a mistake."""
        environment = for_command(path, self.environments[world] | changes)
        ended = call([*path.split()[1:], *harmless(path, words)], environment, stdin)
        of_call = (path, [word[:200] for word in words], world, changes)
        written = crash_files(self.folder)
        check(ended, of_call, path)
        assert written == [], of_call
        return ended


@pytest.fixture(scope="module")
def place(servers: Servers, template: str) -> Iterator[Place]:
    before = os.getcwd()
    with folder_for_servers("embedq-strange-") as folder, worlds(servers, template, folder) as environments:
        (folder / "here").mkdir()
        os.chdir(folder / "here")
        try:
            yield Place(folder, environments)
        finally:
            os.chdir(before)


@pytest.mark.parametrize("world", WORLDS)
def test_every_command_is_done_or_refused_wherever_it_runs(world: str, place: Place) -> None:
    for path in WALK:
        words = [word.format(tmp=place.folder / "files", task=1) for word in GIVEN.get(path, [])]
        place.call(path, words, world)


@pytest.mark.parametrize("path", [path for path in WALK if parameters(path, click.Path)])
def test_every_path_may_name_anything(path: str, place: Place) -> None:
    for parameter in parameters(path, click.Path):
        others = [str(parameter.opts[0])] if isinstance(parameter, click.Option) else []
        required = GIVEN.get(path, [])[:-1] if isinstance(parameter, click.Argument) else []
        for named in place.paths:
            place.call(path, [*required, *others, named], "good")


@pytest.mark.parametrize("name", settings())
def test_every_setting_may_be_anything(name: str, place: Place) -> None:
    names_a_place = isinstance(settings()[name].default, Address) or name == "EMBEDQ_HOME"
    for value in (*VALUES, *place.paths):
        accepted = place.call("embedq config check", [], "good", **{name: value}).code == 0
        if accepted and (names_a_place or len(value) < 100):
            place.call("embedq status" if names_a_place else "embedq config show", ["--json"], "good", **{name: value})


@pytest.mark.parametrize("host", ["", " ", "999.1.1.1", "é", "\udcff", "x" * 300, "a..b", "1.2.3.4:80", "/", "127.0.0.1\n"])
def test_a_host_that_is_none_is_refused(host: str, place: Place) -> None:
    environment = place.environments["good"] | {
        "AUTH_TOKEN": "token-for-the-articles",
        "ADMIN_TOKEN": "token-for-the-operators",
    }
    ended = call(["serve", "--host", host, "--port", "0"], environment)

    written = crash_files(place.folder)
    check(ended, host)
    assert ended.code in (1, 2)
    assert written == []


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, list[tuple[str, object]], str, bytes, tuple[str, str] | None]:
    """A command, its words (paths by their number), where it runs, its standard input, and a setting that is changed."""
    path = draw(st.sampled_from(list(WALK)))
    words: list[tuple[str, object]] = []
    for parameter in parameters(path):
        for _ in range(_times(draw, parameter)):
            words += draw(st.just(_of(draw, parameter)))
    world = draw(st.sampled_from(WORLDS))
    names = [name for name in settings() if name not in ("DATABASE_URL", "OPENAI_BASE_URL")]
    changed = draw(st.none() | st.tuples(st.sampled_from(names), st.sampled_from(VALUES)))
    return path, words, world, draw(st.sampled_from(INPUTS)), changed


def _times(draw: st.DrawFn, parameter: click.Parameter) -> int:
    if isinstance(parameter, click.Argument):
        return draw(st.sampled_from((1, 1, 1, 0, 2)))
    if (
        "--yes" in parameter.opts
        or "--dry-run" in parameter.opts
        or (getattr(parameter, "is_flag", False) and parameter.opts[0] in LASTS)
    ):
        return 0
    return draw(st.sampled_from((1, 1, 0, 0, 2) if parameter.required else (1, 0, 0)))


def _of(draw: st.DrawFn, parameter: click.Parameter) -> list[tuple[str, object]]:
    name = [("word", parameter.opts[0])] if isinstance(parameter, click.Option) else []
    if getattr(parameter, "is_flag", False):
        return [*name]
    if isinstance(parameter.type, click.Path) and draw(st.booleans()):
        return [*name, ("path", draw(st.integers(0, 17)))]
    fitting = list(parameter.type.choices) if isinstance(parameter.type, click.Choice) else ["1", "2"]
    return [
        *name,
        (
            "word",
            draw(
                st.sampled_from(VALUES)
                | st.sampled_from(fitting)
                | st.text(st.characters(exclude_characters="\0"), max_size=20)
            ),
        ),
    ]


@pytest.mark.timeout(max(180, CALLS))
@bounds(max_examples=CALLS, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], print_blob=True)
@given(called=calls())
def test_any_call_is_done_or_refused(
    called: tuple[str, list[tuple[str, object]], str, bytes, tuple[str, str] | None], place: Place
) -> None:
    path, words, world, stdin, changed = called
    if path in LASTING and changed is not None and changed[0] == "EMBEDDING_MODE":
        changed = None
    given_words = [str(word) if kind == "word" else place.paths[word % len(place.paths)] for kind, word in words]  # type: ignore[operator]

    place.call(path, given_words, world, stdin, **(dict([changed]) if changed else {}))


def test_a_device_keeps_its_mode(place: Place) -> None:
    """As root, `broker backup /dev/null` closed it to every other user of the machine."""
    reader, terminal = os.openpty()
    threading.Thread(target=lambda: any(not os.read(reader, 65536) for _ in iter(int, 1)), daemon=True).start()
    os.fchmod(terminal, 0o666)

    ended = place.call("embedq broker backup", [os.ttyname(terminal)], "good")

    assert ended.code == 0, ended.stderr
    assert os.fstat(terminal).st_mode & 0o777 == 0o666
