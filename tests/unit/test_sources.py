"""What state a source is in, and which command mends it."""

from __future__ import annotations

import shlex

import pytest

from embedq.decide.health import Facts, Level, findings
from embedq.decide.sources import SourceState, command_of, state_of, what_is_wrong
from embedq.model import Mode

WELL = {
    "name": "posts",
    "schema_name": "blog",
    "table_name": "posts",
    "table_now": "blog.posts",
    "behind_since": None,
    "behind_reason": None,
    "behind_statement": None,
    "compared_at": "now",
    "unreadable": 0,
    "example": None,
}
BEHIND = WELL | {"behind_since": "now", "behind_statement": "UPDATE on blog.posts"}

STATES = [
    pytest.param(WELL, SourceState.FOLLOWING, id="following"),
    pytest.param(WELL | {"compared_at": None}, SourceState.FILLING, id="not compared to the end yet"),
    pytest.param(BEHIND | {"compared_at": None}, SourceState.BEHIND, id="behind while it is filled"),
    pytest.param(BEHIND | {"table_now": None}, SourceState.ORPHANED, id="the table is gone, whatever else"),
]


@pytest.mark.parametrize(("source", "state"), STATES)
def test_a_source_is_in_one_state(source, state):
    assert state_of(source) is state


REASONS = [
    pytest.param('column "body" does not exist (42703)', "embedq attach blog.posts --name posts", id="a column is gone"),
    pytest.param(
        "cached plan must not change result type (0A000)", "embedq attach blog.posts --name posts", id="a type has changed"
    ),
    pytest.param("canceling statement due to lock timeout (55P03)", "embedq reconcile --source posts", id="a lock"),
    pytest.param("division by zero (22012)", "embedq reconcile --source posts", id="a row"),
]


@pytest.mark.parametrize(("reason", "command"), REASONS)
def test_the_command_that_mends_follows_from_the_reason(reason, command):
    what, step = what_is_wrong(BEHIND | {"behind_reason": reason})

    assert reason in what
    assert "UPDATE on blog.posts" in what
    assert step.startswith(command)


@pytest.mark.parametrize(
    ("source", "words", "command"),
    [
        pytest.param(WELL | {"table_now": None}, "is gone", "embedq detach posts", id="orphaned"),
        pytest.param(
            WELL | {"unreadable": 3, "example": "the row 7: division by zero"},
            "the row 7",
            "mend these rows",
            id="unreadable rows",
        ),
    ],
)
def test_each_is_a_problem_of_health(source, words, command):
    (found,) = [finding for finding in findings(Facts(Mode.OFF, sources=[source])) if "posts" in finding.what]

    assert found.level is Level.PROBLEM
    assert words in found.what
    assert found.next.startswith(command)


def test_the_command_attaches_a_table_as_it_was_attached():
    given = {"table": '"My posts"', "content": "title || ' x'", "key": ["a", "b"], "name": "posts", "priority": "high"}

    assert shlex.split(command_of(given)) == [
        "embedq",
        "attach",
        '"My posts"',
        "--content",
        "title || ' x'",
        "--key",
        "a,b",
        "--name",
        "posts",
        "--priority",
        "high",
    ]
