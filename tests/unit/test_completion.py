"""The Tab key: what the shell is offered, asked as bash itself asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedq.cli import COMMANDS

PROGRAM = Path(sys.executable).with_name("embedq")
NO_DATABASE = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
PRESS_TAB = """
eval "$(_EMBEDQ_COMPLETE=bash_source embedq)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_embedq_completion embedq
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(*words: str) -> list[str]:
    """What bash offers for the last word, which may be empty."""
    environment = os.environ | NO_DATABASE | {"PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", PRESS_TAB, "bash", "embedq", *words], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


def test_every_command_is_offered():
    assert set(offered("")) == set(COMMANDS)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        pytest.param(["st"], {"status", "stats", "stop", "start", "stuck"}, id="the beginning of a command"),
        pytest.param(["dead-letter", ""], {"list", "show", "retry", "discard"}, id="sub-commands"),
        pytest.param(["dead-letter", "disc"], {"discard"}, id="the beginning of a sub-command"),
        pytest.param(["retry", "--can"], {"--canary", "--canary-timeout"}, id="options"),
        pytest.param(["mode", ""], {"celery", "database", "hybrid", "sync", "off"}, id="the modes"),
        pytest.param(["requeue", "--priority", "u"], {"urgent"}, id="an option's choices"),
    ],
)
def test_the_tab_key_offers(words, names):
    assert set(offered(*words)) == names


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_there_is_a_script_for(shell):
    environment = os.environ | {"_EMBEDQ_COMPLETE": f"{shell}_source"}

    done = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0
    assert f"_EMBEDQ_COMPLETE={shell}_complete" in done.stdout
