"""The documents say what is true: every command and setting they name exists, and none is missing."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from docs.generate import PAGES, commands
from embedq.cli import COMMANDS, embedq
from embedq.settings import by_env

ROOT = Path(__file__).parents[2]
PROSE = [ROOT / "README.rst", ROOT / "CHANGELOG.rst", *sorted((ROOT / "docs").rglob("*.rst"))]
# Names of Celery, Flower or of a test, and of the place a value is written to.
NOT_OURS = {"EMBEDQ_TEST_"}


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_what_the_code_says(name: str):
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")

    assert written == PAGES[name](), "run scripts/docs"


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_shows_exists(page: Path):
    shown = re.findall(r"^\s+\$ embedq ((?:[a-z][a-z-]* ?)+)", page.read_text(encoding="utf-8"), re.MULTILINE)

    unknown = [line for line in shown if not _resolves(line.split())]

    assert unknown == []


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_that_a_page_names_exists(page: Path):
    named = set(re.findall(r"\b(?:EMBEDDING|EMBEDQ)_[A-Z_]+[A-Z]\b", page.read_text(encoding="utf-8")))

    assert named - set(by_env()) - NOT_OURS == set()


def test_every_guarantee_names_tests_that_exist():
    page = (ROOT / "docs" / "guarantees.rst").read_text(encoding="utf-8")
    named = {
        part.split(":")[0]: re.findall(r"``(tests/[\w/]+\.py)::(\w+)``", part)
        for part in re.split(r"^(?=G\d+:)", page, flags=re.M)[1:]
    }

    unknown = [f"{file}::{test}" for tests in named.values() for file, test in tests if not _is_a_test(ROOT / file, test)]

    assert list(named) == [f"G{number}" for number in range(1, 13)]
    assert [name for name, tests in named.items() if not tests] == []
    assert unknown == []


def test_every_command_in_the_registry_can_be_imported():
    context = click.Context(embedq)

    assert [name for name in COMMANDS if embedq.get_command(context, name) is None] == []


def test_every_command_explains_itself_with_an_example_and_speaks_json():
    lacking = []
    for path, command in commands():
        options = {name for parameter in command.params for name in parameter.opts}
        if "Example:" not in (command.help or ""):
            lacking.append(f"{path}: no example")
        if "--json" not in options and path not in ("embedq up", "embedq serve"):
            lacking.append(f"{path}: no --json")

    assert lacking == []


def _is_a_test(file: Path, name: str) -> bool:
    return file.is_file() and bool(re.search(rf"^(async )?def {name}\(", file.read_text(encoding="utf-8"), re.MULTILINE))


def _resolves(words: list[str]) -> bool:
    command: click.Command = embedq
    for word in words:
        if not isinstance(command, click.Group):
            return True
        found = command.get_command(click.Context(command), word)
        if found is None:
            return command.invoke_without_command
        command = found
    return True
