"""axe-core, which finds what keeps people from reading or using a page. Its licence is the MPL-2.0: it is fetched, not kept here."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

VERSION = "4.14.1"
SETTING = "EMBEDQ_TEST_AXE"
MISSING = f"no axe-core: set {SETTING} to the path of its axe.min.js, or have npm on the PATH and its registry within reach"


def axe_core(folder: Path) -> str | None:
    """Its source, from the file that the environment names, else from npm by way of `folder`; None where there is neither."""
    named = os.environ.get(SETTING)
    if named:
        return Path(named).read_text()
    npm = shutil.which("npm")
    if npm is None:
        return None
    try:
        subprocess.run([npm, "pack", f"axe-core@{VERSION}"], cwd=folder, check=True, capture_output=True, timeout=60)
    except (subprocess.SubprocessError, OSError):
        return None
    with tarfile.open(folder / f"axe-core-{VERSION}.tgz") as packed:
        member = packed.extractfile("package/axe.min.js")
        return member.read().decode() if member else None
