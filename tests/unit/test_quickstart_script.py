"""`scripts/quickstart` ends in the caller's shell: what the command prints to type next is found there."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from embedq.cli import trying

ROOT = Path(__file__).parents[2]


def test_the_script_runs_the_command_outside_of_the_virtual_environment(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "quickstart", tmp_path / "scripts")
    (tmp_path / "scripts" / "venv").write_text(". .venv/bin/activate\n")
    venv.create(tmp_path / ".venv")
    command = tmp_path / ".venv" / "bin" / "embedq"
    command.write_text('#!/bin/sh\necho "$1: $(command -v embedq || echo not found)"\n')
    command.chmod(0o755)

    done = subprocess.run(
        [tmp_path / "scripts" / "quickstart"], env=os.environ | {"PATH": os.defpath}, capture_output=True, text=True, check=True
    )

    assert done.stdout == "quickstart: not found\n"


@pytest.mark.parametrize("is_active", [True, False])
def test_what_it_prints_is_a_program_that_this_shell_finds(
    is_active: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "embedq"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path) if is_active else os.defpath)

    assert trying.program() == ("embedq" if is_active else str(command))
