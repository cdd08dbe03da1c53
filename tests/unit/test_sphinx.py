"""The documentation builds without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path: Path):
    argv = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        "-b",
        "html",
        ROOT / "docs",
        tmp_path,
    ]

    built = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert (built.returncode, built.stderr) == (0, "")
