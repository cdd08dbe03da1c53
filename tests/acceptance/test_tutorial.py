"""The tutorial, line by line as it is printed: every command does what it says, and the search finds what was written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support import Process, until


def typed(page: str) -> list[str]:
    return re.findall(r"^ +\$ (.+)$", page, re.MULTILINE)


def sql(page: str) -> list[str]:
    return re.findall(r"^ +([A-Z]+ .+;)$", page, re.MULTILINE)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH")
def test_the_tutorial_can_be_copied_and_pasted(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs" / "tutorial.rst").read_text(encoding="utf-8")
    commands = typed(page)
    after_up = commands[commands.index("embedq up") + 1 :]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"EMBEDQ_HOME": str(tmp_path / "home"), "PATH": path, "COLUMNS": "120"}

    said: dict[str, str] = {}
    with Process("up", [sys.executable, "-m", "embedq", "up", "--flower-port", "0"], environment) as up:
        up.says("Application startup complete", timeout_s=90)
        until(lambda: "poller poller@" in up.output() and " ready." in up.output(), 60, up.output)
        address = re.search(r"cockpit: (http://\S+)", up.output())
        assert address is not None
        assert f"data in {tmp_path / 'home'} " in up.output()
        database = json.loads((tmp_path / "home" / "running.json").read_text())["database_url"]
        for line in after_up:
            here = line.replace("http://127.0.0.1:8000", address[1])
            ran = subprocess.run(
                ["bash", "-c", here], env=os.environ | environment, capture_output=True, text=True, timeout=120, cwd=tmp_path
            )
            assert ran.returncode == 0, f"{line}: {ran.stdout}{ran.stderr}"
            said[line] = ran.stdout
        with psycopg.connect(database, autocommit=True) as connection:
            answers = [connection.execute(line.encode()).statusmessage for line in sql(page)]
        assert up.terminate(90) == 0

    found, over_http = (
        next(said[line] for line in said if line.startswith(start))
        for start in ("embedq search", "curl -fsS http://127.0.0.1:8000/api/search")
    )
    assert "Tea" in found
    assert '"slug":"tea"' in over_http
    assert answers == ["UPDATE 1", "SELECT 1"]
