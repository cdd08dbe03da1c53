"""Versions of embedq as processes: the one that is being tested, and 0.1.0 from its wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT, Process, run_command, start_celery, start_poller

HERE = Path(__file__).parent
WHEEL = HERE / "embedq-0.1.0-py3-none-any.whl"


@dataclass(frozen=True)
class Version:
    """`folder` has the package, and comes first on the path: the virtual environment's other packages serve both."""

    name: str
    folder: Path

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        return dict(given) | {"PYTHONPATH": str(self.folder)}

    def command(self, environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command(self.environment(environment), *arguments, timeout_s=120, cwd=self.folder)

    def celery(self, environment: Mapping[str, str]) -> Process:
        return start_celery(self.environment(environment), cwd=self.folder)

    def poller(self, environment: Mapping[str, str]) -> Process:
        return start_poller(self.environment(environment), cwd=self.folder)

    def writer(self, environment: Mapping[str, str], name: str) -> Process:
        """Writes articles until it is told to end, and prints each save (`saving.py`)."""
        argv = [sys.executable, str(HERE / "saving.py"), name]
        return Process(f"writer {name}", argv, self.environment(environment), self.folder)


def current() -> Version:
    return Version("current", ROOT)


def before(folder: Path) -> Version:
    """0.1.0, unpacked into `folder`."""
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(folder)
    return Version("0.1.0", folder)
